//! Which nonces a key has opened: the guard against replay.
//!
//! The reference's nonces are random and have no order, so this remembers a
//! set of the latest ones and not a window of numbers. What is older than the
//! set is accepted again; KCP drops such data by its own numbers, and only a
//! repeated datagram would be noticed.

use std::collections::HashSet;

use super::NONCE_LEN;

/// The latest nonces, between [`CAPACITY`] and twice as many once so many came.
///
/// Two sets: when the newer is full it becomes the older, whose nonces are
/// forgotten all at once. Memory grows with use, up to about 0.6 MiB.
#[derive(Default)]
pub(super) struct Seen {
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl Seen {
    /// Remembers a nonce; returns whether it is new.
    ///
    /// Only nonces of genuine packets belong here, or anybody could fill the set.
    pub(super) fn insert(&mut self, nonce: &[u8; NONCE_LEN]) -> bool {
        // Eight bytes tell the nonces of one key apart as well as twelve would:
        // a fresh packet is taken for a replay, and lost, once in 2^48.
        let [a, b, c, d, e, f, g, h, ..] = *nonce;
        let mark = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        if self.older.contains(&mark) || !self.newer.insert(mark) {
            return false;
        }
        if self.newer.len() >= CAPACITY {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }
}

/// Nonces in one set: what a table of 2^15 slots holds at seven eighths.
const CAPACITY: usize = 28_672;

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(number: usize) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
        nonce
    }

    #[test]
    fn at_least_the_latest_nonces_are_remembered_and_old_ones_cost_no_memory() {
        let mut seen = Seen::default();
        for number in 0..CAPACITY * 5 / 2 {
            assert!(seen.insert(&nonce(number)), "{number} is new");
            assert!(!seen.insert(&nonce(number)), "{number} again");
            assert!(!seen.insert(&nonce(number.saturating_sub(CAPACITY - 1))), "{number}, late");
        }
        assert!(seen.newer.len() + seen.older.len() <= 2 * CAPACITY);
        assert!(seen.insert(&nonce(0)), "the oldest is forgotten");
    }
}
