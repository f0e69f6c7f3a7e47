//! The command line: `tssh [options] destination [command ...]`.
//!
//! The grammar is ssh's, which is BSD `getopt` run twice: options, the destination, more options,
//! then the command, whose words are taken as they are. An option may be clustered (`-tv`), may
//! have its value attached (`-p22`, `-oPort=22`), and may stand before or after the destination;
//! `--` ends the options. Our own options are long ones and mix freely with ssh's.
//!
//! Flags are kept in the order given, because the order decides in ssh as well (`-p` after
//! `-o Port=` loses, `-t` after `-o RequestTTY=yes` forces a terminal). What they mean is
//! `config`'s business; nothing is resolved here and no file is read.
//!
//! clap does the scanning; `grammar` says what there is, and everything that needs meaning is done
//! here. Options of OpenSSH that this version cannot honour are refused by name
//! ([`UsageError::NotSupported`]), never ignored. One departure from `getopt`: in `-l=bob` clap
//! takes the `=` for a separator.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

pub use text::{HELP, USAGE, VERSION};

use crate::config::AddressFamily;
use crate::config::forward::{Connect, Forward, Kind, Listen};
use text::NOT_SUPPORTED;

mod passed;
mod text;

/// What a command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Log in and run something.
    Connect,
    /// Print the resolved configuration and exit (`-G`).
    PrintConfig,
    /// List what we can do (`-Q`); see [`CommandLine::query`].
    Query,
    /// Print the version to standard error and exit (`-V`, `--version`).
    Version,
    /// Print the help to standard output and exit (`--help`).
    Help,
}

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// What to do. With `Version` and `Help` the other fields mean nothing.
    pub action: Action,
    /// The host as typed, without user, port and brackets (`originalhost`).
    pub host: String,
    /// What to tell the process whose connection is shared, instead of connecting (`-O`).
    pub control: Option<ControlCommand>,
    /// The words of the command, exactly as given; with `-s` the subsystem's name.
    pub command: Vec<OsString>,
    /// What `-Q` asks for.
    pub query: Option<String>,
    /// Diagnostics go to the system's log (`-y`).
    pub syslog: bool,
    /// Let the system's ssh log in (`--via-ssh`).
    pub via_ssh: bool,
    /// Options that mean the same to ssh, each with its value, for a login by ssh.
    pub passed: Vec<(char, Option<String>)>,
    /// The destination as typed.
    pub destination: OsString,
    /// Where diagnostics go instead of standard error (`-E`).
    pub log_file: Option<PathBuf>,
    /// Which configuration files to read (`-F`).
    pub config_files: ConfigFiles,
    /// Diagnostics at both ends (`--debug`).
    pub debug: bool,
    /// Flags that set something, in the order given.
    pub(crate) flags: Vec<Flag>,
    /// `--tcp`, `--udp`, `--quic`, `--kcp`.
    pub(crate) link: LinkFlags,
}

impl CommandLine {
    /// Returns the command line that names a host and nothing else.
    pub(crate) fn to_host(host: &str) -> Self {
        Self {
            action: Action::Connect,
            host: host.to_owned(),
            control: None,
            command: Vec::new(),
            query: None,
            syslog: false,
            via_ssh: false,
            passed: Vec::new(),
            destination: host.into(),
            log_file: None,
            config_files: ConfigFiles::Usual,
            debug: false,
            flags: Vec::new(),
            link: LinkFlags::default(),
        }
    }
}

/// What can be asked of the process whose connection is shared (`-O`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlCommand {
    /// Is it there?
    Check,
    /// Set the forwards of the command line up.
    Forward,
    /// Cancel them.
    Cancel,
    /// End.
    Exit,
    /// Take no more requests.
    Stop,
    /// Speak the ssh connection protocol to it; known, and refused by name.
    Proxy,
}

impl ControlCommand {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "check" => Self::Check,
            "forward" => Self::Forward,
            "cancel" => Self::Cancel,
            "exit" => Self::Exit,
            "stop" => Self::Stop,
            "proxy" => Self::Proxy,
            _ => return None,
        })
    }
}

