//! Markers in byte streams: stale input (PROTOCOL §7.6) and redraw (§7.8).
//!
//! Both work alike: from the moment a marker is armed, everything up to and
//! including its first occurrence is taken out of the stream. The occurrence
//! may be split over reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Makes input-discard markers: `FF C0 C1 FF | counter u32be`.
///
/// Counter values in which a byte would be `;` or CR are skipped, by bumping
/// that byte and zeroing the lower ones: terminals and line editors treat both
/// specially, should a marker ever leak through.
#[derive(Debug, Default)]
pub struct InputMarkers {
    last: u32,
}

impl InputMarkers {
    /// Returns the next marker; the first carries counter 1.
    pub fn next_marker(&mut self) -> [u8; 8] {
        let mut counter = self.last.wrapping_add(1).to_be_bytes();
        if let Some(at) = counter.iter().position(|b| matches!(b, 0x3b | 0x0d)) {
            for (i, byte) in counter.iter_mut().enumerate().skip(at) {
                *byte = if i == at { *byte + 1 } else { 0 };
            }
        }
        self.last = u32::from_be_bytes(counter);
        let mut marker = [0xff, 0xc0, 0xc1, 0xff, 0, 0, 0, 0];
        for (to, from) in marker.iter_mut().skip(4).zip(counter) {
            *to = from;
        }
        marker
    }
}

/// Random bytes in a redraw marker.
pub const REDRAW_RANDOM: usize = 30;

/// Returns a redraw marker: `[TSSHD-MARKER-` + 40 base64 characters + `]`, 55 bytes of ASCII.
#[must_use]
pub fn redraw_marker(random: &[u8; REDRAW_RANDOM]) -> Vec<u8> {
    format!("[TSSHD-MARKER-{}]", STANDARD.encode(random)).into_bytes()
}

/// Looks for one marker in bytes that arrive in pieces and splits them at it.
#[derive(Clone, Debug)]
pub struct MarkerFinder {
    marker: Vec<u8>,
    /// How much of the marker's front the bytes seen so far end with.
    matched: usize,
}

impl MarkerFinder {
    /// Returns a finder for `marker`, which must not be empty.
    #[must_use]
    pub fn new(marker: impl Into<Vec<u8>>) -> Self {
        Self { marker: marker.into(), matched: 0 }
    }

    /// Returns the marker looked for.
    #[must_use]
    pub fn marker(&self) -> &[u8] {
        &self.marker
    }

    /// Searches the next piece.
    ///
    /// Calls `before` with what lies in front of the marker, in order; bytes
    /// that may be the marker's front are held back until it is clear. Returns
    /// the rest of the piece behind the marker once it was found; the finder
    /// is spent then.
    pub fn feed<'a>(&mut self, piece: &'a [u8], mut before: impl FnMut(&[u8])) -> Option<&'a [u8]> {
        // What was held back is a front of the marker itself, so it needs no buffer.
        let held = self.matched;
        let mut found = None;
        for (i, byte) in piece.iter().enumerate() {
            while self.matched > 0 && self.marker.get(self.matched) != Some(byte) {
                self.matched = self.longest_border(self.matched);
            }
            if self.marker.get(self.matched) == Some(byte) {
                self.matched += 1;
            }
            if self.matched == self.marker.len() {
                found = Some(i + 1);
                break;
            }
        }
        let seen = held + found.unwrap_or(piece.len());
        let clear = seen.saturating_sub(self.matched);
        before(self.marker.get(..clear.min(held)).unwrap_or_default());
        before(piece.get(..clear.saturating_sub(held)).unwrap_or_default());
        let end = found?;
        self.matched = 0;
        piece.get(end..)
    }

    /// Returns the bytes held back because the marker may begin with them.
    #[must_use]
    pub fn held_back(&self) -> &[u8] {
        self.marker.get(..self.matched).unwrap_or_default()
    }

    /// Length of the longest proper front of `marker[..len]` that is also its end.
    fn longest_border(&self, len: usize) -> usize {
        let front = self.marker.get(..len).unwrap_or_default();
        (1..len).rev().find(|&n| front.starts_with(&front[len - n..])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markers_count_up_and_skip_bytes_that_terminals_mind() {
        let mut markers = InputMarkers::default();
        assert_eq!(hex::encode(markers.next_marker()), "ffc0c1ff00000001");
        assert_eq!(hex::encode(markers.next_marker()), "ffc0c1ff00000002");
        markers.last = 0x0c;
        assert_eq!(hex::encode(markers.next_marker()), "ffc0c1ff0000000e");
        markers.last = 0x3aff;
        assert_eq!(hex::encode(markers.next_marker()), "ffc0c1ff00003c00");
        markers.last = 0x0cff_ffff;
        assert_eq!(hex::encode(markers.next_marker()), "ffc0c1ff0e000000");
    }

    #[test]
    fn redraw_marker_is_55_bytes_without_line_ends() {
        let marker = redraw_marker(&[0xfb; REDRAW_RANDOM]);
        assert_eq!(marker.len(), 55);
        assert!(marker.starts_with(b"[TSSHD-MARKER-") && marker.ends_with(b"]"));
        assert!(!marker.iter().any(|b| matches!(b, b'\r' | b'\n')));
    }

    proptest! {
        /// Whatever stands around the marker and however the bytes are cut,
        /// what came before it is reported whole and what follows is kept.
        #[test]
        fn splits_at_the_first_occurrence_for_every_cut(
            marker in proptest::collection::vec(0u8..3, 1..6),
            bytes in proptest::collection::vec(0u8..3, 0..40),
            cuts in proptest::collection::vec(0usize..8, 0..20),
        ) {
            let mut finder = MarkerFinder::new(marker.clone());
            let (mut before, mut after) = (Vec::new(), None);
            let mut rest = &bytes[..];
            let mut cuts = cuts.into_iter();
            while !rest.is_empty() {
                let n = cuts.next().unwrap_or(rest.len()).min(rest.len());
                let (piece, next) = rest.split_at(n);
                rest = next;
                match &mut after {
                    None => after = finder.feed(piece, |b| before.extend_from_slice(b)).map(<[u8]>::to_vec),
                    Some(tail) => tail.extend_from_slice(piece),
                }
            }
            match bytes.windows(marker.len()).position(|w| w == &marker[..]) {
                Some(at) => {
                    prop_assert_eq!(&before, &bytes[..at]);
                    prop_assert_eq!(after.unwrap(), &bytes[at + marker.len()..]);
                }
                None => {
                    prop_assert_eq!(after, None);
                    before.extend_from_slice(finder.held_back());
                    prop_assert_eq!(&before, &bytes);
                }
            }
        }
    }
}
