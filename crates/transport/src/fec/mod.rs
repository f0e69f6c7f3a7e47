//! FEC framing of KCP: one data shard, one parity shard, and datagrams beside them.
//!
//! With one data shard the parity of Reed and Solomon is the data itself, so a
//! lost packet is recovered from its copy and no arithmetic is needed.
//!
//! [`Encoder`] turns segments into plaintexts, [`Decoder`] plaintexts into
//! segments and datagrams. Both are sans-IO and keep a few numbers, no packets.
//!
//! Not here: encryption ([`crate::crypt`]) and what the segments say.
//!
//! Invariants: a body is recovered at most once, and not if its data packet
//! came first; data packets are always passed on, whatever their numbers.
//!
//! Wire: `docs/protocol.md` §4.1, §4.3, §4.6, as in kcp-go v5.6.72:
//! ```text
//! seqid u32le | type u16le | size u16le, counting itself | segments
//! ffffffff    | f3 00      | size                        | conv u32le | payload
//! ```

mod decode;
mod encode;

pub use decode::{Decoder, Malformed, Order, Shard};
pub use encode::{Encoder, PARITY_GAP, Parity, ParityId, encode_datagram};

/// Bytes in front of the segments: FEC header and size.
pub const HEADER_LEN: usize = 8;
/// Bytes in front of a datagram's payload: FEC header, size, conversation.
pub const DATAGRAM_HEADER_LEN: usize = HEADER_LEN + 4;

/// Sequence numbers run from 0 to this, excluded: the largest even number, so
/// that data stays even and parity odd when they wrap.
const MODULUS: u32 = 0xffff_fffe;
/// Sequence number of a datagram, which is in no group.
const DATAGRAM_SEQID: u32 = 0xffff_ffff;

const TYPE_DATA: u16 = 0xf1;
const TYPE_PARITY: u16 = 0xf2;
const TYPE_DATAGRAM: u16 = 0xf3;

/// Bytes of the size field, which counts itself.
const SIZE_LEN: usize = 2;

#[cfg(test)]
mod tests;