/// Which configuration files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConfigFiles {
    /// The user's and then the system's.
    #[default]
    Usual,
    /// None at all (`-F none`).
    None,
    /// Only this one (`-F path`).
    Only(PathBuf),
}

/// The flags that choose between plain ssh and a UDP link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkFlags {
    /// `--tcp`: plain ssh, whatever the configuration says.
    pub(crate) tcp: bool,
    /// `--udp`.
    pub(crate) udp: bool,
    /// `--quic`.
    pub(crate) quic: bool,
    /// `--kcp`.
    pub(crate) kcp: bool,
}

/// One flag that sets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `-o line`, our flags with a keyword of their own, and the user and port of the destination:
    /// all take effect only where nothing set the keyword before.
    Option(String),
    /// `-i`
    Identity(PathBuf),
    /// `-4`, `-6`
    Family(AddressFamily),
    /// `-t`
    Terminal,
    /// `-T`
    NoTerminal,
    /// `-v`
    Verbose,
    /// `-q`
    Quiet,
    /// `-N`
    NoSession,
    /// `-s`
    Subsystem,
    /// `-f`
    Background,
    /// `-n`
    NullInput,
    /// `-C`
    Compression,
    /// `-M`
    Master,
    /// `-L`, `-D`, `-R`: the keyword, and a specification that makes sense.
    Forward(&'static str, String),
    /// `-J`
    Jump(String),
    /// `-W`
    Stdio(Connect),
    /// Flags that replace the value of a keyword, whatever set it before: `-c`, `-m`, `-e`, `-b`.
    Replace(&'static str, String),
}

/// Why a command line was not accepted. Its text is complete; the exit status is 255.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// No destination, or one that is malformed.
    #[error("{USAGE}")]
    Destination,
    /// A flag nobody knows.
    #[error("unknown option -- {0}\n{USAGE}")]
    UnknownOption(String),
    /// A flag at the end of the line lacks its value.
    #[error("option requires an argument -- {0}\n{USAGE}")]
    MissingArgument(String),
    /// A flag that takes none was given a value (`--udp=x`).
    #[error("option takes no argument -- {0}\n{USAGE}")]
    UnwantedArgument(String),
    /// A value that makes no sense; the text says which.
    #[error("{0}")]
    BadValue(String),
    /// `-s` without a command.
    #[error("You must specify a subsystem to invoke.\n{USAGE}")]
    NoSubsystem,
    /// A flag of OpenSSH or of the reference client that is not in this version.
    #[error("{flag} is not in this version: {reason}")]
    NotSupported {
        /// The flag as typed.
        flag: String,
        /// What it would have done, or what to do instead.
        reason: &'static str,
    },
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// [`UsageError`], to be printed to standard error before exiting with 255.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<CommandLine, UsageError> {
    let matches = grammar().try_get_matches_from(args).map_err(|error| explain(&error))?;
    let mut line = CommandLine::to_host("");
    let destination = matches.get_one::<OsString>(HOST);
    let place = matches.index_of(HOST).unwrap_or(usize::MAX);
    let given = in_order(&matches);
    let (before, after) = given.split_at(given.partition_point(|given| given.place < place));
    line.options(before)?;
    if let Some(destination) = destination {
        line.destination(destination)?;
        line.destination.clone_from(destination);
    }
    line.options(after)?;
    if matches!(line.action, Action::Version | Action::Help | Action::Query) {
        return Ok(line);
    }
    if destination.is_none() {
        return Err(UsageError::Destination);
    }
    line.command = matches.get_many(COMMAND).unwrap_or_default().cloned().collect();
    if line.flags.contains(&Flag::Subsystem) && line.command.is_empty() {
        return Err(UsageError::NoSubsystem);
    }
    Ok(line)
}

