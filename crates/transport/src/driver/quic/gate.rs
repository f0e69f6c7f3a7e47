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
//! Who waits is woken when there is room, all at once, and each may then take
//! an equal share before it has to wait again: nobody lives on the others' room,
//! and nobody who has gone keeps room from them.
//!
//! Invariant: who waits is woken. While anything is under way its fate changes
//! the estimate; when nothing is, there is room, whatever the estimate says. The
//! end of the connection wakes nobody here; who waits watches for that as well.

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

#[derive(Debug)]
struct State {
    /// Bytes quinn has not sent, at a guess.
    held: u64,
    /// quinn's congestion window in bytes, and the size of its packets.
    window: u64,
    packet: u64,
    /// Bytes under way, at a guess.
    in_flight: u64,
    /// Who waits, in order.
    waiting: VecDeque<(u64, Waker)>,
    /// Counts how often those who wait were woken.
    round: u64,
    /// Bytes that each may take in this round.
    share: u64,
    /// What datagrams have taken, all together.
    datagrams: Turn,
    /// When somebody last had to wait.
    held_back_at: Option<Instant>,
    next_key: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            held: 0,
            window: 0,
            packet: 0,
            in_flight: 0,
            waiting: VecDeque::new(),
            round: 0,
            share: u64::MAX,
            datagrams: Turn::default(),
            held_back_at: None,
            next_key: 0,
        }
    }
}

/// What somebody may take, and has taken.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// The round in which this was last made to wait: it has a turn in later ones.
    waited: Option<u64>,
    round: u64,
    /// Bytes taken in that round.
    taken: u64,
}

impl Turn {
    /// Returns how many bytes may be taken in a round in which others wait, or do not.
    fn left(self, round: u64, share: u64, others_wait: bool) -> u64 {
        let has_turn = self.waited.is_some_and(|waited| waited < round);
        match (has_turn, others_wait) {
            (false, true) => 0,
            _ if self.round == round => share.saturating_sub(self.taken),
            _ => share,
        }
    }

    fn add(&mut self, round: u64, bytes: u64) {
        if self.round != round {
            (self.round, self.taken) = (round, 0);
        }
        self.taken += bytes;
    }
}

/// Somebody's place before the gate, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Gate,
    /// Tells it from the others.
    key: u64,
    /// `None` for a datagram: all of them have one turn.
    turn: Option<Turn>,
}

impl Place {
    /// Returns the place of a stream.
    pub(super) fn new(gate: &Gate) -> Self {
        Self::with(gate, Some(Turn::default()))
    }

    /// Returns the place of a datagram.
    pub(super) fn of_datagram(gate: &Gate) -> Self {
        Self::with(gate, None)
    }

    fn with(gate: &Gate, turn: Option<Turn>) -> Self {
        let mut state = gate.lock();
        state.next_key += 1;
        Self { gate: gate.clone(), key: state.next_key, turn }
    }

