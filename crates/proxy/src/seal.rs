//! Seals and opens the 44-byte packets that authenticate a path.
//!
//! Not here: what the plaintext says ([`proto::path_auth`]) and what follows
//! from it ([`crate::client`], [`crate::server`]). Nonces are arguments; the
//! caller draws them at random, one per packet.
//!
//! Wire: `docs/protocol.md` §2.2: nonce 12 | AES-256-GCM ciphertext 16 | tag 16,
//! no associated data.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use proto::path_auth::PLAINTEXT_LEN;
use zeroize::Zeroizing;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;

/// Bytes of a sealed packet: nonce, ciphertext, tag.
pub const SEALED_LEN: usize = NONCE_LEN + PLAINTEXT_LEN + 16;

/// Bytes of the proxy key.
pub const KEY_LEN: usize = 32;

/// The key both ends seal path-auth packets with (`ProxyKey` of the server info).
///
/// Wiped from memory when dropped; never shown by `Debug`.
#[derive(Clone)]
pub struct ProxyKey(Zeroizing<[u8; KEY_LEN]>);

impl ProxyKey {
    /// Takes the key's bytes. The caller wipes its own copy.
    #[must_use]
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Copies the key out of a slice; `None` unless it is [`KEY_LEN`] bytes long.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }
}

impl fmt::Debug for ProxyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyKey(hidden)")
    }
}

/// A proxy key made ready for use.
pub struct Sealer {
    cipher: Aes256Gcm,
}

impl Sealer {
    /// Expands the key. The expanded key is wiped when dropped, too.
    #[must_use]
    pub fn new(key: &ProxyKey) -> Self {
        Self { cipher: Aes256Gcm::new(&(*key.0).into()) }
    }

    /// Returns the sealed packet. A nonce must never be used twice with one key.
    #[must_use]
    pub fn seal(&self, nonce: [u8; NONCE_LEN], plaintext: [u8; PLAINTEXT_LEN]) -> [u8; SEALED_LEN] {
        let sealed = self
            .cipher
            .encrypt(&Nonce::from(nonce), plaintext.as_slice())
            .expect("AES-GCM takes any message this short");
        let mut packet = [0; SEALED_LEN];
        packet[..NONCE_LEN].copy_from_slice(&nonce);
        packet[NONCE_LEN..].copy_from_slice(&sealed);
        packet
    }

    /// Returns the plaintext, or `None` if this is not a packet sealed with our key.
    #[must_use]
    pub fn open(&self, packet: &[u8]) -> Option<[u8; PLAINTEXT_LEN]> {
        let packet: &[u8; SEALED_LEN] = packet.try_into().ok()?;
        let (nonce, sealed) = packet.split_first_chunk::<NONCE_LEN>()?;
        self.cipher.decrypt(&Nonce::from(*nonce), sealed).ok()?.try_into().ok()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::path_auth::PathAuth;
    use proto::{ClientId, PathSerial};

    /// PROTOCOL §13, vector "auth", computed independently of this code.
    const GOLDEN: [u8; SEALED_LEN] = [
        0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xe7, 0x1a, 0x7f,
        0x29, 0x40, 0xcd, 0x05, 0xb7, 0x62, 0x65, 0x87, 0xd3, 0x07, 0x7a, 0xc0, 0xdf, 0xbe, 0x6c,
        0x1d, 0xc8, 0x40, 0xc8, 0x76, 0x43, 0x99, 0xfa, 0x35, 0xdc, 0xe0, 0x8b, 0xf4, 0xee,
    ];

    fn sealer() -> Sealer {
        Sealer::new(&ProxyKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap())))
    }

    fn golden_auth() -> PathAuth {
        PathAuth { client: ClientId(0x0102_0304_0506_0708), serial: PathSerial(1) }
    }

    #[test]
    fn seals_to_the_golden_vector() {
        let nonce = std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap());
        assert_eq!(sealer().seal(nonce, golden_auth().encode()), GOLDEN);
    }

    #[test]
    fn opens_the_golden_vector_and_nothing_that_differs_in_one_bit() {
        let opened = sealer().open(&GOLDEN).expect("genuine");
        assert_eq!(PathAuth::decode(&opened), Some(golden_auth()));
        for bit in 0..SEALED_LEN * 8 {
            let mut forged = GOLDEN;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sealer().open(&forged), None, "bit {bit} flipped");
        }
        assert_eq!(sealer().open(&GOLDEN[..SEALED_LEN - 1]), None);
        assert_eq!(sealer().open(&[&GOLDEN[..], &[0]].concat()), None);
    }

    #[test]
    fn debug_shows_no_key_bytes() {
        assert_eq!(format!("{:?}", ProxyKey::new([7; KEY_LEN])), "ProxyKey(hidden)");
        assert_eq!(format!("{:?}", sealer()), "Sealer(hidden)");
    }
}
