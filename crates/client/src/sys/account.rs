//! Who the user is and what this machine is called, from the system rather than the environment.
//!
//! Home is the passwd entry's, as for OpenSSH (DESIGN D8): `HOME` may have been changed by `sudo`
//! or a script, and keys and known hosts must not depend on that.

use std::path::PathBuf;

/// An entry of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    pub(crate) uid: u32,
}

/// Returns the account of the user who runs this process.
///
/// # Errors
/// The user's number, if the database has no entry for it.
#[cfg(unix)]
pub(crate) fn current() -> Result<Account, u32> {
    let uid = rustix::process::getuid().as_raw();
    // SAFETY: the four arguments after the key are exactly those of getpwuid_r, which
    // `lookup` keeps valid for the time of the call.
    lookup(|entry, buffer, length, result| unsafe {
        libc::getpwuid_r(uid, entry, buffer, length, result)
    })
    .ok_or(uid)
}

/// Returns the home directory of another user, if there is such a user.
#[cfg(unix)]
pub(crate) fn home_of(user: &str) -> Option<PathBuf> {
    let user = std::ffi::CString::new(user).ok()?;
    // SAFETY: `user` is a C string that outlives the call; the rest as in `current`.
    lookup(|entry, buffer, length, result| unsafe {
        libc::getpwnam_r(user.as_ptr(), entry, buffer, length, result)
    })
    .map(|account| account.home)
}

/// Runs one of the reentrant passwd calls with a buffer that grows until the entry fits.
#[cfg(unix)]
fn lookup(
    call: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
) -> Option<Account> {
    use std::ffi::{CStr, OsStr};
    use std::os::unix::ffi::OsStrExt as _;

    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut result = std::ptr::null_mut();
        match call(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut result) {
            libc::ERANGE if buffer.len() < MAX_ENTRY_BYTES => buffer.resize(buffer.len() * 2, 0),
            0 if !result.is_null() => {
                // SAFETY: the call succeeded and `result` points to `entry`, so `entry` is
                // initialised and its strings are C strings inside `buffer`, which is alive.
                let (name, home, uid) = unsafe {
                    let entry = entry.assume_init();
                    (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir), entry.pw_uid)
                };
                return Some(Account {
                    name: name.to_string_lossy().into_owned(),
                    home: OsStr::from_bytes(home.to_bytes()).into(),
                    uid,
                });
            }
            _ => return None,
        }
    }
}

/// More than any real passwd entry needs.
#[cfg(unix)]
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Returns this machine's host name, or nothing if it has none.
#[cfg(unix)]
pub(crate) fn host_name() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is writable for its whole length, which is what is passed.
    let failed = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len()) } != 0;
    let name = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    match failed {
        true => String::new(),
        false => String::from_utf8_lossy(name).into_owned(),
    }
}

/// Returns where the system's ssh configuration is.
#[cfg(unix)]
pub(crate) fn system_config() -> PathBuf {
    "/etc/ssh/ssh_config".into()
}

/// Returns the account of the user who runs this process, from the profile's variables.
///
/// # Errors
/// Zero, if they are missing.
#[cfg(windows)]
pub(crate) fn current() -> Result<Account, u32> {
    let home = std::env::var_os("USERPROFILE").ok_or(0u32)?;
    let name = std::env::var("USERNAME").map_err(|_| 0u32)?;
    Ok(Account { name, home: home.into(), uid: 0 })
}

/// Returns nothing: profiles of others are not looked up.
#[cfg(windows)]
pub(crate) fn home_of(_user: &str) -> Option<PathBuf> {
    None
}

/// Returns this machine's name.
#[cfg(windows)]
pub(crate) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Returns where the system's ssh configuration is.
#[cfg(windows)]
pub(crate) fn system_config() -> PathBuf {
    let base = std::env::var_os("ProgramData").unwrap_or_else(|| r"C:\ProgramData".into());
    PathBuf::from(base).join(r"ssh\ssh_config")
}

/// Returns whether nobody but the user and root can have written a file.
#[cfg(unix)]
pub(crate) fn may_be_trusted(file: &std::fs::File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let uid = rustix::process::getuid().as_raw();
    file.metadata()
        .is_ok_and(|data| (data.uid() == 0 || data.uid() == uid) && data.mode() & 0o022 == 0)
}

/// Returns whether nobody but the user and root can read a file.
#[cfg(unix)]
pub(crate) fn is_private(file: &std::fs::File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().is_ok_and(|data| data.mode() & 0o044 == 0)
}

/// Returns true: access lists decide here.
#[cfg(windows)]
pub(crate) fn is_private(_file: &std::fs::File) -> bool {
    true
}

/// Returns true: access lists decide here, and OpenSSH's own check is not made.
#[cfg(windows)]
pub(crate) fn may_be_trusted(_file: &std::fs::File) -> bool {
    true
}

/// The shell that commands of the configuration are run with where `SHELL` is not set, and its
/// option for a command.
#[cfg(unix)]
pub(crate) const COMMAND_SHELL: (&str, &str) = ("/bin/sh", "-c");

/// The shell that commands of the configuration are run with where `SHELL` is not set, and its
/// option for a command.
#[cfg(windows)]
pub(crate) const COMMAND_SHELL: (&str, &str) = ("cmd.exe", "/c");

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_current_user_has_a_home_that_is_found_by_name_too() {
        let account = current().expect("this process has a user");
        assert_eq!(home_of(&account.name), Some(account.home));
        assert_eq!(home_of("no-such-user-here"), None);
    }
}