/// The name of the first operand.
const HOST: &str = "host";
/// The name of the other operands.
const COMMAND: &str = "command";
/// Short options without a value, and those with one.
const SWITCHES: &[&str] = &[
    "2", "4", "6", "A", "C", "G", "M", "N", "T", "V", "X", "Y", "a", "f", "g", "k", "n", "q", "s",
    "t", "v", "x", "y",
];
const VALUED: &[&str] = &[
    "B", "D", "E", "F", "J", "L", "O", "P", "Q", "R", "S", "W", "b", "c", "e", "i", "l", "m", "o",
    "p",
];
/// Our own options without a value, and those with one.
const LONG_SWITCHES: &[&str] =
    &["debug", "help", "kcp", "quic", "tcp", "udp", "version", "via-ssh"];
const LONG_VALUED: &[&str] = &["tsshd-path", "tsshd-port"];

/// What there is: options by name, the host, and the command, whose words end all options.
fn grammar() -> Command {
    let short = |name: &&'static str| named(name).short(name.chars().next().unwrap_or_default());
    let long = |name: &&'static str| named(name).long(*name);
    let switches = SWITCHES.iter().map(short).chain(LONG_SWITCHES.iter().map(long));
    let valued = VALUED.iter().map(short).chain(LONG_VALUED.iter().map(long));
    Command::new("tssh")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(switches.map(|arg| arg.num_args(0).default_missing_value("")))
        .args(valued.map(|arg| arg.allow_hyphen_values(true)))
        .arg(Arg::new(HOST).value_parser(value_parser!(OsString)))
        .arg(
            Arg::new(COMMAND)
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString)),
        )
}

/// An option that may be repeated; each occurrence is kept with its place.
fn named(name: &'static str) -> Arg {
    Arg::new(name).action(ArgAction::Append)
}

/// One option on the line.
struct Given<'a> {
    /// Its place, counted in clap's way from the left.
    place: usize,
    name: &'static str,
    value: &'a str,
}

/// Returns the options that were given, from left to right.
fn in_order(matches: &ArgMatches) -> Vec<Given<'_>> {
    let mut all = Vec::new();
    for name in [SWITCHES, VALUED, LONG_SWITCHES, LONG_VALUED].concat() {
        let values = matches.get_many::<String>(name).unwrap_or_default();
        let places = matches.indices_of(name).unwrap_or_default();
        all.extend(places.zip(values).map(|(place, value)| Given { place, name, value }));
    }
    all.sort_by_key(|given| given.place);
    all
}

/// Turns clap's refusal into ours.
fn explain(error: &clap::Error) -> UsageError {
    let argument = match error.get(ContextKind::InvalidArg) {
        // The option as typed, and what clap would call its value.
        Some(ContextValue::String(text)) => text.split(' ').next().unwrap_or_default(),
        _ => "",
    };
    let name = argument.trim_start_matches('-').to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument => refuse(argument),
        ErrorKind::InvalidValue => UsageError::MissingArgument(name),
        ErrorKind::TooManyValues => UsageError::UnwantedArgument(name),
        ErrorKind::InvalidUtf8 => UsageError::BadValue("argument is not valid UTF-8".to_owned()),
        _ => UsageError::BadValue(error.to_string()),
    }
}

