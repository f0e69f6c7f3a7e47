//! Nonces that never repeat, look random to others, and are known again as ours.
//!
//! A nonce is a keyed permutation of a counter: distinct because the counter
//! is, recognised by undoing the permutation, and to anybody without the seed
//! no different from the random nonces of the reference. The seed stays on our
//! side, so the peer's nonces come out as numbers we have not reached yet: of
//! 2^40 packets received, one is mistaken for ours with a chance of 2^-16 even
//! if we sealed 2^40 ourselves, and then it is merely lost.
//!
//! The permutation is a Feistel network of four rounds over two halves of 48
//! bits, the round function AES-256 cut to a half (Luby and Rackoff, 1988).
//! Distinctness, on which AES-GCM rests, needs none of its strength.

use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};

use super::NONCE_LEN;

/// Where our nonces come from.
pub(super) struct Nonces {
    cipher: Aes256,
    /// How many nonces were given out, which is also the next one's number.
    given: u64,
}

impl Nonces {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self { cipher: Aes256::new(seed.into()), given: 0 }
    }

    /// Returns a nonce that was not given out before.
    ///
    /// # Panics
    /// After 2^48 of them, eight years at a million packets a second.
    pub(super) fn next(&mut self) -> [u8; NONCE_LEN] {
        assert!(self.given <= HALF, "2^48 packets are more than a connection lives to send");
        let (mut left, mut right) = (0, self.given);
        self.given += 1;
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        join(left, right)
    }

    /// Returns whether we gave out this nonce.
    pub(super) fn is_own(&self, nonce: &[u8; NONCE_LEN]) -> bool {
        let (mut left, mut right) = split(nonce);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.mix(round, left), left);
        }
        left == 0 && right < self.given
    }

    /// The round function: 48 bits in, 48 bits out.
    fn mix(&self, round: u8, half: u64) -> u64 {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&half.to_be_bytes());
        block[8] = round;
        let mut block = block.into();
        self.cipher.encrypt_block(&mut block);
        block.iter().take(HALF_LEN).fold(0, |half, &byte| (half << 8) | u64::from(byte))
    }
}

fn join(left: u64, right: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    let (start, end) = nonce.split_at_mut(HALF_LEN);
    start.copy_from_slice(&left.to_be_bytes()[8 - HALF_LEN..]);
    end.copy_from_slice(&right.to_be_bytes()[8 - HALF_LEN..]);
    nonce
}

fn split(nonce: &[u8; NONCE_LEN]) -> (u64, u64) {
    let number = |half: &[u8]| half.iter().fold(0, |half, &byte| (half << 8) | u64::from(byte));
    let (left, right) = nonce.split_at(HALF_LEN);
    (number(left), number(right))
}

const ROUNDS: u8 = 4;
/// Bytes of a half.
const HALF_LEN: usize = NONCE_LEN / 2;
/// The largest half.
const HALF: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nonces_differ_and_are_known_again_only_by_the_side_that_gave_them_out() {
        let (mut ours, mut theirs) = (Nonces::new(&[1; 32]), Nonces::new(&[2; 32]));
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let (our, their) = (ours.next(), theirs.next());
            assert!(seen.insert(our) && seen.insert(their));
            assert!(ours.is_own(&our) && theirs.is_own(&their));
            assert!(!ours.is_own(&their) && !theirs.is_own(&our));
        }
    }

    #[test]
    fn a_nonce_we_will_give_out_later_is_not_ours_yet() {
        let mut ahead = Nonces::new(&[3; 32]);
        let behind = Nonces::new(&[3; 32]);
        let nonce = ahead.next();
        assert!(!behind.is_own(&nonce));
    }

    #[test]
    fn neighbouring_nonces_have_about_half_of_their_bits_in_common() {
        let mut nonces = Nonces::new(&[4; 32]);
        let mut last = nonces.next();
        let mut differing = 0;
        for _ in 0..1000 {
            let next = nonces.next();
            differing += last.iter().zip(next).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
            last = next;
        }
        // 48 of 96 bits on average; the deviation of the sum is about 155.
        assert!((47_000..49_000).contains(&differing), "{differing} bits in 1000 steps");
    }
}
