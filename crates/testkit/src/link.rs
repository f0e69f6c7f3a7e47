//! [`Link`]: one direction of a bad network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Prng;

/// How a link treats packets. May be changed at any time; packets under way
/// keep the delivery time they have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// How long a packet is under way.
    pub delay: Duration,
    /// Up to this much more, drawn per packet. Packets overtake one another
    /// when it exceeds their spacing.
    pub jitter: Duration,
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Probability that a packet arrives twice.
    pub duplication: f64,
    /// Probability that a packet is held back by another `delay`, so that
    /// later ones overtake it.
    pub reordering: f64,
    /// Loses everything that is sent, as an unplugged cable does.
    pub blackout: bool,
}

impl Conditions {
    /// Returns a link that only takes its time.
    #[must_use]
    pub const fn perfect(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            blackout: false,
        }
    }

    /// Returns the same with this probability of loss.
    #[must_use]
    pub const fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }
}

/// One direction between two hosts, for packets of any kind.
///
/// `P` is what travels: bytes, or bytes with the addresses they carry.
#[derive(Clone, Debug)]
pub struct Link<P> {
    /// How packets are treated from now on.
    pub conditions: Conditions,
    prng: Prng,
    /// By delivery time, then by order of sending.
    under_way: BTreeMap<(Instant, u64), P>,
    sent: u64,
}

impl<P: Clone> Link<P> {
    /// Creates a link whose luck is decided by `seed`.
    #[must_use]
    pub const fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, prng: Prng::new(seed), under_way: BTreeMap::new(), sent: 0 }
    }

    /// Sends a packet.
    pub fn send(&mut self, now: Instant, packet: P) {
        let Conditions { loss, duplication, blackout, .. } = self.conditions;
        // Drawn even in a blackout, so that the luck of later packets does not
        // depend on when exactly it began.
        let lost = self.prng.chance(loss);
        let twice = self.prng.chance(duplication);
        if lost || blackout {
            return;
        }
        if twice {
            self.put(now, packet.clone());
        }
        self.put(now, packet);
    }

    /// Returns the next packet that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<P> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Returns when the next packet arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// Loses all that is under way.
    pub fn drop_all(&mut self) {
        self.under_way.clear();
    }

    fn put(&mut self, now: Instant, packet: P) {
        let Conditions { delay, jitter, reordering, .. } = self.conditions;
        let jitter = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
        let mut at = now + delay + Duration::from_nanos(self.prng.below(jitter));
        if self.prng.chance(reordering) {
            at += delay;
        }
        self.sent += 1;
        self.under_way.insert((at, self.sent), packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    const DELAY: Duration = Duration::from_millis(10);

    fn arrivals(conditions: Conditions, seed: u64, count: u32) -> Vec<u32> {
        let clock = Clock::new();
        let mut link = Link::new(conditions, seed);
        for n in 0..count {
            link.send(clock.now(), n);
            clock.advance(Duration::from_millis(1));
        }
        clock.advance(Duration::from_secs(1));
        std::iter::from_fn(|| link.receive(clock.now())).collect()
    }

    #[test]
    fn perfect_link_delivers_all_in_order_and_not_before_its_delay() {
        let clock = Clock::new();
        let mut link = Link::new(Conditions::perfect(DELAY), 1);
        link.send(clock.now(), "a");
        link.send(clock.now(), "b");
        assert_eq!(link.next_arrival(), Some(clock.now() + DELAY));
        assert_eq!(link.receive(clock.now()), None);
        clock.advance(DELAY);
        assert_eq!(link.receive(clock.now()), Some("a"));
        assert_eq!(link.receive(clock.now()), Some("b"));
        assert_eq!(link.receive(clock.now()), None);
    }

    #[test]
    fn one_seed_always_has_the_same_luck_and_another_one_differs() {
        let bad = Conditions {
            jitter: DELAY,
            duplication: 0.1,
            reordering: 0.1,
            ..Conditions::perfect(DELAY).with_loss(0.3)
        };
        assert_eq!(arrivals(bad, 7, 200), arrivals(bad, 7, 200));
        assert_ne!(arrivals(bad, 7, 200), arrivals(bad, 8, 200));
    }

    #[test]
    fn loss_duplication_and_reordering_each_do_what_they_say() {
        let perfect = Conditions::perfect(DELAY);
        let lossy = arrivals(perfect.with_loss(0.3), 1, 1000).len();
        assert!((650..750).contains(&lossy), "{lossy} of 1000 arrived");
        let doubled = arrivals(Conditions { duplication: 0.5, ..perfect }, 1, 1000).len();
        assert!((1450..1550).contains(&doubled), "{doubled} arrived");
        let shuffled = arrivals(Conditions { reordering: 0.2, ..perfect }, 1, 1000);
        assert_eq!(shuffled.len(), 1000);
        assert!(!shuffled.is_sorted());
        assert!(arrivals(Conditions { blackout: true, ..perfect }, 1, 10).is_empty());
    }
}