impl CommandLine {
    /// Takes options in the order given.
    fn options(&mut self, given: &[Given<'_>]) -> Result<(), UsageError> {
        given.iter().try_for_each(|given| self.option(given.name, given.value))
    }

    /// Takes one option.
    fn option(&mut self, name: &str, value: &str) -> Result<(), UsageError> {
        self.pass_on(name, value);
        let owned = || value.to_owned();
        let flag = match name {
            "4" => Flag::Family(AddressFamily::Inet),
            "6" => Flag::Family(AddressFamily::Inet6),
            "C" => Flag::Compression,
            "f" => Flag::Background,
            "N" => Flag::NoSession,
            "n" => Flag::NullInput,
            "q" => Flag::Quiet,
            "s" => Flag::Subsystem,
            "T" => Flag::NoTerminal,
            "t" => Flag::Terminal,
            "v" => Flag::Verbose,
            "B" => Flag::Replace("bindinterface", owned()),
            "P" => Flag::Replace("tag", owned()),
            "b" => Flag::Replace("bindaddress", owned()),
            "c" => Flag::Replace("ciphers", owned()),
            "e" => Flag::Replace("escapechar", owned()),
            "m" => Flag::Replace("macs", owned()),
            "i" => Flag::Identity(value.into()),
            "l" => Flag::Option(keyword_line("User", value)),
            "D" => Flag::Forward("dynamicforward", forward(value, Kind::Dynamic, "dynamic")?),
            "L" => match Forward::strip_udp(value) {
                Some(spec) => {
                    Flag::Forward("udplocalforward", forward(spec, Kind::LocalUdp, "local")?)
                }
                None => Flag::Forward("localforward", forward(value, Kind::Local, "local")?),
            },
            "R" => match Forward::strip_udp(value) {
                Some(spec) => {
                    Flag::Forward("udpremoteforward", forward(spec, Kind::RemoteUdp, "remote")?)
                }
                None => Flag::Forward("remoteforward", forward(value, Kind::Remote, "remote")?),
            },
            "J" => Flag::Jump(owned()),
            "W" => self.stdio(value)?,
            "A" => Flag::Replace("forwardagent", "yes".to_owned()),
            "a" => Flag::Replace("forwardagent", "no".to_owned()),
            "g" => Flag::Replace("gatewayports", "yes".to_owned()),
            "X" => Flag::Replace("forwardx11", "yes".to_owned()),
            "x" => Flag::Replace("forwardx11", "no".to_owned()),
            "Y" => {
                self.flags.push(Flag::Replace("forwardx11", "yes".to_owned()));
                Flag::Replace("forwardx11trusted", "yes".to_owned())
            }
            "o" => Flag::Option(owned()),
            "p" => Flag::Option(format!("Port {}", port(value)?)),
            "tsshd-path" => Flag::Option(keyword_line("TsshdPath", value)),
            "tsshd-port" => Flag::Option(keyword_line("TsshdPort", value)),
            "M" => Flag::Master,
            "O" => return self.request(value),
            "S" => Flag::Replace("controlpath", owned()),
            _ => {
                self.set(name, value);
                return Ok(());
            }
        };
        self.flags.push(flag);
        Ok(())
    }

    /// Takes a request to the process whose connection is shared.
    fn request(&mut self, value: &str) -> Result<(), UsageError> {
        let bad = |text: &str| Err(UsageError::BadValue(text.to_owned()));
        if self.flags.iter().any(|flag| matches!(flag, Flag::Stdio(_))) {
            return bad("Cannot specify multiplexing command with -W");
        }
        if self.control.is_some() {
            return bad("Multiplexing command already specified");
        }
        match ControlCommand::parse(value) {
            Some(command) => self.control = Some(command),
            None => return bad("Invalid multiplex command."),
        }
        Ok(())
    }

    /// Takes the destination of `-W`.
    fn stdio(&self, value: &str) -> Result<Flag, UsageError> {
        if self.control.is_some() {
            let text = "Cannot specify stdio forward with -O".to_owned();
            return Err(UsageError::BadValue(text));
        }
        if self.flags.iter().any(|flag| matches!(flag, Flag::Stdio(_))) {
            return Err(UsageError::BadValue("stdio forward already specified".to_owned()));
        }
        // OpenSSH reads it as the listening half of a forward.
        let connect = match Forward::parse(value, Kind::Dynamic).map(|forward| forward.listen) {
            Some(Listen::Tcp { host: Some(host), port }) => Connect::Tcp { host, port },
            Some(Listen::Unix(path)) => Connect::Unix(path),
            _ => {
                let text = format!("Bad stdio forwarding specification '{value}'");
                return Err(UsageError::BadValue(text));
            }
        };
        Ok(Flag::Stdio(connect))
    }

    /// Keeps an option of ssh's for a login by ssh.
    fn pass_on(&mut self, name: &str, value: &str) {
        let mut letters = name.chars();
        if let (Some(letter), None) = (letters.next(), letters.next()) {
            let valued = VALUED.contains(&name).then(|| value.to_owned());
            self.passed.push((letter, valued));
        }
    }

    /// Takes one option that concerns the command line itself.
    fn set(&mut self, name: &str, value: &str) {
        match name {
            "V" | "version" => self.action = Action::Version,
            "help" => self.action = Action::Help,
            "G" => self.action = Action::PrintConfig,
            "Q" => {
                self.action = Action::Query;
                self.query = Some(value.to_owned());
            }
            "y" => self.syslog = true,
            "via-ssh" => self.via_ssh = true,
            "E" => self.log_file = Some(value.into()),
            "F" if value.eq_ignore_ascii_case("none") => self.config_files = ConfigFiles::None,
            "F" => self.config_files = ConfigFiles::Only(value.into()),
            "udp" => self.link.udp = true,
            "kcp" => self.link.kcp = true,
            "quic" => self.link.quic = true,
            "tcp" => self.link.tcp = true,
            "debug" => self.debug = true,
            // What is left switches off what this version does not have: GSSAPI
            // delegation (-k), protocol 1 (-2).
            _ => {}
        }
    }

    /// Takes a destination apart: `[user@]host`, where the last `@` splits, or an ssh URI.
    fn destination(&mut self, word: &OsStr) -> Result<(), UsageError> {
        let word = text(word)?;
        let (user, host, port) = match word.strip_prefix("ssh://") {
            Some(rest) => uri(rest).ok_or(UsageError::Destination)?,
            None => match word.rsplit_once('@') {
                Some(("", _)) => return Err(UsageError::Destination),
                Some((user, host)) => (Some(user.to_owned()), host.to_owned(), None),
                None => (None, word, None),
            },
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address.to_owned(),
            None => host,
        };
        if host.is_empty() {
            return Err(UsageError::Destination);
        }
        // Names reach shells (`Match exec`, RemoteCommand) through tokens, so
        // what a shell would act on is refused, as OpenSSH does since 9.6.
        if host.starts_with('-') || host.chars().any(unfit_for_host) {
            return Err(UsageError::BadValue("hostname contains invalid characters".to_owned()));
        }
        if let Some(user) = user {
            self.flags.push(Flag::Option(keyword_line("User", &user)));
        }
        if let Some(port) = port {
            self.flags.push(Flag::Option(format!("Port {port}")));
        }
        self.host = host;
        Ok(())
    }
}

/// Takes `[user@]host[:port][/]` apart, percent-decoded.
pub(crate) fn uri(rest: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('/') {
        return None;
    }
    let (user, address) = match authority.rsplit_once('@') {
        // Connection parameters (`user;fingerprint=…`) are not used by ssh either.
        Some((user, address)) => (user.split(';').next(), address),
        None => (None, authority),
    };
    let user = match user {
        Some("") => return None,
        Some(user) => Some(percent_decode(user)?),
        None => None,
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|&port| port > 0)?),
        None => None,
    };
    Some((user, percent_decode(host)?, port))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        let value = u8::from_str_radix(digits, 16).ok()?;
        if value == 0 || digits.starts_with('+') {
            return None;
        }
        bytes.push(value);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

