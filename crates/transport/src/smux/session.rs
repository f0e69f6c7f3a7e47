//! The session: all streams of one pipe.

use std::collections::{HashMap, VecDeque};

use super::credit::{BULK_WINDOW, INITIAL_WINDOW, WINDOW};
use super::frame::{self, Decoder, HEADER_LEN, Piece, StreamId, UPDATE_LEN, WrongVersion};
use super::schedule::Ready;
use super::stream::{Sent, Stream, StreamError};

/// Most received bytes, over all streams, that nobody has read (§5.1).
pub const RECEIVE_BUDGET: usize = 20 * 1024 * 1024;
/// A stream is offered this part of what is free of the budget (one that carries
/// bulk twice that): streams that
/// are never read then fill it ever more slowly, and about 24 of them must
/// have filled their windows before anyone's window shrinks.
const SHARE: usize = 16;
/// Smallest window offered, in bytes; zero would mean that nobody reads.
const MIN_WINDOW: u32 = 16 * 1024;
/// Most refusals that wait for room in the pipe; see
/// [`SessionError::RefusalsUnread`].
const MAX_REFUSALS: usize = 1024;

/// Most ids that may be opened late, after higher ones.
const MAX_SKIPPED: u32 = 1024;

/// Limits of a session.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most streams at once. Default 4096: the wire has no limit to tell a
    /// peer, a reference client knows none, and an idle stream costs less than
    /// one kibibyte.
    pub max_streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_streams: 4096 }
    }
}

/// Why the pipe cannot be read any further. Streams get no more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A frame of another version of smux, or bytes that are no frame.
    #[error("peer sent a frame of smux version {0}, not 2")]
    Version(u8),
    /// The peer opens streams over the limit and does not take the refusals.
    #[error("peer keeps opening streams over the limit")]
    RefusalsUnread,
}

impl From<WrongVersion> for SessionError {
    fn from(WrongVersion(version): WrongVersion) -> Self {
        Self::Version(version)
    }
}

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// [`Config::max_streams`] are open; [`Event::Available`] will follow.
    #[error("too many streams are open")]
    TooMany,
    /// All 2³¹ ids were used, or this is the server, which opens none.
    #[error("no stream ids are left")]
    NoIds,
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer opened it.
    Opened(StreamId),
    /// There is something to read: bytes or the end. Comes once for each read
    /// that was [`Blocked`](StreamError::Blocked), and once for a new stream.
    Readable(StreamId),
    /// A write may be tried again; comes once for one that was blocked.
    Writable(StreamId),
    /// The peer does not read it any more: what was not sent is dropped, and
    /// writing fails.
    Stopped(StreamId),
    /// FIN was put into the pipe.
    FinSent {
        /// Whose FIN.
        id: StreamId,
        /// Bytes that [`Session::poll_transmit`] had given out up to its end:
        /// when the pipe's peer has acknowledged as many, it has the FIN and
        /// all before.
        end: u64,
    },
    /// A stream can be opened, after [`OpenError::TooMany`].
    Available,
}

/// A frame that goes before data: small, and bounded by the streams there are.
#[derive(Clone, Copy, Debug)]
enum Control {
    Syn(StreamId),
    Update(StreamId),
    Refusal(StreamId),
}

/// Which ids the peer has used.
///
/// Ids only grow, but a peer that opens several streams at once may send their
/// SYNs in another order. An id that comes again would be taken for the stream
/// that had it before.
#[derive(Debug, Default)]
struct Opened {
    highest: Option<u32>,
    /// Ids below it that were passed over, oldest first.
    skipped: VecDeque<u32>,
}

impl Opened {
    /// Notes an id; returns whether it was not used before.
    fn is_new(&mut self, id: StreamId) -> bool {
        let id = id.value();
        if self.highest.is_some_and(|highest| id <= highest) {
            let place = self.skipped.iter().position(|&skipped| skipped == id);
            return place.is_some_and(|place| self.skipped.remove(place).is_some());
        }
        // The first id is 3 or 2 (§5.2); the others follow at intervals of two.
        let next = self.highest.map_or(2 + id % 2, |highest| highest.saturating_add(2));
        let first = id.saturating_sub(2 * MAX_SKIPPED).max(next);
        self.skipped.extend((first..id).step_by(2));
        while self.skipped.len() > MAX_SKIPPED as usize {
            self.skipped.pop_front();
        }
        self.highest = Some(id);
        true
    }
}

