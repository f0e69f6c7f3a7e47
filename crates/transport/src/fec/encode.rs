//! From segments to plaintexts.

use std::time::{Duration, Instant};

use super::{
    DATAGRAM_HEADER_LEN, DATAGRAM_SEQID, HEADER_LEN, MODULUS, SIZE_LEN, TYPE_DATA, TYPE_DATAGRAM,
    TYPE_PARITY,
};

/// Whether lost packets are paid for in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    /// No parity is sent; the peer misses nothing (PROTOCOL §4.3, "omissible").
    #[default]
    Never,
    /// As the reference: a data packet is doubled if the one before it was
    /// encoded less than [`PARITY_GAP`] earlier.
    WhileBusy,
}

/// Numbers the data packets of one direction.
#[derive(Debug, Default)]
pub struct Encoder {
    parity: Parity,
    /// Number of the next data packet: even, below [`MODULUS`].
    next: u32,
    last: Option<Instant>,
}

/// The number of a parity packet that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParityId(u32);

impl Encoder {
    /// Starts with number 0.
    #[must_use]
    pub fn new(parity: Parity) -> Self {
        Self { parity, ..Self::default() }
    }

    /// Writes the header of a data packet in place.
    ///
    /// `plaintext` is [`HEADER_LEN`] bytes of room, whatever they hold, then
    /// the segments. If parity is due, its number is returned: write it to a
    /// copy of `plaintext` with [`ParityId::encode`] and send that right after.
    ///
    /// # Panics
    /// If `plaintext` lacks the room or is longer than 65,541 bytes: a bug of
    /// the caller, for no peer chooses what we send.
    pub fn encode_data(&mut self, now: Instant, plaintext: &mut [u8]) -> Option<ParityId> {
        let seqid = self.next;
        self.next = (seqid + 2) % MODULUS;
        write_header(plaintext, seqid, TYPE_DATA);
        let busy = self
            .last
            .replace(now)
            .is_some_and(|last| now.saturating_duration_since(last) < PARITY_GAP);
        match self.parity {
            Parity::WhileBusy if busy => Some(ParityId(seqid + 1)),
            Parity::WhileBusy | Parity::Never => None,
        }
    }
}

impl ParityId {
    /// Makes a copy of the data packet's plaintext the parity's.
    ///
    /// # Panics
    /// If `plaintext` is no copy of what [`Encoder::encode_data`] wrote.
    pub fn encode(self, plaintext: &mut [u8]) {
        write_header(plaintext, self.0, TYPE_PARITY);
    }
}

/// Appends the plaintext of a datagram (PROTOCOL §4.6) to `plaintext`.
///
/// # Panics
/// If `payload` is longer than 65,529 bytes: the caller keeps to
/// `Connection::max_datagram_size`.
pub fn encode_datagram(conv: u32, payload: &[u8], plaintext: &mut Vec<u8>) {
    let start = plaintext.len();
    plaintext.resize(start + HEADER_LEN, 0);
    plaintext.reserve(DATAGRAM_HEADER_LEN - HEADER_LEN + payload.len());
    plaintext.extend_from_slice(&conv.to_le_bytes());
    plaintext.extend_from_slice(payload);
    write_header(&mut plaintext[start..], DATAGRAM_SEQID, TYPE_DATAGRAM);
}

fn write_header(plaintext: &mut [u8], seqid: u32, kind: u16) {
    let size = plaintext.len().saturating_sub(HEADER_LEN) + SIZE_LEN;
    let size = u16::try_from(size).expect("packets are shorter than 64 KiB");
    let header = plaintext.first_chunk_mut::<HEADER_LEN>().expect("room for the header");
    header[..4].copy_from_slice(&seqid.to_le_bytes());
    header[4..6].copy_from_slice(&kind.to_le_bytes());
    header[6..].copy_from_slice(&size.to_le_bytes());
}

/// After a longer pause than this a data packet travels without parity
/// (PROTOCOL §4.3; `maxFECEncodeLatency` of kcp-go v5.6.72).
pub const PARITY_GAP: Duration = Duration::from_millis(500);

#[cfg(test)]
impl Encoder {
    /// Goes on with this number, as after so many packets.
    pub(super) fn start_at(&mut self, next: u32) {
        self.next = next;
    }
}

#[cfg(test)]
impl ParityId {
    /// The number of a golden vector.
    pub(super) fn golden(seqid: u32) -> Self {
        Self(seqid)
    }
}
