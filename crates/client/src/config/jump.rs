//! ProxyJump and ProxyCommand: how the ssh server is reached where not directly.
//!
//! A jump host is reached as OpenSSH reaches it, by the command line
//! `ssh [-l user] [-p port] [-J the hosts before it] [-F file] [-v] -W host:port jump`: nothing
//! else of ours passes on to it, and everything else is what the files say of that host,
//! a ProxyJump of its own included.

use std::fmt;

use super::environment::Environment;
use super::error::ConfigError;
use super::expand::percent;
use super::forward::Connect;
use super::options::Options;
use super::resolve::{resolve, unfit_for_user};
use super::settings::{Settings, UdpMode};
use crate::cli::{self, CommandLine, Flag};

/// How the ssh server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// By a connection of our own.
    Direct,
    /// Through the standard streams of a command, tokens not yet expanded (ProxyCommand).
    Command(String),
    /// Through another ssh server (ProxyJump).
    Jump(Jump),
}

/// The last of the jump hosts, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The jump hosts before it, as written; without any it is its own configuration that says.
    pub before: Option<String>,
    /// The user to log in as, if one is named.
    pub user: Option<String>,
    /// The host, as typed.
    pub host: String,
    /// The port, if one is named.
    pub port: Option<u16>,
}

impl Jump {
    /// Reads a list of jump hosts, the last of which is the one to connect from; `None` is `none`.
    ///
    /// # Errors
    /// It is not such a list; there is nothing more to say.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, ()> {
        let text = text.split('#').next().unwrap_or_default().trim_end();
        if text.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        let mut hosts = text.rsplit(',').map(Self::single);
        let mut last = hosts.next().flatten().ok_or(())?;
        if hosts.any(|host| host.is_none()) {
            return Err(());
        }
        last.before = text.rsplit_once(',').map(|(before, _)| before.to_owned());
        Ok(Some(last))
    }

    /// Reads one `[user@]host[:port]` or ssh URI.
    fn single(text: &str) -> Option<Self> {
        let (user, host, port) = match text.strip_prefix("ssh://") {
            Some(rest) => cli::uri(rest)?,
            None => plain(text)?,
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.to_owned(),
            None => host,
        };
        let unfit = host.is_empty()
            || host.starts_with('-')
            || host.chars().any(cli::unfit_for_host)
            || user.as_deref().is_some_and(unfit_for_user);
        (!unfit).then_some(Self { before: None, user, host, port })
    }

    /// Returns the command line that OpenSSH would give an ssh to the jump host.
    fn line(&self, ours: &CommandLine) -> CommandLine {
        let mut line = CommandLine::to_host(&self.host);
        line.config_files = ours.config_files.clone();
        line.debug = ours.debug;
        // There is no word for it that OpenSSH could pass on; without UDP there is none on the way.
        line.link.tcp = ours.link.tcp;
        let user = self.user.iter().map(|user| Flag::Option(cli::keyword_line("User", user)));
        let port = self.port.iter().map(|port| Flag::Option(format!("Port {port}")));
        let before = self.before.iter().map(|before| Flag::Jump(before.clone()));
        let verbose = ours.flags.iter().filter(|flag| **flag == Flag::Verbose).cloned();
        // Where to does not matter to the configuration.
        let stdio = Flag::Stdio(Connect::Tcp { host: String::new(), port: 0 });
        line.flags = user.chain(port).chain(before).chain(verbose).chain([stdio]).collect();
        line
    }
}

/// As `ssh -G` prints it.
impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = &self.before {
            write!(f, "{before},")?;
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        let numeric = self.host.contains(':')
            || self.host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match numeric {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Takes `[user@]host[:port]` apart, with an address in brackets if it has colons.
fn plain(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let (user, place) = match text.rsplit_once('@') {
        Some(("", _)) => return None,
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, text),
    };
    let at = match place.starts_with('[') {
        true => place.find(']')? + 1,
        false => place.find([':', '/']).unwrap_or(place.len()),
    };
    let (host, rest) = place.split_at_checked(at)?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(port) => Some(port.parse().ok().filter(|&port| port > 0)?),
    };
    Some((user, host.to_owned(), port))
}

