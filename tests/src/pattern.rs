//! [`Pattern`]: any amount of data that nobody has to keep.
//!
//! The bytes follow from a seed, so both ends of a transfer can be checked
//! byte for byte; a difference is reported with its offset, which tells lost
//! bytes from repeated ones where a checksum would only say "wrong".

use std::io::{self, Read};

/// A reproducible stream of bytes without repetition within any test's size.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    remaining: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    /// Returns the first `len` bytes of the stream that `seed` selects.
    #[must_use]
    pub fn new(seed: u64, len: u64) -> Self {
        // Any state but zero is fine for xorshift; the multiplier spreads small seeds.
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { state, remaining: len, word: [0; 8], used: 8 }
    }

    /// Returns all remaining bytes.
    #[must_use]
    pub fn bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).expect("a pattern cannot fail to be read");
        bytes
    }

    /// Reads `other` to its end and checks that it is exactly this pattern.
    ///
    /// # Panics
    /// At the first difference, with its offset, and when `other` cannot be read.
    pub fn assert_equals(mut self, what: &str, mut other: impl Read) {
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut offset = 0;
        loop {
            let got = fill(&mut other, &mut theirs).expect("the data to compare can be read");
            let wanted = fill(&mut self, &mut ours).expect("a pattern cannot fail to be read");
            let same = ours[..wanted].iter().zip(&theirs[..got]).take_while(|(a, b)| a == b);
            let same = same.count();
            assert!(
                same == wanted && got == wanted,
                "{what}: differs at byte {}: {} arrived in this chunk, {} were sent",
                offset + same,
                got,
                wanted
            );
            if wanted == 0 {
                return;
            }
            offset += wanted;
        }
    }

    fn next_word(&mut self) -> [u8; 8] {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    }
}

impl Read for Pattern {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buf.len());
        let mut filled = 0;
        while filled < len {
            if self.used == self.word.len() {
                self.word = self.next_word();
                self.used = 0;
            }
            let take = (len - filled).min(self.word.len() - self.used);
            buf[filled..filled + take].copy_from_slice(&self.word[self.used..self.used + take]);
            filled += take;
            self.used += take;
        }
        self.remaining -= len as u64;
        Ok(len)
    }
}

const CHUNK: usize = 256 * 1024;

/// Reads until `buf` is full or the input ends; returns how much there is.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match input.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn the_same_seed_gives_the_same_bytes_however_they_are_read() {
        let whole = Pattern::new(7, 1000).bytes();
        Pattern::new(7, 1000).assert_equals("itself", whole.as_slice());
        assert_ne!(whole, Pattern::new(8, 1000).bytes());
    }

    #[test]
    #[should_panic(expected = "differs at byte 500")]
    fn a_changed_byte_is_found() {
        let mut changed = Pattern::new(7, 1000).bytes();
        changed[500] ^= 1;
        Pattern::new(7, 1000).assert_equals("changed", changed.as_slice());
    }

    #[test]
    #[should_panic(expected = "differs at byte 999")]
    fn a_missing_last_byte_is_found() {
        let mut short = Pattern::new(7, 1000).bytes();
        short.pop();
        Pattern::new(7, 1000).assert_equals("short", short.as_slice());
    }

    #[test]
    #[should_panic(expected = "differs at byte 1000")]
    fn a_surplus_byte_is_found() {
        let mut long = Pattern::new(7, 1000).bytes();
        long.push(0);
        Pattern::new(7, 1000).assert_equals("long", long.as_slice());
    }
}
