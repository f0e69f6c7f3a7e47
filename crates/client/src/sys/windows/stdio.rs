//! The process' standard streams as async readers and writers.
//!
//! Files and pipes are read and written by tokio's threads; a console is read key by key, by a
//! thread of its own that can be told to stop ([`super::console`]).

use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::console::{self, Keys};

/// An open file of another process or our own, as systems hand it around.
pub type Owned = OwnedHandle;
/// One that is lent.
pub type Borrowed<'a> = BorrowedHandle<'a>;

/// Lends an open file.
pub fn borrow(file: &impl AsHandle) -> Borrowed<'_> {
    file.as_handle()
}

/// Opens a file that has nothing in it.
///
/// # Errors
/// The system's.
pub fn nothing() -> io::Result<File> {
    File::open("NUL")
}

/// Standard input.
#[derive(Debug)]
pub struct Stdin(Source);

#[derive(Debug)]
enum Source {
    Console(Keys),
    File(tokio::fs::File),
}

/// Standard output or standard error.
#[derive(Debug)]
pub struct Output {
    file: tokio::fs::File,
    /// Bytes that are being written.
    written: Option<usize>,
}

impl Stdin {
    /// Opens standard input. Call within a tokio runtime.
    ///
    /// # Errors
    /// When it is closed.
    pub fn open() -> io::Result<Self> {
        Self::of(io::stdin().as_handle())
    }

    /// Reads from an open file that somebody else lent us.
    ///
    /// # Errors
    /// As [`Stdin::open`].
    pub fn of(file: Borrowed<'_>) -> io::Result<Self> {
        let file = File::from(file.try_clone_to_owned()?);
        Ok(Self(match io::IsTerminal::is_terminal(&file) {
            true => Source::Console(Keys::of(file)?),
            false => Source::File(file.into()),
        }))
    }
}

impl Output {
    /// Opens standard output. Call within a tokio runtime.
    ///
    /// # Errors
    /// When it is closed.
    pub fn stdout() -> io::Result<Self> {
        Self::of(io::stdout().as_handle())
    }

    /// Opens standard error.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn stderr() -> io::Result<Self> {
        Self::of(io::stderr().as_handle())
    }

    /// Writes to an open file that somebody else lent us.
    ///
    /// # Errors
    /// As [`Output::stdout`].
    pub fn of(file: Borrowed<'_>) -> io::Result<Self> {
        let file = File::from(file.try_clone_to_owned()?);
        Ok(Self { file: file.into(), written: None })
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Source::Console(keys) => keys.poll_read(cx, buf),
            Source::File(file) => match ready!(Pin::new(file).poll_read(cx, buf)) {
                // How a pipe tells its end.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl AsyncWrite for Output {
    /// Is ready when the bytes have been written, not when they are about to be: the program may
    /// end right after.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = match this.written {
            Some(written) => written,
            None => ready!(Pin::new(&mut this.file).poll_write(cx, bytes))?,
        };
        this.written = Some(written);
        let flushed = ready!(Pin::new(&mut this.file).poll_flush(cx));
        this.written = None;
        Poll::Ready(match flushed {
            Ok(()) => Ok(written),
            // What a pipe says when nobody reads it any more.
            Err(error) if error.raw_os_error() == Some(NO_DATA) => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            Err(error) => Err(error),
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// `ERROR_NO_DATA`.
const NO_DATA: i32 = 232;

/// Closes standard output for good: whoever reads it sees its end.
pub fn close_stdout() {
    console::close_stdout();
}
