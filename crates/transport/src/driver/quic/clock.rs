//! The clock quinn lives by: it shows transport time, which stops during outages.
//!
//! quinn asks [`Runtime::now`] for the time and [`Runtime::new_timer`] for its
//! one timer per connection; here [`TransportTime`] answers, above the runtime's
//! own clock and timers (in tests, tokio's paused clock).
//!
//! A timer that fires early has to look due: quinn reads the time once more
//! when its timer has fired, to see which of its deadlines have passed (quinn 0.11,
//! connection.rs, `drive_timer`). That one reading shows the deadline.
//!
//! Not here: time limits on connecting and the like; those run on real time.
//!
//! Invariants: none of the runtime's timers is armed while there is no path. No
//! lock is taken, and nobody is woken, while the lock here is held.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Instant;

use proxy::LinkChange;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::time::{Sleep, sleep_until};

use crate::time::{EARLY_TIMERS, TransportTime, Wait};

/// The clock; clones are the same clock.
#[derive(Clone)]
pub(super) struct Clock(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Whether the packet socket last refused to take a packet.
    blocked: AtomicBool,
}

struct State {
    time: TransportTime,
    /// Who waits for each timer.
    wakers: HashMap<u64, Waker>,
    next_timer: u64,
    /// The later time that the next reading on this thread shows.
    early_reading: Option<(ThreadId, Instant)>,
}

impl Clock {
    /// Makes a clock that runs, and shows real time to begin with.
    pub(super) fn new() -> Self {
        let state = State {
            time: TransportTime::new(EARLY_TIMERS),
            wakers: HashMap::new(),
            next_timer: 0,
            early_reading: None,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), blocked: AtomicBool::new(false) }))
    }

    /// Follows a change of the link.
    pub(super) fn on_link(&self, change: LinkChange) {
        tracing::debug!(?change, "link changed");
        self.lock().time.on_link(real_now(), change);
        self.wake_timers();
    }

    /// Notes that packets of the peer, or so it seems, were delivered. Returns
    /// whether that ends a silence.
    pub(super) fn on_received(&self) -> bool {
        let ends_silence = self.lock().time.on_received(real_now());
        if ends_silence {
            self.wake_timers();
        }
        ends_silence
    }

    /// Returns the transport time.
    pub(super) fn transport_now(&self) -> Instant {
        self.lock().time.now(real_now())
    }

    /// Notes that so many packets were sent.
    pub(super) fn on_sent(&self, packets: u64) {
        self.lock().time.on_sent(packets);
    }

    /// Notes whether the packet socket takes packets.
    pub(super) fn set_blocked(&self, blocked: bool) {
        self.0.blocked.store(blocked, Ordering::Relaxed);
    }

    /// See [`TransportTime::last_interruption`].
    pub(super) fn last_interruption(&self) -> Option<Instant> {
        self.lock().time.last_interruption()
    }

    /// See [`TransportTime::network`].
    pub(super) fn network(&self) -> u64 {
        self.lock().time.network()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every timer looked at anew: to fire early, or to give up its sleep.
    fn wake_timers(&self) {
        let wakers: Vec<_> = self.lock().wakers.values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Looks how things stand with a timer, and remembers whom to wake.
    fn check(&self, timer: u64, deadline: Instant, waker: &Waker) -> Wait {
        let blocked = self.0.blocked.load(Ordering::Relaxed);
        let mut state = self.lock();
        let wait = state.time.check(timer, deadline, real_now(), blocked);
        match wait {
            Wait::Due => {}
            Wait::Early => state.early_reading = Some((thread::current().id(), deadline)),
            Wait::Stopped | Wait::Until(_) => {
                state.wakers.insert(timer, waker.clone());
            }
        }
        wait
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
        let now = state.time.now(real_now());
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
        f.debug_tuple("Clock").field(&self.lock().time).finish()
    }
}

/// One timer of quinn, in transport time.
struct Timer {
    clock: Clock,
    id: u64,
    deadline: Instant,
    /// The runtime's timer below; none while there is nothing to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.deadline = deadline;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.clock.check(self.id, self.deadline, cx.waker()) {
                Wait::Due | Wait::Early => return Poll::Ready(()),
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
        let mut state = self.clock.lock();
        state.time.forget(self.id);
        state.wakers.remove(&self.id);
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Returns the real time, which tests may move (tokio's paused clock).
pub(super) fn real_now() -> Instant {
    tokio::time::Instant::now().into_std()
}
