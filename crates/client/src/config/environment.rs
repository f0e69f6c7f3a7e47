//! [`Environment`]: everything outside the files that a configuration depends on.
//!
//! Handed in, so that tests need neither a home directory nor a process environment of their own.

use std::fmt;
use std::path::PathBuf;

use host::account;

use super::error::ConfigError;
use super::settings::{Askpass, SecurityKeys};
use crate::sys::account::system_config;

/// The program that asks where `SSH_ASKPASS` names none; Debian's place for it.
const DEFAULT_ASKPASS: &str = "/usr/bin/ssh-askpass";

/// Where systems have OpenSSH's helper for security tokens.
const SK_HELPERS: &[&str] = &[
    "/usr/lib/openssh/ssh-sk-helper",
    "/usr/libexec/openssh/ssh-sk-helper",
    "/usr/libexec/ssh-sk-helper",
    "/usr/lib/ssh/ssh-sk-helper",
];

/// The user, the machine and the process, as the configuration sees them.
#[derive(Clone)]
pub struct Environment {
    /// The user's home directory, from the passwd entry and not from `HOME`.
    pub home: PathBuf,
    /// The user's name (`localuser`).
    pub user: String,
    /// The user's number.
    pub uid: u32,
    /// This machine's host name.
    pub host_name: String,
    /// The variables of the process.
    pub variables: Vec<(String, String)>,
    /// The system's configuration file.
    pub system_config: PathBuf,
}

/// Shows the names of the variables only: their values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Environment")
            .field("home", &self.home)
            .field("user", &self.user)
            .field("uid", &self.uid)
            .field("host_name", &self.host_name)
            .field("variables", &names)
            .field("system_config", &self.system_config)
            .finish()
    }
}

impl Environment {
    /// Returns that of this process. Variables that are not valid UTF-8 are left out.
    ///
    /// # Errors
    /// [`ConfigError::NoAccount`] if the user has no passwd entry.
    pub fn of_process() -> Result<Self, ConfigError> {
        let uid = account::current_id();
        // Not `HOME`: it may have been changed by `sudo` or a script, and keys and known hosts
        // must not depend on that (DESIGN D8).
        let account = account::by_id(uid).ok_or(ConfigError::NoAccount(uid))?;
        Ok(Self {
            home: account.home,
            user: account.name,
            uid,
            host_name: account::host_name(),
            variables: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            system_config: system_config(),
        })
    }

    /// Returns the value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.variables.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Returns which program may ask for secrets, and when (`read_passphrase` in OpenSSH 9.2).
    pub(super) fn askpass(&self) -> Askpass {
        let program = self.variable("SSH_ASKPASS").unwrap_or(DEFAULT_ASKPASS);
        let windows = ["DISPLAY", "WAYLAND_DISPLAY"];
        let windows = windows.iter().any(|name| self.variable(name).is_some());
        let required = self.variable("SSH_ASKPASS_REQUIRE").map(str::to_ascii_lowercase);
        match (required.as_deref(), windows) {
            (Some("force"), _) | (Some("prefer"), true) => Askpass::Always(program.into()),
            (Some("never"), _) | (_, false) => Askpass::Never,
            (_, true) => Askpass::WithoutTerminal(program.into()),
        }
    }

    /// Returns what talks to security tokens; `provider` is the configuration's.
    pub(super) fn security_keys(&self, provider: Option<&str>) -> SecurityKeys {
        let named = self.variable("SSH_SK_HELPER").map(PathBuf::from);
        let usual = SK_HELPERS.iter().map(PathBuf::from).find(|path| path.exists());
        let provider = provider.or(self.variable("SSH_SK_PROVIDER")).unwrap_or("internal");
        // A variable of the environment may name the provider.
        let provider = match provider.strip_prefix('$') {
            Some(name) => self.variable(name).unwrap_or("internal"),
            None => provider,
        };
        SecurityKeys { helper: named.or(usual), provider: provider.to_owned() }
    }

    /// Replaces `~` or `~user` at the start of a path; `None` if there is no such user.
    pub(super) fn expand_tilde(&self, path: &str) -> Option<String> {
        let Some(rest) = path.strip_prefix('~') else {
            return Some(path.to_owned());
        };
        let (user, rest) = match rest.split_once('/') {
            Some((user, rest)) => (user, Some(rest)),
            None => (rest, None),
        };
        let home = match user.is_empty() || user == self.user {
            true => self.home.clone(),
            false => account::by_name(user)?.home,
        };
        Some(
            match rest {
                Some(rest) => home.join(rest.trim_start_matches('/')),
                None => home,
            }
            .to_string_lossy()
            .into_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_decide_whether_a_program_asks_for_secrets() {
        let always = Askpass::Always("/a".into());
        let without = Askpass::WithoutTerminal("/a".into());
        for (required, display, want) in [
            (None, None, &Askpass::Never),
            (None, Some("DISPLAY"), &without),
            (None, Some("WAYLAND_DISPLAY"), &without),
            (Some("prefer"), None, &Askpass::Never),
            (Some("prefer"), Some("DISPLAY"), &always),
            (Some("force"), None, &always),
            (Some("never"), Some("DISPLAY"), &Askpass::Never),
        ] {
            let pairs = [
                Some(("SSH_ASKPASS", "/a")),
                required.map(|how| ("SSH_ASKPASS_REQUIRE", how)),
                display.map(|name| (name, ":0")),
            ];
            let environment = Environment {
                home: "/home/user".into(),
                user: "user".to_owned(),
                uid: 1000,
                host_name: "local".to_owned(),
                variables: pairs
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                system_config: "/etc/ssh/ssh_config".into(),
            };
            assert_eq!(environment.askpass(), *want, "{required:?} {display:?}");
        }
    }
}
