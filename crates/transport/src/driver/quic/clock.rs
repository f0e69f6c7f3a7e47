//! The clock quinn lives by: it stops while there is no path (DESIGN D3).
//!
//! quinn asks [`Runtime::now`] for the time and [`Runtime::new_timer`] for its
//! one timer per connection. This clock answers with *transport time*: real
//! time less the time without a path and the time the process did not run
//! (stopped or suspended). So an outage of an hour is no time at all to quinn's
//! retransmission timers, round-trip samples and idle timeout.
//!
//! When the path is back (or was replaced), the earliest timer is fired *early*,
//! whatever it had backed off to, which makes quinn probe what was in flight.
//! Only that one call to quinn sees the later time; the clock itself never
//! jumps, so no packet ages and no round-trip sample is spoilt.
//!
//! Not here: time limits on connecting and the like; those run on real time.
//!
//! Invariants: transport time never runs faster than real time, and goes back
//! never, apart from the one early reading. No timer of the runtime is armed while
//! stopped. No lock but its own is held, and none is taken inside it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use proxy::LinkChange;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::time::{Sleep, sleep_until};

/// How much later than its timer a process may run before we conclude that it
/// was stopped or suspended in between. Far above scheduling delays, and below
/// what would harm a round-trip estimate for long.
const STOPPED_AFTER: Duration = Duration::from_secs(1);

/// Timers further off than this are not loss probes (quinn's longest back-off
/// is hours) but the idle timeout of 365 days, which must never fire early.
const EARLY_AT_MOST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many timers are fired early at most after one change of the link.
const EARLY_TIMERS: u32 = 4;

/// Packets a loss probe consists of: with fewer sent, the timer fired was for
/// pacing or a delayed acknowledgement, and the next one is tried.
const PROBE_PACKETS: u64 = 2;

/// The pausable clock; clones are the same clock.
#[derive(Clone)]
pub(super) struct Clock(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Whether the packet socket last refused to take a packet: nothing is
    /// probed then, the attempts would be wasted.
    blocked: AtomicBool,
}

struct State {
    /// Real time at which the clock stopped; `None` while it runs.
    stopped_at: Option<Instant>,
    /// Real time that was no transport time.
    taken_out: Duration,
    /// The latest transport time anyone saw.
    latest: Instant,
    timers: HashMap<u64, Armed>,
    next_timer: u64,
    /// What is still to be done about the latest change of the link.
    probing: Probing,
    /// The later time that the next reading on this thread returns.
    early_reading: Option<(ThreadId, Instant)>,
    /// Transport time of the latest outage or move.
    last_interruption: Option<Instant>,
    /// Counts changes to another network.
    network: u64,
}

/// Timers fired early to probe what is in flight.
struct Probing {
    /// How many more, at most.
    left: u32,
    /// Packets sent since the last.
    sent: u64,
    /// Whether something happened since the last that asks for another.
    may_fire: bool,
}

/// What one timer waits for.
struct Armed {
    /// In transport time; `None` once it has come.
    deadline: Option<Instant>,
    waker: Waker,
}

/// How things stand with one timer.
enum Wait {
    Due,
    /// The clock is stopped; [`Clock::resume`] wakes.
    Stopped,
    /// Due at this real time, unless something changes.
    Until(Instant),
}

