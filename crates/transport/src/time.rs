//! Transport time: real time, less the time in which nothing could be heard (DESIGN D3).
//!
//! Both transports live by it. Taken out are the time without a path, the time in which the process
//! did not run (stopped or suspended), and long silences in which an answer was due.
//! So an outage of an hour is no time at all to a transport's retransmission timers,
//! round-trip samples and idle timeout.
//!
//! When the link changes, or the peer is heard again after a silence, the
//! earliest timer fires *early*, whatever it had backed off to, which makes
//! quinn probe what was in flight. The time itself never jumps ahead, so no packet
//! ages and no round-trip sample is spoilt. KCP is told to send again instead
//! and has no use for early timers but during a silence.
//!
//! Pure: real time is an argument. QUIC's driver adds the runtime's timers,
//! [`crate::stack`] has one for KCP.
//!
//! ```text
//!            Lost                        Lost
//! Running ─────────► Offline ◄───────────────────── Silent
//!    ▲  ▲ Restored      │                            │ ▲
//!    │  └───────────────┘    packet, Restored, Moved │ │ no answer for SILENCE
//!    └───────────────────────────────────────────────┘ └──── Running
//! ```
//!
//! Invariants: transport time runs at most as fast as real time and never
//! backwards. Nothing fires while offline.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proxy::LinkChange;

/// How much later than its timer a process may run before we conclude that it
/// was stopped or suspended in between. Far above scheduling delays, and too
/// little to harm a round-trip estimate for long.
const STOPPED_AFTER: Duration = Duration::from_secs(1);

/// How long an answer may be due before time stands still; also the interval
/// of probes from then on. Longer than any round trip. It bounds how wrong a
/// round-trip sample can get, and how late an outage ends that nobody told us of.
const SILENCE: Duration = Duration::from_secs(5);

/// Timers further off than this are not loss probes (quinn's longest back-off
/// is hours) but the idle timeout of 365 days, which must never fire early.
const PROBE_AT_MOST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many timers are fired early at most after one interruption, for quinn.
#[cfg(feature = "driver")]
pub(crate) const EARLY_TIMERS: u32 = 16;

/// Pause between timers that are fired early because the peer was heard: what
/// was under way before the outage comes packet by packet.
const EARLY_PAUSE: Duration = Duration::from_millis(4);

/// Packets a loss probe consists of: with fewer sent, the timer fired was for
/// pacing or a delayed acknowledgement, and the next one is tried.
const PROBE_PACKETS: u64 = 2;

/// Timers no further off than this may be for pacing, and fire when they are due:
/// a window with room is paced, the packets that leave are as good as a probe,
/// and the few early timers are for when it has none.
const PACING_AT_MOST: Duration = Duration::from_millis(50);

/// The state of transport time.
#[derive(Debug)]
pub(crate) struct TransportTime {
    pace: Pace,
    /// Real time that was no transport time, up to the latest change of pace.
    taken_out: Duration,
    /// Armed timers that are not yet due.
    deadlines: HashMap<u64, Instant>,
    /// Transport time since which an answer is due and nothing was heard.
    waiting_since: Option<Instant>,
    probing: Probing,
    /// How many timers are fired early at most after one interruption.
    early_timers: u32,
    last_interruption: Option<Instant>,
    network: u64,
}

/// How time passes. Instants are real time.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Running,
    /// There is no path.
    Offline {
        since: Instant,
    },
    /// Nobody answers; the path may be dead without anyone knowing.
    Silent {
        since: Instant,
        next_probe: Instant,
    },
}

/// Timers fired early to probe what is in flight.
#[derive(Debug, Default)]
struct Probing {
    /// How many more, at most.
    left: u32,
    /// Packets sent since the last.
    sent: u64,
    /// Whether something happened since the last that asks for another.
    may_fire: bool,
    /// No further one before this real time, unless the last was none.
    not_before: Option<Instant>,
}

impl Probing {
    /// When the next timer may fire early, if it need not wait for something else to happen.
    fn next(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.left > 0 && self.may_fire)
    }
}

/// How things stand with one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its time has come.
    Due,
    /// It fires before its time: for this once, quinn is to take its deadline for the time.
    Early,
    /// Nothing to wait for, until the link changes.
    Stopped,
    /// To be looked at again at this real time.
    Until(Instant),
}

