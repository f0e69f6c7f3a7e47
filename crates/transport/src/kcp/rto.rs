//! [`Rtt`]: the round-trip estimate, and the retransmission timeout from it.
//!
//! RFC 6298 with the bounds of the reference (`docs/protocol.md` §4.4) and
//! kcp-go's slower fall of the variance. Back-off is not here: each segment
//! keeps its own ([`super::send`]).

use std::time::Duration;

/// Least timeout: "no-delay" of KCP.
const MIN_RTO: Duration = Duration::from_millis(30);
/// Greatest timeout, of the session and of a segment with all its back-off.
pub(super) const MAX_RTO: Duration = Duration::from_secs(60);
/// Timeout before the first sample.
const INITIAL_RTO: Duration = Duration::from_millis(200);
/// How long the peer may hold an ack back; the least margin over the estimate.
const GRANULARITY: Duration = super::INTERVAL;

/// The estimate of one conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt(Option<Estimate>);

#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: Duration,
    variance: Duration,
    lowest: Duration,
}

impl Rtt {
    /// Takes a measured round trip.
    pub(super) fn sample(&mut self, rtt: Duration) {
        // A sample past the greatest timeout says no more than "very long", and
        // the cap keeps one absurd echo from dominating the estimate for good.
        let rtt = rtt.min(MAX_RTO);
        let Some(Estimate { smoothed, variance, lowest }) = self.0 else {
            self.0 = Some(Estimate { smoothed: rtt, variance: rtt / 2, lowest: rtt });
            return;
        };
        let delta = rtt.abs_diff(smoothed);
        // A round trip far *below* the estimate is good news, and must not raise
        // the timeout as a late one does (kcp-go v5 `update_ack`, as in Linux).
        let share = if rtt < smoothed.saturating_sub(variance) { 32 } else { 4 };
        self.0 = Some(Estimate {
            smoothed: approach(smoothed, rtt, 8),
            variance: approach(variance, delta, share),
            lowest: lowest.min(rtt),
        });
    }

    /// Returns the smoothed round trip, once there is a sample.
    pub(super) const fn smoothed(&self) -> Option<Duration> {
        match self.0 {
            Some(estimate) => Some(estimate.smoothed),
            None => None,
        }
    }

    /// Returns of how long a time, at least, acks are under way: half of a round
    /// trip without any queue, less something for a link that slows down.
    pub(super) fn acks_under_way(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |e| e.lowest / 2 - e.lowest / 8)
    }

    /// Returns the timeout of a segment's first transmission.
    pub(super) fn rto(&self) -> Duration {
        self.0.map_or(INITIAL_RTO, |e| {
            (e.smoothed + (e.variance * 4).max(GRANULARITY)).clamp(MIN_RTO, MAX_RTO)
        })
    }
}

/// Moves `from` by one part in `share` of the way to `to`.
fn approach(from: Duration, to: Duration, share: u32) -> Duration {
    if to >= from { from + (to - from) / share } else { from - (from - to) / share }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn timeout_follows_the_samples_within_its_bounds() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.smoothed(), rtt.rto()), (None, ms(200)));
        rtt.sample(ms(100));
        assert_eq!((rtt.smoothed(), rtt.rto()), (Some(ms(100)), ms(300)));
        (0..200).for_each(|_| rtt.sample(ms(100)));
        assert_eq!(rtt.rto(), ms(110), "a steady link: the margin is the ack delay");
        (0..200).for_each(|_| rtt.sample(Duration::ZERO));
        assert_eq!(rtt.rto(), ms(30));
        (0..200).for_each(|_| rtt.sample(Duration::MAX));
        assert_eq!(rtt.rto(), MAX_RTO);
    }

    #[test]
    fn one_quick_round_trip_hardly_moves_the_timeout() {
        let mut rtt = Rtt::default();
        (0..200).for_each(|_| rtt.sample(ms(200)));
        let before = rtt.rto();
        rtt.sample(ms(1));
        assert!(rtt.rto() < before + ms(10), "{:?} after {before:?}", rtt.rto());
    }
}
