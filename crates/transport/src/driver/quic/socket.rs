//! Shows a [`PacketSocket`] to quinn as a UDP socket with one peer.
//!
//! quinn sees one constant address, so it never thinks of migrating. Changes
//! of the link go to the [`Clock`], delivered packets to the [`Acceptance`], and
//! what was sent to the [`Replay`], which has it sent again after an outage.
//!
//! Not here: addresses and paths. Invariant: nothing is lost silently between
//! quinn and the packet socket while there is a path; without one, `WouldBlock`
//! parks the connection instead of sending into nowhere.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use proxy::{LinkChange, PacketSocket, PathId};
use quinn::{AsyncUdpSocket, UdpPoller, udp};

use super::acceptance::Acceptance;
use super::clock::{Clock, real_now};
use super::replay::{Replay, RoundTrip};

/// What quinn believes its peer's address to be.
pub(super) const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// What quinn believes its own address to be.
const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2));

/// How quinn sees the packet socket.
#[derive(Debug)]
pub(super) struct Adapter {
    socket: Arc<dyn PacketSocket>,
    acceptance: Arc<Acceptance>,
    clock: Clock,
    replay: Mutex<Replay>,
    closed: AtomicBool,
}

impl Adapter {
    /// Wraps a packet socket.
    pub(super) fn new(
        socket: Arc<dyn PacketSocket>,
        acceptance: Arc<Acceptance>,
        clock: Clock,
    ) -> Self {
        Self { socket, acceptance, clock, replay: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Returns whether the packet socket was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Notes that a packet is acknowledged; see [`Replay::on_acked`].
    pub(super) fn on_acked(&self, sent_at: Instant, rtt: RoundTrip) {
        self.replay().on_acked(sent_at, rtt);
    }

    /// Tells the packet socket that the peer has acknowledged everything.
    pub(super) fn on_all_answered(&self) {
        self.socket.all_answered();
    }

    fn on_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn replay(&self) -> MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a change of the link.
    fn on_link(&self, change: LinkChange) {
        match change {
            LinkChange::Lost => {}
            LinkChange::Restored { same_network } | LinkChange::Moved { same_network } => {
                self.on_path(same_network);
            }
        }
        self.clock.on_link(change);
    }

    /// Sends once more what was under way when the peer could not be reached.
    fn on_path(&self, same_network: bool) {
        let due = self.replay().on_path(real_now(), same_network);
        self.send_again(due);
    }

    fn send_again(&self, packets: Vec<Box<[u8]>>) {
        for packet in packets {
            let transmit = proxy::Transmit { contents: &packet, segment_size: None };
            if self.socket.try_send(&transmit).is_err() {
                return; // quinn finds out by itself, later.
            }
            // This may be the last of it, too.
            self.note_sent(&transmit);
        }
    }

    fn note_sent(&self, transmit: &proxy::Transmit<'_>) {
        let (now, transport_now) = (real_now(), self.clock.transport_now());
        self.replay().on_sent(now, transport_now, transmit.contents, transmit.segment_size);
    }
}

impl AsyncUdpSocket for Adapter {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller(self))
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        let transmit =
            proxy::Transmit { contents: transmit.contents, segment_size: transmit.segment_size };
        match self.socket.try_send(&transmit) {
            Ok(()) => {
                self.clock.on_sent(transmit.packets().count() as u64);
                let behind = self.replay().take_behind_probe();
                self.note_sent(&transmit);
                self.send_again(behind);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // The receiving side reports it to quinn in an orderly way;
            // an error here would leave the connection hanging.
            Err(_) => self.on_closed(),
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        while let Poll::Ready(change) = self.socket.poll_link(cx) {
            self.on_link(change);
        }
        let mut received = [EMPTY; udp::BATCH_SIZE];
        let wanted = bufs.len().min(meta.len()).min(received.len());
        let filled = match self.socket.poll_recv(cx, &mut bufs[..wanted], &mut received) {
            Poll::Ready(Ok(filled)) => filled.min(wanted),
            Poll::Ready(Err(error)) => {
                self.on_closed();
                return Poll::Ready(Err(error));
            }
            Poll::Pending => return Poll::Pending,
        };
        let filled = bufs.iter().zip(&received).zip(meta).take(filled);
        let mut count = 0;
        let mut packets = Vec::new();
        for ((buf, received), meta) in filled {
            let len = received.len.min(buf.len());
            let stride = received.stride.clamp(1, len.max(1));
            *meta = udp::RecvMeta { addr: PEER, len, stride, ecn: None, dst_ip: None };
            packets.extend(buf[..len].chunks(stride).map(|packet| (received.path, packet)));
            count += 1;
        }
        self.acceptance.deliver(packets.into_iter());
        if self.clock.on_received() {
            self.on_path(true);
        } else {
            self.replay().on_received(real_now());
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(LOCAL)
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        true // DESIGN D16; quinn then leaves the packet size alone.
    }
}

const EMPTY: proxy::RecvMeta =
    proxy::RecvMeta { len: 0, stride: 0, path: PathId(0), unproven: false };

/// Waits, for one connection, until the packet socket takes packets.
#[derive(Debug)]
struct WritePoller(Arc<Adapter>);

impl UdpPoller for WritePoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Adapter { socket, clock, .. } = &*self.0;
        let poll = socket.poll_writable(cx);
        clock.set_blocked(poll.is_pending());
        poll.map(|result| {
            if result.is_err() {
                self.0.on_closed();
            }
            Ok(())
        })
    }
}
