//! [`Sender`]: cuts bytes into segments, and sends each until it is acknowledged.
//!
//! Invariants: `slots` covers the numbers from `una` and is never longer than
//! the send window; `unsent` is never longer than its limit; a segment is in
//! `lost` at most once; `alarm`, if set, is not later than the first timeout of
//! a segment in flight, and unset if nothing is outstanding.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::control::{Acked, Control, LossSign, Lost, Sent};
use super::receive::Ack;
use super::rto::{MAX_RTO, Rtt};
use super::segment::HEADER_LEN;
use super::wrapping::{Sn, Ts};

/// The sending half of a conversation. `Debug` shows no data.
pub(super) struct Sender {
    limits: Limits,
    control: Box<dyn Control>,
    rtt: Rtt,
    /// The oldest segment that is not acknowledged.
    una: Sn,
    /// From `una`, all sent at least once; `None` is acknowledged.
    slots: VecDeque<Option<Outstanding>>,
    /// To be sent again, in this order; may name some acknowledged since.
    lost: VecDeque<Sn>,
    unsent: VecDeque<u8>,
    /// Bytes that ever left `unsent`.
    cut: u64,
    in_flight: usize,
    /// How many segments from `una` the peer can take.
    remote_window: u16,
    probe: Option<Probe>,
    /// The peer's window is to be asked for.
    ask: bool,
    alarm: Option<Instant>,
    /// One lost segment leaves whatever the windows and the pacing say.
    probing: bool,
    /// When something was last acknowledged.
    heard_at: Option<Instant>,
    /// When the newest segment was sent that is acknowledged.
    acked: Option<Instant>,
    /// Until then, when there is nothing to send, somebody has more.
    held_back_until: Option<Instant>,
}

/// What never changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most data in a segment.
    pub(super) mss: usize,
    /// Most segments outstanding.
    pub(super) window: u16,
    /// Most bytes waiting to be sent for the first time.
    pub(super) unsent_bytes: usize,
}

/// A segment that was sent and is not acknowledged.
struct Outstanding {
    data: Box<[u8]>,
    /// How many bytes were sent before it.
    offset: u64,
    first_sent: Instant,
    /// Of the last transmission, as are the following.
    sent_at: Instant,
    ts: Ts,
    rto: Duration,
    /// How many sent later, or at the same time, have arrived; up to two.
    overtaken: u8,
    /// Taken as lost: listed in `lost`, not counted in `in_flight`.
    lost: bool,
    /// Later ones have arrived without it.
    was_missing: bool,
}

/// Asks a peer whose window is closed whether it is open again.
#[derive(Clone, Copy, Debug)]
struct Probe {
    wait: Duration,
    at: Instant,
}

/// A data segment to be written into a packet.
pub(super) struct Outgoing<'a> {
    pub(super) sn: Sn,
    pub(super) data: &'a [u8],
}

/// What a packet said about the segments we sent.
pub(super) struct Report<'a> {
    pub(super) acks: &'a mut Vec<Ack>,
    /// The latest `una` of the packet, with the window beside it.
    pub(super) una: Sn,
    pub(super) window: u16,
    /// The packet was recovered: it may be old, so its window and its times
    /// say nothing about now.
    pub(super) recovered: bool,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("una", &self.una)
            .field("outstanding", &self.slots.len())
            .field("in_flight", &self.in_flight)
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

impl Sender {
    pub(super) fn new(limits: Limits, first: Sn, control: Box<dyn Control>) -> Self {
        Self {
            limits,
            control,
            rtt: Rtt::default(),
            una: first,
            slots: VecDeque::new(),
            lost: VecDeque::new(),
            unsent: VecDeque::new(),
            cut: 0,
            in_flight: 0,
            remote_window: INITIAL_REMOTE_WINDOW,
            probe: None,
            ask: false,
            alarm: None,
            probing: false,
            heard_at: None,
            acked: None,
            held_back_until: None,
        }
    }

    pub(super) const fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    pub(super) fn window_bytes(&self) -> usize {
        self.control.window_bytes()
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.slots.is_empty() && self.unsent.is_empty()
    }

