//! Plaintext of a path-auth packet and of its ack (PROTOCOL §2.2).
//!
//! `id u64be | serial u64be`; sealing is the proxy's business.

use crate::{ClientId, PathSerial, ServerId};

/// Bytes of the plaintext.
pub const PLAINTEXT_LEN: usize = 16;

/// Client to server: "this path is mine".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAuth {
    /// Who asks.
    pub client: ClientId,
    /// Which of its paths this is.
    pub serial: PathSerial,
}

/// Server to client: "this path is yours".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAck {
    /// Who answers.
    pub server: ServerId,
    /// The accepted serial.
    pub serial: PathSerial,
}

impl PathAuth {
    /// Returns the plaintext.
    #[must_use]
    pub fn encode(self) -> [u8; PLAINTEXT_LEN] {
        join(self.client.0, self.serial.0)
    }

    /// Reads a plaintext; `None` unless it is exactly [`PLAINTEXT_LEN`] bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        split(bytes).map(|(id, serial)| Self { client: ClientId(id), serial: PathSerial(serial) })
    }
}

impl PathAck {
    /// Returns the plaintext.
    #[must_use]
    pub fn encode(self) -> [u8; PLAINTEXT_LEN] {
        join(self.server.0, self.serial.0)
    }

    /// Reads a plaintext; `None` unless it is exactly [`PLAINTEXT_LEN`] bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        split(bytes).map(|(id, serial)| Self { server: ServerId(id), serial: PathSerial(serial) })
    }
}

fn join(id: u64, serial: u64) -> [u8; PLAINTEXT_LEN] {
    ((u128::from(id) << 64) | u128::from(serial)).to_be_bytes()
}

fn split(bytes: &[u8]) -> Option<(u64, u64)> {
    let (id, serial) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*id), u64::from_be_bytes(serial.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_id_then_serial_big_endian() {
        let auth = PathAuth { client: ClientId(0x0102_0304_0506_0708), serial: PathSerial(1) };
        assert_eq!(hex::encode(auth.encode()), "01020304050607080000000000000001");
        assert_eq!(PathAuth::decode(&auth.encode()), Some(auth));
        assert_eq!(PathAuth::decode(&[0; 15]), None);
        assert_eq!(PathAck::decode(&[0; 17]), None);
    }
}
