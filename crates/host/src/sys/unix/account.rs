//! The user database: who somebody is, by the system's word and not the environment's.

use std::ffi::{CStr, CString, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// An entry of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Home directory; empty where the entry has none.
    pub home: PathBuf,
    /// Login shell; empty where the entry has none.
    pub shell: PathBuf,
}

/// Returns the number of the user this process runs as.
#[must_use]
pub fn current_id() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Returns the account with this number, if there is one.
#[must_use]
pub fn by_id(uid: u32) -> Option<Account> {
    look_up(
        // SAFETY: `look_up` hands in pointers that are valid for the call.
        |entry, text, len, found| unsafe { libc::getpwuid_r(uid, entry, text, len, found) },
        // SAFETY: `look_up` hands in an entry whose strings are alive and ended.
        |entry| unsafe { account(entry) },
    )
}

/// Returns the account with this name, if there is one.
#[must_use]
pub fn by_name(name: &str) -> Option<Account> {
    let name = CString::new(name).ok()?;
    look_up(
        // SAFETY: as above, and `name` is a C string that outlives the call.
        |entry, text, len, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, text, len, found)
        },
        // SAFETY: as above.
        |entry| unsafe { account(entry) },
    )
}

/// Returns the names of all groups this process is in, sorted.
#[must_use]
pub fn group_names() -> Vec<String> {
    let mut ids = rustix::process::getgroups().unwrap_or_default();
    ids.push(rustix::process::getegid());
    let mut names: Vec<String> = ids.into_iter().filter_map(|id| group_name(id.as_raw())).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns this machine's host name; empty if it has none.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn group_name(id: u32) -> Option<String> {
    let name = look_up(
        // SAFETY: `look_up` hands in pointers that are valid for the call.
        |entry, text, len, found| unsafe { libc::getgrgid_r(id, entry, text, len, found) },
        // SAFETY: `look_up` hands in an entry whose strings are alive and ended.
        |entry: &libc::group| unsafe { copy(entry.gr_name) },
    )?;
    Some(name.to_string_lossy().into_owned())
}

/// Copies what we use of an entry.
///
/// # Safety
/// Its strings are null, or alive and ended by a zero byte.
unsafe fn account(entry: &libc::passwd) -> Account {
    // SAFETY: the caller's promise.
    let (name, home, shell) =
        unsafe { (copy(entry.pw_name), copy(entry.pw_dir), copy(entry.pw_shell)) };
    Account { name: name.to_string_lossy().into_owned(), home: home.into(), shell: shell.into() }
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

/// First size tried for the strings of an entry, and the last.
const ENTRY_BYTES: usize = 1024;
const MAX_ENTRY_BYTES: usize = 1 << 20;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_account_is_the_one_the_user_database_names() {
        let Some(account) = by_id(current_id()) else { return };
        assert_eq!(by_name(&account.name), Some(account.clone()));
        assert_eq!(by_name("no-such-user-here"), None);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let uid = current_id().to_string();
        let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid));
        let Some(line) = line else { return };
        let fields: Vec<&str> = line.split(':').collect();
        assert_eq!(account.name, fields[0]);
        assert_eq!(account.home, PathBuf::from(fields[5]));
        assert_eq!(account.shell, PathBuf::from(fields[6]));
        assert!(!group_names().is_empty());
    }
}