    pub(super) fn room(&self) -> usize {
        self.limits.unsent_bytes.saturating_sub(self.unsent.len())
    }

    /// Returns how many bytes were acknowledged, from the first without a gap.
    pub(super) fn delivered(&self) -> u64 {
        // What is acknowledged at the front is forgotten at once.
        self.slots.front().and_then(Option::as_ref).map_or(self.cut, |first| first.offset)
    }

    /// Returns how many more bytes to queue: what the windows let through, and
    /// in any case enough that an opening window or the pacing finds something.
    pub(super) fn wanted(&self) -> usize {
        let (mss, queued) = (self.limits.mss, self.unsent.len());
        if queued >= 2 * mss {
            return 0;
        }
        let window = usize::from(self.limits.window.min(self.remote_window));
        let segments = window.saturating_sub(self.slots.len());
        let controlled = self.control.window_bytes().saturating_sub(self.in_flight);
        let open = segments.saturating_mul(mss).min(controlled);
        open.max(2 * mss).saturating_sub(queued).min(self.room())
    }

    /// Queues as much of `data` as there is room for; returns how much.
    pub(super) fn write(&mut self, now: Instant, data: &[u8]) -> usize {
        let len = data.len().min(self.room());
        self.unsent.extend(data.get(..len).unwrap_or_default());
        self.watch_window(now);
        len
    }

    /// Notes that a writer with more was told to wait, though there is room.
    pub(super) fn on_held_back(&mut self, now: Instant) {
        self.held_back_until = self.rtt.smoothed().map(|rtt| now + rtt);
    }

    /// Takes what a packet said.
    pub(super) fn on_report(&mut self, now: Instant, now_ts: Ts, report: Report<'_>) {
        let before = self.una;
        // Acks first: one that `una` covers still carries a round trip.
        report.acks.retain(|ack| self.on_ack(now, now_ts, *ack, report.recovered));
        self.on_una(now, report.una);
        // A packet from before the last one we heard says what was, not what is.
        if !report.recovered && report.una.since(before) >= 0 {
            self.remote_window = report.window;
        }
        self.mark_overtaken(now, report.acks);
        self.watch_window(now);
    }