/// All streams of one pipe; see the [module's description](super).
#[derive(Debug)]
pub struct Session {
    config: Config,
    decoder: Decoder,
    /// Set once; the pipe is not read after that.
    failure: Option<SessionError>,
    streams: HashMap<StreamId, Stream>,
    /// Ours to open next, if we are the client and any are left.
    next_id: Option<u32>,
    accepts_streams: bool,
    /// Whether the peer knows what a window of zero means; see [`Session::tell_stops`].
    tells_stops: bool,
    opened: Opened,
    open_refused: bool,
    /// Received bytes that wait for a reader.
    unread: usize,
    /// Streams of which much was read, and more may come.
    busy: usize,
    control: VecDeque<Control>,
    refusals: usize,
    ready: Ready,
    transmitted: u64,
    events: VecDeque<Event>,
}

impl Session {
    /// Returns the end that opens streams.
    #[must_use]
    pub fn client(config: Config) -> Self {
        // The first is 3 (§5.2): 1 is never used.
        Self { next_id: Some(3), accepts_streams: false, ..Self::server(config) }
    }

    /// Returns the end that accepts streams.
    #[must_use]
    pub fn server(config: Config) -> Self {
        Self {
            config,
            decoder: Decoder::new(),
            failure: None,
            streams: HashMap::new(),
            next_id: None,
            accepts_streams: true,
            tells_stops: false,
            opened: Opened::default(),
            open_refused: false,
            unread: 0,
            busy: 0,
            control: VecDeque::new(),
            refusals: 0,
            ready: Ready::default(),
            transmitted: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes bytes from the pipe, cut anywhere; returns how many were taken.
    ///
    /// Fewer than all are taken only when [`RECEIVE_BUDGET`] is used up. Leave
    /// the rest in the pipe, which makes its sender wait, and offer it again
    /// after a read or stop. Windows of 512 KiB (2 MiB under bulk) shrink to
    /// 16 KiB as the budget is used, so that an honest peer's streams which nobody reads do not get
    /// there and stop the others.
    ///
    /// A stream that overruns its window is not an error: the budget bounds
    /// it, and the reference does not check either.
    ///
    /// # Errors
    /// [`SessionError`], again at each call from then on.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<usize, SessionError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.decode(bytes).inspect_err(|failure| self.failure = Some(*failure))
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<usize, SessionError> {
        let mut input = bytes;
        loop {
            let room = self.room_for_next();
            match self.decoder.next(&mut input, room)? {
                Some(piece) => self.on_piece(piece)?,
                None if input.is_empty() || room == 0 => return Ok(bytes.len() - input.len()),
                None => {}
            }
        }
    }

    /// Data that will be dropped needs no room.
    fn room_for_next(&self) -> usize {
        let stream = self.decoder.data_stream().and_then(|id| self.streams.get(&id));
        match stream {
            Some(stream) if stream.receive.accepts() => RECEIVE_BUDGET - self.unread,
            _ => usize::MAX,
        }
    }

    fn on_piece(&mut self, piece: Piece<'_>) -> Result<(), SessionError> {
        match piece {
            Piece::Syn(id) => self.on_syn(id)?,
            Piece::Fin(id) => {
                // For an unknown stream: a late one; for a known one perhaps
                // the second (§5.5).
                if self.streams.get_mut(&id).is_some_and(|stream| stream.receive.on_fin()) {
                    self.events.push_back(Event::Readable(id));
                }
                self.count_busy(id);
                self.retire(id);
            }
            Piece::Data(id, bytes) => {
                let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
                if stream.receive.accepts() {
                    self.unread += bytes.len();
                    if stream.receive.on_data(bytes) {
                        self.events.push_back(Event::Readable(id));
                    }
                }
            }
            Piece::Update { id, consumed, window } => {
                let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
                if stream.send.on_update(consumed, window) {
                    self.events.push_back(Event::Stopped(id));
                }
                self.schedule(id);
            }
        }
        Ok(())
    }

    fn on_syn(&mut self, id: StreamId) -> Result<(), SessionError> {
        if !self.opened.is_new(id) {
            return Ok(());
        }
        if self.accepts_streams && self.streams.len() < self.config.max_streams {
            self.add(id);
            self.events.push_back(Event::Opened(id));
            return Ok(());
        }
        if self.refusals == MAX_REFUSALS {
            return Err(SessionError::RefusalsUnread);
        }
        self.refusals += 1;
        self.control.push_back(Control::Refusal(id));
        Ok(())
    }

    /// Opens a stream, at priority 0.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        let Some(next) = self.next_id else { return Err(OpenError::NoIds) };
        if self.streams.len() >= self.config.max_streams {
            self.open_refused = true;
            return Err(OpenError::TooMany);
        }
        self.next_id = next.checked_add(2);
        let id = StreamId(next);
        self.control.push_back(Control::Syn(id));
        self.add(id);
        Ok(id)
    }

    /// Sets whose frames go first: those of higher priorities, always; equals
    /// take turns. The bus and what a user waits for belong above bulk.
    pub fn set_priority(&mut self, id: StreamId, priority: i32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_queued {
            self.ready.remove(stream.priority, id);
            self.ready.push(priority, id);
        }
        stream.priority = priority;
    }

    /// Takes bytes to send; returns how many, at least one if there are any.
    ///
    /// # Errors
    /// [`StreamError`]; `Blocked` when [`super::SEND_BUFFER`] bytes wait.
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        self.write_within(id, bytes, super::SEND_BUFFER)
    }