    /// Returns how many bytes may be given to quinn now; waits while it is none.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut guard = self.gate.lock();
        let state = &mut *guard;
        let turn = self.turn.as_mut().unwrap_or(&mut state.datagrams);
        let others_wait = state.waiting.iter().any(|(key, _)| *key != self.key);
        let left = turn.left(state.round, state.share, others_wait);
        let room = limit(state.window, state.packet).saturating_sub(state.held).min(left);
        if room > 0 {
            return Poll::Ready(usize::try_from(room).unwrap_or(usize::MAX));
        }
        turn.waited = Some(state.round);
        state.held_back_at = Some(real_now());
        match state.waiting.iter_mut().find(|(key, _)| *key == self.key) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.waiting.push_back((self.key, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Notes what quinn was given.
    pub(super) fn on_given(&mut self, bytes: usize) {
        let mut guard = self.gate.lock();
        let state = &mut *guard;
        state.held += bytes as u64;
        let turn = self.turn.as_mut().unwrap_or(&mut state.datagrams);
        turn.add(state.round, bytes as u64);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().waiting.retain(|(key, _)| *key != self.key);
    }
}

impl Gate {
    /// Notes what has left, in packets of up to `packet` bytes.
    pub(super) fn on_sent(&self, bytes: u64, packet: u64, window: u64) {
        self.change(|state| {
            (state.window, state.packet) = (window, packet);
            state.in_flight += bytes;
            let carried = bytes.saturating_sub(OVERHEAD * bytes.div_ceil(packet.max(1)));
            state.held = state.held.saturating_sub(carried);
        });
    }

    /// Returns whether somebody had to wait within the last `time`: if quinn runs
    /// dry then, it is not the application that has too little to send.
    pub(super) fn has_held_back(&self, time: Duration) -> bool {
        self.lock().held_back_at.is_some_and(|at| real_now() <= at + time)
    }

    /// Notes the window, and what is under way.
    pub(super) fn on_acked(&self, window: u64, in_flight: u64) {
        self.change(|state| (state.window, state.in_flight) = (window, in_flight));
    }

    /// Notes what was lost, and has to be sent again unless it was datagrams.
    pub(super) fn on_lost(&self, bytes: u64) {
        self.change(|state| {
            state.held += bytes;
            state.in_flight = state.in_flight.saturating_sub(bytes);
            if state.in_flight == 0 {
                // It may have been datagrams, and then nothing more will be heard.
                state.held = state.held.min(state.limit() / 2);
            }
        });
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
        state.round += 1;
        state.share = match waiting.len() as u64 {
            1 => u64::MAX,
            several => (state.limit().saturating_sub(state.held) / several).max(state.packet),
        };
        drop(state);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn limit(&self) -> u64 {
        limit(self.window, self.packet)
    }
}

/// Returns how much quinn may hold: a quarter of a round trip's worth, or
/// half of one where that is little.
fn limit(window: u64, packet: u64) -> u64 {
    let least = (PACKETS * packet).min(window / 2);
    (window / 4).max(least).max(2 * packet).max(1)
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
        place.on_given(7_000);
        assert_eq!(room(&mut place), Poll::Pending);
        gate.on_sent(3 * PACKET, PACKET, 14_000);
        assert_eq!(room(&mut place), Poll::Ready(3 * (1400 - 80)));
        gate.on_lost(PACKET);
        assert_eq!(room(&mut place), Poll::Ready(3 * (1400 - 80) - 1400), "to be sent again");
        gate.on_dry();
        assert_eq!(room(&mut place), Poll::Ready(7_000));
    }

    #[test]
    fn nobody_waits_twice_and_who_has_gone_is_forgotten() {
        let (gate, mut place) = gate(14_000);
        place.on_given(7_000);
        assert_eq!(room(&mut place), Poll::Pending);
        assert_eq!(room(&mut place), Poll::Pending);
        assert_eq!(gate.lock().waiting.len(), 1);
        drop(place);
        assert_eq!(gate.lock().waiting.len(), 0);
    }

    /// Has each of the places take all it is given in turn, again and again, while packets leave;
    /// returns how many bytes each had.
    fn compete(gate: &Gate, places: &mut [Place]) -> Vec<usize> {
        let mut had = vec![0; places.len()];
        for _ in 0..1000 {
            for (place, had) in places.iter_mut().zip(&mut had) {
                while let Poll::Ready(bytes) = room(place) {
                    let bytes = bytes.min(1400);
                    place.on_given(bytes);
                    *had += bytes;
                }
            }
            gate.on_sent(4 * PACKET, PACKET, 140_000);
        }
        had
    }

    #[test]
    fn who_is_first_does_not_live_on_the_others_room() {
        let (gate, first) = gate(140_000);
        let datagrams = Place::of_datagram(&gate);
        let had = compete(&gate, &mut [first, Place::new(&gate), datagrams]);
        let least = had.iter().sum::<usize>() / 4;
        assert!(had.iter().all(|had| *had > least), "{had:?}");
    }

    #[test]
    fn who_has_gone_keeps_no_room_from_the_others() {
        let (gate, mut stays) = gate(140_000);
        let mut leaves = Place::new(&gate);
        stays.on_given(70_000);
        assert_eq!((room(&mut leaves), room(&mut stays)), (Poll::Pending, Poll::Pending));
        let both: usize = compete(&gate, &mut [stays]).iter().sum();
        let (gate, alone) = self::gate(140_000);
        let one: usize = compete(&gate, &mut [alone]).iter().sum();
        assert!(both + 72_800 >= one, "{both} of {one}");
    }

    #[test]
    fn datagrams_that_are_lost_and_not_sent_again_hold_up_nothing() {
        let (gate, _place) = gate(14_000);
        let mut datagram = Place::of_datagram(&gate);
        datagram.on_given(7_000);
        gate.on_sent(6 * PACKET, PACKET, 14_000);
        assert_eq!(room(&mut datagram), Poll::Ready(7_000));
        // The last of them is acknowledged, which shows that the others are lost.
        gate.on_acked(14_000, 5 * PACKET);
        gate.on_dry();
        gate.on_lost(5 * PACKET);
        assert!(room(&mut datagram).is_ready());
    }
}
