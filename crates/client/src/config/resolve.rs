//! [`resolve`]: from flags and files to [`Settings`].
//!
//! The order is that of OpenSSH's `main`: flags, the files once, the host name, and the files a
//! second time if a `Match final` or CanonicalizeHostname asks for it; then the defaults, the
//! tokens, and a word about everything that is not honoured.

mod flags;
mod words;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::answers::Answers;
use super::canonical::{self, Canonicalization, Found};
use super::environment::Environment;
use super::error::ConfigError;
use super::expand::{self, Tokens};
use super::files::Pass;
use super::forward::{Connect, Forward, Kind, Listen};
use super::jump::{self, Proxy};
use super::keywords::{self, Keyword, Standing};
use super::marks::Marks;
use super::options::{self, Options, Setting};
use super::paths::Paths;
use super::settings::*;
use super::{channel_timeouts, control, host_keys, lex, udp};
use crate::cli::{CommandLine, ConfigFiles, Flag};
use crate::forward::X11Settings;
use crate::sys::names;
use words::{log_level, looks_like_address, number, request_tty, set_variables, strict};

/// Resolves the settings of the destination that a command line names.
///
/// Reads the user's and the system's files, or that of `-F`; runs the commands of `Match exec`;
/// asks the name server if CanonicalizeHostname is on. Blocks while it does.
///
/// # Errors
/// [`ConfigError`], to be printed to standard error before exiting with 255.
pub fn resolve(line: &CommandLine, environment: &Environment) -> Result<Settings, ConfigError> {
    let draft = Draft::new(line, environment, None);
    draft.run(|name| {
        let canonical_name = names::canonical(name)?;
        Some(Found { canonical_name })
    })
}

/// Checks what the flags and `-o` options say, before the log has gone anywhere (`-E`): ssh tells
/// the person at the terminal what is wrong with them.
///
/// # Errors
/// As [`resolve`].
pub fn check_flags(line: &CommandLine, environment: &Environment) -> Result<(), ConfigError> {
    Draft::new(line, environment, None).flags()
}

/// Resolves the text of a user's file for the host `host`, and neither opens nor runs anything.
///
/// The entry for fuzzing: `Include` names no file and `Match exec` fails.
///
/// # Errors
/// As [`resolve`].
pub fn parse_file(text: &[u8]) -> Result<Settings, ConfigError> {
    let line = CommandLine::to_host("host");
    let environment = Environment {
        home: "/home/user".into(),
        user: "user".to_owned(),
        uid: 1000,
        host_name: "local.example".to_owned(),
        variables: vec![("HOME".to_owned(), "/home/user".to_owned())],
        system_config: "/etc/ssh/ssh_config".into(),
    };
    let text = String::from_utf8_lossy(text);
    Draft::new(&line, &environment, Some(&text)).run(|_| None)
}

/// The file of our own keywords beside the user's configuration (CLIENT-OPTIONS §1).
const EXTENDED_FILE: &str = "password";

/// Settings in the making.
struct Draft<'a> {
    line: &'a CommandLine,
    environment: &'a Environment,
    options: Options,
    warnings: Vec<String>,
    /// The log level that `-v` and `-q` came to.
    level: Option<LogLevel>,
    /// The text of the only file, if nothing may be opened or run.
    text: Option<&'a str>,
}

impl<'a> Draft<'a> {
    fn new(line: &'a CommandLine, environment: &'a Environment, text: Option<&'a str>) -> Self {
        Self {
            line,
            environment,
            options: Options::default(),
            warnings: Vec::new(),
            level: None,
            text,
        }
    }

