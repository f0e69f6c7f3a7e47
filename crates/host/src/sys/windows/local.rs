//! Sockets that have a name on this machine: named pipes, to be connected to.
//!
//! That is how the agent of OpenSSH for Windows is reached. Nothing can listen: what wants to
//! (shared connections, forwards of unix sockets) is refused with a word that says so.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};

/// How names of pipes begin.
const PIPES: &str = r"\\.\pipe\";

/// `ERROR_PIPE_BUSY`: all instances of a pipe are in use at the moment.
const BUSY: i32 = 231;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const BUSY_TRIES: u32 = 100;

/// A connected pipe.
#[derive(Debug)]
pub struct Stream(NamedPipeClient);

/// Connects to the pipe called `path`.
///
/// # Errors
/// The system's: there is no such pipe. Other names than those of pipes are refused.
pub async fn connect(path: impl AsRef<Path>) -> io::Result<Stream> {
    let path = path.as_ref();
    // Forward slashes mean the same, and are what shells let people type.
    let name = path.to_string_lossy().replace('/', "\\");
    if !name.to_ascii_lowercase().starts_with(PIPES) {
        return Err(unsupported());
    }
    for _ in 0..BUSY_TRIES {
        match ClientOptions::new().open(&name) {
            Err(error) if error.raw_os_error() == Some(BUSY) => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            opened => return opened.map(Stream),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Splits a connection for reading and writing at once.
pub fn split(stream: &mut Stream) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
    tokio::io::split(stream)
}

/// Returns false: what is at the other end of a pipe is not looked up.
///
/// # Errors
/// None.
pub fn is_ours(_: &Stream) -> io::Result<bool> {
    Ok(false)
}

impl Stream {
    /// Waits until [`Stream::try_read`] may have something.
    ///
    /// # Errors
    /// The system's.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Waits until [`Stream::try_write`] may do something.
    ///
    /// # Errors
    /// The system's.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// The system's; nothing is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }

    /// Writes what can be written.
    ///
    /// # Errors
    /// The system's; nothing can.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            // How a pipe tells its end.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A listening socket, of which there are none.
#[derive(Debug)]
pub struct Listener(Infallible);

impl Listener {
    /// Never called.
    ///
    /// # Errors
    /// None: there is no listener.
    pub async fn accept(&self) -> io::Result<(Stream, ())> {
        match self.0 {}
    }
}

/// A connected socket for datagrams, of which there are none.
#[derive(Debug)]
pub struct Gram(Infallible);

impl Gram {
    /// Refuses, as [`listen`].
    ///
    /// # Errors
    /// Always.
    pub fn connect(_: impl AsRef<Path>) -> io::Result<Self> {
        Err(unsupported())
    }

    /// Never called.
    ///
    /// # Errors
    /// None: there is no socket.
    pub async fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None: there is no socket.
    pub fn send(&self, _: &[u8]) -> io::Result<()> {
        match self.0 {}
    }
}

/// A socket for datagrams that others send to, of which there are none.
#[derive(Debug)]
pub struct GramListener(Infallible);

impl GramListener {
    /// Refuses, as [`listen`].
    ///
    /// # Errors
    /// Always.
    pub fn bind(_: &Path, _: u16) -> io::Result<Self> {
        Err(unsupported())
    }

    /// Never called.
    ///
    /// # Errors
    /// None: there is no socket.
    pub async fn recv_from(&self, _: &mut [u8]) -> io::Result<(usize, Option<PathBuf>)> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None: there is no socket.
    pub fn send_to(&self, _: &[u8], _: &Path) -> io::Result<()> {
        match self.0 {}
    }
}

/// Refuses: unix sockets are not made here.
///
/// # Errors
/// Always.
pub fn listen(_: &Path, _: u16) -> io::Result<Listener> {
    Err(unsupported())
}

/// Leaves everything as it is: [`listen`] says why.
///
/// # Errors
/// None.
pub fn clear_place(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Leaves everything as it is, as [`clear_place`].
pub async fn clear_dead(_: &Path) {}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "unix sockets are not supported on Windows")
}

/// The file of a socket, of which there are none.
#[derive(Debug)]
pub struct SocketFile(());

impl SocketFile {
    /// Takes nothing.
    #[must_use]
    pub fn at(_: &Path) -> Self {
        Self(())
    }
}
