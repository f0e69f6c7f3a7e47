//! [`Model`]: how much may be in flight, from what the link was seen to do.
//!
//! In the spirit of BBRv3 (draft-ietf-ccwg-bbr): the highest rate at which the
//! link delivered, times its lowest round trip, is what it holds; that much is
//! kept in flight, and a little more now and then to see whether there is room.
//! Loss is no sign of a full link by itself: a few percent that come whatever
//! we do are worth no notice ([`loss`]).
//!
//! ```text
//!            no growth or excess loss            in flight fits
//! Startup ----------------------------> Down --------------------> Cruise
//!    ▲    <-- much room found --         ▲                          │ ▲
//!                 queue or excess loss   │              time passes │ │ lowest round trip seen
//!                                        Up <-----------------------┴─┤
//!                                             round trip in doubt ──▶ Settle
//! ```
//! One lever: the window. quinn, which is one of the two transports below, takes
//! nothing else and spreads it over the round trip by itself; so the pacing of
//! KCP ([`pace`]) does the same, and both behave alike. The window is a rate
//! times the round trip as it is, so a queue that others made does not starve us.
//!
//! Sans-IO: all times are arguments, and are transport time (DESIGN D3), which
//! stands still in an outage. In: `on_sent`, `on_acked`, `on_lost`,
//! `on_limited`. Out: `window_bytes`.
//!
//! Not here: the transports' traits (`driver::quic`, [`pace`]), outages (they
//! filter what an outage swallowed), and other networks: make a new model.
//! Invariants: the window is never less than [`MIN_WINDOW`] packets; memory is
//! bounded; nothing here has a timer. Measured in `docs/congestion.md`.

mod loss;
mod pace;
mod rate;

use std::time::{Duration, Instant};

use loss::Losses;
pub use pace::Paced;
use rate::{Sample, Sampler};

/// Packets in flight before anything is known.
const INITIAL_WINDOW: u64 = 20;
/// Packets that may be in flight in any case: fewer would starve the acks.
const MIN_WINDOW: u64 = 4;
/// A shorter round trip is taken as this: two programs and their timers need as
/// much, and so do KCP's acks, which wait 10 ms for company.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(10);
/// A lowest round trip that was not seen again for so long is looked for.
const DOUBT_AFTER: Duration = Duration::from_secs(10);
/// How long, and at least a round trip, to look for it.
const SETTLE_FOR: Duration = Duration::from_millis(200);
/// A longer wait than this, and than a sixth of the round trip, is a queue.
const QUEUE_NOISE: Duration = Duration::from_millis(2);
/// Growth of the rate in a round that says the link is not full yet.
const GROWTH: f64 = 1.25;
/// Growth in a probe, without a queue, that says the same.
const ROOM: f64 = 1.2;
/// Rounds without such growth that end the start.
const STALE_ROUNDS: u8 = 3;
/// Most in flight, in parts of what the link holds.
const MOST: f64 = 1.5;
/// How much of a queue that stands there is kept up with, between probes: all
/// would never let it drain, nothing would leave the link to whoever fills it.
const KEEP_UP: f64 = 0.75;
/// Shortest and longest time between two probes, and their round trips.
const CRUISE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(2500));
const CRUISE_ROUNDS: u32 = 10;

/// A packet that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// Its bytes.
    pub bytes: u64,
    /// When it was sent.
    pub sent_at: Instant,
    /// The round trip, if the ack measured one.
    pub rtt: Option<Duration>,
    /// Bytes still in flight.
    pub in_flight: u64,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Model {
    packet: u64,
    state: State,
    sampler: Sampler,
    bandwidth: Bandwidth,
    lowest: Option<Lowest>,
    smoothed: Option<Duration>,
    round: Round,
    losses: Losses,
    /// In flight, more than this was too much.
    ceiling: Option<u64>,
    heap: Heap,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Doubles each round until that brings nothing.
    Startup { best: f64, stale: u8 },
    /// Lets the queue drain; `drained` since the round of that number.
    Down { drained: Option<u64> },
    /// Keeps the link full.
    Cruise { until: Instant },
    /// Sees whether there is room for more.
    Up { since: u64, best: f64 },
    /// Looks for the lowest round trip, with little in flight.
    Settle { until: Option<Instant>, lowest: Option<Duration> },
}

