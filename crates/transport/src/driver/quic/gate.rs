//! [`Gate`]: lets bulk data into quinn no earlier than it can soon be sent.
//!
//! quinn takes megabytes. What it has been given cannot be taken back when the
//! interrupt key makes it worthless, and datagrams it sends before any stream.
//! So bulk and datagrams wait here, and quinn holds a part of a round trip.
//!
//! How much it holds is an estimate, for quinn does not say: what it was given,
//! less what has left in packets, more what was lost and has to be sent again.
//! A packet is taken to carry a little less than it does. So the estimate errs
//! upwards; then quinn runs dry early, says so with the next acks, and all is
//! exact again.
//!
//! Invariant: who waits is woken, for as long as anything is held something is
//! sent or acknowledged. The end of the connection wakes nobody here; who waits
//! watches for that as well.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::clock::real_now;

/// What each packet is taken to carry besides: header, tag and frame headers are
/// about 40, acknowledgements some more.
const OVERHEAD: u64 = 80;
/// Packets that may always be held if the window is large enough, as many as
/// quinn may send in one go (its pacing.rs), and again as many.
const PACKETS: u64 = 24;

/// The gate of one connection; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Bytes quinn has not sent, at a guess.
    held: u64,
    /// quinn's congestion window in bytes, and the size of its packets.
    window: u64,
    packet: u64,
    /// Who waits, in order.
    waiting: VecDeque<(u64, Waker)>,
    /// When somebody last had to wait.
    held_back_at: Option<Instant>,
    next_key: u64,
}

/// Somebody's place before the gate, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Gate,
    /// Tells it from the others.
    key: u64,
}

impl Place {
    pub(super) fn new(gate: &Gate) -> Self {
        let mut state = gate.lock();
        state.next_key += 1;
        Self { key: state.next_key, gate: gate.clone() }
    }

    /// Returns how many bytes may be given to quinn now; waits while it is none.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.gate.lock();
        let room = state.limit().saturating_sub(state.held);
        if room > 0 {
            return Poll::Ready(usize::try_from(room).unwrap_or(usize::MAX));
        }
        state.held_back_at = Some(real_now());
        match state.waiting.iter_mut().find(|(key, _)| *key == self.key) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.waiting.push_back((self.key, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Notes what quinn was given.
    pub(super) fn on_given(&self, bytes: usize) {
        self.gate.on_given(bytes);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().waiting.retain(|(key, _)| *key != self.key);
    }
}

impl Gate {
    /// Notes what quinn was given.
    pub(super) fn on_given(&self, bytes: usize) {
        self.lock().held += bytes as u64;
    }

    /// Notes what has left, in packets of up to `packet` bytes.
    pub(super) fn on_sent(&self, bytes: u64, packet: u64, window: u64) {
        self.change(|state| {
            (state.window, state.packet) = (window, packet);
            let carried = bytes.saturating_sub(OVERHEAD * bytes.div_ceil(packet.max(1)));
            state.held = state.held.saturating_sub(carried);
        });
    }

    /// Returns whether somebody had to wait within the last `time`: if quinn runs
    /// dry then, it is not the application that has too little to send.
    pub(super) fn has_held_back(&self, time: Duration) -> bool {
        self.lock().held_back_at.is_some_and(|at| real_now() <= at + time)
    }

    /// Notes the window.
    pub(super) fn on_window(&self, window: u64) {
        self.change(|state| state.window = window);
    }

    /// Notes what has to be sent again.
    pub(super) fn on_lost(&self, bytes: u64) {
        self.lock().held += bytes;
    }

    /// Notes that quinn has nothing to send.
    pub(super) fn on_dry(&self) {
        self.change(|state| state.held = 0);
    }

    /// Changes the state, and wakes who waits if there is enough room then.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        // Half of it: not for every packet.
        if state.waiting.is_empty() || state.held > state.limit() / 2 {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns how much quinn may hold: a quarter of a round trip's worth, or
    /// half of one where that is little.
    fn limit(&self) -> u64 {
        let least = (PACKETS * self.packet).min(self.window / 2);
        (self.window / 4).max(least).max(2 * self.packet).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1400;

    fn room(place: &mut Place) -> Poll<usize> {
        place.poll_room(&mut Context::from_waker(Waker::noop()))
    }

    fn gate(window: u64) -> (Gate, Place) {
        let gate = Gate::default();
        gate.on_sent(0, PACKET, window);
        let place = Place::new(&gate);
        (gate, place)
    }

    #[test]
    fn a_narrow_link_holds_half_a_window_and_a_wide_one_a_quarter() {
        let (_gate, mut narrow) = gate(14_000);
        assert_eq!(room(&mut narrow), Poll::Ready(7_000));
        let (_gate, mut wide) = gate(1_000_000);
        assert_eq!(room(&mut wide), Poll::Ready(250_000));
    }

    #[test]
    fn what_is_given_is_held_until_packets_have_taken_it_along() {
        let (gate, mut place) = gate(14_000);
        gate.on_given(7_000);
        assert_eq!(room(&mut place), Poll::Pending);
        gate.on_sent(3 * PACKET, PACKET, 14_000);
        assert_eq!(room(&mut place), Poll::Ready(3 * (1400 - 80)));
        gate.on_lost(PACKET);
        assert_eq!(room(&mut place), Poll::Ready(3 * (1400 - 80) - 1400));
        gate.on_dry();
        assert_eq!(room(&mut place), Poll::Ready(7_000));
    }

    #[test]
    fn nobody_waits_twice_and_who_has_gone_is_forgotten() {
        let (gate, mut place) = gate(14_000);
        gate.on_given(7_000);
        assert_eq!(room(&mut place), Poll::Pending);
        assert_eq!(room(&mut place), Poll::Pending);
        assert_eq!(gate.lock().waiting.len(), 1);
        drop(place);
        assert_eq!(gate.lock().waiting.len(), 0);
    }
}
