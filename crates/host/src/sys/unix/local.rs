//! Sockets that have a name in the file system: unix sockets.

use std::collections::hash_map::RandomState;
use std::fs::DirBuilder;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, RawMode};
use rustix::net::{SendFlags, SocketAddrUnix};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixDatagram;
pub use tokio::net::{UnixListener as Listener, UnixStream as Stream};

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

/// Returns whether the other end runs as the same user, or as root.
///
/// # Errors
/// The system does not tell.
pub fn is_ours(stream: &Stream) -> io::Result<bool> {
    let peer = stream.peer_cred()?.uid();
    Ok(peer == rustix::process::geteuid().as_raw() || peer == 0)
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

/// Held while the process has a mask that is not its own: threads that listen at once would
/// otherwise take each other's for the usual one.
static MASK: Mutex<()> = Mutex::new(());

fn masked<T>(mask: u16, bind: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _alone = MASK.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Removes the socket at `path` if nobody listens there any more, and nobody else is about to do
/// the same. A file of another kind is somebody's, and stays.
///
/// Under a lock that all of us keep to: between the look at the socket and its removal nobody
/// else can have put a new one in its place.
pub async fn clear_dead(path: &Path) {
    use std::os::unix::fs::FileTypeExt as _;

    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The directory itself is what is locked, so that no file is left behind.
    let Ok(dir) = std::fs::File::open(dir) else { return };
    // Held by somebody else it means that the socket is being seen to; where there are no locks
    // (some file systems of other machines), nothing is removed rather than the wrong file.
    if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && connect(path).await.is_err_and(refused) {
        let _ = std::fs::remove_file(path);
    }
}

/// A connected socket for datagrams, with a name of its own that answers are sent to.
#[derive(Debug)]
pub struct Gram {
    socket: UnixDatagram,
    _name: Name,
}

impl Gram {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// There is none, or none of ours can be made.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let name = Name::private()?;
        let socket = UnixDatagram::bind(name.socket())?;
        socket.connect(path)?;
        Ok(Self { socket, _name: name })
    }

    /// Waits for a datagram, which is cut off where `buffer` ends.
    ///
    /// # Errors
    /// The system's.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer).await
    }

    /// Sends a datagram now or not at all; see [`GramListener::send_to`].
    ///
    /// # Errors
    /// The system's; `WouldBlock` while the peer reads too slowly.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        Ok(rustix::net::send(&self.socket, payload, SendFlags::DONTWAIT).map(drop)?)
    }
}

/// Bytes of answers that may wait to be read, where the system allows so many.
const SEND_BUFFER: usize = 4 << 20;

/// A socket for datagrams that anybody who may can send to. Its file goes with it.
#[derive(Debug)]
pub struct GramListener {
    socket: UnixDatagram,
    _file: SocketFile,
}

impl GramListener {
    /// Makes one at `path`, as [`listen`] does.
    ///
    /// # Errors
    /// As [`listen`].
    pub fn bind(path: &Path, mask: u16) -> io::Result<Self> {
        let socket = masked(mask, || UnixDatagram::bind(path))?;
        // What a peer has not read counts against this buffer, which all of them share: as much
        // as the system allows, so that a peer's own queue is full before it.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
        Ok(Self { socket, _file: SocketFile::at(path) })
    }

    /// Waits for a datagram; returns its length and the name of its sender, where that has one
    /// that can be answered to.
    ///
    /// # Errors
    /// The system's.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<PathBuf>)> {
        let (len, peer) = self.socket.recv_from(buffer).await?;
        Ok((len, peer.as_pathname().map(Path::to_owned)))
    }

    /// Sends a datagram to the socket at `to`, now or not at all.
    ///
    /// It waits for nobody: all peers are answered from this one socket, and one that never reads
    /// must not stop the others. Nor does it ask the runtime whether the socket can be written to,
    /// which after one peer's full queue would say no for all.
    ///
    /// # Errors
    /// The system's; `WouldBlock` while the peer reads too slowly.
    pub fn send_to(&self, payload: &[u8], to: &Path) -> io::Result<()> {
        let to = SocketAddrUnix::new(to)?;
        Ok(rustix::net::sendto(&self.socket, payload, SendFlags::DONTWAIT, &to).map(drop)?)
    }
}

/// A name for a socket in a directory of its own, which nobody else can enter or know
/// beforehand; both go with it.
#[derive(Debug)]
struct Name(PathBuf);

/// How often another name is tried.
const NAME_TRIES: u32 = 16;

