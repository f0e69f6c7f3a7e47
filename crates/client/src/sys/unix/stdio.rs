//! The process' standard streams as async readers and writers, without threads.
//!
//! The descriptors are shared with whoever started us, so their file status
//! flags are never changed: a shell left with a non-blocking terminal is a
//! broken shell. Instead readiness is awaited and asked for before every call,
//! and for writing a description of our own is opened where the system can.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// An open file of another process or our own, as systems hand it around.
pub type Owned = OwnedFd;
/// One that is lent.
pub type Borrowed<'a> = BorrowedFd<'a>;

/// Lends an open file.
pub fn borrow(file: &impl AsFd) -> Borrowed<'_> {
    file.as_fd()
}

/// Opens a file that has nothing in it.
///
/// # Errors
/// The system's.
pub fn nothing() -> io::Result<File> {
    File::open("/dev/null")
}

/// Bytes that a pipe that polls as writable takes without blocking (POSIX `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Standard input.
#[derive(Debug)]
pub struct Stdin(Source);

/// Standard output or standard error.
#[derive(Debug)]
pub struct Output(Sink);

#[derive(Debug)]
enum Source {
    /// Never blocks for long (files, `/dev/null`) and cannot be polled.
    Direct(File),
    Polled(AsyncFd<File>),
}

#[derive(Debug)]
enum Sink {
    Direct(File),
    /// A description of our own, non-blocking.
    Own(AsyncFd<File>),
    /// Shared and blocking: at most [`PIPE_BUF`] bytes at a time, and only when writable.
    Shared(AsyncFd<File>),
}

impl Stdin {
    /// Opens standard input. Call within a tokio runtime.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated: it is closed, for one.
    pub fn open() -> io::Result<Self> {
        Self::of(io::stdin().as_fd())
    }

    /// Reads from a descriptor that somebody else lent us.
    ///
    /// # Errors
    /// As [`Stdin::open`].
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(match register(duplicate(fd)?, Interest::READABLE)? {
            Ok(polled) => Source::Polled(polled),
            Err(file) => Source::Direct(file),
        }))
    }
}

impl Output {
    /// Opens standard output. Call within a tokio runtime.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated: it is closed, for one.
    pub fn stdout() -> io::Result<Self> {
        Self::of(io::stdout().as_fd())
    }

    /// Opens standard error.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn stderr() -> io::Result<Self> {
        Self::of(io::stderr().as_fd())
    }

    /// Writes to a descriptor that somebody else lent us.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        if let Some(own) = reopen(fd)
            && let Ok(polled) = register(own, Interest::WRITABLE)?
        {
            return Ok(Self(Sink::Own(polled)));
        }
        Ok(Self(match register(duplicate(fd)?, Interest::WRITABLE)? {
            Ok(polled) => Sink::Shared(polled),
            Err(file) => Sink::Direct(file),
        }))
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(fd.try_clone_to_owned()?))
}

/// Opens a new, non-blocking description of a terminal or pipe.
///
/// Only of these: for a file it would lose the shared position.
fn reopen(fd: BorrowedFd<'_>) -> Option<File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let own: OwnedFd = if rustix::termios::isatty(fd) {
        let name = rustix::termios::ttyname(fd, Vec::new()).ok()?;
        rustix::fs::open(name, flags, Mode::empty()).ok()?
    } else if kind == FileType::Fifo && cfg!(target_os = "linux") {
        rustix::fs::open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty()).ok()?
    } else {
        return None;
    };
    Some(File::from(own))
}

/// Registers `file` for polling; hands it back when its kind cannot be polled.
fn register(file: File, interest: Interest) -> io::Result<Result<AsyncFd<File>, File>> {
    // SAFETY: the file is owned by the `AsyncFd` from here on and is neither
    // replaced nor closed before it: nothing takes it out mutably.
    match unsafe { AsyncFd::register_with_interest(file, interest) } {
        Ok(polled) => Ok(Ok(polled)),
        Err(refused) => {
            let (file, error) = refused.into_parts();
            if error.kind() == io::ErrorKind::PermissionDenied { Ok(Err(file)) } else { Err(error) }
        }
    }
}

/// Returns whether a call on `fd` would not block right now.
fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = |file: &File, buf: &mut ReadBuf<'_>| {
            let n = rustix::io::read(file, buf.initialize_unfilled())?;
            buf.advance(n);
            Ok(())
        };
        match &self.0 {
            Source::Direct(file) => Poll::Ready(read(file, buf)),
            Source::Polled(polled) => loop {
                let mut guard = ready!(polled.poll_read_ready(cx))?;
                if is_ready(polled.get_ref().as_fd(), PollFlags::IN)? {
                    match read(polled.get_ref(), buf) {
                        // Somebody else made it non-blocking and read first.
                        Err(e) if is_passing(&e) => {}
                        result => return Poll::Ready(result),
                    }
                }
                guard.clear_ready();
            },
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |file: &File, bytes: &[u8]| Ok(rustix::io::write(file, bytes)?);
        let (polled, bytes, ask) = match &self.0 {
            Sink::Direct(file) => return Poll::Ready(write(file, bytes)),
            Sink::Own(polled) => (polled, bytes, false),
            Sink::Shared(polled) => {
                (polled, bytes.get(..PIPE_BUF.min(bytes.len())).unwrap_or_default(), true)
            }
        };
        loop {
            let mut guard = ready!(polled.poll_write_ready(cx))?;
            if !ask || is_ready(polled.get_ref().as_fd(), PollFlags::OUT)? {
                match write(polled.get_ref(), bytes) {
                    Err(e) if is_passing(&e) => {}
                    result => return Poll::Ready(result),
                }
            }
            guard.clear_ready();
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Closes standard output for good: whoever reads it sees its end.
///
/// The descriptor is replaced by `/dev/null`, so that nothing opened later takes its number.
pub fn close_stdout() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // Without it the reader waits for our exit instead; nothing else breaks.
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