/// The highest rate of this probe's cycle and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Bandwidth {
    current: f64,
    previous: f64,
    /// Loss says that it is less now.
    bound: Option<f64>,
    /// The highest of this round.
    latest: f64,
    /// The link may be faster: it was not asked for more.
    is_applications: bool,
}

/// The lowest round trip, and when it was last seen.
#[derive(Clone, Copy, Debug)]
struct Lowest {
    rtt: Duration,
    seen_at: Instant,
}

/// A round trip, counted by what is delivered.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    count: u64,
    /// It is over when a packet is acknowledged that was sent after this.
    ends_at: u64,
    /// All that was sent lately was all there was.
    limited: bool,
    lowest: Option<Duration>,
    /// The lowest of the round before.
    last_lowest: Option<Duration>,
}

/// How far acks come in heaps: what they bring beyond the rate.
#[derive(Clone, Copy, Debug)]
struct Heap {
    since: Instant,
    bytes: u64,
    most: [u64; 2],
    round: u64,
}

impl Model {
    /// Creates a model that knows nothing; `packet` is the bytes of a full one.
    #[must_use]
    pub fn new(now: Instant, packet: u64) -> Self {
        Self {
            packet: packet.max(1),
            state: State::Startup { best: 0.0, stale: 0 },
            sampler: Sampler::new(now),
            bandwidth: Bandwidth::default(),
            lowest: None,
            smoothed: None,
            round: Round::default(),
            losses: Losses::default(),
            ceiling: None,
            heap: Heap { since: now, bytes: 0, most: [0; 2], round: 0 },
        }
    }

