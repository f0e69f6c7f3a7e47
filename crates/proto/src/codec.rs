//! Framing of streams: commands, messages, UDP frames (PROTOCOL §6.1).
//!
//! ```text
//! command    len u8 (1…255) | ASCII
//! message    len u32be      | one JSON object
//! udp frame  len u16be      | bytes
//! ```
//!
//! The only place that takes lengths from bytes. A message is capped at
//! [`MAX_MESSAGE`]; the reference knows no bound, and 4 GiB could be announced.

use crate::json::{JsonError, Message};

/// Most bytes a message may have: ample for every message of the protocol.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Why a frame was refused. The stream cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A command of length zero.
    #[error("empty command")]
    EmptyCommand,
    /// A command that is not ASCII.
    #[error("command is not ASCII")]
    CommandNotAscii,
    /// A message longer than [`MAX_MESSAGE`].
    #[error("message of {0} bytes is over the limit of 1 MiB")]
    TooLong(u32),
    /// The message's content.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// Returns `name` as a command.
///
/// # Panics
/// Never for the commands of this crate; `name` must be 1 to 255 ASCII bytes.
#[must_use]
pub fn command(name: &str) -> Vec<u8> {
    let len = u8::try_from(name.len()).expect("commands are our own constants, under 256 bytes");
    let mut out = Vec::with_capacity(1 + name.len());
    out.push(len);
    out.extend_from_slice(name.as_bytes());
    out
}

/// Returns `message` with its length in front.
#[must_use]
pub fn message<M: Message>(message: &M) -> Vec<u8> {
    let json = message.to_json();
    let len = u32::try_from(json.len()).expect("messages stay far below 4 GiB");
    let mut out = Vec::with_capacity(4 + json.len());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(json.as_bytes());
    out
}

/// Returns a command and its message, to be written as one buffer.
#[must_use]
pub fn command_and_message<M: Message>(name: &str, body: &M) -> Vec<u8> {
    let mut out = command(name);
    out.extend_from_slice(&message(body));
    out
}

/// Checks the length byte of a command.
///
/// # Errors
/// [`FrameError::EmptyCommand`].
pub fn command_len(header: u8) -> Result<usize, FrameError> {
    if header == 0 { Err(FrameError::EmptyCommand) } else { Ok(usize::from(header)) }
}

/// Checks the bytes of a command.
///
/// # Errors
/// [`FrameError::CommandNotAscii`].
pub fn command_name(bytes: Vec<u8>) -> Result<String, FrameError> {
    match String::from_utf8(bytes) {
        Ok(name) if name.is_ascii() => Ok(name),
        _ => Err(FrameError::CommandNotAscii),
    }
}

/// Checks the length of a message.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn message_len(header: [u8; 4]) -> Result<usize, FrameError> {
    let len = u32::from_be_bytes(header);
    match usize::try_from(len) {
        Ok(n) if n <= MAX_MESSAGE => Ok(n),
        _ => Err(FrameError::TooLong(len)),
    }
}

/// Takes frames off the front of bytes that arrive in pieces.
///
/// For readers that must not read past a frame, read exactly what
/// [`command_len`] and [`message_len`] say instead.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameBuffer {
    /// Appends bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes a command, once it is complete.
    ///
    /// # Errors
    /// [`FrameError`]; nothing is taken then.
    pub fn take_command(&mut self) -> Result<Option<String>, FrameError> {
        let rest = self.rest();
        let Some((&header, body)) = rest.split_first() else { return Ok(None) };
        let len = command_len(header)?;
        let Some(name) = body.get(..len) else { return Ok(None) };
        let name = command_name(name.to_vec())?;
        self.start += 1 + len;
        Ok(Some(name))
    }

    /// Takes the bytes of a message, once it is complete.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; nothing is taken then.
    pub fn take_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let rest = self.rest();
        let Some((header, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = message_len(*header)?;
        let Some(json) = body.get(..len) else { return Ok(None) };
        let json = json.to_vec();
        self.start += 4 + len;
        Ok(Some(json))
    }

    /// Takes the payload of a UDP frame, once it is complete.
    pub fn take_udp_frame(&mut self) -> Option<Vec<u8>> {
        let (header, body) = self.rest().split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*header));
        let payload = body.get(..len)?.to_vec();
        self.start += 2 + len;
        Some(payload)
    }

    /// Returns what was pushed and not yet taken.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

