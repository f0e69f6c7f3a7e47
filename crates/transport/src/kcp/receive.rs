//! [`Receiver`]: puts segments in order, and owes acks for them.
//!
//! Invariants: `slots` covers the numbers from `base` and is never longer than
//! the window, whatever the peer sends; its first `ready` entries are there.
//! So memory is bounded by the window times [`super::segment::MAX_DATA`].
//!
//! Departures from kcp-go v5, all invisible to a peer that honours windows:
//! what is beyond the window is dropped without an ack (kcp-go takes up to
//! twice the window), and acks are sent at once when a segment is missing, so
//! that the peer's fast resend does not wait for a tick.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use super::INTERVAL;
use super::wrapping::{Sn, Ts};

/// The receiving half of a conversation. `Debug` shows no data.
pub(super) struct Receiver {
    window: u16,
    /// The oldest segment that is not read to its end.
    base: Sn,
    /// From `base`; `None` is missing.
    slots: VecDeque<Option<Box<[u8]>>>,
    /// How many slots, from the first, are there.
    ready: u16,
    /// How much of the first slot was read.
    read: usize,
    acks: Acks,
    /// The window was last told as zero, so the peer may be waiting.
    told_closed: bool,
    /// The peer asked for the window, or must hear that it is open again.
    tell: bool,
}

#[derive(Debug, Default)]
struct Acks {
    pending: Vec<Ack>,
    /// When they must leave, if nothing takes them along before.
    due_at: Option<Instant>,
}

/// A data segment to acknowledge, with the time to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) sn: Sn,
    pub(super) ts: Ts,
}

/// As many acks fill a packet and leave at once; the caller knows its packets.
pub(super) struct AckBatch(pub(super) usize);

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("base", &self.base)
            .field("ready", &self.ready)
            .field("acks", &self.acks)
            .finish_non_exhaustive()
    }
}

impl Receiver {
    pub(super) fn new(window: u16, first: Sn) -> Self {
        Self {
            window,
            base: first,
            slots: VecDeque::new(),
            ready: 0,
            read: 0,
            acks: Acks::default(),
            told_closed: false,
            tell: false,
        }
    }

    /// Returns the first number not received: `una` of every segment we send.
    pub(super) const fn next(&self) -> Sn {
        self.base.plus(self.ready as u32)
    }

    /// Returns how many more segments fit: `wnd` of every segment we send.
    pub(super) const fn free(&self) -> u16 {
        self.window.saturating_sub(self.ready)
    }

    /// Takes a data segment.
    pub(super) fn on_push(&mut self, now: Instant, ack: Ack, data: &[u8], batch: &AckBatch) {
        // Before `base`: read long ago, but the ack was lost, so it is due again.
        let offset = ack.sn.offset(self.base);
        if offset.is_some_and(|offset| offset >= usize::from(self.window)) {
            return;
        }
        let gap = self.slots.len() > usize::from(self.ready) || ack.sn.since(self.next()) > 0;
        // A bound for a peer that repeats itself while our packets cannot leave.
        if self.acks.pending.len() < usize::from(self.window) {
            self.acks.pending.push(ack);
        }
        let due = if gap || self.acks.pending.len() >= batch.0 { now } else { now + INTERVAL };
        self.acks.due_at = Some(self.acks.due_at.map_or(due, |at| at.min(due)));
        if let Some(offset) = offset {
            self.store(offset, data);
        }
    }

    fn store(&mut self, offset: usize, data: &[u8]) {
        if self.slots.len() <= offset {
            self.slots.resize(offset + 1, None);
        }
        if let Some(slot @ None) = self.slots.get_mut(offset) {
            *slot = Some(data.into());
        }
        while let Some(Some(_)) = self.slots.get(usize::from(self.ready)) {
            self.ready += 1;
        }
    }

    /// Takes the peer's wish to hear the window.
    pub(super) const fn on_window_ask(&mut self) {
        self.tell = true;
    }

    /// Moves received bytes to `buf`; returns how many.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(Some(data)) = self.slots.front() {
            let from = data.get(self.read..).unwrap_or_default();
            let len = from.len().min(buf.len() - filled);
            let done = len == from.len();
            if let (Some(to), Some(from)) = (buf.get_mut(filled..filled + len), from.get(..len)) {
                to.copy_from_slice(from);
            }
            filled += len;
            if !done {
                self.read += len;
                break;
            }
            self.pop();
        }
        filled
    }

    fn pop(&mut self) {
        self.slots.pop_front();
        self.read = 0;
        self.base = self.base.plus(1);
        self.ready -= 1;
        self.tell |= self.told_closed;
    }

    pub(super) const fn is_readable(&self) -> bool {
        self.ready > 0
    }

    /// Makes the acks owed leave at once.
    pub(super) const fn hurry_acks(&mut self, now: Instant) {
        if self.acks.due_at.is_some() {
            self.acks.due_at = Some(now);
        }
    }

    /// Returns when the acks owed must leave.
    pub(super) const fn acks_due_at(&self) -> Option<Instant> {
        self.acks.due_at
    }

    /// Takes up to `most` acks to send now. Rest, if any, stays due.
    ///
    /// Of those that `una` covers only the newest goes: it carries the time
    /// for the peer's estimate.
    pub(super) fn take_acks(&mut self, most: usize) -> Vec<Ack> {
        let next = self.next();
        let last = self.acks.pending.len().saturating_sub(1);
        let mut index = 0..;
        self.acks.pending.retain(|ack| index.next() == Some(last) || ack.sn.since(next) >= 0);
        let most = most.min(self.acks.pending.len());
        let taken: Vec<Ack> = self.acks.pending.drain(..most).collect();
        if self.acks.pending.is_empty() {
            self.acks.due_at = None;
        }
        taken
    }

    pub(super) const fn wants_to_tell(&self) -> bool {
        self.tell
    }

    /// Notes that a segment with the present window leaves.
    pub(super) const fn on_told(&mut self) {
        self.told_closed = self.free() == 0;
        self.tell = false;
    }

    /// Returns how many segments are held, for the tests of bounds.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.slots.len(), self.acks.pending.len())
    }
}
