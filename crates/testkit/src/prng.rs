//! [`Prng`]: pseudo-random numbers that a seed repeats.

/// A small generator (SplitMix64, Steele et al. 2014). Fair enough for
/// simulations, and of no use where an adversary is involved.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// Starts the sequence that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number less than `bound`; zero if `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        match self.next_u64().checked_rem(bound) {
            Some(n) => n,
            None => 0,
        }
    }

    /// Returns `true` with the given probability (0.0 never, 1.0 always).
    pub fn chance(&mut self, probability: f64) -> bool {
        // 32 random bits are an exact f64.
        let unit = f64::from((self.next_u64() >> 32) as u32) / f64::from(u32::MAX);
        unit < probability
    }

    /// Fills a slice.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence_for_seed_zero() {
        let mut prng = Prng::new(0);
        assert_eq!(prng.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(prng.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn chance_keeps_its_promise_at_both_ends_and_in_between() {
        let mut prng = Prng::new(1);
        assert!((0..1000).all(|_| !prng.chance(0.0)));
        let hits = (0..10_000).filter(|_| prng.chance(0.3)).count();
        assert!((2800..3200).contains(&hits), "{hits} of 10000 at 0.3");
    }
}