impl TransportTime {
    /// Starts with transport time equal to real time. `early_timers`: how many
    /// timers are fired early at most after one interruption.
    pub(crate) fn new(early_timers: u32) -> Self {
        Self {
            pace: Pace::Running,
            taken_out: Duration::ZERO,
            deadlines: HashMap::new(),
            waiting_since: None,
            probing: Probing::default(),
            early_timers,
            last_interruption: None,
            network: 0,
        }
    }

    /// Returns the transport time, after taking out a gap in which the process did not run.
    pub(crate) fn now(&mut self, real: Instant) -> Instant {
        let mut now = self.at(real);
        if let (Pace::Running, Some(due)) = (self.pace, self.deadlines.values().min().copied()) {
            // However far off the timer is, by then we would have looked at the silence.
            let due = self.silent_at().map_or(due, |silent_at| silent_at.min(due));
            let gap = now.saturating_duration_since(due);
            if gap > STOPPED_AFTER {
                tracing::debug!(?gap, "the process was stopped or suspended");
                self.taken_out += gap;
                now = due;
                self.last_interruption = Some(now);
            }
        }
        // What has come due is quinn's to handle from now on; a timer that
        // it does not arm again must not look like a gap.
        self.deadlines.retain(|_, deadline| *deadline > now);
        now
    }

    /// Follows a change of the link. Every timer has to be checked anew.
    pub(crate) fn on_link(&mut self, real: Instant, change: LinkChange) {
        let now = self.now(real);
        match change {
            LinkChange::Lost => {
                let since = match self.pace {
                    Pace::Running => real,
                    Pace::Offline { since } | Pace::Silent { since, .. } => since,
                };
                self.pace = Pace::Offline { since };
            }
            LinkChange::Restored { same_network } | LinkChange::Moved { same_network } => {
                self.network += u64::from(!same_network);
                self.run(real, now);
            }
        }
    }

    /// Notes that packets came in. Returns whether every timer has to be checked anew.
    pub(crate) fn on_received(&mut self, real: Instant) -> bool {
        let now = self.now(real);
        self.waiting_since = None;
        // quinn answers only when its congestion window has room, even with a
        // bare acknowledgement. With both windows full of what an outage
        // swallowed, both ends would wait for the other; probes are exempt
        // from the window, and carry the acknowledgement.
        self.probing.may_fire = true;
        if let Pace::Silent { .. } = self.pace {
            self.run(real, now);
            return true;
        }
        false
    }

    /// Notes that packets were sent.
    pub(crate) fn on_sent(&mut self, packets: u64) {
        self.probing.sent += packets;
    }

    /// Looks at a timer that waits for `deadline`, in transport time. `blocked`:
    /// the packet socket takes nothing at the moment, so there is no use in probing.
    pub(crate) fn check(
        &mut self,
        timer: u64,
        deadline: Instant,
        real: Instant,
        blocked: bool,
    ) -> Wait {
        let now = self.now(real);
        self.deadlines.remove(&timer);
        if deadline <= now {
            return Wait::Due;
        }
        // quinn has something in flight, or to acknowledge, or to send.
        let is_active = deadline - now <= PROBE_AT_MOST;
        if is_active && !blocked && self.fires_early(real, now, deadline) {
            return self.early(now, deadline);
        }
        self.deadlines.insert(timer, deadline);
        self.note_silence(real, now, is_active);
        match self.pace {
            Pace::Offline { .. } => Wait::Stopped,
            // While blocked, the packet socket is what wakes quinn.
            Pace::Silent { next_probe, .. } if is_active && !blocked => Wait::Until(next_probe),
            Pace::Silent { .. } => Wait::Stopped,
            Pace::Running => {
                let due = self.silent_at().map_or(deadline, |at| at.min(deadline)) + self.taken_out;
                let early = self.probing.next().filter(|_| is_active && !blocked);
                Wait::Until(early.filter(|at| real < *at).map_or(due, |at| at.min(due)))
            }
        }
    }

    /// Forgets a timer.
    pub(crate) fn forget(&mut self, timer: u64) {
        self.deadlines.remove(&timer);
    }

    /// Notes that no timer is armed: no answer is due.
    pub(crate) fn rest(&mut self) {
        self.deadlines.clear();
        self.waiting_since = None;
    }

    /// Returns the transport time of the latest interruption: packets sent until
    /// then may be lost for other reasons than congestion.
    pub(crate) fn last_interruption(&self) -> Option<Instant> {
        self.last_interruption
    }

