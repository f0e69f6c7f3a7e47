//! [`Sink`]: what is written into a channel of the login.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::remote::BoxFuture;

/// The writing end of a channel, with what has to live as long as it does.
pub(super) struct Sink<T> {
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    /// Ready when the channel is closed: no window will open then, and a
    /// write would wait for ever.
    closed: BoxFuture<'static, ()>,
    pub(super) kept: T,
}

impl<T> Sink<T> {
    pub(super) fn new(
        writer: Pin<Box<dyn AsyncWrite + Send>>,
        closed: BoxFuture<'static, ()>,
        kept: T,
    ) -> Self {
        Self { writer, closed, kept }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> bool {
        let closed = self.closed.as_mut().poll(cx).is_ready();
        if closed {
            self.closed = Box::pin(std::future::ready(()));
        }
        closed
    }
}

impl<T: Unpin> AsyncWrite for Sink<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.poll_closed(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0)); // russh takes an empty write for an error
        }
        self.writer.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_closed(cx) {
            return Poll::Ready(Ok(()));
        }
        // An end that can no longer be delivered is of no interest.
        let _ = ready!(self.writer.as_mut().poll_shutdown(cx));
        Poll::Ready(Ok(()))
    }
}
