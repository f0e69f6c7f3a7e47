//! [`Rhythm`]: when the client says something for the sake of saying it.
//!
//! Against the reference that is every second, whatever else happens (PROTOCOL §7.4). With
//! extension `silence` it is when nothing was heard for [`QUIET`]: often enough for a NAT to keep
//! its mapping, and for output after an idle hour to find its way at once (DESIGN D14). Once more,
//! after an interval, when something was going on and stops: output that does not go on may be a
//! path that is gone, of which nothing that the client sends by itself would tell.
//!
//! Pure: times are arguments. Who sends, and what was heard, is the bus' to know.

use std::time::{Duration, Instant};

use proto::open::Timeouts;
use proxy::timers::QUIET;

/// Shortest interval between heartbeats, whatever the configured timeouts lead to.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What comes so soon after an echo belongs to it.
const ECHO_TAIL: Duration = Duration::from_millis(200);

/// When the server was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Anything at all, last.
    pub(super) contact: Instant,
    /// The echo of a heartbeat, last.
    pub(super) echo: Instant,
    /// Whether the echo of a heartbeat is still to come.
    pub(super) is_asked: bool,
}

/// See the [module's description](self).
#[derive(Debug)]
pub(super) struct Rhythm {
    interval: Duration,
    /// How long a silence may be that nothing preceded.
    quiet: Duration,
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
        // A server that is told of a short alive timeout has to hear us within it.
        let third = timeouts.alive / 3;
        let quiet = if third.is_zero() { QUIET } else { QUIET.min(third) };
        let interval = timeouts.interval.max(SHORTEST_INTERVAL);
        Self { interval, quiet, alive: timeouts.alive, is_quiet, last: None }
    }

    /// Returns when to ask [`Rhythm::due`] next; none while only an event can change anything.
    pub(super) fn next(&self, heard: Heard, is_lost: bool) -> Option<Instant> {
        let give_up = (!self.alive.is_zero()).then(|| heard.contact + self.alive);
        self.heartbeat_at(heard, is_lost).into_iter().chain(give_up).min()
    }

    /// Returns what is due.
    pub(super) fn due(&mut self, now: Instant, heard: Heard, is_lost: bool) -> Due {
        let silence = now.saturating_duration_since(heard.contact);
        if !self.alive.is_zero() && silence >= self.alive {
            return Due::Giving(silence);
        }
        if self.heartbeat_at(heard, is_lost).is_some_and(|at| now >= at) {
            self.last = Some(now);
            return Due::Heartbeat;
        }
        Due::Nothing
    }

    /// Whether something is going on beside heartbeats.
    pub(super) fn is_active(heard: Heard) -> bool {
        heard.contact > heard.echo + ECHO_TAIL
    }

    fn heartbeat_at(&self, heard: Heard, is_lost: bool) -> Option<Instant> {
        let Some(last) = self.last else { return Some(heard.contact) };
        match (self.is_quiet, is_lost) {
            (false, _) => Some(last + self.interval),
            // A new path brings a heartbeat of its own.
            (true, true) => None,
            (true, false) => {
                // That a heartbeat arrived does not say that its echo will: a path can end in
                // between, and nothing else would ever ask again.
                let is_waiting = heard.is_asked || Self::is_active(heard);
                let pause = if is_waiting { self.interval } else { self.quiet };
                Some((heard.contact + pause).max(last + self.interval))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn heard(contact: Instant) -> Heard {
        Heard { contact, echo: contact, is_asked: false }
    }

    /// Runs for some time, hearing the server at these times as well; returns when heartbeats
    /// were sent, each of which is answered at once, in seconds.
    fn run(rhythm: &mut Rhythm, start: Instant, hears: &[u64], seconds: u32) -> Vec<u64> {
        let mut now = heard(start);
        let mut beats = Vec::new();
        let mut hears: Vec<_> = hears.iter().map(|s| start + Duration::from_secs(*s)).collect();
        hears.reverse();
        while let Some(at) = rhythm.next(now, false) {
            if hears.last().is_some_and(|heard| *heard <= at) {
                now.contact = hears.pop().unwrap();
                continue;
            }
            if at > start + seconds * SECOND {
                break;
            }
            if rhythm.due(at, now, false) == Due::Heartbeat {
                beats.push((at - start).as_secs());
                now = heard(at);
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
    fn between_our_own_an_idle_session_says_something_every_25_s() {
        let mut rhythm = Rhythm::new(Timeouts::default(), true);
        assert_eq!(run(&mut rhythm, Instant::now(), &[], 80), [0, 25, 50, 75]);
    }

    #[test]
    fn an_echo_that_does_not_come_is_asked_for_again() {
        let mut rhythm = Rhythm::new(Timeouts::default(), true);
        let start = Instant::now();
        assert_eq!(rhythm.due(start, heard(start), false), Due::Heartbeat);
        // The transport's word that it arrived, and nothing else.
        let contact = start + Duration::from_millis(100);
        let waiting = Heard { contact, echo: start, is_asked: true };
        assert_eq!(rhythm.next(waiting, false), Some(contact + SECOND));
        assert_eq!(rhythm.due(contact + SECOND, waiting, false), Due::Heartbeat);
    }

    #[test]
    fn a_busy_one_says_nothing_and_asks_once_when_that_stops() {
        let mut rhythm = Rhythm::new(Timeouts::default(), true);
        let busy: Vec<u64> = (1..300).collect();
        assert_eq!(run(&mut rhythm, Instant::now(), &busy, 350), [0, 300, 325, 350]);
    }

    #[test]
    fn while_the_link_is_lost_nothing_is_due_but_the_end() {
        let start = Instant::now();
        let alive = 100 * SECOND;
        let mut rhythm = Rhythm::new(Timeouts { alive, ..Timeouts::default() }, true);
        assert_eq!(rhythm.due(start, heard(start), false), Due::Heartbeat);
        assert_eq!(rhythm.next(heard(start), true), Some(start + alive));
        assert_eq!(rhythm.due(start + 99 * SECOND, heard(start), true), Due::Nothing);
        assert_eq!(rhythm.due(start + alive, heard(start), true), Due::Giving(alive));
        let forever = Timeouts { alive: Duration::ZERO, ..Timeouts::default() };
        let mut rhythm = Rhythm::new(forever, true);
        assert_eq!(rhythm.due(start, heard(start), false), Due::Heartbeat);
        assert_eq!(rhythm.next(heard(start), true), None, "no timer at all");
    }

    #[test]
    fn a_short_alive_timeout_has_us_speak_within_it() {
        let start = Instant::now();
        let timeouts = Timeouts { alive: 30 * SECOND, ..Timeouts::default() };
        assert_eq!(run(&mut Rhythm::new(timeouts, true), start, &[], 25), [0, 10, 20]);
    }
}
