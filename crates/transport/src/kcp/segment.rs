//! [`Segment`]: what KCP puts into packets.
//!
//! ```text
//! conv u32le | cmd u8 | frg u8 | wnd u16le | ts u32le | sn u32le | una u32le | len u32le | data
//! ```
//!
//! A packet holds one or several. Bytes in, values out: nothing here knows
//! what is in flight. Wire: `docs/protocol.md` §4.4.

use std::fmt;

use super::wrapping::{Sn, Ts};

/// Bytes before a segment's data.
pub const HEADER_LEN: usize = 24;

/// Most data a segment may carry: no peer's packet is larger (§4.5: MTU at most
/// 1500), and it bounds what a full window can hold.
pub const MAX_DATA: usize = 1500;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Carries data.
    Push,
    /// Acknowledges one data segment, and repeats its time.
    Ack,
    /// Asks for the peer's window.
    WindowAsk,
    /// Tells our window, which every segment does by the way.
    WindowTell,
}

impl Command {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Push => 81,
            Self::Ack => 82,
            Self::WindowAsk => 83,
            Self::WindowTell => 84,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            81 => Some(Self::Push),
            82 => Some(Self::Ack),
            83 => Some(Self::WindowAsk),
            84 => Some(Self::WindowTell),
            _ => None,
        }
    }
}

/// One segment. `Debug` shows how much data there is and not what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The conversation it belongs to, chosen by the client.
    pub conv: u32,
    /// What it is for.
    pub command: Command,
    /// How many segments of the same message follow. Always zero from us, and
    /// of no meaning to a reader of bytes.
    pub fragment: u8,
    /// How many more segments the sender can take, counted from `una`.
    pub window: u16,
    /// When the data was sent, by its sender's clock; an ack repeats it.
    pub ts: Ts,
    /// The number of the data segment sent or acknowledged.
    pub sn: Sn,
    /// The first number the sender of this segment has not received.
    pub una: Sn,
    /// The data; empty except for [`Command::Push`].
    pub data: &'a [u8],
}

impl fmt::Debug for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("command", &self.command)
            .field("window", &self.window)
            .field("ts", &self.ts)
            .field("sn", &self.sn)
            .field("una", &self.una)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Segment<'_> {
    /// Appends the segment to `packet`.
    ///
    /// # Panics
    /// If the data is longer than 4 GiB, which [`MAX_DATA`] rules out.
    pub fn encode(&self, packet: &mut Vec<u8>) {
        let len = u32::try_from(self.data.len()).expect("data is at most MAX_DATA long");
        packet.extend_from_slice(&self.conv.to_le_bytes());
        packet.extend_from_slice(&[self.command.to_byte(), self.fragment]);
        packet.extend_from_slice(&self.window.to_le_bytes());
        packet.extend_from_slice(&self.ts.0.to_le_bytes());
        packet.extend_from_slice(&self.sn.0.to_le_bytes());
        packet.extend_from_slice(&self.una.0.to_le_bytes());
        packet.extend_from_slice(&len.to_le_bytes());
        packet.extend_from_slice(self.data);
    }
}

/// Why a packet's bytes are not segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A command that does not exist.
    #[error("unknown command {0}")]
    UnknownCommand(u8),
    /// More data announced than the packet has.
    #[error("segment announces {announced} bytes of data, the packet has {have}")]
    Truncated {
        /// What the header says.
        announced: u32,
        /// What is left of the packet.
        have: usize,
    },
    /// More data than any peer's packet can have; see [`MAX_DATA`].
    #[error("segment has {0} bytes of data")]
    TooLong(u32),
}

/// Returns the segments of a packet, up to the first error.
///
/// Fewer bytes than a header at the end are ignored, as kcp-go v5 does.
#[must_use]
pub const fn segments(packet: &[u8]) -> Segments<'_> {
    Segments { rest: packet }
}

/// Returns the conversation of a packet's first segment, for a server that
/// adopts what the client chose.
#[must_use]
pub fn conv_of(packet: &[u8]) -> Option<u32> {
    segments(packet).next()?.ok().map(|segment| segment.conv)
}

