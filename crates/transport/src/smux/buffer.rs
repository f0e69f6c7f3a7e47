//! Bytes in order, in memory that follows their number.

use std::collections::VecDeque;
use std::fmt;

/// Memory in bytes that an emptied buffer keeps: most streams talk little, and
/// a thousand of them should not hold what each once needed.
const KEEP: usize = 16 * 1024;

/// A queue of bytes; holds at most about four times its length, or [`KEEP`].
///
/// `Debug` shows how many, for they may be what somebody typed.
#[derive(Default)]
pub(super) struct Buffer(VecDeque<u8>);

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    /// Moves bytes into the front of `to`; returns how many.
    pub(super) fn read(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.len());
        let (first, second) = self.front(count);
        let (to_first, rest) = to.split_at_mut(first.len());
        let (to_second, _) = rest.split_at_mut(second.len());
        to_first.copy_from_slice(first);
        to_second.copy_from_slice(second);
        self.drop_front(count);
        count
    }

    /// Moves the first `count` bytes, or all if there are fewer, behind `to`.
    pub(super) fn drain_into(&mut self, to: &mut Vec<u8>, count: usize) {
        let count = count.min(self.len());
        let (first, second) = self.front(count);
        to.extend_from_slice(first);
        to.extend_from_slice(second);
        self.drop_front(count);
    }

    /// Drops the bytes; returns how many there were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.0).len()
    }

    /// Returns the first `count` bytes, of those there are, in two parts.
    fn front(&self, count: usize) -> (&[u8], &[u8]) {
        let (first, second) = self.0.as_slices();
        let (first, _) = first.split_at(count.min(first.len()));
        let (second, _) = second.split_at((count - first.len()).min(second.len()));
        (first, second)
    }

    fn drop_front(&mut self, count: usize) {
        self.0.drain(..count);
        if self.0.capacity() > KEEP && self.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_when_the_bytes_do() {
        let mut buffer = Buffer::default();
        buffer.push(&vec![1; 1 << 20]);
        let mut to = vec![0; (1 << 20) - 10];
        assert_eq!(buffer.read(&mut to), to.len());
        assert_eq!(buffer.len(), 10);
        assert!(buffer.0.capacity() <= KEEP, "{} bytes for ten", buffer.0.capacity());
    }

    #[test]
    fn bytes_come_out_in_order_however_they_are_taken() {
        let mut buffer = Buffer::default();
        let mut out = Vec::new();
        for start in (0..250).step_by(10) {
            buffer.push(&Vec::from_iter(start..start + 10));
            buffer.drain_into(&mut out, 4);
            let mut four = [0; 4];
            assert_eq!(buffer.read(&mut four), 4);
            out.extend_from_slice(&four);
        }
        buffer.drain_into(&mut out, usize::MAX);
        assert_eq!(out, Vec::from_iter(0..250));
        assert!(buffer.is_empty());
    }
}