    /// Returns how many bytes may be in flight.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        let least = MIN_WINDOW * self.packet;
        let Some(holds) = self.link_holds() else { return self.initial_window() };
        let rate = self.bandwidth.get();
        let now = self.round_trip_now();
        let slack = (3 * self.packet + self.heap.most()) as f64;
        let target = match self.state {
            State::Startup { .. } => (2.0 * holds + slack).max(self.initial_window() as f64),
            State::Down { .. } => holds,
            State::Cruise { .. } => {
                let base = self.base_round_trip();
                let queue = now.saturating_sub(base).mul_f64(KEEP_UP);
                (rate * (base + queue).as_secs_f64()).min(MOST * holds) + slack
            }
            State::Up { .. } => {
                let more = 1.25 * rate * now.as_secs_f64();
                more.clamp(1.25 * holds, MOST * holds) + slack
            }
            State::Settle { .. } => holds / 2.0,
        };
        let ceiling = self.ceiling.unwrap_or(u64::MAX);
        bytes(target).min(ceiling).max(least)
    }

    /// Returns the window to begin with.
    #[must_use]
    pub const fn initial_window(&self) -> u64 {
        INITIAL_WINDOW * self.packet
    }

    /// Returns the smoothed round trip, once there was one.
    #[must_use]
    pub const fn smoothed_rtt(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Returns the bytes of a full packet.
    pub(crate) const fn packet(&self) -> u64 {
        self.packet
    }

    /// Takes another size of full packets.
    pub fn set_packet(&mut self, packet: u64) {
        self.packet = packet.max(1);
    }

    // ---- ways in -----------------------------------------------------------

    /// A packet was sent; `in_flight` bytes were under way before it.
    pub fn on_sent(&mut self, now: Instant, in_flight: u64) {
        self.sampler.on_sent(now, in_flight);
    }

    /// There is nothing more to send than the `in_flight` bytes under way.
    pub fn on_limited(&mut self, in_flight: u64) {
        self.sampler.on_limited(in_flight);
    }

    /// A packet was acknowledged.
    pub fn on_acked(&mut self, now: Instant, acked: Delivered) {
        if let Some(rtt) = acked.rtt {
            self.take_rtt(now, rtt);
        }
        self.losses.on_delivered(acked.bytes);
        let sample = self.sampler.on_acked(now, acked.sent_at, acked.bytes);
        self.heap.on_acked(now, acked.bytes, self.bandwidth.get(), self.round.count);
        if let Some(sample) = sample {
            let ends_round = sample.delivered_before >= self.round.ends_at;
            self.take_rate(sample);
            if ends_round {
                self.end_round(acked.in_flight);
            }
        }
        self.step(now, acked.in_flight);
    }

    /// A packet of so many bytes was lost; what an outage swallowed is none.
    pub fn on_lost(&mut self, bytes: u64) {
        self.losses.on_lost(bytes);
    }

    // ---- what is known -----------------------------------------------------

    fn take_rtt(&mut self, now: Instant, rtt: Duration) {
        self.smoothed = Some(self.smoothed.map_or(rtt, |old| old * 7 / 8 + rtt / 8));
        let least = |old: Option<Duration>| Some(old.map_or(rtt, |old| old.min(rtt)));
        self.round.lowest = least(self.round.lowest);
        if let State::Settle { until: Some(_), lowest } = &mut self.state {
            *lowest = least(*lowest);
        }
        match &mut self.lowest {
            Some(lowest) if rtt >= lowest.rtt => {
                // A tenth more is as good as the same: jitter is no queue.
                if rtt <= lowest.rtt.max(MIN_ROUND_TRIP).mul_f64(1.1) {
                    lowest.seen_at = now;
                }
            }
            _ => self.lowest = Some(Lowest { rtt, seen_at: now }),
        }
    }

    fn take_rate(&mut self, sample: Sample) {
        self.round.limited &= sample.limited;
        // Shorter than any round trip: acks of a heap, compared among themselves.
        if self.lowest.is_some_and(|lowest| sample.interval >= lowest.rtt) {
            self.bandwidth.take(sample.rate(), sample.limited);
        }
    }

    fn base_round_trip(&self) -> Duration {
        self.lowest.map_or(MIN_ROUND_TRIP, |lowest| lowest.rtt.max(MIN_ROUND_TRIP))
    }

    /// Returns the round trip as it is: the lowest of the last round, since
    /// what is smoothed comes late.
    fn round_trip_now(&self) -> Duration {
        let now = self.round.last_lowest.or(self.round.lowest);
        now.unwrap_or(MIN_ROUND_TRIP).max(self.base_round_trip())
    }

    /// Returns how many bytes the link holds without a queue.
    fn link_holds(&self) -> Option<f64> {
        let rate = self.bandwidth.get();
        (rate > 0.0).then(|| rate * self.base_round_trip().as_secs_f64())
    }

    // ---- transitions -------------------------------------------------------

    fn end_round(&mut self, in_flight: u64) {
        let limited = self.round.limited;
        self.round = Round {
            count: self.round.count + 1,
            ends_at: self.sampler.delivered() + in_flight,
            limited: true,
            lowest: None,
            last_lowest: self.round.lowest.or(self.round.last_lowest),
        };
        let queue_stands =
            self.round_trip_now() > self.base_round_trip().mul_f64(1.15) + QUEUE_NOISE;
        // An application that sends less than it might fills no queue.
        let excess = self.losses.judge(self.packet, queue_stands) && !limited;
        if matches!(self.state, State::Startup { .. }) {
            // While the rate doubles, every ack brings more than was expected.
            self.heap.most = [0; 2];
        }
        let latest = std::mem::take(&mut self.bandwidth.latest);
        let rate = self.bandwidth.get();
        self.state = match self.state {
            State::Startup { .. } if excess => State::Down { drained: None },
            State::Startup { best, stale } if !limited => {
                if rate >= best * GROWTH {
                    State::Startup { best: rate, stale: 0 }
                } else if stale + 1 < STALE_ROUNDS {
                    State::Startup { best, stale: stale + 1 }
                } else {
                    State::Down { drained: None }
                }
            }
            State::Up { .. } if excess => {
                self.lower_ceiling();
                State::Down { drained: None }
            }
            State::Up { best, .. } if !limited && !queue_stands && rate >= best * ROOM => {
                State::Startup { best: rate, stale: 0 }
            }
            State::Down { .. } | State::Cruise { .. }
                if !limited && !queue_stands && self.bandwidth.is_applications =>
            {
                State::Startup { best: rate, stale: 0 }
            }
            State::Up { since, best } => self.judge_probe(since, best, rate, in_flight),
            State::Cruise { .. } if excess => {
                self.lower_ceiling();
                self.bandwidth.bound = Some(latest.max(0.7 * rate));
                self.state
            }
            other => other,
        };
        if let State::Up { .. } = self.state {
            // What did not hurt a round ago may be too low a ceiling.
            self.ceiling = self.ceiling.map(|ceiling| ceiling / 4 * 5);
        }
    }

    /// What is in flight is too much, though never less than the link holds.
    fn lower_ceiling(&mut self) {
        let holds = bytes(self.link_holds().unwrap_or(0.0));
        self.ceiling = Some((self.window_bytes() / 20 * 17).max(holds));
    }

    /// A probe goes on while it finds more, and ends once it has made a queue.
    fn judge_probe(&self, since: u64, best: f64, rate: f64, in_flight: u64) -> State {
        let rounds = self.round.count - since;
        if rounds > 1 && rate >= best * 1.05 {
            return State::Up { since: self.round.count - 1, best: rate };
        }
        let filled = in_flight as f64 >= 1.2 * self.link_holds().unwrap_or(0.0);
        if (rounds > 1 && filled) || rounds > 3 {
            return State::Down { drained: None };
        }
        self.state
    }

    fn step(&mut self, now: Instant, in_flight: u64) {
        let Some(holds) = self.link_holds() else { return };
        let round = self.round.count;
        self.state = match self.state {
            State::Down { drained: None } if in_flight as f64 <= holds => {
                State::Down { drained: Some(round) }
            }
            // One more round, in which the drained queue is seen as a lower round trip.
            State::Down { drained: Some(since) } if round > since + 1 => {
                self.bandwidth.advance();
                self.cruise(now)
            }
            State::Cruise { until } if until <= now => {
                if self.lowest.is_some_and(|lowest| now - lowest.seen_at > DOUBT_AFTER) {
                    State::Settle { until: None, lowest: None }
                } else {
                    self.bandwidth.bound = None;
                    State::Up { since: round, best: self.bandwidth.get() }
                }
            }
            State::Settle { until: None, lowest } if in_flight <= self.window_bytes() => {
                let time = SETTLE_FOR.max(self.base_round_trip() * 2);
                State::Settle { until: Some(now + time), lowest }
            }
            State::Settle { until: Some(until), lowest } if until <= now => {
                let rtt = lowest.unwrap_or(self.base_round_trip());
                self.lowest = Some(Lowest { rtt, seen_at: now });
                self.cruise(now)
            }
            other => other,
        };
    }

    fn cruise(&self, now: Instant) -> State {
        let (shortest, longest) = CRUISE;
        let time = (self.base_round_trip() * CRUISE_ROUNDS).clamp(shortest, longest);
        State::Cruise { until: now + time }
    }
}

