//! One stream: two halves that end on their own.
//!
//! ```text
//! sending    Open ──finish, reset, peer stopped──▶ Finishing ──FIN sent──▶ Finished
//! receiving  Open ──FIN──▶ Finished ──end read, stop──▶ Ended
//!              └──stop──▶ Stopped ──FIN──▶ Ended
//! ```
//!
//! A stream is over once its sending half is `Finished` and its receiving half
//! `Stopped` or `Ended`. A FIN from the peer says nothing about whether it
//! still reads (§5.5), so it leaves the sending half alone.

use super::buffer::Buffer;
use super::credit::{ReceiveCredit, SendCredit, Update};
use super::frame::{self, HEADER_LEN, MAX_PAYLOAD, StreamId};

/// Most bytes of one stream that wait to be sent: more than a frame, so that
/// the pipe is kept busy, and little enough for a keystroke behind it.
pub const SEND_BUFFER: usize = 64 * 1024;

/// Why a stream did not take or give bytes. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Not now; an event tells when to try again.
    #[error("stream is not ready")]
    Blocked,
    /// The peer does not read this stream any more.
    #[error("peer stopped reading the stream")]
    Stopped,
    /// This half was ended by ourselves or was read to its end.
    #[error("stream is closed")]
    Closed,
}

/// What a stream put into the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing: a frame needs more room.
    Nothing,
    Data,
    Fin,
}

/// A stream and where it waits.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) priority: i32,
    /// In the queue of those that can send.
    pub(super) is_queued: bool,
    /// An UPD for it waits to be sent.
    pub(super) update_queued: bool,
    /// Counted among those that much was read of.
    pub(super) is_busy: bool,
    pub(super) send: SendHalf,
    pub(super) receive: ReceiveHalf,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            priority: 0,
            is_queued: false,
            update_queued: false,
            is_busy: false,
            send: SendHalf {
                state: SendState::Open,
                credit: SendCredit::new(),
                buffer: Buffer::default(),
                was_stopped: false,
                writer_waits: None,
            },
            receive: ReceiveHalf {
                state: ReceiveState::Open,
                credit: ReceiveCredit::new(),
                buffer: Buffer::default(),
                reader_waits: true,
            },
        }
    }

    /// Returns whether neither end will hear of it again.
    pub(super) fn is_over(&self) -> bool {
        self.send.state == SendState::Finished
            && matches!(self.receive.state, ReceiveState::Stopped | ReceiveState::Ended)
            && !self.update_queued
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    Open,
    /// FIN follows the buffered bytes.
    Finishing,
    /// FIN is in the pipe.
    Finished,
}

/// Our data to the peer.
#[derive(Debug)]
pub(super) struct SendHalf {
    state: SendState,
    credit: SendCredit,
    buffer: Buffer,
    was_stopped: bool,
    /// A write was refused for so many bytes that wait, and has not been told
    /// to try again.
    writer_waits: Option<usize>,
}

impl SendHalf {
    /// Takes bytes as long as no more than `most` wait.
    pub(super) fn write(&mut self, bytes: &[u8], most: usize) -> Result<usize, StreamError> {
        if self.was_stopped {
            return Err(StreamError::Stopped);
        }
        if self.state != SendState::Open {
            return Err(StreamError::Closed);
        }
        let most = most.clamp(1, SEND_BUFFER);
        let room = most.saturating_sub(self.buffer.len());
        if room == 0 && !bytes.is_empty() {
            self.writer_waits = Some(most);
            return Err(StreamError::Blocked);
        }
        let (now, _) = bytes.split_at(room.min(bytes.len()));
        self.buffer.push(now);
        Ok(now.len())
    }

    pub(super) fn finish(&mut self) {
        if self.state == SendState::Open {
            self.state = SendState::Finishing;
        }
    }

    pub(super) fn reset(&mut self) {
        self.buffer.clear();
        self.finish();
    }

    /// Returns whether a frame could be sent, given room in the pipe.
    pub(super) fn is_ready(&self) -> bool {
        if self.buffer.is_empty() {
            self.state == SendState::Finishing
        } else {
            self.credit.available() > 0
        }
    }

    /// Appends one frame of at most `room` bytes to `out`; the half is ready.
    pub(super) fn transmit(&mut self, id: StreamId, room: usize, out: &mut Vec<u8>) -> Sent {
        if self.buffer.is_empty() {
            if room < HEADER_LEN {
                return Sent::Nothing;
            }
            frame::fin(out, id);
            self.state = SendState::Finished;
            return Sent::Fin;
        }
        let len = room
            .saturating_sub(HEADER_LEN)
            .min(MAX_PAYLOAD)
            .min(self.credit.available())
            .min(self.buffer.len());
        if len == 0 {
            return Sent::Nothing;
        }
        frame::push(out, id, len);
        self.buffer.drain_into(out, len);
        self.credit.on_sent(len);
        Sent::Data
    }