/// Returns `payload` as a UDP frame; `None` when it is longer than 65535 bytes.
#[must_use]
pub fn udp_frame(payload: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(payload.len()).ok()?;
    let mut out = Vec::with_capacity(2 + payload.len());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(payload);
    Some(out)
}

/// Returns a datagram of a UDP channel: `payload | channel id u64be` (PROTOCOL §6.9).
#[must_use]
pub fn channel_datagram(payload: &[u8], channel: crate::ChannelId) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.extend_from_slice(payload);
    out.extend_from_slice(&channel.0.to_be_bytes());
    out
}

/// Splits a datagram of a UDP channel; `None` when it is too short to name a channel.
#[must_use]
pub fn split_channel_datagram(bytes: &[u8]) -> Option<(&[u8], crate::ChannelId)> {
    let (payload, id) = bytes.split_last_chunk::<8>()?;
    Some((payload, crate::ChannelId(u64::from_be_bytes(*id))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Alive;
    use crate::open::Outcome;

    #[test]
    fn golden_frames_of_the_specification() {
        assert_eq!(hex::encode(command("bus")), "03627573");
        assert_eq!(
            hex::encode(message(&Outcome::success())),
            "0000001a7b224d7367223a225f54535348445f4e4f5f4552524f525f227d"
        );
        assert_eq!(
            hex::encode(command_and_message("alive", &Alive { time: 1_700_000_000_000 })),
            "05616c697665000000167b2254696d65223a313730303030303030303030307d"
        );
        assert_eq!(hex::encode(message(&crate::open::Ready::default())), "000000027b7d");
    }

    #[test]
    fn frames_may_arrive_byte_by_byte() {
        let bytes = command_and_message("alive", &Alive { time: 5 });
        let mut buffer = FrameBuffer::default();
        let mut name = None;
        let mut body = None;
        for byte in bytes.iter().chain(b"rest") {
            buffer.push(&[*byte]);
            if name.is_none() {
                name = buffer.take_command().unwrap();
            } else if body.is_none() {
                body = buffer.take_message().unwrap();
            }
        }
        assert_eq!(name.as_deref(), Some("alive"));
        assert_eq!(body.as_deref(), Some(&b"{\"Time\":5}"[..]));
        assert_eq!(buffer.rest(), b"rest");
    }

    #[test]
    fn oversize_and_empty_frames_are_refused() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&[0, 0x10, 0, 1]);
        assert_eq!(buffer.take_message(), Err(FrameError::TooLong(0x0010_0001)));
        assert_eq!(buffer.take_command(), Err(FrameError::EmptyCommand));
        let mut buffer = FrameBuffer::default();
        buffer.push(&[1, 0x80]);
        assert_eq!(buffer.take_command(), Err(FrameError::CommandNotAscii));
    }

    #[test]
    fn udp_frames_and_datagrams_round_trip() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&udp_frame(b"abc").unwrap());
        buffer.push(&udp_frame(b"").unwrap());
        assert_eq!(buffer.take_udp_frame().as_deref(), Some(&b"abc"[..]));
        assert_eq!(buffer.take_udp_frame().as_deref(), Some(&b""[..]));
        assert_eq!(buffer.take_udp_frame(), None);
        assert!(udp_frame(&vec![0; 65536]).is_none());

        let datagram = channel_datagram(b"hi", crate::ChannelId(1));
        assert_eq!(hex::encode(&datagram), "68690000000000000001");
        assert_eq!(split_channel_datagram(&datagram), Some((&b"hi"[..], crate::ChannelId(1))));
        assert_eq!(split_channel_datagram(b"1234567"), None);
    }
}
