//! The user's account, by what Windows puts into every process of a session.

use std::path::PathBuf;

/// What is known of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// The profile's directory.
    pub home: PathBuf,
    /// The command interpreter.
    pub shell: PathBuf,
}

/// Returns zero: accounts have no numbers.
#[must_use]
pub fn current_id() -> u32 {
    0
}

/// Returns the account of this process, whatever the number.
#[must_use]
pub fn by_id(_: u32) -> Option<Account> {
    let name = std::env::var("USERNAME").ok()?;
    let home = std::env::var_os("USERPROFILE")?.into();
    let shell = std::env::var_os("COMSPEC").map_or_else(|| "cmd.exe".into(), PathBuf::from);
    Some(Account { name, home, shell })
}

/// Returns this process' account by its name; profiles of others are not looked up.
#[must_use]
pub fn by_name(name: &str) -> Option<Account> {
    by_id(0).filter(|account| account.name.eq_ignore_ascii_case(name))
}

/// Returns none: groups are not looked up.
#[must_use]
pub fn group_names() -> Vec<String> {
    Vec::new()
}

/// Returns this machine's name.
#[must_use]
pub fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}
