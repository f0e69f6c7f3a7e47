//! A gate in front of what the server sends, for one moment of the login.
//!
//! The first session's requests can be written early only if its channel is
//! being opened when the server's announcement of host keys is handled (see
//! [`handler`](super::handler)). Often the announcement sits right behind the
//! news that authentication succeeded, and russh would handle both before
//! anybody had heard the news. So, until the first session: the reader steps
//! aside before each read, which lets the login go on in between; and once a
//! session is asked for, reading waits until something has been written.
//!
//! Invariant: the gate delays, it never drops or reorders; and it delays no
//! longer than [`HOLD_LIMIT`], should russh have reasons not to write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::remote::BoxFuture;

/// The handle of a gate; the other half is in the [`GatedStream`].
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The login is under way: step aside before each read.
    #[default]
    Courteous,
    /// A channel is about to be opened: read nothing before it is written.
    Held,
    /// As if there were no gate.
    Open,
}

impl Gate {
    /// Holds what arrives until the next write.
    pub(super) fn hold(&self) {
        self.set(Phase::Held);
    }

    /// Opens the gate for good.
    pub(super) fn open(&self) {
        self.set(Phase::Open);
    }

    fn set(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = phase;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn written(&self) {
        if self.lock().phase == Phase::Held {
            self.open();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the gate may hold: a key exchange begun by the server keeps russh
/// from writing, and it goes on only if it is read.
const HOLD_LIMIT: Duration = Duration::from_millis(100);

/// A stream with a gate on its reading side.
pub(super) struct GatedStream<S> {
    stream: S,
    gate: Arc<Gate>,
    /// What the next read waits for.
    wait: Option<BoxFuture<'static, ()>>,
    holding: bool,
}

impl<S> GatedStream<S> {
    pub(super) fn new(stream: S, gate: Arc<Gate>) -> Self {
        Self { stream, gate, wait: None, holding: false }
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let phase = {
            let mut state = self.gate.lock();
            state.reader = (state.phase == Phase::Held).then(|| cx.waker().clone());
            state.phase
        };
        match phase {
            Phase::Open => self.wait = None,
            Phase::Courteous => {
                if let Some(wait) = &mut self.wait {
                    ready!(wait.as_mut().poll(cx));
                    self.wait = None;
                }
            }
            Phase::Held => {
                if !self.holding {
                    self.holding = true;
                    self.wait = Some(Box::pin(tokio::time::sleep(HOLD_LIMIT)));
                }
                if let Some(wait) = &mut self.wait {
                    ready!(wait.as_mut().poll(cx));
                    self.gate.open();
                }
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GatedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_gate(cx));
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if self.gate.lock().phase == Phase::Courteous {
            self.wait = Some(Box::pin(tokio::task::yield_now()));
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GatedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.gate.written();
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_held_gate_opens_with_the_next_write() {
        let (near, mut far) = tokio::io::duplex(64);
        let gate = Arc::new(Gate::default());
        let mut stream = GatedStream::new(near, Arc::clone(&gate));
        far.write_all(b"news").await.unwrap();
        gate.hold();
        let mut buffer = [0; 4];
        assert!(stream.read_exact(&mut buffer).now_or_never().is_none());
        stream.write_all(b"x").await.unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"news");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_held_for_nothing_opens_by_itself() {
        let (near, mut far) = tokio::io::duplex(64);
        let gate = Arc::new(Gate::default());
        let mut stream = GatedStream::new(near, Arc::clone(&gate));
        far.write_all(b"news").await.unwrap();
        gate.hold();
        let mut buffer = [0; 4];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"news");
    }

    #[tokio::test]
    async fn others_run_between_two_reads_of_a_login() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = GatedStream::new(near, Arc::default());
        far.write_all(b"ab").await.unwrap();
        stream.read_u8().await.unwrap();
        // Data is there, and still the reader gives way once.
        assert!(stream.read_u8().now_or_never().is_none());
        assert_eq!(stream.read_u8().await.unwrap(), b'b');
    }
}