/// The segments of a packet; see [`segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.rest.split_first_chunk::<HEADER_LEN>()?;
        let segment = parse(*header, rest);
        self.rest = match &segment {
            Ok(segment) => rest.get(segment.data.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(segment)
    }
}

fn parse(header: [u8; HEADER_LEN], rest: &[u8]) -> Result<Segment<'_>, SegmentError> {
    // A pattern over the whole array: no index, no length to check.
    let [
        c0,
        c1,
        c2,
        c3,
        command,
        fragment,
        w0,
        w1,
        t0,
        t1,
        t2,
        t3,
        s0,
        s1,
        s2,
        s3,
        u0,
        u1,
        u2,
        u3,
        l0,
        l1,
        l2,
        l3,
    ] = header;
    let announced = u32::from_le_bytes([l0, l1, l2, l3]);
    let len = usize::try_from(announced).unwrap_or(usize::MAX);
    if len > MAX_DATA {
        return Err(SegmentError::TooLong(announced));
    }
    Ok(Segment {
        conv: u32::from_le_bytes([c0, c1, c2, c3]),
        command: Command::from_byte(command).ok_or(SegmentError::UnknownCommand(command))?,
        fragment,
        window: u16::from_le_bytes([w0, w1]),
        ts: Ts(u32::from_le_bytes([t0, t1, t2, t3])),
        sn: Sn(u32::from_le_bytes([s0, s1, s2, s3])),
        una: Sn(u32::from_le_bytes([u0, u1, u2, u3])),
        data: rest.get(..len).ok_or(SegmentError::Truncated { announced, have: rest.len() })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: Segment<'static> = Segment {
        conv: 0x1122_3344,
        command: Command::Push,
        fragment: 0,
        window: 1024,
        ts: Ts(100),
        sn: Sn(0),
        una: Sn(0),
        // smux SYN of stream 3.
        data: &[2, 0, 0, 0, 3, 0, 0, 0],
    };

    fn encoded(segments: &[Segment<'_>]) -> Vec<u8> {
        let mut packet = Vec::new();
        segments.iter().for_each(|s| s.encode(&mut packet));
        packet
    }

    #[test]
    fn golden_packets_parse_and_encode_to_the_same_bytes() {
        // PROTOCOL §13: data and parity plaintext; FEC header and size are the
        // first eight bytes.
        for vector in [
            "00000000f10022004433221151000004640000000000000000000000080000000200000003000000",
            "01000000f20022004433221151000004640000000000000000000000080000000200000003000000",
        ] {
            let plain = hex(vector);
            let parsed: Vec<_> = segments(&plain[8..]).collect();
            assert_eq!(parsed, [Ok(PUSH)]);
            assert_eq!(encoded(&[PUSH]), plain[8..]);
            assert_eq!(conv_of(&plain[8..]), Some(0x1122_3344));
        }
    }

    #[test]
    fn several_segments_share_a_packet_and_a_short_tail_is_ignored() {
        let all = [
            Segment { command: Command::Ack, sn: Sn(u32::MAX), data: &[], ..PUSH },
            Segment { command: Command::WindowAsk, data: &[], ..PUSH },
            PUSH,
            Segment { command: Command::WindowTell, window: 0, data: &[], ..PUSH },
        ];
        let mut packet = encoded(&all);
        packet.extend_from_slice(&[0; HEADER_LEN - 1]);
        assert_eq!(segments(&packet).collect::<Result<Vec<_>, _>>(), Ok(all.to_vec()));
    }

    #[test]
    fn lying_lengths_and_unknown_commands_are_refused() {
        let mut packet = encoded(&[PUSH]);
        packet.pop();
        let short = SegmentError::Truncated { announced: 8, have: 7 };
        assert_eq!(segments(&packet).collect::<Vec<_>>(), [Err(short)]);

        packet[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(segments(&packet).next(), Some(Err(SegmentError::TooLong(u32::MAX))));

        packet[20..24].copy_from_slice(&0_u32.to_le_bytes());
        packet[4] = 85;
        assert_eq!(segments(&packet).next(), Some(Err(SegmentError::UnknownCommand(85))));
        assert_eq!(conv_of(&packet), None);
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }
}
