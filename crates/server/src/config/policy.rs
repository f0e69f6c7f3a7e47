//! Answers to "may it?" from the host's sshd_config and the user's own.
//!
//! The user's file may restrict further, never relax: a request is granted
//! only if every file grants it. What follows from a file that cannot be read
//! is decided in docs/decisions/0017. This binds nobody who has a shell here;
//! it keeps our service from offering what the administrator has switched off.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::sshd::{Candidate, Facts, SshdConfig};
use super::{key, pattern};
use crate::sys::account::Account;

/// A request that the configuration forbids; goes to the client with code 101.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

/// Who may connect to remote listeners, in sshd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GatewayPorts {
    /// This host only.
    No,
    /// Whomever the client lets.
    ClientSpecified,
    /// Everybody, whatever the client says.
    Yes,
}

/// Where a connection of ours is to lead, or where we are to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// To a host and port, as the client names them.
    Tcp(&'a str, u16),
    /// To a unix socket.
    Unix,
}

/// What this host allows.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    system: System,
    /// The user's own file.
    user: Option<SshdConfig>,
    /// What the options of the keys that logged in forbid.
    keys: Vec<SshdConfig>,
    /// Whether sshd started us in place of another command.
    was_forced: bool,
    /// What the user should know.
    notes: Vec<String>,
}

/// The system's file.
#[derive(Debug, Default)]
enum System {
    /// There is none.
    #[default]
    Missing,
    /// It is there and says what we may not know.
    Unreadable(PathBuf),
    Read(SshdConfig),
}

/// The usual places of the system's file, in order (PROTOCOL §10.1).
const SYSTEM_DIRS: [&str; 6] = [
    "/etc/ssh",
    "/usr/local/etc/ssh",
    "/usr/local/ssh/etc",
    "/opt/ssh/etc",
    "/opt/openssh/etc",
    "/usr/pkg/etc/ssh",
];

/// Accepted where there is no sshd_config to ask (PROTOCOL §10.1).
const ACCEPTED_BY_DEFAULT: [&str; 2] = ["LANG", "LC_*"];

impl Policy {
    /// Reads the system's and the user's files.
    pub(crate) fn load(account: &Account) -> Self {
        let system = SYSTEM_DIRS.map(|dir| Path::new(dir).join("sshd_config"));
        // One that cannot be looked at is there as well.
        let system = system.into_iter().find(|path| path.try_exists().unwrap_or(true));
        let config_home = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
        let config_home = config_home.map_or_else(|| account.home.join(".config"), PathBuf::from);
        let user = Some(config_home.join("tsshd/sshd_config")).filter(|path| path.exists());
        let ssh_connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
        let forced = std::env::var_os("SSH_ORIGINAL_COMMAND");
        let mut policy = Self::from_files(system, user, account, &ssh_connection, forced);
        if let Some(path) = std::env::var_os("SSH_USER_AUTH") {
            policy.keep_to_keys(Path::new(&path), account);
        }
        policy
    }

    /// Restricts to what the keys may do that sshd names in the file at `path` (ExposeAuthInfo).
    fn keep_to_keys(&mut self, path: &Path, account: &Account) {
        let (config, is_certain) = match &self.system {
            System::Read(file) => {
                let files = file.values("authorizedkeysfile");
                (Some(file), files.iter().all(|candidate| candidate.certain))
            }
            System::Missing => (None, true),
            System::Unreadable(_) => (None, false),
        };
        self.keys = match std::fs::read_to_string(path) {
            Ok(info) if is_certain => key::restrictions(&info, config, account),
            // Whoever logged in may be restricted.
            _ => vec![SshdConfig::unknown(path)],
        };
    }

