//! The streams that forwards may have (DESIGN D18).
//!
//! A QUIC peer allows a number of streams. Forwards take theirs from [`Slots`], which always
//! leave some for sessions, so that these never wait behind forwards. The reference holds on to
//! a stream that did not end well for a while (PROTOCOL §3.3), and so does its slot.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proto::bootstrap::TransportKind;
use proto::ext::ExtSet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use transport::relay::{FarRead, FarWrite};
use transport::{RecvStream, SendStream};

use crate::remote::{BoxFuture, RemoteStream};

/// Streams the reference allows; ours allows ten times as many, and KCP knows no number.
const REFERENCE_STREAMS: usize = 100;
const OUR_STREAMS: usize = 1000;

/// Streams left to sessions, stderr and what else is no forward.
const RESERVED_STREAMS: usize = 8;

/// How long the reference may hold on to a stream (PROTOCOL §3.3).
const REFERENCE_LINGER: Duration = Duration::from_secs(60);

/// The streams that forwards may have.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    linger: Duration,
}

impl Slots {
    /// Returns the slots that a server with this transport and these extensions allows.
    pub(super) fn new(kind: TransportKind, ext: ExtSet) -> Self {
        let (streams, linger) = match kind {
            TransportKind::Quic if ext.is_empty() => (REFERENCE_STREAMS, REFERENCE_LINGER),
            TransportKind::Quic | TransportKind::Kcp => (OUR_STREAMS, Duration::ZERO),
        };
        Self { free: Arc::new(Semaphore::new(streams - RESERVED_STREAMS)), linger }
    }

    pub(super) async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Slot { permit: permit.ok(), linger: self.linger, was_read: false.into(), sent: None.into() }
    }
}

/// A stream's place among the others; free again once the stream is forgotten by the peer.
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    linger: Duration,
    /// The peer's half was read to its end.
    was_read: AtomicBool,
    /// Our half has ended: ready once the peer has all of it.
    sent: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Slot {
    /// Returns the two halves of a forward's stream, which share this slot.
    pub(super) fn hold(self, send: SendStream, recv: RecvStream) -> RemoteStream {
        let slot = Arc::new(self);
        let read = Reading { recv, slot: slot.clone() };
        RemoteStream { read: Box::new(read), write: Box::new(Writing { send, slot }) }
    }

    fn sent(&mut self) -> Option<BoxFuture<'static, ()>> {
        self.sent.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let linger = self.linger;
        if linger.is_zero() {
            return;
        }
        let was_read = *self.was_read.get_mut();
        let sent = self.sent().filter(|_| was_read);
        if let (Some(permit), Ok(runtime)) =
            (self.permit.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                match sent {
                    Some(sent) => drop(timeout(linger, sent).await),
                    None => sleep(linger).await,
                }
                drop(permit);
            });
        }
    }
}

/// The receiving half of a forward.
struct Reading {
    recv: RecvStream,
    slot: Arc<Slot>,
}

impl AsyncRead for Reading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        ready!(Pin::new(&mut self.recv).poll_read(cx, buf))?;
        if room > 0 && buf.remaining() == room {
            self.slot.was_read.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl FarRead for Reading {
    fn abort(&mut self) {
        self.recv.abort();
    }
}

/// The sending half of a forward.
struct Writing {
    send: SendStream,
    slot: Arc<Slot>,
}

impl AsyncWrite for Writing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.send).poll_shutdown(cx))?;
        let sent = self.send.finished();
        let sent: BoxFuture<'static, ()> = Box::pin(async move { drop(sent.await) });
        *self.slot.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
        Poll::Ready(Ok(()))
    }
}

impl FarWrite for Writing {
    fn stopped(&self) -> BoxFuture<'static, bool> {
        self.send.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn eight_streams_are_left_and_a_reference_s_broken_ones_count_for_a_minute() {
        let slots = Slots::new(TransportKind::Quic, ExtSet::NONE);
        let mut taken = Vec::new();
        for _ in 0..92 {
            taken.push(slots.take().await);
        }
        assert_eq!(slots.free.available_permits(), 0);
        taken.clear();
        sleep(Duration::from_secs(59)).await;
        assert_eq!(slots.free.available_permits(), 0);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(slots.free.available_permits(), 92);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reference_s_stream_that_ended_well_is_free_at_once() {
        let slots = Slots::new(TransportKind::Quic, ExtSet::NONE);
        for (was_read, free) in [(true, 92), (false, 91)] {
            let slot = slots.take().await;
            slot.was_read.store(was_read, Ordering::Relaxed);
            *slot.sent.lock().unwrap() = Some(Box::pin(std::future::ready(())));
            drop(slot);
            tokio::task::yield_now().await;
            assert_eq!(slots.free.available_permits(), free);
        }
    }

    #[tokio::test]
    async fn kcp_and_our_own_server_hold_on_to_nothing() {
        let kcp = Slots::new(TransportKind::Kcp, ExtSet::NONE);
        for slots in [kcp, Slots::new(TransportKind::Quic, ExtSet::all())] {
            drop(slots.take().await);
            assert_eq!(slots.free.available_permits(), 992);
        }
    }
}