impl Clock {
    /// Makes a clock that runs, and shows real time to begin with.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                stopped_at: None,
                taken_out: Duration::ZERO,
                latest: real_now(),
                timers: HashMap::new(),
                next_timer: 0,
                probing: Probing { left: 0, sent: 0, may_fire: false },
                early_reading: None,
                last_interruption: None,
                network: 0,
            }),
            blocked: AtomicBool::new(false),
        }))
    }

    /// Follows a change of the link.
    pub(super) fn on_link(&self, change: LinkChange) {
        tracing::debug!(?change, "link changed");
        let mut state = self.lock();
        let real = real_now();
        let now = state.look(real);
        match change {
            LinkChange::Lost => {
                state.stopped_at.get_or_insert(real);
            }
            LinkChange::Restored { same_network } | LinkChange::Moved { same_network } => {
                if let Some(stopped_at) = state.stopped_at.take() {
                    state.taken_out += real.saturating_duration_since(stopped_at);
                }
                state.last_interruption = Some(now);
                state.network += u64::from(!same_network);
                state.probing = Probing { left: EARLY_TIMERS, sent: 0, may_fire: true };
            }
        }
        // Every timer has to be looked at anew: to give up its sleep, or to fire early.
        let wakers: Vec<_> = state.timers.values().map(|timer| timer.waker.clone()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns the transport time of the latest outage, move or stop of the
    /// process: packets sent until then may be lost for other reasons than congestion.
    pub(super) fn last_interruption(&self) -> Option<Instant> {
        self.lock().last_interruption
    }

    /// Returns a number that changes whenever the link changes to another network.
    pub(super) fn network(&self) -> u64 {
        self.lock().network
    }

    /// Notes that so many packets were sent.
    pub(super) fn on_sent(&self, packets: u64) {
        self.lock().probing.sent += packets;
    }

    /// Notes that packets of the peer were delivered.
    pub(super) fn on_received(&self) {
        // quinn answers them only if its congestion window has room, even with
        // bare acknowledgements; with both windows full of what the outage
        // swallowed, both ends would wait for the other. Probes are exempt
        // from the window and carry the acknowledgement.
        self.lock().probing.may_fire = true;
    }

    /// Notes whether the packet socket takes packets.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.0.blocked.store(blocked, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether a timer is due, and remembers whom to wake.
    fn check(&self, timer: u64, deadline: Instant, waker: &Waker) -> Wait {
        let blocked = self.0.blocked.load(Ordering::Relaxed);
        let mut state = self.lock();
        let now = state.look(real_now());
        if deadline <= now || (!blocked && state.fire_early(now, deadline)) {
            state.timers.remove(&timer);
            return Wait::Due;
        }
        let armed = Armed { deadline: Some(deadline), waker: waker.clone() };
        state.timers.insert(timer, armed);
        match state.stopped_at {
            Some(_) => Wait::Stopped,
            None => Wait::Until(deadline + state.taken_out),
        }
    }
}

impl State {
    /// Returns the transport time, after taking out a gap in which the process did not run.
    fn look(&mut self, real: Instant) -> Instant {
        let mut now = self.at(real);
        let due = self.timers.values().filter_map(|timer| timer.deadline).min();
        if let Some(due) = due
            && self.stopped_at.is_none()
            && now.saturating_duration_since(due) > STOPPED_AFTER
        {
            let gap = now - due;
            tracing::debug!(?gap, "the process was stopped or suspended");
            self.taken_out += gap;
            now = due;
            self.last_interruption = Some(now);
        }
        // What has come due is quinn's to handle from now on; a timer that
        // it does not arm again must not look like oversleeping.
        for timer in self.timers.values_mut() {
            timer.deadline = timer.deadline.filter(|deadline| *deadline > now);
        }
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Converts real time to transport time.
    fn at(&self, real: Instant) -> Instant {
        let real = self.stopped_at.unwrap_or(real);
        real.checked_sub(self.taken_out).unwrap_or(real)
    }

    /// Decides whether the timer fires before its time, to probe what is in flight.
    fn fire_early(&mut self, now: Instant, deadline: Instant) -> bool {
        if self.probing.left == 0 || self.stopped_at.is_some() {
            return false;
        }
        if deadline.saturating_duration_since(now) > EARLY_AT_MOST {
            return false; // nothing is in flight
        }
        if !self.probing.may_fire && self.probing.sent >= PROBE_PACKETS {
            return false;
        }
        self.probing = Probing { left: self.probing.left - 1, sent: 0, may_fire: false };
        // What this makes quinn give up for lost, if anything, is no congestion.
        self.last_interruption = Some(now);
        self.early_reading = Some((thread::current().id(), deadline));
        true
    }
}

impl Runtime for Clock {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        let mut state = self.lock();
        let id = state.next_timer;
        state.next_timer += 1;
        drop(state);
        Box::pin(Timer { clock: self.clone(), id, deadline, sleep: None })
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the proxy owns the sockets"))
    }

    fn now(&self) -> Instant {
        let mut state = self.lock();
        let now = state.look(real_now());
        // quinn reads the time once more after a timer has fired, to learn
        // which of its timers are due (connection.rs, `drive_timer`).
        match state.early_reading {
            Some((thread, deadline)) if thread == thread::current().id() => {
                state.early_reading = None;
                deadline.max(now)
            }
            _ => now,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Clock")
            .field("stopped", &state.stopped_at.is_some())
            .field("taken_out", &state.taken_out)
            .finish_non_exhaustive()
    }
}

/// One timer of quinn, in transport time.
struct Timer {
    clock: Clock,
    id: u64,
    deadline: Instant,
    /// The runtime's timer below; none while the clock is stopped.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.deadline = deadline;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.clock.check(self.id, self.deadline, cx.waker()) {
                Wait::Due => return Poll::Ready(()),
                Wait::Stopped => {
                    self.sleep = None;
                    return Poll::Pending;
                }
                Wait::Until(real) => {
                    let real = tokio::time::Instant::from_std(real);
                    let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(real)));
                    if sleep.deadline() != real {
                        sleep.as_mut().reset(real);
                    }
                    if Future::poll(sleep.as_mut(), cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clock.lock().timers.remove(&self.id);
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Returns the real time, which tests may move (tokio's paused clock).
fn real_now() -> Instant {
    tokio::time::Instant::now().into_std()
}