impl Bandwidth {
    fn get(&self) -> f64 {
        let most = self.current.max(self.previous);
        self.bound.map_or(most, |bound| most.min(bound))
    }

    fn take(&mut self, rate: f64, limited: bool) {
        self.latest = self.latest.max(rate);
        let is_most = rate > self.current.max(self.previous);
        if is_most {
            self.is_applications = limited;
        }
        if is_most || !limited {
            self.current = self.current.max(rate);
        }
    }

    /// Forgets the cycle before the last, unless this one measured nothing.
    fn advance(&mut self) {
        if self.current > 0.0 {
            self.previous = std::mem::take(&mut self.current);
        }
    }
}

impl Heap {
    /// Rounds after which a heap is forgotten, at the latest twice as many.
    const ROUNDS: u64 = 10;
    /// No heap is larger than what comes in this time.
    const LONGEST: f64 = 0.02;

    fn on_acked(&mut self, now: Instant, bytes: u64, rate: f64, round: u64) {
        if round >= self.round + Self::ROUNDS {
            self.round = round;
            self.most = [0, self.most[0]];
        }
        let expected = rate * now.saturating_duration_since(self.since).as_secs_f64();
        if self.bytes as f64 <= expected {
            (self.since, self.bytes) = (now, 0);
        }
        self.bytes += bytes;
        let expected = rate * now.saturating_duration_since(self.since).as_secs_f64();
        let extra = (self.bytes as f64 - expected).clamp(0.0, rate * Self::LONGEST);
        self.most[0] = self.most[0].max(self::bytes(extra));
    }

    fn most(&self) -> u64 {
        self.most[0].max(self.most[1])
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
fn bytes(value: f64) -> u64 {
    value.clamp(0.0, 1e15) as u64
}
