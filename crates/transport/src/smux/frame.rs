//! Frames: encoding, and a decoder that takes a pipe cut anywhere.
//!
//! ```text
//! cmd  0 SYN   1 FIN   2 PSH, data   3 NOP   4 UPD, consumed u32le | window u32le
//! ```
//!
//! The decoder hands payload on as it comes and holds at most eight bytes, so
//! an announced length costs nothing.
//!
//! Wire: PROTOCOL §5.2.

use std::fmt;

/// The only version spoken (§5.1).
const VERSION: u8 = 2;
/// Bytes of a frame's header.
pub(super) const HEADER_LEN: usize = 8;
/// Bytes of a whole UPD frame.
pub(super) const UPDATE_LEN: usize = HEADER_LEN + 8;
/// Most payload bytes that one of our frames has, as the reference's (§5.1).
/// Received frames may be as long as their length field allows, 65535 bytes.
pub const MAX_PAYLOAD: usize = 49152;

const SYN: u8 = 0;
const FIN: u8 = 1;
const PSH: u8 = 2;
const UPD: u8 = 4;

/// Names a stream within its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub(super) u32);

impl StreamId {
    /// Returns the id as it is on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Appends a SYN frame.
pub(super) fn syn(out: &mut Vec<u8>, id: StreamId) {
    header(out, SYN, 0, id);
}

/// Appends a FIN frame.
pub(super) fn fin(out: &mut Vec<u8>, id: StreamId) {
    header(out, FIN, 0, id);
}

/// Appends the header of a PSH frame; its `len` bytes of payload follow.
pub(super) fn push(out: &mut Vec<u8>, id: StreamId, len: usize) {
    let len = u16::try_from(len).expect("payloads are cut to MAX_PAYLOAD");
    header(out, PSH, len, id);
}

/// Appends a UPD frame.
pub(super) fn update(out: &mut Vec<u8>, id: StreamId, consumed: u32, window: u32) {
    header(out, UPD, 8, id);
    out.extend_from_slice(&consumed.to_le_bytes());
    out.extend_from_slice(&window.to_le_bytes());
}

fn header(out: &mut Vec<u8>, cmd: u8, len: u16, id: StreamId) {
    out.extend_from_slice(&[VERSION, cmd]);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&id.0.to_le_bytes());
}

/// What the decoder found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Syn(StreamId),
    Fin(StreamId),
    /// Some of a frame's payload; never empty.
    Data(StreamId, &'a [u8]),
    Update {
        id: StreamId,
        consumed: u32,
        window: u32,
    },
}

/// A frame of another version: the pipe cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongVersion(pub(super) u8);

/// Where in the pipe the decoder is.
#[derive(Debug)]
pub(super) enum Decoder {
    Header(Partial),
    Data { id: StreamId, left: usize },
    Update { id: StreamId, body: Partial },
    Skip { left: usize },
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self::Header(Partial::new())
    }

    /// Returns the stream whose payload comes next, if payload does.
    pub(super) const fn data_stream(&self) -> Option<StreamId> {
        match self {
            Self::Data { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Takes one piece from the front of `input`, at most `room` bytes of
    /// payload; `None` when it is used up, or payload comes and `room` is zero.
    ///
    /// # Errors
    /// [`WrongVersion`]; ask no further.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        room: usize,
    ) -> Result<Option<Piece<'a>>, WrongVersion> {
        loop {
            match self {
                Self::Header(partial) => {
                    let Some(header) = partial.fill(input) else { return Ok(None) };
                    if let Some(piece) = self.on_header(header)? {
                        return Ok(Some(piece));
                    }
                    // Whoever asked did not know that payload comes.
                    if matches!(self, Self::Data { .. }) {
                        return Ok(None);
                    }
                }
                Self::Data { id, left } => {
                    let id = *id;
                    let taken = take(input, room.min(*left));
                    *left -= taken.len();
                    if *left == 0 {
                        *self = Self::new();
                    }
                    return Ok((!taken.is_empty()).then_some(Piece::Data(id, taken)));
                }
                Self::Update { id, body } => {
                    let id = *id;
                    let Some(body) = body.fill(input) else { return Ok(None) };
                    *self = Self::new();
                    let [c0, c1, c2, c3, w0, w1, w2, w3] = body;
                    let consumed = u32::from_le_bytes([c0, c1, c2, c3]);
                    let window = u32::from_le_bytes([w0, w1, w2, w3]);
                    return Ok(Some(Piece::Update { id, consumed, window }));
                }
                Self::Skip { left } => {
                    *left -= take(input, *left).len();
                    if *left > 0 {
                        return Ok(None);
                    }
                    *self = Self::new();
                }
            }
        }
    }

    /// Unknown commands are skipped, and known ones with an odd length lose
    /// their payload, where recent upstream ends the session (§5.5).
    fn on_header(&mut self, header: [u8; 8]) -> Result<Option<Piece<'static>>, WrongVersion> {
        let [version, cmd, len_low, len_high, id0, id1, id2, id3] = header;
        if version != VERSION {
            return Err(WrongVersion(version));
        }
        let len = usize::from(u16::from_le_bytes([len_low, len_high]));
        let id = StreamId(u32::from_le_bytes([id0, id1, id2, id3]));
        *self = match (cmd, len) {
            (_, 0) => Self::new(),
            (PSH, left) => Self::Data { id, left },
            (UPD, 8) => Self::Update { id, body: Partial::new() },
            (_, left) => Self::Skip { left },
        };
        Ok(match cmd {
            SYN => Some(Piece::Syn(id)),
            FIN => Some(Piece::Fin(id)),
            _ => None,
        })
    }
}