    /// `original_command` is what sshd says was asked for when it ran a forced command.
    pub(crate) fn from_files(
        system: Option<PathBuf>,
        user: Option<PathBuf>,
        account: &Account,
        ssh_connection: &str,
        original_command: Option<OsString>,
    ) -> Self {
        let facts = Facts {
            user: account.name.clone(),
            groups: account.groups.clone(),
            ..Facts::default()
        };
        let facts = facts.with_connection(ssh_connection);
        let mut policy = Self { was_forced: original_command.is_some(), ..Self::default() };
        if let Some(path) = system {
            policy.system = match SshdConfig::read(&path, &facts) {
                Ok(config) => System::Read(config),
                Err(error) => {
                    let path_shown = path.display();
                    policy.notes.push(format!(
                        "cannot read {path_shown} ({error}): OpenSSH's defaults apply"
                    ));
                    System::Unreadable(path)
                }
            };
        }
        if let Some(path) = user {
            match SshdConfig::read(&path, &facts) {
                Ok(config) => policy.user = Some(config),
                Err(error) => {
                    let path = path.display();
                    policy.notes.push(format!("cannot read {path} ({error}): it is left out"));
                }
            }
        }
        policy
    }

    /// Returns what the user should be told once.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns whether the client may set the environment variable `name`.
    pub(crate) fn accepts_env(&self, name: &str) -> bool {
        let by_system = match &self.system {
            System::Missing => ACCEPTED_BY_DEFAULT.iter().any(|p| pattern::matches(name, p)),
            // OpenSSH's default: none.
            System::Unreadable(_) => false,
            System::Read(file) => lists_env(file, name),
        };
        // A user's file without the keyword does not restrict.
        let by_user =
            |file: &SshdConfig| file.list("acceptenv").is_empty() || lists_env(file, name);
        by_system && self.user.as_ref().is_none_or(by_user)
    }

    /// Returns the command that is run whatever is asked for, if there is one.
    ///
    /// # Errors
    /// [`Refusal`] when one may be in effect that we cannot know.
    pub(crate) fn forced_command(&self) -> Result<Option<&str>, Refusal> {
        self.unless_forced_unseen("ForceCommand may be set")?;
        // sshd's order: what its file says is before what a key's options do.
        if let System::Read(file) = &self.system
            && let Some(forced) = self.forced_by(file)?
        {
            return Ok(Some(forced));
        }
        if let Some(forced) = self.forced_by_key()? {
            return Ok(Some(forced));
        }
        self.user.as_ref().map_or(Ok(None), |file| self.forced_by(file))
    }