    /// Takes one ack; returns whether it was news.
    fn on_ack(&mut self, now: Instant, now_ts: Ts, ack: Ack, recovered: bool) -> bool {
        let slot = ack.sn.offset(self.una).and_then(|offset| self.slots.get_mut(offset));
        let Some(segment) = slot.and_then(Option::take) else { return false };
        let rtt = (!recovered).then(|| segment.round_trip(now, now_ts, ack.ts)).flatten();
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt);
        }
        self.on_arrived(now, &segment, rtt);
        true
    }

    /// Forgets all before `una`, and what was acknowledged behind it.
    fn on_una(&mut self, now: Instant, una: Sn) {
        // An `una` that we never reached is a lie; one from before is merely old.
        let covered = una.offset(self.una).filter(|count| *count <= self.slots.len()).unwrap_or(0);
        for _ in 0..covered {
            if let Some(Some(segment)) = self.slots.pop_front() {
                self.on_arrived(now, &segment, None);
            }
            self.una = self.una.plus(1);
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.una = self.una.plus(1);
        }
        if self.slots.is_empty() {
            self.alarm = None;
            self.lost.clear();
        } else if covered > 0 {
            self.put_first();
        }
    }

    /// Sends the oldest outstanding segment first, if it is to be sent again: the
    /// reader waits for it, wherever it is among those that are to be sent.
    fn put_first(&mut self) {
        let is_lost = matches!(self.slots.front(), Some(Some(segment)) if segment.lost);
        if is_lost && self.lost.front() != Some(&self.una) {
            self.lost.retain(|sn| *sn != self.una);
            self.lost.push_front(self.una);
        }
    }

    fn on_arrived(&mut self, now: Instant, segment: &Outstanding, rtt: Option<Duration>) {
        self.heard_at = Some(now);
        self.acked = self.acked.max(Some(segment.sent_at));
        let bytes = segment.bytes();
        if !segment.lost {
            self.in_flight -= bytes;
        }
        let (sent_at, in_flight) = (segment.sent_at, self.in_flight);
        self.control.on_acked(now, Acked { bytes, sent_at, rtt, in_flight });
    }

    /// Takes as lost what two segments sent later have overtaken; one suffices
    /// when nothing new can be sent that could still show the loss.
    fn mark_overtaken(&mut self, now: Instant, arrived: &[Ack]) {
        let Some(highest) = arrived.iter().max_by_key(|ack| ack.sn.since(self.una)) else { return };
        let end = highest.sn.offset(self.una).unwrap_or(0);
        let enough = if self.new_segment_allowed() { FAST_RESEND } else { 1 };
        for offset in 0..end.min(self.slots.len()) {
            let Some(Some(segment)) = self.slots.get_mut(offset) else { continue };
            let sn = self.una.plus(u32::try_from(offset).unwrap_or(u32::MAX));
            let later = |ack: &&Ack| ack.sn.since(sn) > 0 && ack.ts.since(segment.ts) >= 0;
            let missing = FAST_RESEND.saturating_sub(segment.overtaken);
            for _ in arrived.iter().filter(later).take(usize::from(missing)) {
                segment.overtaken += 1;
            }
            if !segment.lost && segment.overtaken >= enough {
                segment.rto = self.rtt.rto();
                segment.was_missing = true;
                self.mark_lost(now, sn, Some(LossSign::Overtaken));
            }
        }
    }

    /// Lists a segment for sending again. Without a `sign` nobody is told.
    fn mark_lost(&mut self, now: Instant, sn: Sn, sign: Option<LossSign>) {
        let slot = sn.offset(self.una).and_then(|offset| self.slots.get_mut(offset));
        let Some(segment) = slot.and_then(Option::as_mut).filter(|s| !s.lost) else { return };
        segment.lost = true;
        let (bytes, sent_at) = (segment.bytes(), segment.sent_at);
        self.in_flight -= bytes;
        self.lost.push_back(sn);
        if let Some(sign) = sign {
            let in_flight = self.in_flight;
            self.control.on_lost(now, Lost { bytes, sent_at, sign, in_flight });
        }
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        if self.alarm.is_some_and(|at| at <= now) {
            self.on_alarm(now);
        }
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.at <= now) {
            self.ask = true;
            probe.wait = (probe.wait * 3 / 2).min(MAX_PROBE_WAIT);
            probe.at = now + probe.wait;
        }
    }

    fn on_alarm(&mut self, now: Instant) {
        let back_off = self.rtt.rto() / 2;
        // While acks come in, what was sent later tells what is lost, and a queue
        // that grows is no reason to send a whole flight once more.
        let quiet_at = self.heard_at.map_or(now, |at| at + QUIET);
        self.alarm = None;
        for offset in 0..self.slots.len() {
            let Some(Some(segment)) = self.slots.get_mut(offset) else { continue };
            if segment.lost {
                continue;
            }
            let due = (segment.sent_at + segment.rto).max(quiet_at);
            if due > now {
                self.alarm = Some(self.alarm.map_or(due, |at| at.min(due)));
                continue;
            }
            segment.rto = (segment.rto + back_off).min(MAX_RTO);
            let sn = self.una.plus(u32::try_from(offset).unwrap_or(u32::MAX));
            self.mark_lost(now, sn, Some(LossSign::Timeout));
        }
    }

    /// Sends all that is outstanding again, without back-off; asks for a
    /// closed window at once.
    ///
    /// Under load the oldest have arrived before the path was lost, and only
    /// their acks have not: those go last, and are forgotten when the peer says
    /// what it has. So the first to arrive is the first that the reader misses.
    pub(super) fn reset_rto(&mut self, now: Instant) {
        let rto = self.rtt.rto();
        let arrived_until = self.acked.map(|at| at + self.rtt.acks_under_way());
        let mut arrived = Vec::new();
        self.lost.clear();
        for offset in 0..self.slots.len() {
            let Some(Some(segment)) = self.slots.get_mut(offset) else { continue };
            segment.rto = rto;
            if !std::mem::replace(&mut segment.lost, true) {
                self.in_flight -= segment.bytes();
            }
            let has_arrived = offset > 0
                && !segment.was_missing
                && segment.overtaken == 0
                && arrived_until.is_some_and(|at| segment.first_sent <= at);
            let sn = self.una.plus(u32::try_from(offset).unwrap_or(u32::MAX));
            if has_arrived {
                arrived.push(sn);
            } else {
                self.lost.push_back(sn);
            }
        }
        self.lost.extend(arrived);
        self.alarm = None;
        if self.probe.is_some() {
            self.probe = Some(Probe::first(now));
            self.ask = true;
        }
    }

    pub(super) fn on_other_network(&mut self, now: Instant) {
        // A timeout learnt on a quick network would send everything several
        // times before the first ack can come over a slow one.
        self.rtt = Rtt::default();
        self.control.on_other_network(now);
    }

    /// Sends the oldest outstanding segment again, exempt from the windows and
    /// the pacing, or asks for a window that is closed; nobody is told of a loss.
    pub(super) fn probe(&mut self, now: Instant) {
        self.mark_lost(now, self.una, None);
        self.probing = true;
        self.ask |= self.probe.is_some();
    }

    /// Starts or ends the asking, as data waits for a closed window or not.
    fn watch_window(&mut self, now: Instant) {
        let blocked = self.remote_window == 0 && !self.unsent.is_empty();
        if !blocked {
            (self.probe, self.ask) = (None, false);
        } else if self.probe.is_none() {
            self.probe = Some(Probe::first(now));
        }
    }

    pub(super) const fn wants_to_ask(&self) -> bool {
        self.ask
    }

    pub(super) const fn on_asked(&mut self) {
        self.ask = false;
    }

    fn new_segment_allowed(&self) -> bool {
        let window = usize::from(self.limits.window.min(self.remote_window));
        !self.unsent.is_empty() && self.slots.len() < window
    }

    /// Returns whether data could leave but for the pacing.
    fn has_data(&self) -> bool {
        let controlled = self.in_flight == 0 || self.in_flight < self.control.window_bytes();
        controlled && (!self.lost.is_empty() || self.new_segment_allowed())
    }

    /// Returns whether a packet with data may leave now.
    pub(super) fn may_send(&self, now: Instant) -> bool {
        let released = self.control.release_at().is_none_or(|at| at <= now);
        (self.probing && !self.lost.is_empty()) || (self.has_data() && released)
    }

    /// Returns the next data segment for a packet with `room` bytes left, now
    /// taken as sent; the lost ones go first.
    pub(super) fn next_segment(
        &mut self,
        now: Instant,
        ts: Ts,
        room: usize,
    ) -> Option<Outgoing<'_>> {
        let is_probe = std::mem::take(&mut self.probing);
        if !is_probe && !self.has_data() {
            return None;
        }
        let room = room.checked_sub(HEADER_LEN)?;
        let sn = match self.next_lost() {
            Some(sn) => self.resend(now, ts, sn, room)?,
            None => self.send_new(now, ts, room)?,
        };
        let offset = sn.offset(self.una)?;
        let segment = self.slots.get(offset)?.as_ref()?;
        let bytes = segment.bytes();
        let due = segment.sent_at + segment.rto;
        self.alarm = Some(self.alarm.map_or(due, |at| at.min(due)));
        self.in_flight += bytes;
        let application_limited = self.unsent.is_empty()
            && self.lost.is_empty()
            && self.held_back_until.is_none_or(|until| until < now);
        let in_flight = self.in_flight;
        if !is_probe {
            // Probes of a long silence would add up to a long pause behind it.
            self.control.on_sent(now, Sent { bytes, in_flight, application_limited });
        }
        let data = &self.slots.get(offset)?.as_ref()?.data;
        Some(Outgoing { sn, data })
    }

    /// Drops from the list what was acknowledged since; returns the first left.
    fn next_lost(&mut self) -> Option<Sn> {
        while let Some(sn) = self.lost.front().copied() {
            let slot = sn.offset(self.una).and_then(|offset| self.slots.get(offset));
            if matches!(slot, Some(Some(_))) {
                return Some(sn);
            }
            self.lost.pop_front();
        }
        None
    }

    fn resend(&mut self, now: Instant, ts: Ts, sn: Sn, room: usize) -> Option<Sn> {
        let segment = self.slots.get_mut(sn.offset(self.una)?)?.as_mut()?;
        if segment.data.len() > room {
            return None;
        }
        (segment.lost, segment.overtaken) = (false, 0);
        (segment.sent_at, segment.ts) = (now, ts);
        self.lost.pop_front();
        Some(sn)
    }

    fn send_new(&mut self, now: Instant, ts: Ts, room: usize) -> Option<Sn> {
        if !self.new_segment_allowed() {
            return None;
        }
        let whole = self.unsent.len().min(self.limits.mss);
        // A segment is cut short to use the rest of a packet, but not into a
        // sliver that costs a header and a place in the window.
        if room < whole && room < self.limits.mss / 2 {
            return None;
        }
        let data = take_front(&mut self.unsent, whole.min(room));
        let sn = self.una.plus(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let offset = self.cut;
        self.cut += data.len() as u64;
        self.slots.push_back(Some(Outstanding {
            data,
            offset,
            first_sent: now,
            sent_at: now,
            ts,
            rto: self.rtt.rto(),
            overtaken: 0,
            lost: false,
            was_missing: false,
        }));
        Some(sn)
    }

    /// Returns when [`Sender::on_timeout`] or a paced packet is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let paced = if self.has_data() { self.control.release_at() } else { None };
        [self.alarm, self.probe.map(|probe| probe.at), paced].into_iter().flatten().min()
    }

    /// Returns how many segments and bytes are held, for the tests of bounds.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize, usize) {
        (self.slots.len(), self.lost.len(), self.unsent.len())
    }
}