/// Reads what the options say; the first of ProxyJump and ProxyCommand fills the one place.
pub(super) fn proxy(options: &Options) -> Proxy {
    let Some(setting) = options.get("proxy") else { return Proxy::Direct };
    let text = setting.values.first().map_or("", String::as_str);
    if setting.keyword.name == "proxyjump" {
        // It was checked where it was read.
        return Jump::parse(text).ok().flatten().map_or(Proxy::Direct, Proxy::Jump);
    }
    match text.eq_ignore_ascii_case("none") {
        true => Proxy::Direct,
        false => Proxy::Command(text.to_owned()),
    }
}

impl Settings {
    /// Returns ProxyCommand as the shell is to have it, to reach `port`.
    ///
    /// # Errors
    /// A token that cannot be expanded.
    pub(crate) fn proxy_command(&self, template: &str, port: u16) -> Result<String, String> {
        percent(template, |token| match token {
            'h' => Some(self.host_name.clone()),
            'n' => Some(self.original_host.clone()),
            'p' => Some(port.to_string()),
            'r' => Some(self.user.clone()),
            _ => None,
        })
    }

    /// Returns the user, host and port that a jump leads to, where it would be a loop.
    pub(super) fn is_own_jump(&self, jump: &Jump) -> bool {
        jump.host == self.host_name
            && jump.port.unwrap_or(22) == self.port
            && jump.user.as_ref().is_none_or(|user| *user == self.user)
    }
}

/// Resolves the settings of the jump hosts on the way to `destination`, the nearest first.
///
/// # Errors
/// [`ConfigError`], as [`resolve`], and for jump hosts that lead in a circle.
pub fn hops(
    line: &CommandLine,
    environment: &Environment,
    destination: &Settings,
) -> Result<Vec<Settings>, ConfigError> {
    let mut hops = Vec::new();
    let mut seen: Vec<Jump> = Vec::new();
    let mut line = line.clone();
    let mut proxy = destination.proxy.clone();
    while let Proxy::Jump(jump) = proxy {
        // The same words have the same meaning, and so lead here again.
        if seen.contains(&jump) {
            return Err(ConfigError::JumpLoop(jump.host));
        }
        line = jump.line(&line);
        let settings = resolve(&line, environment)?;
        if settings.login_command.is_some() {
            return Err(ConfigError::JumpByCommand(jump.host));
        }
        proxy = settings.proxy.clone();
        seen.push(jump);
        hops.push(settings);
    }
    hops.reverse();
    spread_udp(&mut hops, destination);
    Ok(hops)
}

/// Every host on the way to one with a link has one as well, as far as tsshd is there
/// (PROTOCOL §9.1), and all of them give up together (§7.5).
fn spread_udp(hops: &mut [Settings], destination: &Settings) {
    let mut beyond = &destination.udp;
    for hop in hops.iter_mut().rev() {
        if beyond.mode != UdpMode::No {
            if hop.udp.mode == UdpMode::No {
                hop.udp.mode = beyond.mode;
            }
            hop.udp.alive_timeout = beyond.alive_timeout;
        }
        beyond = &hop.udp;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_from_their_end() {
        let jump = Jump::parse("a,ssh://u@b:7/,v@c:22 # why").expect("a list").expect("hosts");
        assert_eq!((jump.user.as_deref(), &*jump.host, jump.port), (Some("v"), "c", Some(22)));
        assert_eq!(jump.before.as_deref(), Some("a,ssh://u@b:7/"));
        assert_eq!(jump.to_string(), "a,ssh://u@b:7/,v@c:22");
        let address = Jump::parse("[2001:db8::1]:22").expect("a list").expect("a host");
        assert_eq!((&*address.host, address.port), ("2001:db8::1", Some(22)));
        assert_eq!(address.to_string(), "[2001:db8::1]:22");
        assert_eq!(Jump::parse("NONE"), Ok(None));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for text in ["", "a,", ",a", "a,,b", "@a", "a@", "a:0", "a:b", "a/22", ":22", "-a", "a;b"] {
            assert_eq!(Jump::parse(text), Err(()), "{text}");
        }
    }
}
