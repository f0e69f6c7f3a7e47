//! Agent forwarding, the server's half (PROTOCOL §6.8, §10.5).
//!
//! One socket for each session that asked for it, at one path for the
//! session's life however often the client roams. A program that asks while
//! the client is away is refused at once: it must never hang.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::listen::{Listener, listen_unix};

/// Bits of the mode that a socket of ours lacks.
const MASK: u16 = 0o177;

/// A session's agent socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Agent {
    /// For `SSH_AUTH_SOCK`.
    pub(crate) path: PathBuf,
    pub(crate) listener: Listener,
}

impl Agent {
    /// Opens the socket of a session.
    ///
    /// # Errors
    /// When no directory of the user's own can be had, or the socket not be made.
    pub(crate) fn open(session: u64, home: &Path) -> io::Result<Self> {
        let name = format!("agent-{}-{session}", std::process::id());
        let path = directory(home)?.join(name);
        let text = path.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
        // A file there can only be left over from another process of this number.
        let listener = listen_unix(text, MASK, true)?;
        Ok(Self { path, listener })
    }
}

/// Returns the directory for sockets, private to the user.
pub(super) fn directory(home: &Path) -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|dir| dir.is_absolute() && dir.is_dir());
    let dir = match runtime {
        Some(dir) => dir.join("tsshd"),
        None => home.join(".local/run/tsshd"),
    };
    own(&dir).map(|()| dir).or_else(|error| {
        tracing::debug!(%error, "no directory for sockets at its usual place");
        let uid = rustix::process::geteuid().as_raw();
        let dir = std::env::temp_dir().join(format!("tsshd-{uid}"));
        own(&dir).map(|()| dir)
    })
}

/// Makes sure that `dir` is a directory of ours that nobody else can enter.
fn own(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_enter_is_closed_to_them_and_a_link_refused() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/b");
        own(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        own(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        let link = base.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(own(&link).is_err());
    }
}
