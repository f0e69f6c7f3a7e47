//! [`Paced`]: the model as KCP's controller, with the pacing quinn has built in.
//!
//! A window's bytes leave over four fifths of a round trip, in bursts of about
//! 2 ms, since timers are no finer than one. Short round trips are not paced:
//! the acks do it.

use std::time::{Duration, Instant};

use super::{Delivered, MIN_ROUND_TRIP, Model};
use crate::kcp::{Acked, Control, LossSign, Lost, Sent};

/// How much may leave in one go, as time.
const BURST: Duration = Duration::from_millis(2);
/// Packets that may leave in one go however slow the link.
const BURST_PACKETS: u32 = 10;

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Paced {
    model: Model,
    /// When what was sent would have left if it had left evenly.
    even_until: Instant,
    hold_until: Option<Instant>,
}

impl Paced {
    /// Creates a controller for packets of `packet` bytes.
    #[must_use]
    pub fn new(now: Instant, packet: u64) -> Self {
        Self { model: Model::new(now, packet), even_until: now, hold_until: None }
    }

    fn pace(&mut self, now: Instant, bytes: usize) {
        let Some(rtt) = self.model.smoothed_rtt().filter(|rtt| *rtt >= MIN_ROUND_TRIP) else {
            self.hold_until = None;
            return;
        };
        let window = self.model.window_bytes() as f64;
        let takes = rtt.mul_f64(0.8 * bytes as f64 / window);
        let burst = BURST.max(takes * BURST_PACKETS);
        // What a late timer missed is made up for, up to a burst.
        let earliest = now.checked_sub(burst).unwrap_or(now);
        self.even_until = self.even_until.max(earliest) + takes;
        let ahead = self.even_until.saturating_duration_since(now);
        self.hold_until = (ahead > burst / 2).then(|| self.even_until - burst / 4);
    }
}

impl Control for Paced {
    fn window_bytes(&self) -> usize {
        usize::try_from(self.model.window_bytes()).unwrap_or(usize::MAX)
    }

    fn release_at(&self) -> Option<Instant> {
        self.hold_until
    }

    fn on_sent(&mut self, now: Instant, sent: Sent) {
        let in_flight = sent.in_flight as u64;
        self.model.on_sent(now, in_flight.saturating_sub(sent.bytes as u64));
        if sent.application_limited {
            self.model.on_limited(in_flight);
        }
        self.pace(now, sent.bytes);
    }

    fn on_acked(&mut self, now: Instant, acked: Acked) {
        let Acked { bytes, sent_at, rtt, in_flight } = acked;
        // The ack of an earlier transmission tells nothing about the last one.
        let rtt = rtt.filter(|rtt| *rtt == now.saturating_duration_since(sent_at));
        let (bytes, in_flight) = (bytes as u64, in_flight as u64);
        self.model.on_acked(now, Delivered { bytes, sent_at, rtt, in_flight });
    }

    fn on_lost(&mut self, _: Instant, lost: Lost) {
        // A timeout without anything that overtook is an outage, or the end of
        // what there was to send.
        if lost.sign == LossSign::Overtaken {
            self.model.on_lost(lost.bytes as u64);
        }
    }

    fn on_other_network(&mut self, now: Instant) {
        *self = Self::new(now, self.model.packet());
    }
}
