//! [`PacketSocket`]: the one face of the proxy that a transport sees.
//!
//! A transport believes it talks to one peer at one never-changing address.
//! It does not learn why a path changed, only that there is none, or that
//! there is one again ([`LinkChange`]); and it tells the proxy two things in
//! return: that a packet from a given path was genuine
//! ([`PacketSocket::packet_accepted`]), which is what proves a path, and that
//! nothing is unanswered ([`PacketSocket::all_answered`]).
//!
//! Joined in memory: nothing else on the machine can inject here.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::task::{Context, Poll};

/// Identifies one path (carrier plus addresses) within one proxy, for the process' life.
///
/// Opaque to the transport, which only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u64);

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path{}", self.0)
    }
}

/// One or more packets to the peer.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The packets, one behind the other.
    pub contents: &'a [u8],
    /// Size in bytes of every packet but the last, which may be shorter;
    /// `None` when `contents` is one packet.
    pub segment_size: Option<usize>,
}

impl<'a> Transmit<'a> {
    /// Returns the packets one by one.
    pub fn packets(&self) -> impl Iterator<Item = &'a [u8]> {
        let size = self.segment_size.unwrap_or(self.contents.len()).max(1);
        self.contents.chunks(size)
    }
}

/// What one receive buffer was filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvMeta {
    /// Bytes filled, from the front.
    pub len: usize,
    /// Size of every packet in the buffer but the last, which may be shorter
    /// (equal to `len` for a single packet).
    pub stride: usize,
    /// The path all of them came by.
    pub path: PathId,
    /// Whether the path still has to be proven: then the buffer holds a single
    /// packet, it is the only one of its batch, and the transport must report
    /// with [`PacketSocket::packet_accepted`] if *that* packet was genuine.
    pub unproven: bool,
}

/// What the transport has to know of the ways to its peer (DESIGN D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// There is no path: stop the loss-recovery clock, send nothing.
    Lost,
    /// There is a path: start the clock and probe what was in flight.
    /// `same_network` says whether what was learnt of round-trip time and
    /// bandwidth still holds.
    Restored {
        /// Whether the path uses the carrier and the local interface of the one before.
        same_network: bool,
    },
    /// The path was replaced without a gap; probe what was in flight.
    Moved {
        /// As in [`LinkChange::Restored`].
        same_network: bool,
    },
}

/// A packet socket with one fixed peer, kept alive over changing paths.
///
/// All methods may be called from any task; wakers of several tasks are kept.
pub trait PacketSocket: Send + Sync + fmt::Debug + 'static {
    /// Sends packets to the peer.
    ///
    /// Loss is silent, as with UDP. Packets are at most 1452 bytes (PROTOCOL §2.1).
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while there is no path or its buffer is
    /// full; nothing was sent. Any other error means that the socket is closed.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()>;

    /// Becomes ready when [`PacketSocket::try_send`] may work again.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Receives packets into as many of `bufs` as there is something for, and
    /// returns how many were filled. `meta` is at least as long as `bufs`.
    ///
    /// # Errors
    /// Only once the socket is closed for good.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>>;

    /// Becomes ready with each change of the link, in order; a state that was
    /// over before anyone asked may be left out. One task at a time may wait here.
    fn poll_link(&self, cx: &mut Context<'_>) -> Poll<LinkChange>;

    /// Tells the proxy that the transport accepted (decrypted and verified) a
    /// packet that came by `path`: the path is proven and the peer alive.
    fn packet_accepted(&self, path: PathId);

    /// Tells the proxy that the peer has acknowledged everything: nothing that
    /// was sent has to be sent again.
    fn all_answered(&self) {}

    /// How many packets one [`Transmit`] may hold.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    /// How many packets one receive buffer may be filled with.
    fn max_receive_segments(&self) -> usize {
        1
    }
}