impl Outstanding {
    fn bytes(&self) -> usize {
        HEADER_LEN + self.data.len()
    }

    /// Returns the round trip that an ack with the time `echo` measured, unless
    /// it names a time at which this segment was not under way.
    fn round_trip(&self, now: Instant, now_ts: Ts, echo: Ts) -> Option<Duration> {
        if echo == self.ts {
            return Some(now.saturating_duration_since(self.sent_at));
        }
        // An earlier transmission: only the wire's milliseconds are left of it.
        let rtt = Duration::from_millis(u64::try_from(now_ts.since(echo)).ok()?);
        (rtt <= now.saturating_duration_since(self.first_sent) + MILLISECOND).then_some(rtt)
    }
}

/// Takes the first `len` bytes, or all if there are fewer; in two copies at most,
/// where an iterator over a ring would go byte by byte.
fn take_front(bytes: &mut VecDeque<u8>, len: usize) -> Box<[u8]> {
    let len = len.min(bytes.len());
    let mut taken = Vec::with_capacity(len);
    let (first, second) = bytes.as_slices();
    let (first, _) = first.split_at(len.min(first.len()));
    taken.extend_from_slice(first);
    taken.extend_from_slice(second.split_at(len - first.len()).0);
    bytes.drain(..len);
    taken.into_boxed_slice()
}

impl Probe {
    fn first(now: Instant) -> Self {
        Self { wait: FIRST_PROBE_WAIT, at: now + FIRST_PROBE_WAIT }
    }
}

/// Segments the peer can take as long as it has not said so: a server's window
/// before its configuration (`docs/protocol.md` §4.4).
const INITIAL_REMOTE_WINDOW: u16 = 32;
/// How many segments have to overtake one that is taken as lost.
const FAST_RESEND: u8 = 2;
/// How long no ack has come when a timeout means anything: the least timeout,
/// which is three times what the peer holds an ack back.
const QUIET: Duration = Duration::from_millis(30);
/// Wait before a closed window is asked for, the first time.
const FIRST_PROBE_WAIT: Duration = Duration::from_millis(500);
/// Longest such wait.
const MAX_PROBE_WAIT: Duration = Duration::from_secs(120);
const MILLISECOND: Duration = Duration::from_millis(1);
