//! The keys of one side: which one seals, and which are tried in opening.
//!
//! ```text
//! server: request    -> add (opens, does not seal yet)
//! client: answer     -> add, use_newest (seals at once)
//! either: a packet opens with key i > 0 -> keys 0..i dropped, key i seals
//!                                          unless a newer one already does
//! ```
//! "Unless" departs from PROTOCOL §4.7, which makes key i the sealing one in
//! any case: a late packet under a middle key would move the client back to a
//! key that the server, having seen the newest in use, has dropped.

use std::collections::VecDeque;

use super::key::{KeyBytes, PacketKey};
use super::rekey::RekeyError;
use super::replay::Seen;
use super::{NONCE_LEN, Refused, TAG_LEN};

/// The most keys a side holds. Peers that keep to the protocol need two, for an
/// exchange is asked for only when the last one is over.
pub const MAX_KEYS: usize = 4;

/// Keys, oldest first; never empty.
pub(super) struct Ring {
    keys: VecDeque<RingKey>,
    /// Index of the key that seals.
    active: usize,
    /// Generation of the oldest key.
    first: u32,
}

struct RingKey {
    key: PacketKey,
    /// Bytes of plaintext sealed and opened.
    volume: u64,
    seen: Seen,
}

impl RingKey {
    fn new(key: &KeyBytes) -> Self {
        Self { key: PacketKey::new(key), volume: 0, seen: Seen::default() }
    }
}

impl Ring {
    /// A ring of one key, which seals.
    pub(super) fn new(key: &KeyBytes) -> Self {
        // All its room at once: keys that moved would leave a copy behind.
        let mut keys = VecDeque::with_capacity(MAX_KEYS);
        keys.push_back(RingKey::new(key));
        Self { keys, active: 0, first: 0 }
    }

    /// Adds the newest key, for opening only.
    pub(super) fn add(&mut self, key: &KeyBytes) -> Result<(), RekeyError> {
        if self.keys.len() >= MAX_KEYS {
            return Err(RekeyError::TooManyKeys);
        }
        self.keys.push_back(RingKey::new(key));
        Ok(())
    }

    /// Seals with the newest key from now on.
    pub(super) fn use_newest(&mut self) {
        self.active = self.keys.len() - 1;
    }

    /// Seals the last packet of `packets`, which begins at `start`.
    pub(super) fn seal(&mut self, nonce: [u8; NONCE_LEN], packets: &mut Vec<u8>, start: usize) {
        let active = &mut self.keys[self.active];
        active.volume += (packets.len() - start - NONCE_LEN) as u64;
        active.key.seal(nonce, packets, start);
    }

    /// Decrypts `body` with the first key that opens it.
    pub(super) fn open(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Refused> {
        let keys = self.keys.len();
        let index = self.keys.iter().position(|entry| entry.key.open(nonce, body, tag));
        let Some(index) = index else { return Err(Refused::Unsealed { keys }) };
        let entry = &mut self.keys[index];
        if !entry.seen.insert(nonce) {
            return Err(Refused::Replayed);
        }
        entry.volume += body.len() as u64;
        self.on_peer_used(index);
        Ok(())
    }

    /// The peer seals with key `index`, so it will not use an older one again.
    fn on_peer_used(&mut self, index: usize) {
        for _ in 0..index {
            self.keys.pop_front();
            self.first += 1;
        }
        self.active = self.active.saturating_sub(index);
    }

    /// Number of the key that seals, counted from the server info's.
    pub(super) fn generation(&self) -> u32 {
        self.first + u32::try_from(self.active).expect("a ring of MAX_KEYS")
    }

    /// Bytes of plaintext sealed and opened with the key that seals.
    pub(super) fn volume(&self) -> u64 {
        self.keys[self.active].volume
    }
}

#[cfg(test)]
impl Ring {
    /// Counts bytes for the key that seals, as if they had been sealed.
    pub(super) fn add_volume(&mut self, bytes: u64) {
        self.keys[self.active].volume += bytes;
    }
}
