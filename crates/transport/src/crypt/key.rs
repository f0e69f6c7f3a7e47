//! One key: how it is derived, and AES-256-GCM in place.
//!
//! Not here: which nonce and which key ([`super::nonce`], [`super::ring`]).
//! Wire: `docs/protocol.md` §4.1 and §4.2; no associated data.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha384;
use zeroize::Zeroizing;

use super::{NONCE_LEN, SECRET_LEN, TAG_LEN};

/// The bytes of a key, wiped when dropped.
pub(super) type KeyBytes = Zeroizing<[u8; 32]>;

/// Returns `HKDF-SHA-384(ikm = secret, salt, info = empty)[0..32]`.
pub(super) fn derive(secret: &[u8], salt: &[u8; SECRET_LEN]) -> KeyBytes {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha384>::new(Some(salt), secret)
        .expand(&[], key.as_mut_slice())
        .expect("HKDF-SHA-384 gives up to 12240 bytes");
    key
}

/// A key made ready for use; the expanded key is wiped when dropped.
pub(super) struct PacketKey(Aes256Gcm);

impl PacketKey {
    pub(super) fn new(key: &KeyBytes) -> Self {
        Self(Aes256Gcm::new((&**key).into()))
    }

    /// Seals the packet that begins at `start` and is the last in `packets`:
    /// writes the nonce over its first bytes, encrypts the rest, appends the tag.
    ///
    /// The packet is at least [`NONCE_LEN`] bytes long.
    pub(super) fn seal(&self, nonce: [u8; NONCE_LEN], packets: &mut Vec<u8>, start: usize) {
        let (room, plaintext) = packets[start..].split_at_mut(NONCE_LEN);
        room.copy_from_slice(&nonce);
        let tag = self
            .0
            .encrypt_inout_detached(&Nonce::from(nonce), &[], plaintext.into())
            .expect("AES-GCM takes 64 GiB in one message");
        packets.extend_from_slice(&tag);
    }

    /// Decrypts `body` and returns whether it is genuine; if not, `body` is as it was.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        body: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> bool {
        // The tag is checked before anything is decrypted, so the next key finds
        // the ciphertext.
        self.0
            .decrypt_inout_detached(&Nonce::from(*nonce), &[], body.into(), &Tag::from(*tag))
            .is_ok()
    }
}