    /// Returns a number that changes whenever the link changes to another network.
    pub(crate) fn network(&self) -> u64 {
        self.network
    }

    /// Converts real time to transport time.
    fn at(&self, real: Instant) -> Instant {
        let real = match self.pace {
            Pace::Running => real,
            Pace::Offline { since } | Pace::Silent { since, .. } => since,
        };
        real - self.taken_out
    }

    /// Goes on after an interruption, and has what is in flight probed.
    fn run(&mut self, real: Instant, now: Instant) {
        if let Pace::Offline { since } | Pace::Silent { since, .. } = self.pace {
            self.taken_out += real.saturating_duration_since(since);
        }
        self.pace = Pace::Running;
        self.waiting_since = None;
        self.last_interruption = Some(now);
        self.probing = Probing { left: self.early_timers, may_fire: true, ..Probing::default() };
    }

    /// Decides whether a timer fires before its time, to probe what is in flight.
    fn fires_early(&mut self, real: Instant, now: Instant, deadline: Instant) -> bool {
        match &mut self.pace {
            Pace::Offline { .. } => return false,
            Pace::Silent { next_probe, .. } => {
                if real < *next_probe {
                    return false;
                }
                *next_probe = real + SILENCE;
            }
            Pace::Running => {
                let probing = &mut self.probing;
                let has_probed = probing.sent >= PROBE_PACKETS;
                let is_paused = probing.not_before.is_some_and(|at| real < at);
                if probing.left == 0 || (has_probed && (is_paused || !probing.may_fire)) {
                    return false;
                }
                // It comes by itself soon enough, and the ones after it are the
                // ones that matter.
                if deadline - now <= PACING_AT_MOST {
                    return false;
                }
                let (left, not_before) = (probing.left - 1, Some(real + EARLY_PAUSE));
                *probing = Probing { left, sent: 0, may_fire: false, not_before };
            }
        }
        // What this makes quinn give up for lost is no congestion.
        self.last_interruption = Some(now);
        true
    }

    /// Has a timer fire before its time. In a silence, in which time stands still,
    /// the little that pacing waits for passes after all: with a window left, its
    /// timer comes before the one of a loss probe, again and again.
    fn early(&mut self, now: Instant, deadline: Instant) -> Wait {
        let ahead = deadline - now;
        if let Pace::Silent { since, .. } = &mut self.pace
            && ahead <= PACING_AT_MOST
        {
            *since += ahead;
            return Wait::Due;
        }
        Wait::Early
    }