    /// Goes through flags and files once or twice; `look_up` looks a host name up.
    fn run(mut self, look_up: impl Fn(&str) -> Option<Found>) -> Result<Settings, ConfigError> {
        self.flags()?;
        let mut again = self.files(&self.line.host, false)?;
        let mut host = self.typed_host_name()?;
        let canonical = Canonicalization::new(&self.options);
        if !looks_like_address(&host) {
            host = canonical.host_name(&host, canonical::is_direct(&self.options), look_up)?;
        }
        again |= canonical.is_wanted();
        if again {
            // The name must pass unchanged through the expansion of HostName.
            self.replace("hostname", &host.replace('%', "%%"));
            self.files(&host, true)?;
        }
        self.finish(host, canonical)
    }

    /// Returns the log level so far: that of the flags, or else of the configuration.
    fn current_level(&self) -> LogLevel {
        self.level
            .or_else(|| self.options.word("loglevel").map(log_level))
            .unwrap_or(LogLevel::Info)
    }

    fn pass<'p>(&'p mut self, host: &'p str, is_final: bool) -> Pass<'p> {
        Pass {
            environment: self.environment,
            original_host: &self.line.host,
            host,
            is_final,
            wants_final: false,
            options: &mut self.options,
            warnings: &mut self.warnings,
            command: "",
            inert: self.text.is_some(),
        }
    }

    /// Reads the files, and returns whether they ask to be read again.
    fn files(&mut self, host: &str, is_final: bool) -> Result<bool, ConfigError> {
        let command = command_text(self.line);
        let environment = self.environment;
        let line = self.line;
        let text = self.text;
        let mut pass = self.pass(host, is_final);
        pass.command = &command;
        if let Some(text) = text {
            pass.user_text(Path::new("text"), text)?;
            return Ok(pass.wants_final);
        }
        match &line.config_files {
            ConfigFiles::None => {}
            ConfigFiles::Only(path) => pass.read_user_file(path, false, true)?,
            ConfigFiles::Usual => {
                let ssh = environment.home.join(".ssh");
                pass.read_extended_file(&ssh.join(EXTENDED_FILE))?;
                pass.read_user_file(&ssh.join("config"), true, false)?;
                pass.read_system_file(&environment.system_config)?;
            }
        }
        Ok(pass.wants_final)
    }

    /// Returns all answers: those for the host, and the passphrases that the extended file keeps
    /// under the names of key files.
    fn answers(&self, keys: &[IdentityFile]) -> Result<Answers, ConfigError> {
        let mut answers = self.options.answers.clone();
        if self.text.is_some() || !matches!(self.line.config_files, ConfigFiles::Usual) {
            return Ok(answers);
        }
        let path = self.environment.home.join(".ssh").join(EXTENDED_FILE);
        for key in keys {
            let Some(name) = key.path.file_name().map(|name| name.to_string_lossy()) else {
                continue;
            };
            // Warnings were given when it was read for the host.
            let (mut options, mut warnings) = (Options::default(), Vec::new());
            let mut pass = Pass {
                environment: self.environment,
                original_host: &name,
                host: &name,
                command: "",
                is_final: false,
                wants_final: false,
                inert: false,
                options: &mut options,
                warnings: &mut warnings,
            };
            pass.read_extended_file(&path)?;
            answers.adopt_passphrase(&name, &options.answers);
        }
        Ok(answers)
    }

