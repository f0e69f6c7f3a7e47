//! Files: where the system has ssh's, whom it lets read and write them. And its shell.
//!
//! Windows decides about files by access lists, which are inherited from the user's profile;
//! modes are for Unix.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

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

/// What makes a shell run a command in its own place, as one process.
#[cfg(unix)]
pub(crate) const IN_PLACE: &str = "exec ";
/// What makes a shell run a command in its own place, as one process.
#[cfg(windows)]
pub(crate) const IN_PLACE: &str = "";

/// Where the agent is to be found if the environment does not say.
#[cfg(unix)]
pub(crate) const USUAL_AGENT: Option<&str> = None;
/// Where the agent is to be found if the environment does not say.
#[cfg(windows)]
pub(crate) const USUAL_AGENT: Option<&str> = Some(r"\\.\pipe\openssh-ssh-agent");

/// Whether the system's own ssh keeps passphrases in a keychain (UseKeychain).
pub(crate) const HAS_KEYCHAIN: bool = cfg!(target_os = "macos");

/// Has a new file made for the user alone.
#[cfg(unix)]
pub(crate) fn for_user_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

/// Changes nothing: the directory decides.
#[cfg(windows)]
pub(crate) fn for_user_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Has a new file made that those may read and write who may read and write `like`.
#[cfg(unix)]
pub(crate) fn for_the_same<'a>(
    options: &'a mut OpenOptions,
    like: &Metadata,
) -> &'a mut OpenOptions {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    options.mode(like.permissions().mode() & 0o7777)
}

/// Changes nothing: the directory decides.
#[cfg(windows)]
pub(crate) fn for_the_same<'a>(options: &'a mut OpenOptions, _: &Metadata) -> &'a mut OpenOptions {
    options
}

/// Makes a directory that the user alone can enter.
///
/// # Errors
/// The system's; above all that it is there already.
#[cfg(unix)]
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// Makes a directory; the one around it decides who can enter.
///
/// # Errors
/// The system's; above all that it is there already.
#[cfg(windows)]
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Returns the mode bits, if others may read a key that is ours.
#[cfg(unix)]
pub(crate) fn too_open(status: &Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = status.mode() & 0o777;
    let ours = status.uid() == rustix::process::getuid().as_raw();
    (ours && mode & 0o077 != 0).then_some(mode)
}

/// Returns nothing: access lists decide here.
#[cfg(windows)]
pub(crate) fn too_open(_: &Metadata) -> Option<u32> {
    None
}

/// Returns whether `open` is the file that is at `path` now.
///
/// # Errors
/// The system's; above all that there is none any more.
#[cfg(unix)]
pub(crate) fn is_still_at(open: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (open, now) = (open.metadata()?, std::fs::metadata(path)?);
    Ok((open.dev(), open.ino()) == (now.dev(), now.ino()))
}

/// Returns true if there is one at all: a file that is open is not replaced here.
///
/// # Errors
/// The system's; above all that there is none any more.
#[cfg(windows)]
pub(crate) fn is_still_at(_: &File, path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| true)
}

/// Returns whether a file is a socket.
#[cfg(unix)]
pub(crate) fn is_socket(found: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    found.file_type().is_socket()
}

/// Returns false: sockets have no files here.
#[cfg(windows)]
pub(crate) fn is_socket(_: &Metadata) -> bool {
    false
}
