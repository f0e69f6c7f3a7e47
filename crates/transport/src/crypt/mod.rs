//! Packet encryption of KCP: what leaves is sealed, what comes in is opened or refused.
//!
//! [`Crypt`] seals and opens in place and holds the keys; [`ClientRekey`] says
//! when the client asks for a new one; the server's side is [`Crypt::answer`].
//! Sans-IO: time and randomness are arguments, and what the two sides tell each
//! other travels on the bus, as 65-byte points this module makes and reads.
//!
//! Not here: what the plaintext says ([`crate::fec`]), and how a point is
//! written on the bus ([`proto::bus::Rekey`]). QUIC brings its own encryption.
//!
//! Invariants:
//! - No nonce is used twice: all come from one counter (`nonce.rs`), whatever the key.
//! - The key we seal with never moves back to an older one, and the peer has it.
//! - A packet is accepted at most once while its nonce is remembered
//!   (`replay.rs`), and never if we sealed it ourselves.
//! - Refusing a packet changes nothing but what the caller counts.
//! - Keys and secrets are wiped when dropped, and `Debug` shows none.
//!
//! Wire: `docs/protocol.md` §4.1, §4.2, §4.7; the guards are those of §16.
//! One key serves both directions and packets carry no key id: the guards and
//! the trial of every key follow from that.

use std::fmt;

use zeroize::Zeroizing;

mod key;
mod nonce;
mod rekey;
mod replay;
mod ring;

pub use rekey::{ClientRekey, INTERVAL, POINT_LEN, PublicPoint, RekeyError, VOLUME};
pub use ring::MAX_KEYS;

use nonce::Nonces;
use ring::Ring;

/// Bytes of a nonce, the start of every packet.
pub const NONCE_LEN: usize = 12;
/// Bytes of an AES-GCM tag, the end of every packet.
pub const TAG_LEN: usize = 16;
/// What sealing adds to a plaintext, in bytes.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;
/// Bytes of the shortest plaintext a peer accepts (PROTOCOL §4.1).
pub const MIN_PLAINTEXT: usize = 12;
/// Bytes of `Pass` and of `Salt` in the server info (PROTOCOL §1.5).
pub const SECRET_LEN: usize = 48;

/// Seals and opens the packets of one connection.
///
/// Both sides start with the key that follows from `Pass` and `Salt`; rekeying
/// adds others, and their use drops the older ones.
pub struct Crypt {
    salt: Zeroizing<[u8; SECRET_LEN]>,
    nonces: Nonces,
    ring: Ring,
}

impl Crypt {
    /// Starts with the key of the server info. The caller wipes its copies.
    ///
    /// `seed` is 32 fresh random bytes, drawn by each side for itself and never
    /// used for another `Crypt`: two that share a key and a seed would repeat
    /// each other's nonces, which gives the key's authenticity away.
    #[must_use]
    pub fn new(
        pass: &[u8; SECRET_LEN],
        salt: &[u8; SECRET_LEN],
        seed: Zeroizing<[u8; 32]>,
    ) -> Self {
        Self {
            ring: Ring::new(&key::derive(pass, salt)),
            salt: Zeroizing::new(*salt),
            nonces: Nonces::new(&seed),
        }
    }

    /// Seals a packet in place.
    ///
    /// `packet` is [`NONCE_LEN`] bytes of room, whatever they hold, then the
    /// plaintext of at least [`MIN_PLAINTEXT`] bytes; it grows by [`TAG_LEN`].
    ///
    /// # Panics
    /// If `packet` is shorter: a bug of the caller, for no peer chooses what we send.
    pub fn seal(&mut self, packet: &mut Vec<u8>) {
        self.seal_from(packet, 0);
    }

    /// Like [`Self::seal`], for the packet that begins at `start` and is the
    /// last of those in `packets`.
    ///
    /// # Panics
    /// As [`Self::seal`].
    pub fn seal_from(&mut self, packets: &mut Vec<u8>, start: usize) {
        let len = packets.len().saturating_sub(start);
        assert!(len >= NONCE_LEN + MIN_PLAINTEXT, "a packet needs room and plaintext");
        self.ring.seal(self.nonces.next(), packets, start);
    }

    /// Opens a packet in place and returns its plaintext.
    ///
    /// The first packet the peer sealed with a newer key drops the older keys
    /// and makes that one ours for sealing.
    ///
    /// # Errors
    /// [`Refused`]: drop the packet without an answer. No state has changed,
    /// but a replayed packet is left decrypted.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a mut [u8], Refused> {
        let have = packet.len();
        if have < OVERHEAD + MIN_PLAINTEXT {
            return Err(Refused::TooShort { have });
        }
        let Some((nonce, sealed)) = packet.split_first_chunk_mut::<NONCE_LEN>() else {
            return Err(Refused::TooShort { have });
        };
        let Some((body, tag)) = sealed.split_last_chunk_mut::<TAG_LEN>() else {
            return Err(Refused::TooShort { have });
        };
        if self.nonces.is_own(nonce) {
            return Err(Refused::Reflected);
        }
        self.ring.open(nonce, body, tag)?;
        Ok(body)
    }

    /// Returns which key seals: 0 is the one of the server info, each exchange adds one.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.ring.generation()
    }

    /// Returns how many bytes of plaintext were sealed and opened with that key.
    #[must_use]
    pub fn volume(&self) -> u64 {
        self.ring.volume()
    }

    /// Answers a client's `rekey`: takes its point, returns ours.
    ///
    /// The new key opens packets from now on; it seals once the client has used
    /// it, so the answer itself still goes out under the old one.
    /// `random` is 32 fresh random bytes.
    ///
    /// # Errors
    /// [`RekeyError::BadPoint`], and [`RekeyError::TooManyKeys`] for a client
    /// that asks on and on without using what it got. Nothing has changed.
    pub fn answer(
        &mut self,
        request: &[u8],
        random: Zeroizing<[u8; 32]>,
    ) -> Result<PublicPoint, RekeyError> {
        let ephemeral = rekey::Ephemeral::new(random);
        let point = ephemeral.point();
        self.add_key(&ephemeral.agree(request)?)?;
        Ok(point)
    }

    /// Adds the key that follows from an agreed secret; packets are not sealed with it yet.
    fn add_key(&mut self, secret: &Zeroizing<[u8; 32]>) -> Result<(), RekeyError> {
        self.ring.add(&key::derive(secret.as_slice(), &self.salt))
    }

    /// Seals with the newest key from now on.
    fn use_newest_key(&mut self) {
        self.ring.use_newest();
    }
}

impl fmt::Debug for Crypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypt")
            .field("generation", &self.generation())
            .field("volume", &self.volume())
            .finish_non_exhaustive()
    }
}

/// Why a packet was refused. Drop it and say nothing; counts may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Too short for nonce, tag and the shortest plaintext. Stray acks and
    /// dummies of the proxy may look like this (PROTOCOL §12).
    #[error("packet of {have} bytes is too short")]
    TooShort {
        /// Bytes the packet had.
        have: usize,
    },
    /// We sealed it ourselves: somebody sent our packet back to us.
    #[error("packet is one of ours, sent back")]
    Reflected,
    /// No key opens it: forged, damaged, or sealed with a key already dropped.
    #[error("packet opens with none of {keys} keys")]
    Unsealed {
        /// How many keys were tried.
        keys: usize,
    },
    /// It was opened before: a copy made by the network or by an attacker.
    #[error("packet was opened before")]
    Replayed,
}

#[cfg(test)]
mod tests;
