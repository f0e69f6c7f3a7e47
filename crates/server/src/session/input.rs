//! What a session's input goes through: the discard markers (PROTOCOL §7.6).
//!
//! After a change of path the client writes a marker in front of its next
//! input. For a pty everything before it is stale and dropped; without a pty
//! only the marker itself is taken out (DESIGN D7). Markers carry a counter, so
//! one that was overtaken by a newer one is known for what it is. Each marker
//! is looked for once only: bytes that happen to look like one pass.

/// Length of a marker: four fixed bytes and the counter, u32be.
const MARKER: usize = 8;
const FRONT: [u8; 4] = [0xff, 0xc0, 0xc1, 0xff];

/// Dropped input that is reported at most; what is beyond is dropped all the same.
const MAX_REPORT: usize = 64 * 1024;

/// The input of one session, on its way to the program.
#[derive(Debug)]
pub(crate) struct Input {
    has_pty: bool,
    /// Markers that may still come: counters `low..=high`.
    low: u32,
    high: u32,
    /// Everything is dropped up to the marker with this counter.
    awaited: Option<u32>,
    /// The last bytes seen, which may be the front of a marker.
    held: Vec<u8>,
    dropped: Vec<u8>,
}

impl Input {
    /// Returns the filter of a new session. `last` is the newest marker made so
    /// far: the client may have heard of it after it asked for the session.
    pub(crate) fn new(has_pty: bool, last: Option<[u8; MARKER]>) -> Self {
        let last = last.map_or(0, counter);
        let low = last.max(1);
        Self { has_pty, low, high: last, awaited: None, held: Vec::new(), dropped: Vec::new() }
    }

    /// Looks for `marker` from now on.
    pub(crate) fn arm(&mut self, marker: [u8; MARKER]) {
        self.high = counter(marker);
        if self.has_pty {
            self.awaited = Some(self.high);
        }
    }

    /// Takes the next bytes, appends what is for the program to `out`, and
    /// returns what was dropped once the awaited marker has come.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Vec<u8>> {
        if self.low > self.high && self.held.is_empty() {
            out.extend_from_slice(bytes);
            return None;
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let (mut rest, mut report) = (&all[..], None);
        while self.low <= self.high {
            let Some(at) = rest.iter().position(|byte| *byte == FRONT[0]) else { break };
            let (before, candidate) = rest.split_at(at);
            self.pass(before, out);
            match self.judge(candidate) {
                Judgement::Marker(number) => {
                    rest = candidate.get(MARKER..).unwrap_or_default();
                    self.low = number.saturating_add(1);
                    if self.awaited == Some(number) {
                        self.awaited = None;
                        report = Some(std::mem::take(&mut self.dropped));
                    }
                }
                Judgement::NeedMore => {
                    self.held = candidate.to_vec();
                    return report;
                }
                Judgement::Other => {
                    let (byte, behind) = candidate.split_at(1);
                    self.pass(byte, out);
                    rest = behind;
                }
            }
        }
        self.pass(rest, out);
        report
    }

    /// Ends the input: what was held back is input after all.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        self.pass(&held, out);
    }

    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.awaited.is_none() {
            out.extend_from_slice(bytes);
        } else {
            let room = MAX_REPORT.saturating_sub(self.dropped.len());
            self.dropped.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    fn judge(&self, candidate: &[u8]) -> Judgement {
        let front = candidate.len().min(FRONT.len());
        if candidate.get(..front) != FRONT.get(..front) {
            return Judgement::Other;
        }
        let Some(marker) = candidate.first_chunk::<MARKER>() else { return Judgement::NeedMore };
        let number = counter(*marker);
        if (self.low..=self.high).contains(&number) {
            Judgement::Marker(number)
        } else {
            Judgement::Other
        }
    }
}

enum Judgement {
    Marker(u32),
    NeedMore,
    Other,
}

fn counter(marker: [u8; MARKER]) -> u32 {
    let [_, _, _, _, number @ ..] = marker;
    u32::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::marker::InputMarkers;

    fn feed_all(input: &mut Input, pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut out, mut report) = (Vec::new(), None);
        for piece in pieces {
            report = input.feed(piece, &mut out).or(report);
        }
        (out, report)
    }

    #[test]
    fn stale_keys_of_a_terminal_are_dropped_and_reported() {
        let marker = InputMarkers::default().next_marker();
        let mut input = Input::new(true, None);
        input.arm(marker);
        let (front, back) = marker.split_at(3);
        let (out, report) = feed_all(&mut input, &[b"stale", front, back, b"fresh"]);
        assert_eq!(out, b"fresh");
        assert_eq!(report.as_deref(), Some(&b"stale"[..]));
        assert_eq!(feed_all(&mut input, &[&marker]).0, marker, "a marker comes once");
    }

    #[test]
    fn without_a_terminal_only_the_markers_are_taken_out() {
        let mut markers = InputMarkers::default();
        let (first, second) = (markers.next_marker(), markers.next_marker());
        let mut input = Input::new(false, None);
        input.arm(first);
        input.arm(second);
        let (out, report) = feed_all(&mut input, &[b"a", &first, b"b", &second, b"c"]);
        assert_eq!((out.as_slice(), report), (&b"abc"[..], None));
    }

    #[test]
    fn a_marker_overtaken_by_a_newer_one_does_not_let_stale_keys_through() {
        let mut markers = InputMarkers::default();
        let (first, second) = (markers.next_marker(), markers.next_marker());
        let mut input = Input::new(true, None);
        input.arm(first);
        input.arm(second);
        let (out, report) = feed_all(&mut input, &[b"a", &first, b"b", &second, b"c"]);
        assert_eq!(out, b"c");
        assert_eq!(report.as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn a_session_younger_than_the_marker_loses_nothing_but_the_marker() {
        let marker = InputMarkers::default().next_marker();
        let mut input = Input::new(true, Some(marker));
        assert_eq!(feed_all(&mut input, &[b"x", &marker, b"y"]).0, b"xy");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_without_a_terminal_however_input_is_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(0xffu8), Just(0xc0), Just(0xc1), 0u8..3], 0..60),
            at in 0usize..60,
            cuts in proptest::collection::vec(1usize..9, 0..40),
        ) {
            let marker = InputMarkers::default().next_marker();
            prop_assume!(!bytes.windows(8).any(|window| window == marker));
            let at = at.min(bytes.len());
            let whole = [&bytes[..at], &marker, &bytes[at..]].concat();
            let mut input = Input::new(false, None);
            input.arm(marker);
            let (mut out, mut rest, mut cuts) = (Vec::new(), &whole[..], cuts.into_iter());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(cuts.next().unwrap_or(9).min(rest.len()));
                input.feed(piece, &mut out);
                rest = next;
            }
            input.finish(&mut out);
            prop_assert_eq!(out.len(), bytes.len());
        }
    }
}
