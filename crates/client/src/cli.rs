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

pub(crate) use destination::{unfit_for_host, uri};
pub use text::{HELP, USAGE, VERSION};

use crate::config::AddressFamily;
use crate::config::forward::{Connect, Forward, Kind, Listen};
use grammar::{COMMAND, Given, HOST, VALUED, explain, grammar, in_order};
use text::NOT_SUPPORTED;

mod destination;
mod grammar;
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
mod tests;
