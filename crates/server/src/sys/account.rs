//! The account we run as: name, home, shell and groups.
//!
//! From the passwd entry, as OpenSSH does (DESIGN D8), not from the
//! environment, which fills in only where there is no entry.

use std::ffi::{CStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt as _;
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
        let uid = rustix::process::getuid();
        let entry = passwd_entry(uid.as_raw());
        let from_env = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let (name, home, shell) = match entry {
            Some(entry) => (
                entry.name.to_string_lossy().into_owned(),
                Some(entry.home).filter(|home| !home.is_empty()),
                Some(entry.shell).filter(|shell| !shell.is_empty()),
            ),
            None => {
                let name = from_env("USER").unwrap_or_default();
                (name.to_string_lossy().into_owned(), from_env("HOME"), from_env("SHELL"))
            }
        };
        Self {
            name,
            home: home.unwrap_or_else(|| "/".into()).into(),
            shell: shell.unwrap_or_else(|| "/bin/sh".into()).into(),
            groups: group_names(),
            is_root: uid.is_root(),
        }
    }
}

/// The parts of a passwd entry we use.
struct PasswdEntry {
    name: OsString,
    home: OsString,
    shell: OsString,
}

/// First size tried for the strings of an entry, and the last.
const ENTRY_BYTES: usize = 1024;
const MAX_ENTRY_BYTES: usize = 1 << 20;

fn passwd_entry(uid: libc::uid_t) -> Option<PasswdEntry> {
    look_up(
        // SAFETY: `look_up` hands in pointers that are valid for the call.
        |entry, text, len, found| unsafe { libc::getpwuid_r(uid, entry, text, len, found) },
        // SAFETY: `look_up` hands in an entry whose strings are alive and ended.
        |entry: &libc::passwd| unsafe {
            PasswdEntry {
                name: copy(entry.pw_name),
                home: copy(entry.pw_dir),
                shell: copy(entry.pw_shell),
            }
        },
    )
}

/// Asks one of the system's reentrant look-ups (`get…_r`) with as much room as it needs,
/// and has `read` copy what is wanted while the strings of the entry are alive.
fn look_up<E, T>(
    ask: impl Fn(*mut E, *mut libc::c_char, usize, *mut *mut E) -> libc::c_int,
    read: impl FnOnce(&E) -> T,
) -> Option<T> {
    let mut text = vec![0; ENTRY_BYTES];
    loop {
        let mut entry = MaybeUninit::<E>::uninit();
        let mut found = std::ptr::null_mut();
        let error = ask(entry.as_mut_ptr(), text.as_mut_ptr(), text.len(), &raw mut found);
        if error == libc::ERANGE && text.len() < MAX_ENTRY_BYTES {
            text.resize(text.len() * 2, 0);
            continue;
        }
        if error != 0 || found.is_null() {
            return None;
        }
        // SAFETY: the call succeeded and found an entry, so it is filled in; its strings are
        // in `text`, which outlives the borrow.
        return Some(read(unsafe { entry.assume_init_ref() }));
    }
}

/// Copies a C string; a null pointer is empty.
///
/// # Safety
/// `text` is null or points to a string that ends with a zero byte.
unsafe fn copy(text: *const libc::c_char) -> OsString {
    if text.is_null() {
        return OsString::new();
    }
    // SAFETY: the caller's promise.
    OsString::from_vec(unsafe { CStr::from_ptr(text) }.to_bytes().to_vec())
}

fn group_names() -> Vec<String> {
    let mut gids = rustix::process::getgroups().unwrap_or_default();
    gids.push(rustix::process::getegid());
    let mut names: Vec<String> =
        gids.into_iter().filter_map(|gid| group_name(gid.as_raw())).collect();
    names.sort();
    names.dedup();
    names
}

fn group_name(gid: libc::gid_t) -> Option<String> {
    let name = look_up(
        // SAFETY: `look_up` hands in pointers that are valid for the call.
        |entry, text, len, found| unsafe { libc::getgrgid_r(gid, entry, text, len, found) },
        // SAFETY: `look_up` hands in an entry whose strings are alive and ended.
        |entry: &libc::group| unsafe { copy(entry.gr_name) },
    )?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_the_one_the_passwd_database_names() {
        let account = Account::current();
        let uid = rustix::process::getuid().as_raw().to_string();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid));
        let Some(line) = line else { return };
        let fields: Vec<&str> = line.split(':').collect();
        assert_eq!(account.name, fields[0]);
        assert_eq!(account.home, PathBuf::from(fields[5]));
        assert_eq!(account.shell, PathBuf::from(fields[6]));
        assert!(!account.groups.is_empty());
    }
}
