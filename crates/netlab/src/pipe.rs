//! [`Pipe`]: one direction of a link, sans-IO.
//!
//! Packets are opaque bytes here; what depends on their content (MTU, NAT) is
//! [`Network`](crate::Network)'s. Delivery is in the order of arrival times;
//! packets keep the arrival time they were given when conditions change.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use testkit::Prng;

use crate::Conditions;

/// Bytes under way in one direction beyond which packets are dropped, so that
/// a long delay at full speed does not eat the machine's memory.
const MAX_UNDER_WAY_BYTES: usize = 256 << 20;

/// One direction of a link.
#[derive(Debug)]
pub struct Pipe {
    conditions: Conditions,
    prng: Prng,
    /// Whether a burst of losses is going on.
    in_burst: bool,
    /// When each packet in the transmitter's queue will have left it.
    leaving: VecDeque<Instant>,
    /// Arrival of the latest packet that keeps its place.
    latest: Option<Instant>,
    /// By arrival time, then by order of sending.
    under_way: BTreeMap<(Instant, u64), UnderWay>,
    under_way_bytes: usize,
    sent: u64,
    counters: Counters,
}

/// A packet and its length on the wire.
type UnderWay = (Vec<u8>, usize);

/// What became of the packets of one direction since the pipe was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets handed to the pipe.
    pub offered: u64,
    /// Their bytes, IP headers included.
    pub offered_bytes: u64,
    /// Packets that came out, duplicates included.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Packets lost on the wire, or because the link was down.
    pub lost: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets too long for the link, or without a mapping in the NAT, or from
    /// an address that does not belong there.
    pub refused: u64,
}

impl Pipe {
    /// Creates a direction whose luck is decided by `seed`.
    #[must_use]
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            prng: Prng::new(seed),
            in_burst: false,
            leaving: VecDeque::new(),
            latest: None,
            under_way: BTreeMap::new(),
            under_way_bytes: 0,
            sent: 0,
            counters: Counters::default(),
        }
    }

    /// Returns how packets are treated.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Treats packets otherwise from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Returns what became of the packets so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts a packet that was turned away before it got here.
    pub(crate) fn refuse(&mut self) {
        self.counters.refused += 1;
    }

    /// Takes a packet in; `length` is its length on the wire.
    pub fn handle_packet(&mut self, now: Instant, packet: Vec<u8>, length: usize) {
        self.counters.offered += 1;
        self.counters.offered_bytes += length as u64;
        // All luck is drawn for every packet, so that one packet's does not
        // depend on another's conditions.
        let lost = self.draw_loss();
        let twice = self.prng.chance(self.conditions.duplicate);
        let late = self.prng.chance(self.conditions.reorder);
        let jitter = u64::try_from(self.conditions.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.prng.below(jitter));
        if self.conditions.down {
            self.counters.lost += 1;
            return;
        }
        let Some(left) = self.transmit(now, length) else {
            self.counters.overflowed += 1;
            return;
        };
        if lost {
            self.counters.lost += 1;
            return;
        }
        let mut arrival = left + self.conditions.delay + jitter;
        if late {
            arrival += self.conditions.reorder_by;
        } else {
            arrival = self.latest.map_or(arrival, |latest| arrival.max(latest));
            self.latest = Some(arrival);
        }
        if twice {
            self.put(arrival, (packet.clone(), length));
        }
        self.put(arrival, (packet, length));
    }

    /// Returns the next packet that has arrived by `now`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.under_way.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (packet, length) = first.remove();
        self.under_way_bytes -= length;
        self.counters.delivered += 1;
        self.counters.delivered_bytes += length as u64;
        Some(packet)
    }

    /// Returns when the next packet arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// Sends a packet through the transmitter; returns when its last bit has
    /// left, or `None` when the queue is full.
    fn transmit(&mut self, now: Instant, length: usize) -> Option<Instant> {
        while self.leaving.front().is_some_and(|left| *left <= now) {
            self.leaving.pop_front();
        }
        let Some(rate) = self.conditions.rate else { return Some(now) };
        if self.leaving.len() >= self.conditions.queue.max(1) {
            return None;
        }
        let start = self.leaving.back().map_or(now, |left| *left);
        let nanos = (length as u64).saturating_mul(8_000_000_000) / rate;
        let left = start + Duration::from_nanos(nanos);
        self.leaving.push_back(left);
        Some(left)
    }

    /// Decides whether the next packet is lost.
    ///
    /// Bursts follow Gilbert's two states: within a burst everything is lost,
    /// it ends with probability 1/`burst` per packet, and begins just so often
    /// that `loss` of all packets are lost.
    fn draw_loss(&mut self) -> bool {
        let Conditions { loss, burst, .. } = self.conditions;
        if burst <= 1.0 || loss >= 1.0 {
            self.in_burst = false;
            return self.prng.chance(loss);
        }
        let end = 1.0 / burst;
        let begin = end * loss / (1.0 - loss);
        self.in_burst =
            if self.in_burst { !self.prng.chance(end) } else { self.prng.chance(begin) };
        self.in_burst
    }

    fn put(&mut self, arrival: Instant, packet: UnderWay) {
        if self.under_way_bytes + packet.1 > MAX_UNDER_WAY_BYTES {
            self.counters.overflowed += 1;
            return;
        }
        self.under_way_bytes += packet.1;
        self.sent += 1;
        self.under_way.insert((arrival, self.sent), packet);
    }
}

#[cfg(test)]
mod tests;