    /// Returns when time is to stand still if nobody answers, in transport time.
    fn silent_at(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + SILENCE)
    }

    /// Stops time when an answer was due for too long.
    fn note_silence(&mut self, real: Instant, now: Instant, is_active: bool) {
        if !is_active {
            self.waiting_since = None;
            return;
        }
        let waiting_since = *self.waiting_since.get_or_insert(now);
        if let Pace::Running = self.pace
            && now - waiting_since >= SILENCE
        {
            tracing::debug!("no answer: time stands still");
            self.pace = Pace::Silent { since: real, next_probe: real + SILENCE };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMER: u64 = 0;
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    const RESTORED: LinkChange = LinkChange::Restored { same_network: true };

    #[test]
    fn an_hour_without_a_path_is_no_time() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        assert_eq!(time.check(TIMER, start + SECOND, start, false), Wait::Until(start + SECOND));
        time.on_link(start, LinkChange::Lost);
        assert_eq!(time.check(TIMER, start + SECOND, start + HOUR, true), Wait::Stopped);
        assert_eq!(time.now(start + HOUR), start);
        time.on_link(start + HOUR, RESTORED);
        assert_eq!(time.now(start + HOUR), start);
        assert_eq!(time.now(start + HOUR + SECOND), start + SECOND);
        assert_eq!(time.last_interruption(), Some(start));
    }

    #[test]
    fn a_timer_fires_early_after_an_outage_but_the_idle_timeout_does_not() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        time.on_link(start, LinkChange::Lost);
        time.on_link(start + HOUR, RESTORED);
        let year = 365 * 24 * HOUR;
        assert_eq!(
            time.check(TIMER, start + year, start + HOUR, false),
            Wait::Until(start + year + HOUR)
        );
        assert_eq!(time.check(TIMER, start + HOUR, start + HOUR, false), Wait::Early);
        assert_eq!(time.now(start + HOUR), start, "and time did not jump");
    }

    #[test]
    fn early_timers_are_few_and_end_with_a_probe_sent() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        time.on_link(start, RESTORED);
        let deadline = start + SECOND;
        let fires = |time: &mut TransportTime, at| time.check(TIMER, deadline, at, false);
        assert_eq!(fires(&mut time, start), Wait::Early);
        assert_eq!(fires(&mut time, start), Wait::Early, "nothing was sent: not a probe");
        time.on_sent(2);
        assert_eq!(fires(&mut time, start), Wait::Until(deadline));
        time.on_received(start);
        let later = start + EARLY_PAUSE;
        assert_eq!(fires(&mut time, start), Wait::Until(later), "one probe was just sent");
        assert_eq!(fires(&mut time, later), Wait::Early, "the peer answered");
        assert_eq!(fires(&mut time, later), Wait::Early);
        time.on_received(later);
        assert_eq!(fires(&mut time, later + EARLY_PAUSE), Wait::Until(deadline), "no more");
    }

    #[test]
    fn a_pause_between_early_timers_ends_by_itself_and_never_after_the_deadline() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        time.on_link(start, RESTORED);
        assert_eq!(time.check(TIMER, start + SECOND, start, false), Wait::Early);
        time.on_sent(2);
        time.on_received(start);
        let (soon, later) = (start + EARLY_PAUSE / 2, start + EARLY_PAUSE);
        assert_eq!(time.check(TIMER, soon, start, false), Wait::Until(soon));
        assert_eq!(time.check(TIMER, start + SECOND, start, true), Wait::Until(start + SECOND));
        assert_eq!(time.check(TIMER, start + SECOND, start, false), Wait::Until(later));
        assert_eq!(time.check(TIMER, start + SECOND, later, false), Wait::Early);
    }

    #[test]
    fn nothing_fires_early_while_the_socket_takes_nothing() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        time.on_link(start, RESTORED);
        assert_eq!(time.check(TIMER, start + SECOND, start, true), Wait::Until(start + SECOND));
        assert_eq!(time.check(TIMER, start + SECOND, start, false), Wait::Early);
    }

    #[test]
    fn oversleeping_by_an_hour_is_taken_out_and_a_little_is_not() {
        let start = Instant::now();
        for (late, seen) in [(HOUR, Duration::ZERO), (SECOND / 2, SECOND / 2)] {
            let mut time = TransportTime::new(4);
            time.check(TIMER, start + SECOND, start, false);
            assert_eq!(time.now(start + SECOND + late), start + SECOND + seen);
            // Once only: the timer has come due.
            assert_eq!(time.now(start + SECOND + late + HOUR), start + SECOND + seen + HOUR);
        }
    }

    #[test]
    fn a_process_stopped_while_its_timer_is_far_off_sees_no_more_than_a_silence() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        // As after a long back-off.
        let wait = time.check(TIMER, start + HOUR, start, false);
        assert_eq!(wait, Wait::Until(start + SILENCE), "by then nobody may have answered");
        // What was sent before is acknowledged now: no sample of an hour.
        assert!(!time.on_received(start + HOUR));
        assert_eq!(time.now(start + HOUR), start + SILENCE);
        assert_eq!(time.last_interruption(), Some(start + SILENCE));
    }

    #[test]
    fn idle_hours_are_ordinary_time() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        time.check(TIMER, start + 365 * 24 * HOUR, start, false);
        assert_eq!(time.now(start + HOUR), start + HOUR);
        time.check(TIMER, start + HOUR + SECOND, start + HOUR, false);
        assert_eq!(time.now(start + HOUR + SECOND / 2), start + HOUR + SECOND / 2);
    }

    #[test]
    fn time_stands_still_when_nobody_answers_and_goes_on_with_the_next_packet() {
        let start = Instant::now();
        let mut time = TransportTime::new(4);
        time.check(TIMER, start + 3 * SECOND, start, false);
        let silent = start + 6 * SECOND;
        time.check(TIMER, start + 9 * SECOND, start + 3 * SECOND, false);
        let wait = time.check(TIMER, start + 9 * SECOND, silent, false);
        assert_eq!(wait, Wait::Until(silent + SILENCE));
        assert_eq!(time.check(TIMER, start + HOUR, silent + SILENCE, false), Wait::Early);
        assert_eq!(time.now(silent + HOUR), silent);
        assert!(time.on_received(silent + HOUR));
        assert_eq!(time.now(silent + HOUR + SECOND), silent + SECOND);
    }
}
