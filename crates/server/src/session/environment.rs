//! The environment of a session's program (PROTOCOL §10.2).
//!
//! Ours, which sshd made for the login, without what the shell that started us
//! added to it and what belonged to the login's own terminal; over it what the
//! client sends and the host accepts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::config::Policy;
use crate::sys::account::Account;
use crate::sys::daemon;

/// Variables of the login that mean nothing in a session: the daemon's own
/// mark, what shells keep for themselves, and what the login's terminal and
/// command were.
const NOT_INHERITED: [&str; 8] =
    [daemon::MARK, "SHLVL", "_", "PWD", "OLDPWD", "TERM", "SSH_TTY", "SSH_ORIGINAL_COMMAND"];

/// Variables under which a shell or loader would run foreign code; never from a client.
const NEVER_ACCEPTED: [&str; 3] = [daemon::MARK, "SSH_CONNECTION", "SSH_CLIENT"];

/// Returns the variables for a session's program.
///
/// `inherited` are those of this process, `sent` those of the client, and
/// `tty` is the path of the session's terminal if it has one.
pub(crate) fn of_session(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    sent: &BTreeMap<String, String>,
    tty: Option<&OsStr>,
    account: &Account,
    policy: &Policy,
) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<_, _> = inherited
        .filter(|(name, _)| !NOT_INHERITED.iter().any(|unwanted| name == unwanted))
        .collect();
    for (name, value) in sent {
        if name == "TERM" || is_acceptable(name, value, policy) {
            all.insert(name.into(), value.into());
        }
    }
    all.entry("HOME".into()).or_insert_with(|| account.home.clone().into());
    all.entry("SHELL".into()).or_insert_with(|| account.shell.clone().into());
    if let Some(tty) = tty {
        all.insert("SSH_TTY".into(), tty.to_owned());
    }
    all
}

fn is_acceptable(name: &str, value: &str, policy: &Policy) -> bool {
    let is_settable = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    is_settable && !NEVER_ACCEPTED.contains(&name) && policy.accepts_env(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            name: "alice".into(),
            home: "/home/alice".into(),
            shell: "/bin/zsh".into(),
            groups: vec![],
            is_root: false,
        }
    }

    fn made(inherited: &[(&str, &str)], sent: &[(&str, &str)], tty: Option<&str>) -> Vec<String> {
        let inherited = inherited.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let sent = sent.iter().map(|(n, v)| (String::from(*n), String::from(*v))).collect();
        let policy = Policy::from_files(None, None, &account(), "", None);
        of_session(inherited, &sent, tty.map(OsStr::new), &account(), &policy)
            .iter()
            .map(|(n, v)| format!("{}={}", n.display(), v.display()))
            .collect()
    }

    #[test]
    fn traces_of_the_login_s_shell_and_terminal_are_gone() {
        let inherited = [
            ("TRZSZ-SSHD-BACKGROUND", "TRUE"),
            ("SHLVL", "1"),
            ("SSH_TTY", "/dev/pts/1"),
            ("TERM", "dumb"),
            ("SSH_CONNECTION", "a b c d"),
        ];
        assert_eq!(
            made(&inherited, &[], None),
            ["HOME=/home/alice", "SHELL=/bin/zsh", "SSH_CONNECTION=a b c d"]
        );
    }

    #[test]
    fn the_client_sets_what_is_accepted_and_its_terminal() {
        let inherited = [("HOME", "/h"), ("SHELL", "/s"), ("LANG", "C")];
        let sent = [("LANG", "de_DE"), ("TERM", "xterm"), ("LD_PRELOAD", "x"), ("LC_A", "a\0b")];
        assert_eq!(
            made(&inherited, &sent, Some("/dev/pts/9")),
            ["HOME=/h", "LANG=de_DE", "SHELL=/s", "SSH_TTY=/dev/pts/9", "TERM=xterm"]
        );
    }
}
