//! The two halves of a QUIC stream, with the meaning of PROTOCOL §3.3.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};

use super::super::ConnectionError;
use super::gate::Place;
use super::{BROKEN, Link, NORMAL};

/// The sending half.
pub(in crate::driver) struct QuicSendStream {
    inner: quinn::SendStream,
    link: Link,
    place: Place,
    /// While bulk waits for the gate: ready when that is in vain.
    stopped: Option<Stopped>,
}

type Stopped = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl QuicSendStream {
    pub(super) fn new(inner: quinn::SendStream, link: &Link) -> Self {
        Self { inner, link: link.clone(), place: Place::new(&link.gate), stopped: None }
    }

    /// Writes what quinn takes; bulk waits until that can soon be sent.
    pub(in crate::driver) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        is_bulk: bool,
    ) -> Poll<io::Result<usize>> {
        let most = if is_bulk { ready!(self.poll_room(cx)) } else { usize::MAX };
        let (now, _) = buf.split_at(buf.len().min(most));
        let written = Pin::new(&mut self.inner).poll_write(cx, now);
        if let Poll::Ready(Ok(bytes)) = written {
            self.place.on_given(bytes);
        }
        written.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => lost(&self.link, &error),
            quinn::WriteError::Stopped(code) if code == NORMAL => {
                io::Error::new(io::ErrorKind::BrokenPipe, "the other side closed the stream")
            }
            error => io::Error::new(io::ErrorKind::BrokenPipe, error.to_string()),
        })
    }

    /// Returns how much bulk may be written; all of it where quinn will refuse it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if let Poll::Ready(room) = self.place.poll_room(cx) {
            self.stopped = None;
            return Poll::Ready(room);
        }
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = self.inner.stopped();
            Box::pin(async { drop(stopped.await) })
        });
        stopped.as_mut().poll(cx).map(|()| {
            self.stopped = None;
            usize::MAX
        })
    }

    /// Ends the stream; a stream that has ended is left alone.
    pub(in crate::driver) fn finish(&mut self) -> io::Result<()> {
        // The only error is that it was finished, reset or stopped before.
        let _ = self.inner.finish();
        Ok(())
    }

    pub(in crate::driver) fn reset(&mut self) {
        let _ = self.inner.reset(NORMAL);
    }

    pub(in crate::driver) fn set_priority(&self, priority: i32) {
        let _ = self.inner.set_priority(priority);
    }

    pub(in crate::driver) fn stopped(&self) -> impl Future<Output = bool> + Send + Sync + 'static {
        let stopped = self.inner.stopped();
        async move { matches!(stopped.await, Ok(Some(code)) if code != NORMAL) }
    }

    pub(in crate::driver) fn finished(
        &self,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + Sync + 'static {
        let stopped = self.inner.stopped();
        let link = self.link.clone();
        async move {
            match stopped.await {
                Ok(_) => Ok(()),
                Err(quinn::StoppedError::ConnectionLost(error)) => Err(link.failure(&error)),
                Err(error @ quinn::StoppedError::ZeroRttRejected) => {
                    Err(ConnectionError::Transport { reason: error.to_string() })
                }
            }
        }
    }
}

impl fmt::Debug for QuicSendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSendStream").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The receiving half.
#[derive(Debug)]
pub(in crate::driver) struct QuicRecvStream {
    inner: quinn::RecvStream,
    link: Link,
}

impl QuicRecvStream {
    pub(super) fn new(inner: quinn::RecvStream, link: &Link) -> Self {
        Self { inner, link: link.clone() }
    }

    pub(in crate::driver) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf).map(|result| {
            let Err(error) = result else { return Ok(()) };
            match error.get_ref().and_then(|error| error.downcast_ref::<quinn::ReadError>()) {
                Some(quinn::ReadError::Reset(code)) if *code == NORMAL => Ok(()),
                Some(quinn::ReadError::ConnectionLost(error)) => Err(lost(&self.link, error)),
                _ => Err(error),
            }
        })
    }

    pub(in crate::driver) fn stop(&mut self) {
        let _ = self.inner.stop(NORMAL);
    }

    pub(in crate::driver) fn abort(&mut self) {
        let tells = self.link.tells_breaks.load(Ordering::Relaxed);
        let _ = self.inner.stop(if tells { BROKEN } else { NORMAL });
    }
}

fn lost(link: &Link, error: &quinn::ConnectionError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, link.failure(error))
}