    /// Returns the host name that HostName makes of the one typed.
    fn typed_host_name(&self) -> Result<String, ConfigError> {
        let typed = &self.line.host;
        let host = match self.options.word("hostname") {
            Some(text) => expand::host_name(text, typed)
                .map_err(|problem| ConfigError::Expansion { keyword: "HostName", problem })?,
            None => typed.clone(),
        };
        Ok(match host.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) if looks_like_address(&host) => host,
            Err(_) => host.to_ascii_lowercase(),
        })
    }

    /// Fills in the defaults, expands tokens, and says what is not honoured.
    fn finish(
        mut self,
        host_name: String,
        canonical: Canonicalization,
    ) -> Result<Settings, ConfigError> {
        self.standings()?;
        if let Some(reason) = self.options.word("refuseconnection") {
            return Err(ConfigError::Refused(reason.to_owned()));
        }
        if self.options.word("connectionattempts").is_some_and(|n| n.parse() == Ok(0)) {
            return Err(ConfigError::Conflict("Invalid number of ConnectionAttempts"));
        }
        let udp = udp::settings(self.line, &self.options)?;
        let options = &self.options;
        let user = options.word("user").unwrap_or(&self.environment.user);
        let port = options.word("port").and_then(|port| port.parse().ok());
        let port = port.unwrap_or(22);
        let host_key_alias = options.word("hostkeyalias").map(str::to_ascii_lowercase);
        let proxy = jump::proxy(options);
        let tokens = Tokens {
            environment: self.environment,
            host: &host_name,
            original_host: &self.line.host,
            port,
            user,
            jump_host: match &proxy {
                Proxy::Jump(jump) => Some(&jump.host),
                Proxy::Direct | Proxy::Command(_) => None,
            },
            host_key_alias: host_key_alias.as_deref(),
        };
        let paths = Paths { tokens: &tokens, options };
        let background = options.flag("forkafterauthentication").unwrap_or(false);
        let remote_command = self.remote_command(&tokens)?;
        let only_forwards =
            options.word("sessiontype").is_some_and(|t| t.eq_ignore_ascii_case("none"));
        if background && !only_forwards && remote_command.is_none() && self.line.command.is_empty()
        {
            return Err(ConfigError::Conflict(
                "Cannot fork into background without a command to execute.",
            ));
        }
        let rekey = options::rekey_limit(options.words("rekeylimit"));
        let identity_files = paths.identity_files()?;
        let settings = Settings {
            original_host: self.line.host.clone(),
            port,
            user: user.to_owned(),
            proxy: proxy.clone(),
            proxy_hands_over: options.flag("proxyusefdpass").unwrap_or(false),
            canonicalization: canonical.settled(options),
            marks: Marks::parse(options.words("ipqos")).unwrap_or_default(),
            channel_timeouts: channel_timeouts::parse(options.words("channeltimeout"))
                .unwrap_or_default(),
            address_family: match options.word("addressfamily") {
                Some(word) if word.eq_ignore_ascii_case("inet") => AddressFamily::Inet,
                Some(word) if word.eq_ignore_ascii_case("inet6") => AddressFamily::Inet6,
                _ => AddressFamily::Any,
            },
            bind_address: options.word("bindaddress").map(str::to_owned),
            bind_interface: options
                .word("bindinterface")
                .filter(|name| !name.eq_ignore_ascii_case("none"))
                .map(str::to_owned),
            // Zero means no limit of ours, as in OpenSSH.
            connect_timeout: options.duration("connecttimeout").filter(|limit| !limit.is_zero()),
            connection_attempts: number(options, "connectionattempts", 1),
            batch_mode: options.flag("batchmode").unwrap_or(false),
            askpass: self.environment.askpass(),
            number_of_password_prompts: number(options, "numberofpasswordprompts", 3),
            preferred_authentications: options
                .word("preferredauthentications")
                .unwrap_or(PREFERRED)
                .split(',')
                .map(str::to_owned)
                .collect(),
            missing_methods: missing_methods(options),
            pubkey_authentication: options
                .word("pubkeyauthentication")
                .is_none_or(|word| !options::is_no(word)),
            password_authentication: options.flag("passwordauthentication").unwrap_or(true),
            kbd_interactive_authentication: options
                .flag("kbdinteractiveauthentication")
                .unwrap_or(true),
            answers: self.answers(&identity_files)?,
            identity_files,
            certificate_files: paths.certificate_files()?,
            add_keys_to_agent: options::add_keys(options.words("addkeystoagent"))
                .unwrap_or(AddKeys::No),
            required_rsa_bits: number(options, "requiredrsasize", MIN_RSA_BITS),
            security_keys: self.environment.security_keys(options.word("securitykeyprovider")),
            identities_only: options.flag("identitiesonly").unwrap_or(false),
            identity_agent: paths.identity_agent()?,
            user_known_hosts_files: paths.user_known_hosts_files()?,
            global_known_hosts_files: paths.global_known_hosts_files(),
            strict_host_key_checking: strict(options.word("stricthostkeychecking")),
            host_keys: host_keys::settings(options, &paths, &tokens, self.must_not_ask())?,
            hash_known_hosts: options.flag("hashknownhosts").unwrap_or(false),
            host_key_alias: host_key_alias.clone(),
            algorithms: Algorithms {
                kex: options.word("kexalgorithms").map(str::to_owned),
                ciphers: options.word("ciphers").map(str::to_owned),
                macs: options.word("macs").map(str::to_owned),
                host_key: options.word("hostkeyalgorithms").map(str::to_owned),
                pubkey: options.word("pubkeyacceptedalgorithms").map(str::to_owned),
                ca: options.word("casignaturealgorithms").map(str::to_owned),
            },
            rekey_bytes: rekey.map(|(bytes, _)| bytes).filter(|&bytes| bytes > 0),
            rekey_interval: rekey.map(|(_, time)| time).filter(|time| !time.is_zero()),
            compression: options.flag("compression").unwrap_or(false),
            server_alive_interval: options
                .duration("serveraliveinterval")
                .filter(|interval| !interval.is_zero()),
            server_alive_count_max: number(options, "serveralivecountmax", 3),
            send_env: self.sent_variables(),
            set_env: set_variables(options),
            request_tty: request_tty(options.word("requesttty")),
            runs_shell: remote_command.is_none()
                && self.line.command.is_empty()
                && options.word("sessiontype").is_none_or(|t| t.eq_ignore_ascii_case("default")),
            remote_command,
            session_type: match options.word("sessiontype") {
                Some(word) if word.eq_ignore_ascii_case("none") => SessionType::None,
                Some(word) if word.eq_ignore_ascii_case("subsystem") => SessionType::Subsystem,
                _ => SessionType::Default,
            },
            stdin_null: options.flag("stdinnull").unwrap_or(false),
            background,
            syslog_facility: options
                .word("syslogfacility")
                .and_then(options::facility)
                .unwrap_or(SYSLOG_USER),
            login_command: self.login_command()?,
            tcp_keep_alive: options.flag("tcpkeepalive").unwrap_or(true),
            escape_char: options
                .word("escapechar")
                .and_then(options::escape_char)
                .unwrap_or(Some(b'~')),
            escape_command_line: options.flag("enableescapecommandline").unwrap_or(false),
            permit_local_command: options.flag("permitlocalcommand").unwrap_or(false),
            local_command: self.local_command(&tokens)?,
            control: control::settings(options, &paths)?,
            log_level: match self.line.debug {
                true => LogLevel::Debug3,
                false => self.current_level(),
            },
            forwards: self.forwards(&tokens, paths.forward_agent()?)?,
            udp,
            warnings: self.warnings,
            host_name: host_name.clone(),
        };
        match proxy {
            Proxy::Jump(jump) if settings.is_own_jump(&jump) => {
                Err(ConfigError::JumpLoop(jump.host))
            }
            _ => Ok(settings),
        }
    }

    /// Refuses what must not be ignored, and warns of what is.
    fn standings(&mut self) -> Result<(), ConfigError> {
        let cleared = self.options.flag("clearallforwardings") == Some(true);
        let mut settings: Vec<&Setting> = self.options.all().collect();
        settings.sort_by_key(|setting| setting.keyword.name);
        let mut warnings = Vec::new();
        for setting in settings {
            let harmless = |unless: &[&str]| {
                let first = setting.values.first();
                first.is_some_and(|value| unless.iter().any(|u| u.eq_ignore_ascii_case(value)))
            };
            let Keyword { name, standing, .. } = setting.keyword;
            match standing {
                Standing::Honoured | Standing::Ignored => {}
                Standing::Warned { .. } if cleared && name.ends_with("forward") => {}
                Standing::Warned { unless, lost } => {
                    if !harmless(unless) {
                        warnings.push(format!("{}: {name}: {lost}", setting.origin));
                    }
                }
                Standing::Refused { unless, reason } => {
                    if !harmless(unless) {
                        return Err(ConfigError::not_supported(&setting.origin, name, *reason));
                    }
                }
            }
        }
        self.warnings.append(&mut warnings);
        Ok(())
    }

    /// Returns whether a question would come at a bad time: there is a command, no terminal is
    /// wanted, or no word.
    fn must_not_ask(&self) -> bool {
        let command = self.options.word("remotecommand");
        self.current_level() < LogLevel::Info
            || !self.line.command.is_empty()
            || command.is_some_and(|command| !command.eq_ignore_ascii_case("none"))
            || request_tty(self.options.word("requesttty")) == RequestTty::No
    }

    fn forwards(
        &self,
        tokens: &Tokens<'_>,
        agent: ForwardAgent,
    ) -> Result<ForwardSettings, ConfigError> {
        let options = &self.options;
        let stdio = self.line.flags.iter().find_map(|flag| match flag {
            Flag::Stdio(connect) => Some(connect.clone()),
            _ => None,
        });
        let cleared = options.flag("clearallforwardings").unwrap_or(stdio.is_some());
        let read = |slot, kind| -> Result<Vec<Forward>, ConfigError> {
            let specs = if cleared { &[] } else { options.words(slot) };
            let forwards = specs.iter().filter_map(|spec| Forward::parse(spec, kind));
            forwards.map(|forward| expand_sockets(forward, tokens)).collect()
        };
        let mut local = read("localforward", Kind::Local)?;
        local.append(&mut read("dynamicforward", Kind::Dynamic)?);
        let udp_idle = options.duration("forwardudptimeout");
        let permits = options.words("permitremoteopen");
        let any = permits.first().is_none_or(|word| word.eq_ignore_ascii_case("any"));
        Ok(ForwardSettings {
            local,
            remote: read("remoteforward", Kind::Remote)?,
            udp_local: read("udplocalforward", Kind::LocalUdp)?,
            udp_remote: read("udpremoteforward", Kind::RemoteUdp)?,
            x11: self.x11(),
            // As for the reference, zero stands for the default.
            udp_idle: udp_idle.filter(|limit| !limit.is_zero()).unwrap_or(UDP_IDLE),
            exit_on_failure: options.flag("exitonforwardfailure").unwrap_or(stdio.is_some()),
            stdio,
            agent,
            gateway_ports: options.flag("gatewayports").unwrap_or(false),
            cleared,
            socket_mask: options
                .word("streamlocalbindmask")
                .and_then(|mask| u16::from_str_radix(mask, 8).ok())
                .unwrap_or(0o177),
            socket_unlink: options.flag("streamlocalbindunlink").unwrap_or(false),
            permit_remote_open: (!any).then(|| permits.to_vec()),
        })
    }

    fn x11(&self) -> X11Settings {
        let options = &self.options;
        let usual = X11Settings::default();
        X11Settings {
            enabled: options.flag("forwardx11").unwrap_or(usual.enabled),
            trusted: options.flag("forwardx11trusted").unwrap_or(usual.trusted),
            timeout: options.duration("forwardx11timeout").unwrap_or(usual.timeout),
            xauth: options.word("xauthlocation").map_or(usual.xauth, Into::into),
        }
    }

    /// Returns the words of the program that logs in instead of us.
    fn login_command(&self) -> Result<Option<Vec<String>>, ConfigError> {
        let text = self.options.word("logincommand");
        let text = text.filter(|text| !text.eq_ignore_ascii_case("none"));
        let Some(text) = text.or(self.line.via_ssh.then_some("ssh")) else { return Ok(None) };
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Some(words)),
            _ => Err(ConfigError::BadOption {
                problem: format!("LoginCommand: unbalanced quotes in {text}"),
            }),
        }
    }

    /// Names the variables that SendEnv asks for and the process has.
    fn sent_variables(&self) -> Vec<String> {
        let patterns = self.options.words("sendenv");
        let wanted = |name: &str| patterns.iter().any(|pattern| lex::matches(name, pattern));
        let names = self.environment.variables.iter().map(|(name, _)| name);
        names.filter(|name| wanted(name)).cloned().collect()
    }

    /// Returns LocalCommand, if it may be run.
    fn local_command(&self, tokens: &Tokens<'_>) -> Result<Option<String>, ConfigError> {
        let permitted = self.options.flag("permitlocalcommand") == Some(true);
        let Some(command) = self.options.word("localcommand").filter(|_| permitted) else {
            return Ok(None);
        };
        tokens
            .expand_for_local_command(command)
            .map(Some)
            .map_err(|problem| ConfigError::Expansion { keyword: "LocalCommand", problem })
    }

    fn remote_command(&self, tokens: &Tokens<'_>) -> Result<Option<String>, ConfigError> {
        let Some(command) = self.options.word("remotecommand") else {
            return Ok(None);
        };
        if command.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        if !self.line.command.is_empty() {
            return Err(ConfigError::Conflict("Cannot execute command-line and remote command."));
        }
        tokens
            .expand(command)
            .map(Some)
            .map_err(|problem| ConfigError::Expansion { keyword: "RemoteCommand", problem })
    }
}

