//! [`Control`]: the seam through which a congestion controller limits KCP.
//!
//! The machine asks two questions before it sends data (how much may be in
//! flight, when may the next packet leave) and reports what became of each
//! segment. The peer's window and our own of 1024 segments hold in any case,
//! and acks are never held back. DESIGN D6.

use std::fmt;
use std::time::{Duration, Instant};

/// A congestion controller.
///
/// Bytes count data and segment headers. A segment is in flight from its
/// sending until it is acknowledged or taken as lost.
pub trait Control: fmt::Debug + Send {
    /// Returns how many bytes may be in flight. One segment may always be,
    /// so that a window of zero slows a conversation down but cannot end it.
    fn window_bytes(&self) -> usize;

    /// Returns the earliest time at which the next packet with data may leave;
    /// `None` means at once.
    fn release_at(&self) -> Option<Instant>;

    /// A segment was sent, for the first time or again.
    fn on_sent(&mut self, now: Instant, sent: Sent);

    /// A segment was acknowledged.
    fn on_acked(&mut self, now: Instant, acked: Acked);

    /// A segment was taken as lost. Not called for what an outage swallowed
    /// and [`super::Kcp::reset_rto`] sends again: that is no sign of congestion.
    fn on_lost(&mut self, now: Instant, lost: Lost);

    /// The path is another one, and nothing that was learnt of the old one holds.
    fn on_other_network(&mut self, now: Instant);
}

/// A segment that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its bytes.
    pub bytes: usize,
    /// Bytes in flight, these included.
    pub in_flight: usize,
    /// Whether there was nothing more to send, so that the rate seen is the
    /// application's and not the link's.
    pub application_limited: bool,
}

/// A segment that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Its bytes.
    pub bytes: usize,
    /// When it was last sent.
    pub sent_at: Instant,
    /// The round trip, if this ack measured one. Includes up to 10 ms that the
    /// peer may hold an ack back.
    pub rtt: Option<Duration>,
    /// Bytes still in flight.
    pub in_flight: usize,
}

/// A segment that was taken as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its bytes.
    pub bytes: usize,
    /// When it was last sent.
    pub sent_at: Instant,
    /// What says so.
    pub sign: LossSign,
    /// Bytes still in flight.
    pub in_flight: usize,
}

/// Why a segment is taken as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossSign {
    /// Later ones arrived.
    Overtaken,
    /// No ack for its timeout.
    Timeout,
}

/// No control: the windows alone, as the reference has it ("nc = 1").
#[derive(Clone, Copy, Debug, Default)]
pub struct Uncontrolled;

impl Control for Uncontrolled {
    fn window_bytes(&self) -> usize {
        usize::MAX
    }

    fn release_at(&self) -> Option<Instant> {
        None
    }

    fn on_sent(&mut self, _: Instant, _: Sent) {}

    fn on_acked(&mut self, _: Instant, _: Acked) {}

    fn on_lost(&mut self, _: Instant, _: Lost) {}

    fn on_other_network(&mut self, _: Instant) {}
}
