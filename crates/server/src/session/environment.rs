//! The environment of a session's program (PROTOCOL §10.2).
//!
//! Ours, which sshd made for the login, without what the shell that started us
//! added to it and what belonged to the login itself; over it what the client
//! sends and the host accepts.
//!
//! `XDG_SESSION_ID` and `XDG_RUNTIME_DIR` stay: the server is still in the
//! login's scope, or in the user's manager, and logind keeps either as long as
//! there is a process in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::config::Policy;
use crate::sys::account::Account;
use crate::sys::daemon;

/// Variables of the login that mean nothing in a session: the daemon's own
/// mark, what shells keep for themselves, and what the login's terminal and
/// command were.
const NOT_INHERITED: [&str; 8] =
    [daemon::MARK, "SHLVL", "_", "PWD", "OLDPWD", "TERM", "SSH_TTY", "SSH_ORIGINAL_COMMAND"];

/// Variables that sshd sets over what the client sends; never from a client.
///
/// Those of loaders and shells are not here: the client's user runs what they
/// like anyway, and under a forced command AcceptEnv is the host's own choice.
const NEVER_ACCEPTED: [&str; 7] =
    [daemon::MARK, "HOME", "LOGNAME", "MAIL", "PATH", "SHELL", "USER"];

/// The same for all names with this front: what sshd says of the login, and
/// what OpenSSH's programs ask for agents and askpass helpers.
const NEVER_ACCEPTED_FRONT: &str = "SSH_";

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
        .filter(|(name, value)| !ended_with_login(name, value))
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
    let is_ours = NEVER_ACCEPTED.contains(&name) || name.starts_with(NEVER_ACCEPTED_FRONT);
    is_settable && !is_ours && policy.accepts_env(name)
}

/// Returns whether a variable leads to the login's forwarded agent or display,
/// which have ended with it: who comes there next may be somebody else.
fn ended_with_login(name: &OsStr, value: &OsStr) -> bool {
    match name.to_str() {
        Some("SSH_AUTH_SOCK") => is_forwarded_agent(Path::new(value)),
        Some("DISPLAY") => value.as_encoded_bytes().starts_with(b"localhost:"),
        _ => false,
    }
}

/// Where sshd listens for a forwarded agent: `/tmp/ssh-*`, since OpenSSH 10.1
/// `~/.ssh/agent/s.*.sshd.*`. An `ssh-agent` started by the login's shell may
/// be there as well; the session's shell starts or finds its own.
fn is_forwarded_agent(socket: &Path) -> bool {
    let below_tmp = socket.strip_prefix("/tmp").unwrap_or(Path::new(""));
    let first = below_tmp.iter().next().unwrap_or_default();
    let name = socket.file_name().unwrap_or_default().as_encoded_bytes();
    first.as_encoded_bytes().starts_with(b"ssh-")
        || (socket.parent().is_some_and(|dir| dir.ends_with(".ssh/agent"))
            && name.windows(6).any(|part| part == b".sshd."))
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
        let policy = Policy::from_files(None, None, &account(), "", None);
        made_under(&policy, inherited, sent, tty)
    }

    fn made_under(
        policy: &Policy,
        inherited: &[(&str, &str)],
        sent: &[(&str, &str)],
        tty: Option<&str>,
    ) -> Vec<String> {
        let inherited = inherited.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let sent = sent.iter().map(|(n, v)| (String::from(*n), String::from(*v))).collect();
        of_session(inherited, &sent, tty.map(OsStr::new), &account(), policy)
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

    #[test]
    fn even_where_all_is_accepted_the_client_sets_nothing_that_is_sshd_s_to_say() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "AcceptEnv *").unwrap();
        let file = Some(file.path().to_owned());
        let policy = Policy::from_files(file, None, &account(), "", None);
        let names = [
            "SSH_ORIGINAL_COMMAND",
            "SSH_TTY",
            "SSH_USER_AUTH",
            "SSH_AUTH_SOCK",
            "SSH_CONNECTION",
            "SSH_CLIENT",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "PATH",
            "MAIL",
            "TRZSZ-SSHD-BACKGROUND",
        ];
        let mut sent = names.map(|name| (name, "forged")).to_vec();
        sent.push(("EDITOR", "vi"));
        assert_eq!(
            made_under(&policy, &[("PATH", "/bin")], &sent, None),
            ["EDITOR=vi", "HOME=/home/alice", "PATH=/bin", "SHELL=/bin/zsh"]
        );
    }

    #[test]
    fn an_agent_or_display_that_ended_with_the_login_is_not_inherited() {
        let base = ["HOME=/home/alice", "SHELL=/bin/zsh"];
        for gone in [
            ("SSH_AUTH_SOCK", "/tmp/ssh-XXabcdef/agent.12"),
            ("SSH_AUTH_SOCK", "/home/alice/.ssh/agent/s.a1b2.sshd.c3d4"),
            ("DISPLAY", "localhost:10.0"),
        ] {
            assert_eq!(made(&[gone], &[], None), base, "{gone:?}");
        }
        for (kept, expected) in [
            (("SSH_AUTH_SOCK", "/run/user/1/keyring/ssh"), 2),
            (("SSH_AUTH_SOCK", "/home/alice/.ssh/agent/s.a1b2.agent.c3d4"), 2),
            (("DISPLAY", ":0"), 0),
        ] {
            let made = made(&[kept], &[], None);
            let shown = format!("{}={}", kept.0, kept.1);
            assert_eq!(made.get(expected), Some(&shown), "{made:?}");
        }
    }
}
