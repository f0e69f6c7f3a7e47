//! Surviving the login on systems whose logind kills what a login leaves behind.
//!
//! With `KillUserProcesses=yes` logind ends every process in the login's scope
//! when the login ends, however it was detached. A scope of the user's own
//! manager is spared, but that manager itself lives on only for a user who
//! lingers. So: move there when it helps, and otherwise name the one command
//! that would make it help.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;

/// Returns the command to put in front of ours to escape the login's scope,
/// when it is needed and will help.
pub(crate) fn wrapper() -> Option<Command> {
    let account = Account::current();
    if Fate::of(&account, Path::new("/")) != Fate::Avoidable {
        return None;
    }
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--scope", "--quiet", "--collect", "--"]);
    Some(command)
}

/// Returns what to tell the user when this process will be killed with the login.
pub(crate) fn warning() -> Option<String> {
    let account = Account::current();
    (Fate::of(&account, Path::new("/")) != Fate::Spared).then(|| {
        format!(
            "this host ends all processes of a login with it (KillUserProcesses of logind); \
             to keep sessions alive run once: loginctl enable-linger {}",
            account.name
        )
    })
}

/// What becomes of this process when the login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Spared,
    /// It is killed, unless it moves to a scope of the user's manager.
    Avoidable,
    /// It is killed, and so would be whatever it moved to.
    Doomed,
}

impl Fate {
    /// Reads it from the files below `root`.
    fn of(account: &Account, root: &Path) -> Self {
        let group = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        if !in_login_scope(&group) || !Logind::read(root).kills(account) {
            Self::Spared
        } else if lingers(account, root) {
            Self::Avoidable
        } else {
            Self::Doomed
        }
    }
}

fn in_login_scope(cgroup: &str) -> bool {
    cgroup.lines().any(|line| {
        line.rsplit('/').any(|part| part.starts_with("session-") && part.ends_with(".scope"))
    })
}

fn lingers(account: &Account, root: &Path) -> bool {
    !account.name.is_empty() && root.join("var/lib/systemd/linger").join(&account.name).exists()
}

/// The part of logind's configuration that concerns us.
#[derive(Debug, Default, PartialEq, Eq)]
struct Logind {
    kill: Option<bool>,
    default_kill: Option<bool>,
    only: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
}

impl Logind {
    fn read(root: &Path) -> Self {
        let mut config = Self::default();
        for file in config_files(root) {
            if let Ok(text) = fs::read_to_string(file) {
                config.apply(&text);
            }
        }
        config
    }

    /// Applies one file; later files win.
    fn apply(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.trim();
            // The shipped file states the compiled-in defaults as comments.
            if let Some(default) = line.strip_prefix("#KillUserProcesses=") {
                self.default_kill = Some(is_true(default));
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let names = || Some(value.split_whitespace().map(str::to_owned).collect());
            match key.trim() {
                "KillUserProcesses" => self.kill = Some(is_true(value)),
                "KillOnlyUsers" => self.only = names(),
                "KillExcludeUsers" => self.exclude = names(),
                _ => {}
            }
        }
    }

    fn kills(&self, account: &Account) -> bool {
        let names = |list: &[String]| list.contains(&account.name);
        let excluded = match &self.exclude {
            Some(list) => names(list),
            None => account.is_root,
        };
        let chosen = self.only.as_deref().is_none_or(|list| list.is_empty() || names(list));
        self.kill.or(self.default_kill).unwrap_or(false) && !excluded && chosen
    }
}

fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1")
}

/// The main file and the drop-ins, in the order in which they apply.
fn config_files(root: &Path) -> Vec<PathBuf> {
    let places = ["usr/lib/systemd", "run/systemd", "etc/systemd"].map(|place| root.join(place));
    let mut main: Vec<PathBuf> = places.iter().map(|place| place.join("logind.conf")).collect();
    let mut drop_ins: Vec<PathBuf> = places
        .iter()
        .filter_map(|place| fs::read_dir(place.join("logind.conf.d")).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    main.append(&mut drop_ins);
    main
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, is_root: bool) -> Account {
        Account {
            name: name.into(),
            home: "/".into(),
            shell: "/bin/sh".into(),
            groups: vec![],
            is_root,
        }
    }

    fn logind(files: &[&str]) -> Logind {
        let mut config = Logind::default();
        for text in files {
            config.apply(text);
        }
        config
    }

    #[test]
    fn only_a_login_scope_is_in_danger() {
        assert!(in_login_scope("0::/user.slice/user-1000.slice/session-7.scope\n"));
        assert!(!in_login_scope("0::/user.slice/user-1000.slice/user@1000.service/run-1.scope\n"));
        assert!(!in_login_scope("0::/system.slice/ssh.service\n"));
    }

    #[test]
    fn logind_kills_when_it_is_told_to_and_spares_the_excluded() {
        let (alice, root) = (account("alice", false), account("root", true));
        assert!(!logind(&[]).kills(&alice));
        assert!(!logind(&["#KillUserProcesses=no"]).kills(&alice));
        assert!(logind(&["#KillUserProcesses=yes"]).kills(&alice));
        let yes = "[Login]\nKillUserProcesses=yes\n";
        assert!(logind(&["#KillUserProcesses=no", yes]).kills(&alice));
        assert!(!logind(&[yes]).kills(&root));
        assert!(!logind(&[yes, "KillUserProcesses = no"]).kills(&alice));
        assert!(!logind(&[yes, "KillExcludeUsers=root alice"]).kills(&alice));
        assert!(!logind(&[yes, "KillOnlyUsers=bob"]).kills(&alice));
    }

    /// Writes a file of a machine that is a directory.
    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_login_s_process_moves_away_only_where_that_saves_it() {
        let machine = tempfile::tempdir().unwrap();
        let (root, alice) = (machine.path(), account("alice", false));
        assert_eq!(Fate::of(&alice, root), Fate::Spared, "a machine without systemd");
        write(root, "usr/lib/systemd/logind.conf", "[Login]\n#KillUserProcesses=no\n");
        write(root, "etc/systemd/logind.conf.d/50-kill.conf", "[Login]\nKillUserProcesses=yes\n");
        write(root, "proc/self/cgroup", "0::/system.slice/ssh.service\n");
        assert_eq!(Fate::of(&alice, root), Fate::Spared, "no login of logind's");
        let scope = "0::/user.slice/user-1000.slice/session-7.scope\n";
        write(root, "proc/self/cgroup", scope);
        assert_eq!(Fate::of(&alice, root), Fate::Doomed, "its manager goes with the login");
        write(root, "var/lib/systemd/linger/alice", "");
        assert_eq!(Fate::of(&alice, root), Fate::Avoidable);
        assert_eq!(Fate::of(&account("root", true), root), Fate::Spared, "spared by default");
        // A later file of the same drop-in wins, in whichever place it is.
        write(root, "run/systemd/logind.conf.d/60-spare.conf", "KillUserProcesses=no\n");
        assert_eq!(Fate::of(&alice, root), Fate::Spared);
    }
}