impl Name {
    fn private() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime.filter(|dir| dir.is_absolute() && dir.is_dir());
        let base = base.unwrap_or_else(std::env::temp_dir);
        for _ in 0..NAME_TRIES {
            let random = RandomState::new().build_hasher().finish();
            let dir = base.join(format!("tssh-{random:016x}"));
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Nobody is left to tell if they stay.
        let _ = std::fs::remove_file(self.socket());
        let _ = std::fs::remove_dir(&self.0);
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
    /// Whatever the order in which several find a dead socket, remove it and listen: the one that
    /// then has the place keeps it.
    #[tokio::test]
    async fn of_many_that_find_a_dead_socket_one_takes_its_place_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let take = |path: PathBuf, number: u32| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_io().build().unwrap();
            runtime.block_on(clear_dead(&path));
            let first = path.with_extension(number.to_string());
            let listener = std::os::unix::net::UnixListener::bind(&first).unwrap();
            let linked = std::fs::hard_link(&first, &path);
            std::fs::remove_file(&first).unwrap();
            linked.is_ok().then_some(listener)
        };
        for _ in 0..100 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let tries: Vec<_> = (0..4)
                .map(|number| {
                    let path = path.clone();
                    std::thread::spawn(move || take(path, number))
                })
                .collect();
            let tries = tries.into_iter().map(|one| one.join().unwrap());
            let listening: Vec<_> = tries.flatten().collect();
            assert_eq!(listening.len(), 1);
            connect(&path).await.unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn only_sockets_that_nobody_listens_at_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let live = std::os::unix::net::UnixListener::bind(&path).unwrap();
        clear_dead(&path).await;
        assert!(path.exists());
        drop(live);
        clear_dead(&path).await;
        assert!(!path.exists());
        std::fs::write(&path, "somebody's").unwrap();
        clear_dead(&path).await;
        assert!(path.exists());
    }

    #[tokio::test]
    async fn answers_come_to_a_name_that_nobody_else_can_reach() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("asked");
        let asked = GramListener::bind(&path, 0o177).unwrap();
        let file_mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(file_mode & 0o777, 0o600);
        let gram = Gram::connect(&path).unwrap();
        gram.send(b"question").unwrap();
        let mut buffer = [0; 16];
        let (len, peer) = asked.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"question");
        let name = peer.unwrap();
        let own = name.parent().unwrap().to_owned();
        let mode = std::fs::metadata(&own).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        asked.send_to(b"answer", &name).unwrap();
        let len = gram.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"answer");
        drop(gram);
        assert!(!own.exists());
        let nameless = UnixDatagram::unbound().unwrap();
        nameless.send_to(b"notice", &path).await.unwrap();
        assert_eq!(asked.recv_from(&mut buffer).await.unwrap(), (6, None));
        drop(asked);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_peer_that_never_reads_costs_the_others_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let [path, deaf] = ["asked", "deaf"].map(|name| dir.path().join(name));
        let asked = GramListener::bind(&path, 0o177).unwrap();
        let _never_reads = std::os::unix::net::UnixDatagram::bind(&deaf).unwrap();
        let full = (0..100_000).find_map(|_| asked.send_to(b"", &deaf).err());
        assert!(matches!(full.unwrap().kind(), io::ErrorKind::WouldBlock));
        let gram = Gram::connect(&path).unwrap();
        gram.send(b"question").unwrap();
        let mut buffer = [0; 16];
        let (_, peer) = asked.recv_from(&mut buffer).await.unwrap();
        asked.send_to(b"answer", &peer.unwrap()).unwrap();
        assert_eq!(gram.recv(&mut buffer).await.unwrap(), 6);
        // Nor does one that was connected to wait.
        let to_deaf = Gram::connect(&deaf).unwrap();
        let full = (0..100_000).find_map(|_| to_deaf.send(b"").err());
        assert!(matches!(full.unwrap().kind(), io::ErrorKind::WouldBlock));
    }

    #[test]
    fn sockets_made_by_threads_at_once_each_have_their_own_mode() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for (number, mask) in [0o177, 0o111, 0o077, 0o117].into_iter().enumerate() {
                let path = dir.path().join(number.to_string());
                scope.spawn(move || {
                    for _ in 0..200 {
                        masked(mask, || std::os::unix::net::UnixListener::bind(&path)).unwrap();
                        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                        assert_eq!(mode & 0o777, 0o777 & !u32::from(mask));
                        std::fs::remove_file(&path).unwrap();
                    }
                });
            }
        });
    }
}