    /// Returns the command that a file forces.
    fn forced_by<'a>(&self, file: &'a SshdConfig) -> Result<Option<&'a str>, Refusal> {
        let values = file.values("forcecommand");
        let is_none = |c: &Candidate| c.rest.eq_ignore_ascii_case("none");
        // Had another block's command been in force, sshd would have told us.
        let unclear = values.iter().any(|c| !c.certain && !is_none(c));
        if self.was_forced && (unclear || file.unreadable.is_some()) {
            let why = "may be set in a part that cannot be read";
            return Err(refusal("ForceCommand", &file.path, why));
        }
        let forced = values.into_iter().find(|c| c.certain).filter(|c| !is_none(c));
        Ok(forced.map(|candidate| &*candidate.rest))
    }

    /// Returns the command that the options of the key force, where sshd says that one was.
    fn forced_by_key(&self) -> Result<Option<&str>, Refusal> {
        let mut found = None;
        for file in self.keys.iter().filter(|_| self.was_forced) {
            let Some(forced) = self.forced_by(file)? else { continue };
            if found.is_some_and(|before| before != forced) {
                let why = "is not the same in every line of the key";
                return Err(refusal("command=", &file.path, why));
            }
            found = Some(forced);
        }
        Ok(found)
    }

    /// Returns whether a pty may be allocated.
    ///
    /// Allowed where a part of a file cannot be read, unlike a connection:
    /// nearly every session wants one, and whoever runs a command can open one.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn permits_tty(&self) -> Result<(), Refusal> {
        self.unless("PermitTTY", |value| value == "no")
    }

    /// Returns whether the client may have a connection made to `target`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn permits_dial(&self, target: Target<'_>) -> Result<(), Refusal> {
        self.permits_forwarding()?;
        let is_refused = |value: &str| value == "no" || value == "remote";
        // As in sshd, what governs TCP governs sockets as well: a list names none.
        self.unless("AllowTcpForwarding", is_refused)?;
        match target {
            Target::Unix => {
                self.unless("AllowStreamLocalForwarding", is_refused)?;
                self.lists("PermitOpen", |rule| rule.eq_ignore_ascii_case("any"))
            }
            Target::Tcp(host, port) => self.lists("PermitOpen", |rule| opens(rule, host, port)),
        }
    }

    /// Returns whether the client may have connections accepted at `target`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn permits_listen(&self, target: Target<'_>) -> Result<(), Refusal> {
        self.permits_forwarding()?;
        let is_refused = |value: &str| value == "no" || value == "local";
        self.unless("AllowTcpForwarding", is_refused)?;
        match target {
            // PermitListen knows ports only.
            Target::Unix => self.unless("AllowStreamLocalForwarding", is_refused),
            Target::Tcp(host, port) => self.lists("PermitListen", |rule| listens(rule, host, port)),
        }
    }

    /// Returns whether sessions may reach the client's agent.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn permits_agent(&self) -> Result<(), Refusal> {
        self.permits_forwarding()?;
        self.unless("AllowAgentForwarding", |value| value == "no")
    }

    /// Returns whether sessions may reach the client's display. Unlike all else it has to be
    /// allowed: sshd's default is no.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn permits_x11(&self) -> Result<(), Refusal> {
        self.permits_forwarding()?;
        self.unless("X11Forwarding", |value| value != "yes")?;
        match &self.system {
            System::Read(file) if file.values("x11forwarding").iter().any(|c| c.certain) => Ok(()),
            System::Read(file) => Err(refusal("X11Forwarding", &file.path, "is not yes")),
            System::Unreadable(path) => {
                let text = "cannot be read, and may not say yes";
                Err(refusal("X11Forwarding", path, text))
            }
            System::Missing => Err(Refusal("X11Forwarding is not yes: no sshd_config".into())),
        }
    }

    /// Returns the first number for displays (X11DisplayOffset).
    pub(crate) fn x11_display_offset(&self) -> u16 {
        self.first_word("x11displayoffset").and_then(|word| word.parse().ok()).unwrap_or(10)
    }

    /// Returns whether only this host may connect to displays (X11UseLocalhost): unless all that
    /// applies, or may, says otherwise.
    pub(crate) fn x11_use_localhost(&self) -> bool {
        let values = self.files().flat_map(|file| file.values("x11uselocalhost"));
        let mut words = values.map(|c| c.arguments.first().map(|word| word.to_ascii_lowercase()));
        let mut any = false;
        let all_no = words.all(|word| {
            any = true;
            word.as_deref() == Some("no")
        });
        !(any && all_no)
    }

    /// Returns where the `xauth` program is (XAuthLocation), where that is said.
    pub(crate) fn xauth_location(&self) -> Option<&str> {
        // The system's: what it names runs with the user's rights either way.
        self.first_word("xauthlocation")
    }

    /// Returns the first word of the first value that applies.
    fn first_word(&self, keyword: &str) -> Option<&str> {
        let values = self.files().flat_map(|file| file.values(keyword));
        let mut words = values.filter(|c| c.certain).filter_map(|c| c.arguments.first());
        words.next().map(String::as_str)
    }

    /// Returns who may connect to remote listeners: the strictest of what applies, or may.
    pub(crate) fn gateway_ports(&self) -> GatewayPorts {
        let of_file = |file: &SshdConfig| {
            let values = file.values("gatewayports");
            let read = |c: &&Candidate| match c.arguments.first().map(String::as_str) {
                Some(word) if word.eq_ignore_ascii_case("yes") => GatewayPorts::Yes,
                Some(word) if word.eq_ignore_ascii_case("clientspecified") => {
                    GatewayPorts::ClientSpecified
                }
                _ => GatewayPorts::No,
            };
            let certain = values.iter().any(|c| c.certain);
            values.iter().map(read).min().filter(|_| certain).unwrap_or(GatewayPorts::No)
        };
        let system = match &self.system {
            System::Read(file) => of_file(file),
            System::Missing | System::Unreadable(_) => GatewayPorts::No,
        };
        // A user's file without the keyword does not restrict.
        let user = self.user.as_ref().filter(|file| !file.values("gatewayports").is_empty());
        user.map_or(system, |file| of_file(file).min(system))
    }

    /// Returns what is taken from the mode of a unix socket, and whether a file in its place is
    /// removed.
    pub(crate) fn stream_local_bind(&self) -> (u16, bool) {
        const MASK: u16 = 0o177;
        let mut mask = None;
        let mut unlink = None;
        for file in self.files() {
            for candidate in file.values("streamlocalbindmask") {
                let word = candidate.arguments.first().map_or("", String::as_str);
                // The strictest of what applies, or may.
                let read = u16::from_str_radix(word, 8).unwrap_or(MASK) & 0o777;
                mask = Some(mask.unwrap_or(0) | read);
            }
            for candidate in file.values("streamlocalbindunlink") {
                let yes =
                    candidate.arguments.first().is_some_and(|w| w.eq_ignore_ascii_case("yes"));
                unlink = Some(unlink.unwrap_or(true) && yes);
            }
        }
        (mask.unwrap_or(MASK), unlink.unwrap_or(false))
    }

    /// Refuses forwarding of any kind where it is, or may be, forbidden.
    fn permits_forwarding(&self) -> Result<(), Refusal> {
        self.unless_forced_unseen("forwarding may be forbidden")?;
        if let Some(file) = self.files().find(|file| file.unreadable.is_some()) {
            return Err(refusal(
                "forwarding",
                &file.path,
                "may be forbidden in a part that cannot be read",
            ));
        }
        self.unless("DisableForwarding", |value| value == "yes")
    }

    /// Refuses what a list of permissions does not name.
    fn lists(&self, keyword: &str, permits: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        for file in self.files() {
            for candidate in file.values(&keyword.to_ascii_lowercase()) {
                if !candidate.arguments.iter().any(|rule| permits(rule)) {
                    return Err(refusal(keyword, &file.path, "does not list that"));
                }
            }
        }
        Ok(())
    }

    /// Returns the command line of the subsystem `name`.
    pub(crate) fn subsystem(&self, name: &str) -> Option<&str> {
        let all = self.files().flat_map(|file| file.list("subsystem"));
        let mut named = all.filter(|c| c.certain && c.arguments.first().is_some_and(|n| n == name));
        let rest = &named.next()?.rest;
        let end = rest.find(char::is_whitespace)?;
        rest.get(end..).map(str::trim_start).filter(|line| !line.is_empty())
    }

    /// Refuses when sshd forced a command and the file that may say so, and
    /// what goes with it, cannot be read: such a user may have no shell.
    fn unless_forced_unseen(&self, what: &str) -> Result<(), Refusal> {
        match &self.system {
            System::Unreadable(path) if self.was_forced => {
                Err(Refusal(format!("{what} in {}, which cannot be read", path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Refuses when a value of `keyword` that applies, or may, is a forbidding one.
    fn unless(&self, keyword: &str, forbids: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        let lower = keyword.to_ascii_lowercase();
        for file in self.files() {
            for candidate in file.values(&lower) {
                let value = candidate.arguments.first().map_or("", String::as_str);
                if forbids(&value.to_ascii_lowercase()) {
                    return Err(refusal(keyword, &file.path, &format!("is {value}")));
                }
            }
        }
        Ok(())
    }

    /// The files that were read: the system's first, then the user's, then what keys forbid.
    fn files(&self) -> impl Iterator<Item = &SshdConfig> {
        let system = match &self.system {
            System::Read(file) => Some(file),
            System::Missing | System::Unreadable(_) => None,
        };
        system.into_iter().chain(&self.user).chain(&self.keys)
    }
}

/// Returns whether AcceptEnv lists `name`, whichever blocks apply.
fn lists_env(file: &SshdConfig, name: &str) -> bool {
    let list = file.list("acceptenv");
    let matches = |c: &Candidate| c.arguments.iter().any(|p| pattern::matches(name, p));
    let granted = |certain: bool| list.iter().any(|c| c.certain == certain && matches(c));
    let may_be_replaced = list.iter().any(|c| !c.certain);
    granted(true) && (!may_be_replaced || granted(false))
}

/// Judges one rule of PermitOpen.
fn opens(rule: &str, host: &str, port: u16) -> bool {
    if rule.eq_ignore_ascii_case("any") {
        return true;
    }
    let Some((allowed_host, allowed_port)) = rule.rsplit_once(':') else { return false };
    let allowed_host = allowed_host.trim_start_matches('[').trim_end_matches(']');
    (allowed_host == "*" || allowed_host == host)
        && (allowed_port == "*" || allowed_port.parse() == Ok(port))
}

/// Judges one rule of PermitListen: a port, or a pattern of the address as asked for and a port.
fn listens(rule: &str, host: &str, port: u16) -> bool {
    if rule.eq_ignore_ascii_case("any") {
        return true;
    }
    let (allowed_host, allowed_port) = rule.rsplit_once(':').unwrap_or(("*", rule));
    let allowed_host = allowed_host.trim_start_matches('[').trim_end_matches(']');
    // sshd knows every address by the empty name.
    let host = if host == "*" { "" } else { host };
    pattern::matches(host, allowed_host)
        && (allowed_port == "*" || allowed_port.parse() == Ok(port))
}

fn refusal(keyword: &str, file: &Path, why: &str) -> Refusal {
    Refusal(format!("{keyword} {why}, in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            name: "alice".into(),
            home: "/home/alice".into(),
            shell: "/bin/sh".into(),
            groups: vec!["users".into()],
            is_root: false,
        }
    }

    /// A policy of these files; the last says what sshd says was asked for.
    fn policy(system: Option<&str>, user: Option<&str>, forced: bool) -> Policy {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: Option<&str>| {
            text.map(|text| {
                let path = dir.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            })
        };
        let original = forced.then(|| OsString::from("tsshd"));
        let (system, user) = (write("system", system), write("user", user));
        Policy::from_files(system, user, &account(), "10.0.0.9 1 10.0.0.1 22", original)
    }

    #[test]
    fn a_user_s_file_restricts_and_never_relaxes() {
        let dial = |system: &str, user: &str| {
            policy(Some(system), Some(user), false).permits_dial(Target::Tcp("h", 1)).is_ok()
        };
        assert!(dial("", ""));
        assert!(!dial("AllowTcpForwarding no", "AllowTcpForwarding yes"));
        assert!(!dial("", "AllowTcpForwarding no"));
        assert!(!dial("DisableForwarding yes", ""));
        assert!(dial("AllowTcpForwarding local", ""));
        assert!(!dial("AllowTcpForwarding remote", ""));
    }

    #[test]
    fn what_may_be_forbidden_is_refused_with_the_reason() {
        let host = policy(Some("Match host x\nAllowTcpForwarding no"), None, false);
        let refused = host.permits_dial(Target::Tcp("h", 1)).unwrap_err();
        assert!(refused.0.starts_with("AllowTcpForwarding is no, in "), "{refused}");
        let other = policy(Some("Match user bob\nAllowTcpForwarding no"), None, false);
        assert_eq!(other.permits_dial(Target::Tcp("h", 1)), Ok(()));
        assert_eq!(other.permits_dial(Target::Unix), Ok(()));
    }

    #[test]
    fn permit_open_lists_destinations() {
        let open = policy(Some("PermitOpen db:5432 [::1]:* *:22"), None, false);
        for (host, port, expected) in
            [("db", 5432, true), ("db", 1, false), ("::1", 9, true), ("any", 22, true)]
        {
            assert_eq!(open.permits_dial(Target::Tcp(host, port)).is_ok(), expected, "{host}");
        }
        let none = policy(Some("PermitOpen none"), None, false);
        assert!(none.permits_dial(Target::Tcp("db", 1)).is_err());
    }

    #[test]
    fn the_agent_is_out_of_reach_where_either_keyword_says_so() {
        let permits = |text| policy(Some(text), None, false).permits_agent().is_ok();
        assert!(permits("AllowTcpForwarding no"));
        assert!(!permits("AllowAgentForwarding no"));
        assert!(!permits("DisableForwarding yes"));
    }

    #[test]
    fn permit_listen_lists_ports_and_addresses() {
        let listen = policy(Some("PermitListen 8080 localhost:9000 127.*:*"), None, false);
        for (host, port, expected) in [
            ("localhost", 8080, true),
            ("*", 8080, true),
            ("localhost", 9000, true),
            ("10.0.0.1", 9000, false),
            ("127.0.0.1", 7, true),
            ("localhost", 0, false),
        ] {
            let permitted = listen.permits_listen(Target::Tcp(host, port)).is_ok();
            assert_eq!(permitted, expected, "{host} {port}");
        }
        assert!(listen.permits_listen(Target::Unix).is_ok(), "as in sshd");
        let local = policy(Some("AllowTcpForwarding local"), None, false);
        assert!(local.permits_listen(Target::Tcp("localhost", 1)).is_err());
        assert!(local.permits_listen(Target::Unix).is_err(), "as in sshd");
        let none = policy(Some("AllowStreamLocalForwarding local"), None, false);
        assert!(none.permits_listen(Target::Unix).is_err());
    }

    #[test]
    fn gateway_ports_and_socket_modes_are_the_strictest_that_may_apply() {
        use GatewayPorts::{ClientSpecified, No, Yes};
        for (system, user, want) in [
            (Some(""), None, No),
            (Some("GatewayPorts yes"), None, Yes),
            (Some("GatewayPorts clientspecified"), None, ClientSpecified),
            (Some("GatewayPorts yes"), Some("GatewayPorts no"), No),
            (Some("GatewayPorts no"), Some("GatewayPorts yes"), No),
            (Some("GatewayPorts yes"), Some("AllowTcpForwarding yes"), Yes),
            (Some("GatewayPorts yes\nMatch host x\nGatewayPorts no"), None, No),
            (Some("Match host x\nGatewayPorts yes"), None, No),
        ] {
            assert_eq!(policy(system, user, false).gateway_ports(), want, "{system:?} {user:?}");
        }
        let bind = |text| policy(Some(text), None, false).stream_local_bind();
        assert_eq!(bind(""), (0o177, false));
        assert_eq!(bind("StreamLocalBindMask 0111\nStreamLocalBindUnlink yes"), (0o111, true));
    }

    #[test]
    fn a_forced_command_is_known_or_the_session_refused() {
        let forced = policy(Some("Match user alice\nForceCommand /bin/menu -x"), None, true);
        assert_eq!(forced.forced_command(), Ok(Some("/bin/menu -x")));
        assert_eq!(policy(Some("ForceCommand none"), None, false).forced_command(), Ok(None));
        let unclear = "Match host x\nForceCommand /bin/menu";
        assert!(policy(Some(unclear), None, true).forced_command().is_err());
        // sshd says that nothing was forced, so the block did not apply.
        assert_eq!(policy(Some(unclear), None, false).forced_command(), Ok(None));
    }

    /// A policy of a key with these lines in its file.
    fn policy_of_key(system: &str, lines: &str, forced: bool) -> Policy {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/authorized_keys"), lines).unwrap();
        let info = home.path().join("info");
        std::fs::write(&info, "publickey ssh-ed25519 AAAA\n").unwrap();
        let mut policy = policy(Some(system), None, forced);
        policy.keep_to_keys(&info, &Account { home: home.path().to_owned(), ..account() });
        policy
    }

    #[test]
    fn a_key_s_command_is_forced_where_sshd_forced_one() {
        let lines = "command=\"/bin/log\" ssh-ed25519 AAAA\n";
        let forced = policy_of_key("", lines, true);
        assert_eq!(forced.forced_command(), Ok(Some("/bin/log")));
        // Another line of the key was taken, if any.
        assert_eq!(policy_of_key("", lines, false).forced_command(), Ok(None));
        let both = policy_of_key("ForceCommand /bin/menu", lines, true);
        assert_eq!(both.forced_command(), Ok(Some("/bin/menu")), "sshd_config is first");
        let two = format!("{lines}command=\"/bin/other\" ssh-ed25519 AAAA\n");
        assert!(policy_of_key("", &two, true).forced_command().is_err(), "one of two");
        let ours = "command=\"tsshd\" ssh-ed25519 AAAA\n";
        assert_eq!(policy_of_key("", ours, true).forced_command(), Ok(None));
        let unknown = policy_of_key("", "ssh-ed25519 BBBB\n", true);
        assert!(unknown.forced_command().is_err(), "it may be anything");
    }

    /// A policy under a system's file that cannot be read: it is a directory,
    /// which not even the superuser reads as a file.
    fn under_unreadable(user: Option<&str>, forced: bool) -> Policy {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("user");
        std::fs::write(&own, user.unwrap_or_default()).unwrap();
        let original = forced.then(|| OsString::from("tsshd"));
        let system = Some(dir.path().to_owned());
        Policy::from_files(system, user.map(|_| own), &account(), "", original)
    }

    #[test]
    fn a_forced_command_in_a_file_that_cannot_be_read_is_refused() {
        let forced = under_unreadable(None, true);
        let refused = forced.forced_command().unwrap_err();
        assert!(refused.0.starts_with("ForceCommand may be set in "), "{refused}");
        assert!(forced.permits_dial(Target::Unix).is_err());
        let own = under_unreadable(Some("ForceCommand mine"), true);
        assert!(own.forced_command().is_err(), "the user's file does not stand in for it");
        // sshd says that nothing was forced: the usual case where only root reads the file.
        let free = under_unreadable(None, false);
        assert_eq!(free.forced_command(), Ok(None));
        assert_eq!(free.permits_dial(Target::Tcp("h", 1)), Ok(()));
        assert!(matches!(free.notes(), [note] if note.contains("OpenSSH's defaults apply")));
    }

    #[test]
    fn a_part_that_cannot_be_read_forbids_connections_and_no_terminal() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("broken.conf")).unwrap();
        let main = dir.path().join("sshd_config");
        std::fs::write(&main, "Include *.conf").unwrap();
        let policy = Policy::from_files(Some(main), None, &account(), "", None);
        assert!(policy.permits_dial(Target::Unix).is_err());
        assert_eq!(policy.permits_tty(), Ok(()));
    }

    #[test]
    fn variables_are_accepted_as_the_files_say() {
        let accepted = |system: Option<&str>, user: Option<&str>| {
            let policy = policy(system, user, false);
            ["LC_ALL", "FOO"].map(|name| policy.accepts_env(name))
        };
        assert_eq!(accepted(None, None), [true, false]);
        assert_eq!(accepted(Some(""), None), [false, false]);
        assert_eq!(accepted(Some("AcceptEnv LC_* FOO"), None), [true, true]);
        assert_eq!(accepted(Some("AcceptEnv LC_*\nAcceptEnv FOO"), Some("")), [true, true]);
        assert_eq!(accepted(Some("AcceptEnv LC_* FOO"), Some("AcceptEnv FOO")), [false, true]);
        assert_eq!(accepted(Some("AcceptEnv FOO\nMatch all\nAcceptEnv LC_*"), None), [true, false]);
        assert_eq!(accepted(Some("AcceptEnv FOO\nMatch host x\nAcceptEnv LC_*"), None), [false; 2]);
        let own = under_unreadable(Some("AcceptEnv LC_* FOO"), false);
        assert!(!own.accepts_env("FOO"), "the user's list is not the system's");
    }

    #[test]
    fn subsystems_and_ttys() {
        let policy = policy(
            Some("Subsystem sftp /usr/lib/sftp-server -f \"A B\"\nPermitTTY no"),
            Some("Subsystem sftp /tmp/mine\nSubsystem extra /tmp/extra"),
            false,
        );
        assert_eq!(policy.subsystem("sftp"), Some("/usr/lib/sftp-server -f \"A B\""));
        assert_eq!(policy.subsystem("extra"), Some("/tmp/extra"));
        assert_eq!(policy.subsystem("none"), None);
        assert!(policy.permits_tty().is_err());
    }
}
