//! smux version 2: many streams over one reliable, ordered pipe of bytes.
//!
//! Sans-IO, and without a clock: nothing here is ever late. In:
//! [`Session::handle_bytes`] and the commands on streams (`open`, `write`,
//! `read`, `finish`, `stop`, …). Out: [`Session::poll_transmit`] and
//! [`Session::poll_event`]. After any way in, drain both.
//!
//! Not here: the pipe itself (KCP, which also carries back-pressure), and what
//! streams say (`proto`).
//!
//! ```text
//! version u8 = 2 | cmd u8 | length u16le | stream id u32le | payload
//! ```
//!
//! Invariants:
//! - No stream is ahead of the credit its peer gave; a stream without credit
//!   costs the others nothing.
//! - Received bytes that nobody has read are at most [`RECEIVE_BUDGET`], bytes
//!   waiting to be sent at most [`SEND_BUFFER`] per stream. Every queue is
//!   bounded by these and by the number of streams, whatever the peer does.
//! - Only a wrong version, or a peer that opens refused streams without reading
//!   the refusals, ends a session. Everything else odd is skipped, because the
//!   reference's fork of smux could not be examined (§5.5).
//!
//! Wire: PROTOCOL §5. Where it leaves room, we differ from the reference in ways
//! that it cannot notice: windows shrink when unread bytes pile up
//! ([`Session::handle_bytes`]) and grow where much is read. To one of ours a
//! window of zero says that a reader is gone ([`Session::tell_stops`]).

mod buffer;
mod credit;
mod frame;
mod schedule;
mod session;
mod stream;
#[cfg(test)]
mod tests;

pub use credit::{INITIAL_WINDOW, WINDOW};
pub use frame::{MAX_PAYLOAD, StreamId};
pub use session::{Config, Event, OpenError, RECEIVE_BUDGET, Session, SessionError};
pub use stream::{SEND_BUFFER, StreamError};
