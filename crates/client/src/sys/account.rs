//! Where the system has ssh's configuration, whom it trusts with files, and its shell.

use std::path::PathBuf;

/// Returns where the system's ssh configuration is.
#[cfg(unix)]
pub(crate) fn system_config() -> PathBuf {
    "/etc/ssh/ssh_config".into()
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
