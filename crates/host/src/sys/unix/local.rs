//! Sockets that have a name in the file system: unix sockets.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, RawMode};
use tokio::io::{AsyncRead, AsyncWrite};
pub use tokio::net::{UnixDatagram as Datagram, UnixListener as Listener, UnixStream as Stream};

/// Connects to the socket called `path`.
///
/// # Errors
/// The system's: there is none, nobody listens, or it is not for us.
pub async fn connect(path: impl AsRef<Path>) -> io::Result<Stream> {
    Stream::connect(path).await
}

/// Splits a connection for reading and writing at once.
pub fn split(stream: &mut Stream) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
    stream.split()
}

/// Listens at `path`; its mode lacks the bits of `mask` from the first moment on.
///
/// Remove the file with the socket: [`SocketFile`]. Not for programs with threads that make
/// files: the mask is the process'.
///
/// # Errors
/// When it cannot be made: there is something in its place, for one.
pub fn listen(path: &Path, mask: u16) -> io::Result<Listener> {
    masked(mask, || Listener::bind(path))
}

/// As [`listen`], for datagrams.
///
/// # Errors
/// As [`listen`].
pub fn bind_datagram(path: &Path, mask: u16) -> io::Result<Datagram> {
    masked(mask, || Datagram::bind(path))
}

fn masked<T>(mask: u16, bind: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let usual = rustix::process::umask(Mode::from_raw_mode(RawMode::from(mask)));
    let bound = bind();
    rustix::process::umask(usual);
    bound
}

/// Removes the file at `path`, so that a socket can take its place (StreamLocalBindUnlink).
///
/// # Errors
/// The system's, but for a file that is not there.
pub fn clear_place(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file of a socket; removed with the socket, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    /// Takes the file at `path`, which has just been made.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), inode: inode(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            // Nobody is left to tell if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino())).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_has_its_mode_and_its_file_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = listen(&path, 0o177).unwrap();
        let file = SocketFile::at(&path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        connect(&path).await.unwrap();
        assert_eq!(listen(&path, 0o177).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        clear_place(&path).unwrap();
        let second = listen(&path, 0o111).unwrap();
        let second_file = SocketFile::at(&path);
        drop((listener, file));
        assert!(path.exists(), "the file is the second one's");
        drop((second, second_file));
        assert!(!path.exists());
        clear_place(&path).unwrap();
    }
}