    /// Returns, once, whether a refused writer should try again: when half of
    /// what may wait is free, so that it does not come back for every byte.
    pub(super) fn wakes_writer(&mut self) -> bool {
        self.writer_waits.take_if(|most| self.buffer.len() <= *most / 2).is_some()
    }

    /// Takes an UPD; returns whether it stopped a half that was not finished.
    pub(super) fn on_update(&mut self, consumed: u32, window: u32) -> bool {
        match self.credit.on_update(consumed, window) {
            Update::Ignored | Update::Granted => false,
            Update::Stopped => {
                let is_news = !self.was_stopped && self.state != SendState::Finished;
                self.was_stopped = true;
                self.writer_waits = None;
                // FIN is all that can still be of use: it frees the stream.
                self.reset();
                is_news
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiveState {
    Open,
    /// The peer sent FIN; bytes or just the end are still to be read.
    Finished,
    /// We do not read; the peer has not finished.
    Stopped,
    Ended,
}

/// The peer's data to us.
#[derive(Debug)]
pub(super) struct ReceiveHalf {
    state: ReceiveState,
    credit: ReceiveCredit,
    buffer: Buffer,
    /// A read found nothing and has not been told to try again.
    reader_waits: bool,
}

impl ReceiveHalf {
    /// Returns whether data would be kept rather than dropped.
    pub(super) fn accepts(&self) -> bool {
        self.state == ReceiveState::Open
    }

    /// Keeps bytes; returns whether to wake the reader.
    pub(super) fn on_data(&mut self, bytes: &[u8]) -> bool {
        self.buffer.push(bytes);
        std::mem::take(&mut self.reader_waits)
    }

    /// Takes a FIN, or another one; returns whether to wake the reader.
    pub(super) fn on_fin(&mut self) -> bool {
        match self.state {
            ReceiveState::Open => {
                self.state = ReceiveState::Finished;
                std::mem::take(&mut self.reader_waits)
            }
            ReceiveState::Stopped => {
                self.state = ReceiveState::Ended;
                false
            }
            ReceiveState::Finished | ReceiveState::Ended => false,
        }
    }

    /// Reads into `to`; the second value says whether an UPD is due.
    pub(super) fn read(&mut self, to: &mut [u8]) -> Result<(usize, bool), StreamError> {
        if matches!(self.state, ReceiveState::Stopped | ReceiveState::Ended) {
            return Err(StreamError::Closed);
        }
        let count = self.buffer.read(to);
        if count > 0 || to.is_empty() {
            let is_due = self.credit.on_read(count);
            return Ok((count, is_due && self.state == ReceiveState::Open));
        }
        if self.state == ReceiveState::Finished {
            self.state = ReceiveState::Ended;
            return Ok((0, false));
        }
        self.reader_waits = true;
        Err(StreamError::Blocked)
    }

    /// Returns whether the peer sends, and as much was read as makes windows matter.
    pub(super) const fn is_busy(&self) -> bool {
        matches!(self.state, ReceiveState::Open) && self.credit.is_busy()
    }

    /// Returns whether so much was read that the window should grow.
    pub(super) const fn is_bulk(&self) -> bool {
        self.credit.is_bulk()
    }

    /// Drops what was not read; returns how much, and whether more may come.
    pub(super) fn stop(&mut self) -> (usize, bool) {
        let was_open = self.state == ReceiveState::Open;
        self.state = match self.state {
            ReceiveState::Open | ReceiveState::Stopped => ReceiveState::Stopped,
            ReceiveState::Finished | ReceiveState::Ended => ReceiveState::Ended,
        };
        (self.buffer.clear(), was_open)
    }

    /// Returns `consumed` and `window` for an UPD, if the peer still needs one;
    /// `tells_stops` says whether it knows what a window of zero means.
    pub(super) fn report(&mut self, window: u32, tells_stops: bool) -> Option<(u32, u32)> {
        match self.state {
            ReceiveState::Open => Some((self.credit.report(window), window)),
            ReceiveState::Stopped if tells_stops => Some((self.credit.report(0), 0)),
            ReceiveState::Stopped | ReceiveState::Finished | ReceiveState::Ended => None,
        }
    }
}