/// Eight bytes that may come one by one.
#[derive(Debug)]
pub(super) struct Partial {
    bytes: [u8; 8],
    filled: usize,
}

impl Partial {
    const fn new() -> Self {
        Self { bytes: [0; 8], filled: 0 }
    }

    /// Takes what is missing from `input`; returns the bytes, and starts again,
    /// once all are there.
    fn fill(&mut self, input: &mut &[u8]) -> Option<[u8; 8]> {
        let (_, missing) = self.bytes.split_at_mut(self.filled);
        let taken = take(input, missing.len());
        for (to, from) in missing.iter_mut().zip(taken) {
            *to = *from;
        }
        self.filled += taken.len();
        if self.filled < self.bytes.len() {
            return None;
        }
        self.filled = 0;
        Some(self.bytes)
    }
}

/// Takes up to `most` bytes from the front of `input`.
fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: StreamId = StreamId(3);

    /// Decodes a whole pipe, with all the room there is.
    fn decode(bytes: &[u8]) -> Result<Vec<Piece<'_>>, WrongVersion> {
        let mut decoder = Decoder::new();
        let mut input = bytes;
        let mut pieces = Vec::new();
        loop {
            match decoder.next(&mut input, usize::MAX)? {
                Some(piece) => pieces.push(piece),
                None if input.is_empty() => return Ok(pieces),
                None => {}
            }
        }
    }

    #[test]
    fn frames_have_the_bytes_of_the_specification() {
        let mut out = Vec::new();
        syn(&mut out, THREE);
        assert_eq!(out, [2, 0, 0, 0, 3, 0, 0, 0], "§13, inside the KCP vector");
        out.clear();
        fin(&mut out, StreamId(0x0102_0305));
        assert_eq!(out, [2, 1, 0, 0, 5, 3, 2, 1]);
        out.clear();
        push(&mut out, THREE, MAX_PAYLOAD);
        assert_eq!(out, [2, 2, 0x00, 0xc0, 3, 0, 0, 0]);
        out.clear();
        update(&mut out, THREE, 0x0001_0203, 524_288);
        assert_eq!(out, [2, 4, 8, 0, 3, 0, 0, 0, 3, 2, 1, 0, 0, 0, 8, 0]);
        assert_eq!(out.len(), UPDATE_LEN);
    }

    #[test]
    fn decoding_yields_what_was_encoded() {
        let mut out = Vec::new();
        syn(&mut out, THREE);
        push(&mut out, THREE, 2);
        out.extend_from_slice(b"hi");
        update(&mut out, StreamId(5), u32::MAX, 1);
        fin(&mut out, THREE);
        let pieces = [
            Piece::Syn(THREE),
            Piece::Data(THREE, b"hi"),
            Piece::Update { id: StreamId(5), consumed: u32::MAX, window: 1 },
            Piece::Fin(THREE),
        ];
        assert_eq!(decode(&out).as_deref(), Ok(pieces.as_slice()));
    }

    #[test]
    fn odd_frames_are_skipped_by_their_length() {
        let cases: [(&str, &[u8]); 5] = [
            ("NOP", &[2, 3, 0, 0, 0, 0, 0, 0]),
            ("data of length zero", &[2, 2, 0, 0, 3, 0, 0, 0]),
            ("unknown command", &[2, 9, 3, 0, 3, 0, 0, 0, 2, 0, 0]),
            ("update of another length", &[2, 4, 4, 0, 3, 0, 0, 0, 1, 1, 1, 1]),
            ("NOP with payload", &[2, 3, 1, 0, 0, 0, 0, 0, 7]),
        ];
        for (what, odd) in cases {
            let mut pipe = odd.to_vec();
            fin(&mut pipe, THREE);
            assert_eq!(decode(&pipe).as_deref(), Ok([Piece::Fin(THREE)].as_slice()), "{what}");
        }
    }

    #[test]
    fn a_longest_frame_is_taken_though_we_send_none_like_it() {
        let mut pipe = vec![2, 2, 0xff, 0xff, 3, 0, 0, 0];
        pipe.resize(8 + 65535, 7);
        fin(&mut pipe, THREE);
        let pieces = decode(&pipe).expect("version is right");
        assert_eq!(pieces, [Piece::Data(THREE, &[7; 65535]), Piece::Fin(THREE)]);
    }

    #[test]
    fn another_version_is_an_error() {
        assert_eq!(decode(&[1, 0, 0, 0, 3, 0, 0, 0]), Err(WrongVersion(1)));
        assert_eq!(decode(&[2, 0, 0, 0, 3, 0, 0]), Ok(Vec::new()), "not complete, not wrong");
    }

    #[test]
    fn payload_waits_for_room_and_nothing_else_does() {
        let mut decoder = Decoder::new();
        let pipe = [2, 2, 2, 0, 3, 0, 0, 0, b'h', b'i', 2, 1, 0, 0, 3, 0, 0, 0];
        let mut input = pipe.as_slice();
        assert_eq!(decoder.next(&mut input, 0), Ok(None));
        assert_eq!(decoder.data_stream(), Some(THREE));
        assert_eq!(decoder.next(&mut input, 0), Ok(None));
        assert_eq!(input.len(), 10, "the payload stays where it is");
        assert_eq!(decoder.next(&mut input, 1), Ok(Some(Piece::Data(THREE, b"h"))));
        assert_eq!(decoder.next(&mut input, 1), Ok(Some(Piece::Data(THREE, b"i"))));
        assert_eq!(decoder.next(&mut input, 0), Ok(Some(Piece::Fin(THREE))));
    }
}
