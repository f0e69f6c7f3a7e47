//! [`Bottleneck`]: a link with a rate and a queue that is full at some point.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{Conditions, Link};

/// One direction through a router: packets wait for their turn, leave at the
/// link's rate, and then travel as [`Link`] has it. What comes while the queue
/// is full is lost.
#[derive(Clone, Debug)]
pub struct Bottleneck<P> {
    /// Bytes per second from now on; what is in the queue keeps its turn.
    pub rate: u64,
    /// Most packets in the queue.
    pub queue: usize,
    /// What comes after the queue.
    pub link: Link<P>,
    /// When each packet of the queue will have left it.
    leaving: VecDeque<Instant>,
    dropped: u64,
}

impl<P: Clone> Bottleneck<P> {
    /// Creates a link of `rate` bytes per second behind a queue of `queue` packets.
    #[must_use]
    pub const fn new(rate: u64, queue: usize, conditions: Conditions, seed: u64) -> Self {
        let link = Link::new(conditions, seed);
        Self { rate, queue, link, leaving: VecDeque::new(), dropped: 0 }
    }

    /// Sends a packet of so many bytes; returns how long it has to wait for its
    /// turn, or `None` when it is dropped for want of room.
    pub fn send(&mut self, now: Instant, bytes: u64, packet: P) -> Option<Duration> {
        while self.leaving.front().is_some_and(|at| *at <= now) {
            self.leaving.pop_front();
        }
        // The one that is leaving is not in the queue any more.
        if self.leaving.len() > self.queue {
            self.dropped += 1;
            return None;
        }
        let turn = self.leaving.back().map_or(now, |at| (*at).max(now));
        let leaves = turn + Duration::from_nanos(bytes * 1_000_000_000 / self.rate.max(1));
        self.leaving.push_back(leaves);
        self.link.send(leaves, packet);
        Some(turn - now)
    }

    /// Returns how many packets found the queue full.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn packets_take_turns_at_the_rate_and_the_queue_has_an_end() {
        let clock = Clock::new();
        let start = clock.now();
        // 1000 bytes take a millisecond; five may wait while one leaves.
        let mut router = Bottleneck::new(1_000_000, 5, Conditions::perfect(10 * MS), 1);
        let waits: Vec<_> = (0..8).map(|n| router.send(start, 1000, n)).collect();
        let waited = (0..6).map(|n| Some(n * MS));
        assert_eq!(waits, waited.chain([None, None]).collect::<Vec<_>>());
        assert_eq!(router.dropped(), 2);
        let mut arrivals = Vec::new();
        while let Some(at) = router.link.next_arrival() {
            clock.advance_to(at);
            arrivals.extend(router.link.receive(at).map(|n| (n, at - start)));
        }
        assert_eq!(arrivals, (0..6).map(|n| (n, (11 + n) * MS)).collect::<Vec<_>>());
        clock.advance(MS);
        assert_eq!(router.send(clock.now(), 1000, 9), Some(Duration::ZERO), "it has drained");
    }
}
