//! [`Rhythm`]: when the client says something for the sake of saying it.
//!
//! Against the reference that is every second, whatever else happens (PROTOCOL §7.4). With
//! extension `silence` it is when nothing was heard for [`QUIET`]: often enough for a NAT to keep
//! its mapping, and for output after an idle hour to find its way at once (DESIGN D14).
//!
//! Pure: times are arguments. Who sends, and what was heard, is the bus' to know.

use std::time::{Duration, Instant};

use proto::open::Timeouts;
use proxy::timers::QUIET;

/// Shortest interval between heartbeats, whatever the configured timeouts lead to.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// See the [module's description](self).
#[derive(Debug)]
pub(super) struct Rhythm {
    interval: Duration,
    alive: Duration,
    is_quiet: bool,
    /// When the last heartbeat was due.
    last: Option<Instant>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a heartbeat, if none is under way.
    Heartbeat,
    /// Give up: nothing was heard for so long.
    Giving(Duration),
    /// Nothing.
    Nothing,
}

impl Rhythm {
    pub(super) fn new(timeouts: Timeouts, is_quiet: bool) -> Self {
        let interval = if is_quiet {
            // A server that is told of a short alive timeout has to hear us within it.
            let third = timeouts.alive / 3;
            if third.is_zero() { QUIET } else { QUIET.min(third) }
        } else {
            timeouts.interval
        };
        let interval = interval.max(SHORTEST_INTERVAL);
        Self { interval, alive: timeouts.alive, is_quiet, last: None }
    }

    /// Returns when to ask [`Rhythm::due`] next; none while only an event can change anything.
    ///
    /// `contact` is when the server was heard last.
    pub(super) fn next(&self, contact: Instant, is_lost: bool) -> Option<Instant> {
        let give_up = (!self.alive.is_zero()).then(|| contact + self.alive);
        self.heartbeat_at(contact, is_lost).into_iter().chain(give_up).min()
    }

    /// Returns what is due.
    pub(super) fn due(&mut self, now: Instant, contact: Instant, is_lost: bool) -> Due {
        let silence = now.saturating_duration_since(contact);
        if !self.alive.is_zero() && silence >= self.alive {
            return Due::Giving(silence);
        }
        if self.heartbeat_at(contact, is_lost).is_some_and(|at| now >= at) {
            self.last = Some(now);
            return Due::Heartbeat;
        }
        Due::Nothing
    }

    fn heartbeat_at(&self, contact: Instant, is_lost: bool) -> Option<Instant> {
        let Some(last) = self.last else { return Some(contact) };
        match (self.is_quiet, is_lost) {
            (false, _) => Some(last + self.interval),
            // A new path brings a heartbeat of its own.
            (true, true) => None,
            (true, false) => Some(last.max(contact) + self.interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs for `time`, hearing the server whenever `hears` says so; returns when heartbeats
    /// were sent, each of which is answered at once, in seconds.
    fn run(rhythm: &mut Rhythm, start: Instant, hears: &[u64], seconds: u32) -> Vec<u64> {
        let mut contact = start;
        let mut beats = Vec::new();
        let mut hears: Vec<_> = hears.iter().map(|s| start + Duration::from_secs(*s)).collect();
        hears.reverse();
        while let Some(at) = rhythm.next(contact, false) {
            if hears.last().is_some_and(|heard| *heard <= at) {
                contact = hears.pop().unwrap();
                continue;
            }
            if at > start + seconds * SECOND {
                break;
            }
            if rhythm.due(at, contact, false) == Due::Heartbeat {
                beats.push((at - start).as_secs());
                contact = at;
            }
        }
        beats
    }

    #[test]
    fn a_reference_server_hears_from_us_every_second() {
        let mut rhythm = Rhythm::new(Timeouts::default(), false);
        assert_eq!(run(&mut rhythm, Instant::now(), &[2, 4], 5), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn between_our_own_an_idle_session_says_something_every_25_s_and_a_busy_one_nothing() {
        let mut rhythm = Rhythm::new(Timeouts::default(), true);
        assert_eq!(run(&mut rhythm, Instant::now(), &[], 80), [0, 25, 50, 75]);
        let mut rhythm = Rhythm::new(Timeouts::default(), true);
        let busy: Vec<u64> = (1..300).collect();
        assert_eq!(run(&mut rhythm, Instant::now(), &busy, 310), [0]);
    }

    #[test]
    fn while_the_link_is_lost_nothing_is_due_but_the_end() {
        let start = Instant::now();
        let alive = 100 * SECOND;
        let mut rhythm = Rhythm::new(Timeouts { alive, ..Timeouts::default() }, true);
        assert_eq!(rhythm.due(start, start, false), Due::Heartbeat);
        assert_eq!(rhythm.next(start, true), Some(start + alive));
        assert_eq!(rhythm.due(start + 99 * SECOND, start, true), Due::Nothing);
        assert_eq!(rhythm.due(start + alive, start, true), Due::Giving(alive));
        let forever = Timeouts { alive: Duration::ZERO, ..Timeouts::default() };
        let mut rhythm = Rhythm::new(forever, true);
        assert_eq!(rhythm.due(start, start, false), Due::Heartbeat);
        assert_eq!(rhythm.next(start, true), None, "no timer at all");
    }

    #[test]
    fn a_short_alive_timeout_has_us_speak_within_it() {
        let start = Instant::now();
        let timeouts = Timeouts { alive: 30 * SECOND, ..Timeouts::default() };
        assert_eq!(run(&mut Rhythm::new(timeouts, true), start, &[], 25), [0, 10, 20]);
    }
}