pub(crate) fn unfit_for_host(c: char) -> bool {
    "'`\"$\\;&<>|(){}".contains(c) || c.is_ascii_whitespace() || c.is_ascii_control()
}

/// Writes `keyword value` so that the reader of configuration lines gets the value back unchanged.
pub(crate) fn keyword_line(keyword: &str, value: &str) -> String {
    let mut line = format!("{keyword} \"");
    for c in value.chars() {
        if c == '"' || c == '\\' {
            line.push('\\');
        }
        line.push(c);
    }
    line.push('"');
    line
}

/// Checks the specification of a forward.
fn forward(value: &str, kind: Kind, name: &str) -> Result<String, UsageError> {
    match Forward::parse(value, kind) {
        Some(_) => Ok(value.to_owned()),
        None => {
            let text = format!("Bad {name} forwarding specification '{value}'");
            Err(UsageError::BadValue(text))
        }
    }
}

fn port(value: &str) -> Result<u16, UsageError> {
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(UsageError::BadValue(format!("Bad port '{value}'"))),
    }
}

fn text(word: &OsStr) -> Result<String, UsageError> {
    word.to_str().map(str::to_owned).ok_or_else(|| {
        UsageError::BadValue(format!("argument is not valid UTF-8: {}", word.to_string_lossy()))
    })
}