    /// As [`Session::write`], for a stream of which no more than `most` bytes are to wait.
    ///
    /// # Errors
    /// [`StreamError`]; `Blocked` when so many wait.
    pub fn write_within(
        &mut self,
        id: StreamId,
        bytes: &[u8],
        most: usize,
    ) -> Result<usize, StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Closed)?;
        let taken = stream.send.write(bytes, most)?;
        self.schedule(id);
        Ok(taken)
    }

    /// Reads into `to`, which has room; returns how many bytes, and zero once
    /// at the end, after which the half is closed.
    ///
    /// # Errors
    /// [`StreamError::Blocked`] and [`StreamError::Closed`].
    pub fn read(&mut self, id: StreamId, to: &mut [u8]) -> Result<usize, StreamError> {
        let stream = self.streams.get_mut(&id).ok_or(StreamError::Closed)?;
        let (count, is_due) = stream.receive.read(to)?;
        self.unread -= count;
        self.count_busy(id);
        if is_due {
            self.queue_update(id);
        }
        self.retire(id);
        Ok(count)
    }

    /// Ends our data: FIN follows what was written. Reading goes on.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.finish();
            self.schedule(id);
        }
    }

    /// Ends our data and drops what was not yet sent. The peer cannot tell the
    /// difference: the wire has only FIN for it.
    pub fn reset(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.reset();
            self.schedule(id);
        }
    }

    /// Ends reading: what arrived and what arrives is dropped.
    ///
    /// The peer is told only after [`Session::tell_stops`]; another may go on
    /// writing as far as its window goes, into nothing (§5.5).
    pub fn stop(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (dropped, was_open) = stream.receive.stop();
        self.unread -= dropped;
        self.count_busy(id);
        if was_open && self.tells_stops {
            self.queue_update(id);
        }
        self.retire(id);
    }

    /// From now on, tells the peer by a window of zero where nobody reads
    /// (extension `stop`): one of ours then stops writing. The reference has no
    /// such thing, and a writer of its would wait for a window.
    pub fn tell_stops(&mut self) {
        self.tells_stops = true;
    }

    /// Ends both halves: [`reset`](Self::reset) and [`stop`](Self::stop).
    pub fn close(&mut self, id: StreamId) {
        self.reset(id);
        self.stop(id);
    }

    /// Ends both halves of all streams: [`finish`](Self::finish) and
    /// [`stop`](Self::stop).
    pub fn close_all(&mut self) {
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            self.finish(id);
            self.stop(id);
        }
    }

    /// Returns how many received bytes wait for a reader.
    #[cfg(test)]
    pub(crate) fn unread(&self) -> usize {
        self.unread
    }

    /// Returns whether an event or something other than data waits.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.control.is_empty() || !self.events.is_empty()
    }

    /// Returns how many streams exist.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Appends whole frames, at most `max` bytes in all, to `out`; returns how
    /// many bytes. Zero: nothing to send now, or `max` is too small (24 always
    /// gets on; a few segments of KCP make sensible frames).
    ///
    /// Ask for no more than the pipe sends soon: what is given out cannot be
    /// overtaken by a stream of higher priority.
    pub fn poll_transmit(&mut self, max: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        loop {
            let before = out.len();
            let room = max - (before - start);
            // Nothing goes past a control frame that does not fit: it may be the
            // SYN of the stream whose data would.
            let more = match self.control.front().copied() {
                Some(control) => self.transmit_control(control, room, out),
                None => self.transmit_data(room, out),
            };
            self.transmitted += (out.len() - before) as u64;
            if !more {
                return out.len() - start;
            }
        }
    }

    /// Returns what happened next, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns whether it went one step on.
    fn transmit_control(&mut self, control: Control, room: usize, out: &mut Vec<u8>) -> bool {
        let needed = match control {
            Control::Syn(_) => HEADER_LEN,
            Control::Update(_) => UPDATE_LEN,
            Control::Refusal(_) => HEADER_LEN + UPDATE_LEN,
        };
        if room < needed {
            return false;
        }
        self.control.pop_front();
        match control {
            Control::Syn(id) => frame::syn(out, id),
            Control::Update(id) => self.transmit_update(id, out),
            Control::Refusal(id) => {
                self.refusals -= 1;
                if self.tells_stops {
                    frame::update(out, id, 0, 0);
                }
                frame::fin(out, id);
            }
        }
        true
    }

    fn transmit_update(&mut self, id: StreamId, out: &mut Vec<u8>) {
        let is_bulk = self.streams.get(&id).is_some_and(|stream| stream.receive.is_bulk());
        let window = self.window(is_bulk);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.update_queued = false;
        if let Some((consumed, window)) = stream.receive.report(window, self.tells_stops) {
            frame::update(out, id, consumed, window);
        }
        self.retire(id);
    }

    /// Returns whether it went one step on.
    fn transmit_data(&mut self, room: usize, out: &mut Vec<u8>) -> bool {
        let Some(id) = self.ready.first() else { return false };
        let start = out.len();
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let sent = stream.send.transmit(id, room, out);
        if sent == Sent::Nothing {
            return false;
        }
        if stream.send.wakes_writer() {
            self.events.push_back(Event::Writable(id));
        }
        stream.is_queued = false;
        self.ready.remove(stream.priority, id);
        self.schedule(id);
        if sent == Sent::Fin {
            let end = self.transmitted + (out.len() - start) as u64;
            self.events.push_back(Event::FinSent { id, end });
            self.retire(id);
        }
        true
    }

    fn add(&mut self, id: StreamId) {
        self.streams.insert(id, Stream::new());
        // The peer assumes the initial window until it hears otherwise.
        if self.window(false) < INITIAL_WINDOW {
            self.queue_update(id);
        }
    }

    /// Puts a stream that can send among those that can, and takes one that
    /// cannot any more out.
    fn schedule(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let is_ready = stream.send.is_ready();
        if is_ready && !stream.is_queued {
            self.ready.push(stream.priority, id);
        } else if !is_ready && stream.is_queued {
            self.ready.remove(stream.priority, id);
        }
        stream.is_queued = is_ready;
    }

    fn queue_update(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.update_queued {
            stream.update_queued = true;
            self.control.push_back(Control::Update(id));
        }
    }

    /// Forgets a stream that is over.
    fn retire(&mut self, id: StreamId) {
        if !self.streams.get(&id).is_some_and(Stream::is_over) {
            return;
        }
        self.streams.remove(&id);
        if self.open_refused && self.streams.len() < self.config.max_streams {
            self.open_refused = false;
            self.events.push_back(Event::Available);
        }
    }

    /// Notes whether a stream is among the busy ones.
    fn count_busy(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let is_busy = stream.receive.is_busy();
        if is_busy != std::mem::replace(&mut stream.is_busy, is_busy) {
            self.busy = if is_busy { self.busy + 1 } else { self.busy - 1 };
        }
    }

    /// Returns the window to offer now; see [`SHARE`].
    fn window(&self, is_bulk: bool) -> u32 {
        let (most, share) = if is_bulk { (BULK_WINDOW, SHARE / 2) } else { (WINDOW, SHARE) };
        let free = (RECEIVE_BUDGET - self.unread) / share;
        // Busy streams may all be left unread at once: not even then may the
        // others, of which the bus is one, find the budget used up.
        let equal = RECEIVE_BUDGET * 3 / 4 / self.busy.max(1);
        let share = free.min(equal);
        u32::try_from(share).unwrap_or(most).clamp(MIN_WINDOW, most)
    }
}
