//! [`Sampler`]: how fast the link delivers, measured anew by every ack.
//!
//! As in "Delivery Rate Estimation" (draft-cheng-iccrg-delivery-rate-estimation):
//! what was delivered between the sending of a packet and its ack, over the time
//! that took; of sending and acknowledging the slower counts, so that acks that
//! come in heaps do not look like a fast link.
//!
//! Callers name a packet by the time it was sent, which is all that quinn and
//! KCP both tell. Invariant: memory is bounded by [`MAX_SENDS`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most sendings remembered; acks of older ones measure nothing.
const MAX_SENDS: usize = 2048;
/// Sendings this close to one another count as one, which bounds the error of
/// a sample to a hundredth of any round trip worth measuring.
const RESOLUTION: Duration = Duration::from_micros(100);

/// See the module's description.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    delivered: u64,
    delivered_at: Instant,
    /// When the packet that was acknowledged last had been sent.
    first_sent_at: Instant,
    /// What is sent before so much was delivered says how fast the application
    /// is, not the link.
    limited_until: Option<u64>,
    sends: VecDeque<Send>,
}

/// What was known when a packet was sent.
#[derive(Clone, Copy, Debug)]
struct Send {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    limited: bool,
}

/// What an ack measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes delivered when the packet was sent: tells round trips apart.
    pub(super) delivered_before: u64,
    /// Bytes and the time they took.
    pub(super) bytes: u64,
    pub(super) interval: Duration,
    /// The application had too little to send.
    pub(super) limited: bool,
}

impl Sampler {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            limited_until: None,
            sends: VecDeque::new(),
        }
    }

    /// Returns how many bytes were delivered so far.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Takes note of a packet sent; `in_flight` bytes were under way before it.
    pub(super) fn on_sent(&mut self, now: Instant, in_flight: u64) {
        if in_flight == 0 {
            // A pause is no time that the link took.
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        if self.sends.back().is_some_and(|last| now < last.at + RESOLUTION) && in_flight > 0 {
            return;
        }
        if self.sends.len() == MAX_SENDS {
            self.sends.pop_front();
        }
        self.sends.push_back(Send {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            limited: self.limited_until.is_some(),
        });
    }

    /// Takes note that there is nothing more to send than `in_flight` bytes.
    pub(super) const fn on_limited(&mut self, in_flight: u64) {
        self.limited_until = Some(self.delivered + in_flight);
    }

    /// Takes an ack of `bytes` sent at `sent_at`; returns what it measured.
    pub(super) fn on_acked(
        &mut self,
        now: Instant,
        sent_at: Instant,
        bytes: u64,
    ) -> Option<Sample> {
        self.delivered += bytes;
        self.delivered_at = now;
        if self.limited_until.is_some_and(|until| self.delivered > until) {
            self.limited_until = None;
        }
        let after = self.sends.partition_point(|send| send.at <= sent_at);
        let send = *self.sends.get(after.checked_sub(1)?)?;
        self.first_sent_at = self.first_sent_at.max(send.at);
        let acking = now.saturating_duration_since(send.delivered_at);
        let sending = send.at.saturating_duration_since(send.first_sent_at);
        Some(Sample {
            delivered_before: send.delivered,
            bytes: self.delivered - send.delivered,
            interval: acking.max(sending),
            limited: send.limited,
        })
    }
}

impl Sample {
    /// Returns bytes per second.
    pub(super) fn rate(&self) -> f64 {
        self.bytes as f64 / self.interval.as_secs_f64().max(1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends a packet of 1000 bytes each millisecond, and has it acknowledged
    /// when `acked_at` says.
    fn last_rate(packets: u32, acked_at: impl Fn(u32) -> u32) -> f64 {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        let mut rate = 0.0;
        for ms in 0..packets * 3 {
            let now = start + ms * MS;
            if ms < packets {
                sampler.on_sent(now, u64::from(ms.min(1)));
            }
            for n in (0..packets).filter(|n| acked_at(*n) == ms) {
                rate = sampler.on_acked(now, start + n * MS, 1000).expect("remembered").rate();
            }
        }
        rate
    }

    #[test]
    fn an_even_flow_measures_its_rate() {
        let rate = last_rate(100, |n| n + 20);
        assert!((990_000.0..1_010_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn acks_that_come_in_heaps_do_not_look_like_a_faster_link() {
        let rate = last_rate(100, |n| n / 10 * 10 + 30);
        assert!((900_000.0..1_100_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn what_follows_a_pause_is_not_measured_over_the_pause() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        sampler.on_sent(start, 0);
        sampler.on_acked(start + 20 * MS, start, 1000);
        let later = start + 60_000 * MS;
        sampler.on_sent(later, 0);
        let sample = sampler.on_acked(later + 20 * MS, later, 1000).expect("remembered");
        assert_eq!((sample.bytes, sample.interval), (1000, 20 * MS));
    }

    #[test]
    fn samples_are_marked_until_what_was_sent_for_want_of_data_is_delivered() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        sampler.on_sent(start, 0);
        sampler.on_limited(1000);
        sampler.on_sent(start + MS, 1000);
        assert!(!sampler.on_acked(start + 20 * MS, start, 1000).expect("remembered").limited);
        assert!(sampler.on_acked(start + 21 * MS, start + MS, 1000).expect("remembered").limited);
        sampler.on_sent(start + 22 * MS, 0);
        let sample = sampler.on_acked(start + 42 * MS, start + 22 * MS, 1000);
        assert!(!sample.expect("remembered").limited);
    }

    #[test]
    fn a_long_connection_remembers_a_bounded_number_of_sendings() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        for ms in 0..10_000 {
            sampler.on_sent(start + ms * MS, 1);
        }
        assert_eq!(sampler.sends.len(), MAX_SENDS);
        assert_eq!(sampler.on_acked(start + 10_000 * MS, start, 1000), None);
    }
}
