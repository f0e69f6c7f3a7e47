//! [`Losses`]: whether packets are lost because the link is full.
//!
//! A radio loses packets whatever we send; a full queue loses those that do
//! not fit. What is lost while no queue stands is the link's own share, learnt
//! up to [`MOST_OWN`]; congestion is what goes clearly beyond it.

/// The share that a link is believed to lose by itself before it is known, and
/// how many packets that belief is worth.
const PRIOR: (f64, u64) = (0.03, 300);
/// Packets by which a link's own share is known; older ones fade.
const MEMORY: u64 = 4000;
/// No link is believed to lose more by itself.
const MOST_OWN: f64 = 0.08;
/// What congestion adds, at least: where a queue stands, and where none does.
const MARGIN: (f64, f64) = (0.01, 0.04);
/// Packets to judge by, at least: of fewer, one lost says nothing.
const ENOUGH: u64 = 60;

/// What was lost and delivered since the last judgement, and before it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    delivered: u64,
    lost: u64,
    /// Bytes sent while no queue stood, and of these lost; fading.
    calm: (f64, f64),
}

impl Losses {
    pub(super) const fn on_delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    pub(super) const fn on_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// Returns whether more was lost than the link's own share and chance explain.
    pub(super) fn judge(&mut self, packet: u64, queue_stands: bool) -> bool {
        let all = self.delivered + self.lost;
        if all < ENOUGH * packet {
            return false;
        }
        let (all, lost, packet) = (all as f64, self.lost as f64, packet as f64);
        (self.delivered, self.lost) = (0, 0);
        let margin = if queue_stands { MARGIN.0 } else { MARGIN.1 };
        let expected = (self.own(packet) + margin) * all;
        if !queue_stands {
            self.learn(all, lost, packet);
        }
        // Twice the deviation of as many independent losses.
        lost > expected + 2.0 * (expected * packet).sqrt()
    }

    /// Returns the share that the link loses whatever is sent.
    fn own(&self, packet: f64) -> f64 {
        let (share, worth) = PRIOR;
        let worth = worth as f64 * packet;
        ((self.calm.1 + share * worth) / (self.calm.0 + worth)).min(MOST_OWN)
    }

    fn learn(&mut self, all: f64, lost: f64, packet: f64) {
        let fade = (1.0 - all / (MEMORY as f64 * packet)).clamp(0.0, 1.0);
        self.calm = (self.calm.0 * fade + all, self.calm.1 * fade + lost);
    }
}

#[cfg(test)]
mod tests {
    use testkit::Prng;

    use super::*;

    /// Judges so many rounds of 400 packets; returns how often it said congestion.
    fn verdicts(losses: &mut Losses, rounds: usize, loss: f64, queue_stands: bool) -> usize {
        let mut prng = Prng::new(7);
        let mut round = || {
            for _ in 0..400 {
                if prng.chance(loss) {
                    losses.on_lost(1400);
                } else {
                    losses.on_delivered(1400);
                }
            }
            losses.judge(1400, queue_stands)
        };
        (0..rounds).filter(|_| round()).count()
    }

    #[test]
    fn a_few_percent_on_a_link_without_a_queue_are_never_congestion() {
        for loss in [0.0, 0.01, 0.03, 0.05] {
            assert_eq!(verdicts(&mut Losses::default(), 1000, loss, false), 0, "at {loss}");
        }
    }

    #[test]
    fn what_a_link_loses_without_a_queue_is_its_own_and_with_one_as_well() {
        for loss in [0.01, 0.03, 0.05, 0.07] {
            let mut losses = Losses::default();
            verdicts(&mut losses, 100, loss, false);
            let often = verdicts(&mut losses, 1000, loss, true);
            assert!(often < 20, "{often} of 1000 at {loss}");
            assert!(verdicts(&mut losses, 100, loss + 0.1, true) > 90, "that is more than its own");
        }
    }

    #[test]
    fn three_percent_while_a_queue_stands_on_a_clean_link_are_congestion() {
        let mut losses = Losses::default();
        verdicts(&mut losses, 100, 0.0, false);
        assert!(verdicts(&mut losses, 100, 0.04, true) > 60);
    }

    #[test]
    fn a_handful_of_packets_says_nothing() {
        let mut losses = Losses::default();
        losses.on_lost(20 * 1400);
        losses.on_delivered(20 * 1400);
        assert!(!losses.judge(1400, true));
        losses.on_lost(20 * 1400);
        assert!(losses.judge(1400, true), "they add up");
    }
}
