//! The account we run as: name, home, shell and groups.
//!
//! From the passwd entry, as OpenSSH does (DESIGN D8), not from the
//! environment, which fills in only where there is no entry.

use std::path::PathBuf;

/// The account of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Login name; empty where the system knows none.
    pub(crate) name: String,
    /// Home directory.
    pub(crate) home: PathBuf,
    /// Login shell, as an absolute path.
    pub(crate) shell: PathBuf,
    /// Names of all groups the process is in.
    pub(crate) groups: Vec<String>,
    /// Whether this is the superuser.
    pub(crate) is_root: bool,
}

impl Account {
    /// Returns the account this process runs as.
    pub(crate) fn current() -> Self {
        let id = host::account::current_id();
        let from_env = |name| std::env::var_os(name).unwrap_or_default();
        let entry = host::account::by_id(id).unwrap_or_else(|| host::account::Account {
            name: from_env("USER").to_string_lossy().into_owned(),
            home: from_env("HOME").into(),
            shell: from_env("SHELL").into(),
        });
        let or = |path: PathBuf, usual: &str| {
            if path.as_os_str().is_empty() { usual.into() } else { path }
        };
        Self {
            name: entry.name,
            home: or(entry.home, "/"),
            shell: or(entry.shell, "/bin/sh"),
            groups: host::account::group_names(),
            is_root: id == 0,
        }
    }
}
