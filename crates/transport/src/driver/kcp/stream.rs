//! The two halves of a smux stream.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;
use tokio::sync::watch;

use super::super::ConnectionError;
use super::real_now;
use super::shared::{Handle, Outcome, State};
use crate::smux::{StreamError, StreamId};

/// Makes the halves of a stream that was just opened or accepted.
pub(super) fn halves(handle: &Arc<Handle>, id: StreamId) -> (KcpSendStream, KcpRecvStream) {
    let outcome = match handle.0.lock().streams.get(&id) {
        Some(stream) => stream.outcome.subscribe(),
        // The connection ended in between.
        None => watch::channel(Some(Err(ConnectionError::ClosedLocally))).1,
    };
    let send = KcpSendStream { handle: handle.clone(), id, outcome };
    (send, KcpRecvStream { handle: handle.clone(), id })
}

/// The sending half.
pub(in crate::driver) struct KcpSendStream {
    handle: Arc<Handle>,
    id: StreamId,
    outcome: watch::Receiver<Outcome>,
}

impl KcpSendStream {
    pub(in crate::driver) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        is_bulk: bool,
    ) -> Poll<io::Result<usize>> {
        let shared = &self.handle.0;
        let mut state = shared.lock();
        if let Some(why) = &state.end {
            return Poll::Ready(Err(lost(why)));
        }
        let written = if is_bulk {
            state.stack.write_bulk(real_now(), self.id, buf)
        } else {
            state.stack.write(self.id, buf)
        };
        match written {
            Ok(taken) => {
                shared.wake_task(state);
                Poll::Ready(Ok(taken))
            }
            Err(StreamError::Blocked) => {
                if let Some(stream) = state.streams.get_mut(&self.id) {
                    stream.writer = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Err(StreamError::Stopped) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the other side closed the stream",
            ))),
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
        }
    }

    /// Ends the stream; a stream that has ended is left alone.
    pub(in crate::driver) fn finish(&mut self) -> io::Result<()> {
        let mut state = self.handle.0.lock();
        state.stack.finish(self.id);
        self.handle.0.wake_task(state);
        Ok(())
    }

    pub(in crate::driver) fn reset(&mut self) {
        let mut state = self.handle.0.lock();
        state.stack.reset(self.id);
        self.handle.0.wake_task(state);
    }

    pub(in crate::driver) fn set_priority(&self, priority: i32) {
        self.handle.0.lock().stack.set_priority(self.id, priority);
    }

    pub(in crate::driver) fn finished(
        &self,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + Sync + 'static {
        let mut outcome = self.outcome.clone();
        async move {
            match outcome.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(outcome)) => outcome.clone(),
                // Forgotten without an outcome is not to be had.
                _ => Err(ConnectionError::ClosedLocally),
            }
        }
    }
}

impl Drop for KcpSendStream {
    fn drop(&mut self) {
        let mut state = self.handle.0.lock();
        state.stack.finish(self.id);
        release(&mut state, self.id);
        self.handle.0.wake_task(state);
    }
}

/// The receiving half.
pub(in crate::driver) struct KcpRecvStream {
    handle: Arc<Handle>,
    id: StreamId,
}

impl KcpRecvStream {
    pub(in crate::driver) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let shared = &self.handle.0;
        let mut state = shared.lock();
        if let Some(why) = &state.end {
            return Poll::Ready(Err(lost(why)));
        }
        match state.stack.read(self.id, buf.initialize_unfilled()) {
            Ok(len) => {
                buf.advance(len);
                if state.stack.has_news() {
                    shared.wake_task(state);
                }
                Poll::Ready(Ok(()))
            }
            Err(StreamError::Blocked) => {
                if let Some(stream) = state.streams.get_mut(&self.id) {
                    stream.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            // Read to its end, or stopped by ourselves.
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    pub(in crate::driver) fn stop(&mut self) {
        let mut state = self.handle.0.lock();
        state.stack.stop(self.id);
        self.handle.0.wake_task(state);
    }
}

impl Drop for KcpRecvStream {
    fn drop(&mut self) {
        let mut state = self.handle.0.lock();
        state.stack.stop(self.id);
        release(&mut state, self.id);
        self.handle.0.wake_task(state);
    }
}

/// One half of a stream is held by nobody any more.
fn release(state: &mut State, id: StreamId) {
    if let Some(stream) = state.streams.get_mut(&id) {
        stream.halves = stream.halves.saturating_sub(1);
    }
    state.forget(id);
}

fn lost(why: &ConnectionError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, why.clone())
}

impl fmt::Debug for KcpSendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KcpSendStream").field(&self.id).finish()
    }
}

impl fmt::Debug for KcpRecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KcpRecvStream").field(&self.id).finish()
    }
}