/// ForwardUdpTimeout where nothing is said (PROTOCOL §11).
const UDP_IDLE: Duration = Duration::from_secs(5 * 60);

/// Returns the methods of authentication that are wanted and not in this version.
fn missing_methods(options: &Options) -> Vec<&'static str> {
    let listed = options.word("preferredauthentications");
    let is_wanted = |method: &str, slot| {
        options.flag(slot) == Some(true)
            && listed.is_none_or(|list| list.split(',').any(|name| name == method))
    };
    [("gssapi-with-mic", "gssapiauthentication"), ("hostbased", "hostbasedauthentication")]
        .into_iter()
        .filter(|(method, slot)| is_wanted(method, slot))
        .map(|(method, _)| method)
        .collect()
}

/// The facility of syslog(3) where SyslogFacility says nothing.
const SYSLOG_USER: u8 = 1;

/// The smallest RSA key where RequiredRSASize says nothing; OpenSSH's choice.
const MIN_RSA_BITS: u32 = 1024;

/// Expands tokens and variables in the socket paths of a forward, as OpenSSH does.
fn expand_sockets(forward: Forward, tokens: &Tokens<'_>) -> Result<Forward, ConfigError> {
    let expand = |path: String| {
        let failed = |problem| ConfigError::Expansion { keyword: "forward", problem };
        tokens.expand_with_variables(&path).map_err(failed)
    };
    let listen = match forward.listen {
        Listen::Unix(path) => Listen::Unix(expand(path)?),
        listen @ Listen::Tcp { .. } => listen,
    };
    let connect = match forward.connect {
        Connect::Unix(path) => Connect::Unix(expand(path)?),
        connect => connect,
    };
    Ok(Forward { listen, connect })
}

/// Returns whether a user name of the command line could act on a shell it reaches through `%r`;
/// OpenSSH's rule since 9.6.
pub(super) fn unfit_for_user(user: &str) -> bool {
    user.starts_with('-')
        || user.ends_with('\\')
        || user.chars().any(|c| c.is_ascii_control() || "'`\";&<>|(){}".contains(c))
        || user.contains(" -")
}

/// Looks up a keyword that is certainly in the table.
fn known(name: &str) -> &'static Keyword {
    keywords::find(name).expect("the name is one of the table's")
}

/// Quotes a value so that splitting gives it back unchanged.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The command as one string, for `Match command`.
fn command_text(line: &CommandLine) -> String {
    let words: Vec<_> = line.command.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