/// Says why an option, as typed, is not taken: not in this version, or unknown to everybody.
fn refuse(flag: &str) -> UsageError {
    match NOT_SUPPORTED.iter().find(|(known, _)| *known == flag) {
        Some((_, reason)) => UsageError::NotSupported { flag: flag.to_owned(), reason },
        None => {
            // ssh names letters without their dash.
            let name = if flag.starts_with("--") { flag } else { flag.trim_start_matches('-') };
            UsageError::UnknownOption(name.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> CommandLine {
        parse(words.iter().map(Into::into)).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn refusal(words: &[&str]) -> UsageError {
        let result = parse(words.iter().map(Into::into));
        result.expect_err(&format!("{words:?} is refused"))
    }

    fn option(text: &str) -> Flag {
        Flag::Option(text.to_owned())
    }

    #[test]
    fn words_after_the_host_are_options_until_the_command_begins() {
        for (words, command) in [
            (&["h"][..], &[][..]),
            (&["h", "ls", "-l", "-v"], &["ls", "-l", "-v"]),
            (&["h", "-v", "ls", "-p", "3"], &["ls", "-p", "3"]),
            (&["h", "--", "-v"], &["-v"]),
            (&["--", "h", "-v"], &["-v"]),
            (&["-v", "--", "h", "--", "x"], &["--", "x"]),
            (&["h", "-", "x"], &["-", "x"]),
            (&["h", "x", "--udp", "--"], &["x", "--udp", "--"]),
            (&["h", ""], &[""]),
        ] {
            let line = line(words);
            assert_eq!(line.host, "h", "{words:?}");
            assert_eq!(line.command, command, "{words:?}");
        }
    }

    #[test]
    fn options_may_be_clustered_and_have_their_value_attached() {
        for words in [
            &["-tv", "-p", "22", "h"][..],
            &["-tvp22", "h"],
            &["-tvp", "22", "h"],
            &["-t", "h", "-v", "-p22"],
        ] {
            let flags = line(words).flags;
            assert_eq!(flags, [Flag::Terminal, Flag::Verbose, option("Port 22")], "{words:?}");
        }
        assert_eq!(line(&["-o", "-v", "h"]).flags, [option("-v")]);
        assert_eq!(line(&["-oPort=1", "h"]).flags, [option("Port=1")]);
        assert_eq!(line(&["-l", "--", "h"]).flags, [option("User \"--\"")]);
        assert_eq!(line(&["-tl", "h", "g"]).flags, [Flag::Terminal, option("User \"h\"")]);
        assert_eq!(line(&["-vvv", "h"]).flags, [Flag::Verbose, Flag::Verbose, Flag::Verbose]);
    }

    #[test]
    fn values_reach_the_reader_of_lines_unchanged() {
        for user in ["bob", "a b", "x\\y", "#1", "=z"] {
            let flags = line(&["-l", user, "h"]).flags;
            let [Flag::Option(text)] = &flags[..] else {
                panic!("one option, not {flags:?}");
            };
            let settings = crate::config::resolve(
                &line(&["-F", "none", "-o", text, "h"]),
                &crate::config::Environment::of_process().expect("a user"),
            );
            assert_eq!(settings.expect("a sound option").user, user);
        }
    }

    #[test]
    fn our_options_mix_with_those_of_ssh() {
        let line = line(&["--udp", "-v", "h", "--tsshd-path=/x y", "--debug", "ls"]);
        assert!(line.link.udp && line.debug);
        assert_eq!(line.flags, [Flag::Verbose, option("TsshdPath \"/x y\"")]);
        assert_eq!(line.command, ["ls"]);
    }

    #[test]
    fn destinations_are_taken_apart_as_ssh_does() {
        for (word, user, host, port) in [
            ("host", None, "host", None),
            ("bob@host", Some("bob"), "host", None),
            ("a@b@host", Some("a@b"), "host", None),
            ("bob@[::1]", Some("bob"), "::1", None),
            ("[fe80::1%lo]", None, "fe80::1%lo", None),
            ("::1", None, "::1", None),
            ("ssh://host", None, "host", None),
            ("ssh://host:7/", None, "host", Some(7)),
            ("ssh://a%40b@host", Some("a@b"), "host", None),
            ("ssh://bob;x=y@host", Some("bob"), "host", None),
            ("ssh://bob@[::1]:22", Some("bob"), "::1", Some(22)),
            ("ssh://[::1]", None, "::1", None),
            ("SSH://host", None, "SSH://host", None),
        ] {
            let line = line(&[word]);
            assert_eq!(line.host, host, "{word}");
            let user = user.map(|user| option(&format!("User \"{user}\"")));
            let port = port.map(|port: u16| option(&format!("Port {port}")));
            let flags: Vec<_> = user.into_iter().chain(port).collect();
            assert_eq!(line.flags, flags, "{word}");
        }
    }

    #[test]
    fn malformed_destinations_are_refused() {
        for word in [
            "",
            "@host",
            "bob@",
            "ssh://",
            "ssh://host:0",
            "ssh://host:x",
            "ssh://host/dir",
            "ssh://%zz",
            "ssh://@h",
            "[]",
        ] {
            assert_eq!(refusal(&[word]), UsageError::Destination, "{word}");
        }
        for word in ["a b", "h;id", "$(id)", "x`id`", "bob@-oProxyCommand=id", "h\n"] {
            let text = refusal(&[word]).to_string();
            assert_eq!(text, "hostname contains invalid characters", "{word:?}");
        }
        assert_eq!(refusal(&[]), UsageError::Destination);
        assert_eq!(refusal(&["-v"]), UsageError::Destination);
    }

    #[test]
    fn options_that_we_lack_are_refused_by_name_and_others_with_the_usage() {
        for flag in ["-I", "-K", "--attach"] {
            let text = refusal(&[flag, "1:h:2", "h"]).to_string();
            assert!(text.starts_with(&format!("{flag} is not in this version: ")), "{text}");
        }
        assert_eq!(refusal(&["-tK", "h"]), refusal(&["-K", "h"]));
        for flag in ["-j", "-h", "-Z", "--nonsense", "-ü"] {
            let text = refusal(&[flag, "h"]).to_string();
            assert!(text.starts_with("unknown option -- "), "{text}");
            assert!(text.contains("usage: tssh "), "{text}");
        }
        assert!(matches!(refusal(&["h", "-p"]), UsageError::MissingArgument(_)));
        assert!(matches!(refusal(&["--udp=yes", "h"]), UsageError::UnwantedArgument(_)));
        assert_eq!(refusal(&["-s", "h"]), UsageError::NoSubsystem);
        assert_eq!(refusal(&["-p0", "h"]).to_string(), "Bad port '0'");
    }

    #[test]
    fn forwards_are_checked_where_they_stand() {
        let flags = line(&["-L8080:db:80", "-D", "1080", "-R0:h:1", "-g", "h"]).flags;
        let forward = |slot, spec: &str| Flag::Forward(slot, spec.to_owned());
        assert_eq!(
            flags,
            [
                forward("localforward", "8080:db:80"),
                forward("dynamicforward", "1080"),
                forward("remoteforward", "0:h:1"),
                Flag::Replace("gatewayports", "yes".to_owned()),
            ]
        );
        for (words, text) in [
            (["-L", "8080"], "Bad local forwarding specification '8080'"),
            (["-D", "x"], "Bad dynamic forwarding specification 'x'"),
            (["-R", "1:h:0"], "Bad remote forwarding specification '1:h:0'"),
            (["-W", "80"], "Bad stdio forwarding specification '80'"),
            (["-Wh:1", "-Wh:2"], "stdio forward already specified"),
        ] {
            assert_eq!(refusal(&[words[0], words[1], "h"]).to_string(), text);
        }
        assert_eq!(
            line(&["-W", "[::1]:22", "h"]).flags,
            [Flag::Stdio(Connect::Tcp { host: "::1".to_owned(), port: 22 })]
        );
    }

    #[test]
    fn what_we_do_not_have_may_be_switched_off() {
        let off = Flag::Replace("forwardx11", "no".to_owned());
        assert_eq!(line(&["-xk2", "h"]).flags, [off]);
    }

    #[test]
    fn one_request_may_be_made_of_whoever_shares_its_connection() {
        for (word, command) in [
            ("check", ControlCommand::Check),
            ("forward", ControlCommand::Forward),
            ("cancel", ControlCommand::Cancel),
            ("exit", ControlCommand::Exit),
            ("stop", ControlCommand::Stop),
            ("proxy", ControlCommand::Proxy),
        ] {
            assert_eq!(line(&["-O", word, "h"]).control, Some(command));
        }
        for (words, text) in [
            (&["-Ofoo", "h"][..], "Invalid multiplex command."),
            (&["-Ocheck", "-Oexit", "h"], "Multiplexing command already specified"),
            (&["-Ocheck", "-Wa:1", "h"], "Cannot specify stdio forward with -O"),
            (&["-Wa:1", "-Ocheck", "h"], "Cannot specify multiplexing command with -W"),
        ] {
            assert_eq!(refusal(words).to_string(), text);
        }
    }

    #[test]
    fn version_and_help_need_nothing_else() {
        for (words, action) in [
            (&["-V"][..], Action::Version),
            (&["--version"], Action::Version),
            (&["h", "-vV"], Action::Version),
            (&["--help"], Action::Help),
            (&["-G", "h"], Action::PrintConfig),
        ] {
            assert_eq!(line(words).action, action, "{words:?}");
        }
    }

    #[test]
    fn the_table_for_users_of_openssh_says_what_becomes_of_every_flag() {
        const PAGE: &str = include_str!("../../../docs/openssh-compat.md");
        let mut told = Vec::new();
        for row in PAGE.lines().filter(|row| row.starts_with("| `-")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            for flag in cells[1].split('`').filter(|flag| flag.starts_with('-')) {
                let words = [flag, "1:h:2", "h", "c"];
                let words = if flag == "-O" { ["-O", "check", "h", "c"] } else { words };
                let refused = matches!(
                    parse(words.iter().map(OsString::from)),
                    Err(UsageError::NotSupported { .. })
                );
                assert_eq!(refused, cells[2] == "no", "{row}");
                told.extend(flag.chars().nth(1));
            }
        }
        // The flags of ssh(1).
        let mut all: Vec<char> = "46AaBbCcDEeFfGgIiJKkLlMmNnOoPpQqRSsTtVvWwXxYy".chars().collect();
        all.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, all);
    }

    #[test]
    fn every_flag_of_the_help_is_taken() {
        let flags = HELP.lines().filter_map(|line| line.strip_prefix("  -"));
        for flag in flags.flat_map(|line| line.split("  ").next().unwrap_or_default().split(", ")) {
            let flag = flag.trim_start_matches('-');
            let mut parts = flag.split(' ');
            let name = parts.next().unwrap_or_default();
            let dashes = if name.len() == 1 { "-" } else { "--" };
            let mut words = vec![format!("{dashes}{name}")];
            let value = match name {
                "L" => "1:h:2",
                "W" => "h:1",
                "O" => "check",
                _ => "1",
            };
            words.extend(parts.next().map(|_| value.to_owned()));
            words.extend(["h", "c"].map(str::to_owned));
            let result = parse(words.iter().map(OsString::from));
            assert!(result.is_ok(), "{words:?}: {result:?}");
        }
    }
}
