//! A terminal's output on its way to the client: whole, unless the bound is passed.
//!
//! While the client is there it holds next to nothing, and the program waits
//! for the link. While the client is away the program runs on, and the log
//! grows up to its bound; on return it goes out in order (DESIGN D7). Only past
//! the bound is output dropped, the oldest first:
//!
//! ```text
//!   handed over │ head │  gap  │ the newest bytes, up to the bound
//! ```
//!
//! *head* ends the line, or at least the sequence or character, that was cut
//! where the handing over stopped. In place of the gap stand the control sequences of the program's
//! that set a state (modes, colours, character sets), so that what comes behind
//! it means what it meant. What belongs together is never cut: inside a string
//! such as a picture, or in tmux' control mode, nothing is dropped and the
//! program waits. Nothing that is not the program's is ever put in.

use std::collections::VecDeque;

use tty::sequence::{Scanner, Sequence};
use tty::states::States;

/// Size of the log where nothing is said, in bytes.
pub const DEFAULT_LOG_BYTES: usize = 4 << 20;

/// Held while the client is there: enough to keep a fast link busy.
const PRESENT_BYTES: usize = 64 * 1024;

/// Dropped beyond need at most, for a gap that ends at the end of a line.
const LINE_BYTES: usize = 4096;

/// What to do about the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    /// It has not been heard for its heartbeat timeout.
    pub(crate) is_away: bool,
    /// It wants nothing dropped (bus `setting`).
    pub(crate) keeps_output: bool,
}

/// How much was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

/// The log of one terminal.
#[derive(Debug)]
pub(super) struct OutputLog {
    bound: usize,
    /// Goes first; already seen by the scanner.
    head: VecDeque<u8>,
    /// Goes next.
    kept: States,
    /// Goes last. The scanner stands at its front.
    rest: VecDeque<u8>,
    scanner: Scanner,
    /// Whether a line begins at the front of `rest`, as far as the client sees it.
    at_line: bool,
    gap: Gap,
}

impl OutputLog {
    /// Returns an empty log of `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(PRESENT_BYTES),
            head: VecDeque::new(),
            kept: States::default(),
            rest: VecDeque::new(),
            scanner: Scanner::default(),
            at_line: true,
            gap: Gap::default(),
        }
    }

    /// Takes the program's next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.rest.extend(bytes);
    }

    /// Makes room for more of the program's output if need be, and returns
    /// whether there is any.
    pub(super) fn has_room(&mut self, presence: Presence) -> bool {
        if !presence.is_away {
            return self.len() < PRESENT_BYTES;
        }
        if self.len() < self.bound {
            return true;
        }
        // Much at a time, for each time costs a walk through the log.
        !presence.keeps_output && self.drop_front(self.len() - self.bound + self.bound / 8)
    }

    /// Returns the next bytes for the client; none when there are none.
    pub(super) fn next(&mut self) -> &[u8] {
        if self.head.is_empty() {
            self.head.extend(self.kept.take());
        }
        let bytes = if self.head.is_empty() { &self.rest } else { &self.head };
        bytes.as_slices().0
    }

    /// Forgets the first `n` of the bytes that [`OutputLog::next`] has returned.
    pub(super) fn advance(&mut self, n: usize) {
        if !self.head.is_empty() {
            self.head.drain(..n.min(self.head.len()));
            return;
        }
        let (first, _) = self.rest.as_slices();
        let n = n.min(first.len());
        let gone = first.get(..n).unwrap_or_default();
        self.scanner.feed(gone, |_| {});
        self.at_line = gone.last() == Some(&b'\n') && self.scanner.is_between();
        self.rest.drain(..n);
        if self.rest.is_empty() && self.rest.capacity() > 4 * PRESENT_BYTES {
            // Big for an outage; it need not stay so.
            self.rest = VecDeque::new();
        }
    }

    /// Drops what is not handed over, as a terminal does on its interrupt key
    /// (DESIGN D6); what would be cut stays.
    pub(super) fn interrupt(&mut self) {
        let gap = self.gap;
        self.drop_front(self.rest.len());
        // What was asked for is nothing to report.
        self.gap = gap;
    }

    /// Forgets everything: what comes next does not need it.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.bound);
    }

    /// Returns how much was dropped since the last call.
    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        let gap = std::mem::take(&mut self.gap);
        (gap.bytes > 0).then_some(gap)
    }

    fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// Drops `n` bytes, or a few more; `false` where it would cut something.
    fn drop_front(&mut self, n: usize) -> bool {
        let rest = self.rest.make_contiguous();
        let mut scanner = self.scanner.clone();
        let mut kept = self.kept.clone();
        let start = if self.at_line { Some(0) } else { seek(&mut scanner, rest, &mut |_| {}) };
        let Some(start) = start else { return false };
        let (whole, behind) = rest.split_at(start);
        let (must, may) = behind.split_at(n.min(behind.len()));
        scanner.feed(must, |sequence| kept.note(sequence));
        let more = if must.last() == Some(&b'\n') && scanner.is_between() {
            0
        } else {
            match seek(&mut scanner, may, &mut |sequence| kept.note(sequence)) {
                Some(more) => more,
                None => return false,
            }
        };
        let dropped = behind.get(..must.len() + more).unwrap_or_default();
        let lines = dropped.iter().filter(|byte| **byte == b'\n').count();
        self.gap.lines += lines as u64;
        self.gap.bytes += dropped.len() as u64;
        let end = start + dropped.len();
        self.head.extend(whole);
        self.kept = kept;
        self.scanner = scanner;
        self.at_line = true;
        self.rest.drain(..end);
        true
    }
}

/// Returns how many of `bytes` go up to the end of the line, if that is near,
/// or else up to the first place where nothing is cut; `None` without one.
/// The scanner stands there then.
fn seek(
    scanner: &mut Scanner,
    bytes: &[u8],
    on_sequence: &mut impl FnMut(Sequence<'_>),
) -> Option<usize> {
    let line = bytes.iter().take(LINE_BYTES).position(|byte| *byte == b'\n');
    let line = bytes.get(..line.map_or(0, |at| at + 1)).unwrap_or_default();
    let mut at_line = scanner.clone();
    at_line.feed(line, |_| {});
    if line.is_empty() || !at_line.is_between() {
        return scanner.feed_to_gap(bytes, on_sequence);
    }
    scanner.feed(line, on_sequence);
    Some(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AWAY: Presence = Presence { is_away: true, keeps_output: false };

    fn drain(log: &mut OutputLog) -> Vec<u8> {
        let mut all = Vec::new();
        while !log.next().is_empty() {
            let n = log.next().len().min(1000);
            all.extend_from_slice(&log.next()[..n]);
            log.advance(n);
        }
        all
    }

    /// Pushes as the relay does, 4 KiB at a time; returns how much found room.
    fn fill(log: &mut OutputLog, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for piece in bytes.chunks(4096) {
            if !log.has_room(AWAY) {
                break;
            }
            log.push(piece);
            taken += piece.len();
        }
        taken
    }

    fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
        range.flat_map(|n| format!("line {n}\r\n").into_bytes()).collect()
    }

    #[test]
    fn up_to_the_bound_everything_comes_out_as_it_went_in() {
        let mut log = OutputLog::new(1 << 20);
        let bytes = lines(0..80_000);
        assert!(bytes.len() < 1 << 20);
        assert_eq!(fill(&mut log, &bytes), bytes.len());
        assert_eq!(drain(&mut log), bytes);
        assert_eq!(log.take_gap(), None);
    }

    #[test]
    fn past_the_bound_the_oldest_lines_are_missing_and_counted() {
        let mut log = OutputLog::new(100_000);
        let bytes = lines(0..80_000);
        assert_eq!(fill(&mut log, &bytes), bytes.len());
        let gap = log.take_gap().expect("something was dropped");
        let out = drain(&mut log);
        assert!(bytes.ends_with(&out) && out.starts_with(b"line "), "a suffix, in whole lines");
        assert!(out.len() <= 110_000 && out.len() >= 30_000, "{}", out.len());
        assert_eq!(gap.bytes, (bytes.len() - out.len()) as u64);
        let left = out.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(gap.lines + left, 80_000);
    }

    #[test]
    fn a_client_that_is_there_makes_the_program_wait() {
        let mut log = OutputLog::new(1 << 20);
        log.push(&[b'x'; PRESENT_BYTES]);
        assert!(!log.has_room(Presence::default()));
        assert!(log.has_room(AWAY));
    }

    #[test]
    fn a_client_that_wants_all_output_makes_the_program_wait_at_the_bound() {
        let keeps = Presence { keeps_output: true, ..AWAY };
        let mut log = OutputLog::new(PRESENT_BYTES);
        log.push(&lines(0..10_000));
        assert!(!log.has_room(keeps));
        assert_eq!(drain(&mut log), lines(0..10_000));
    }

    #[test]
    fn what_was_cut_by_the_outage_is_ended_before_the_gap() {
        let mut log = OutputLog::new(PRESENT_BYTES);
        log.push(b"\x1b[38;5;");
        assert_eq!(log.next().len(), 7);
        log.advance(7);
        log.push(b"196mred\r\n");
        fill(&mut log, &lines(0..50_000));
        let out = drain(&mut log);
        let expected = b"196mred\r\nline ";
        assert!(out.starts_with(expected), "{:?}", String::from_utf8_lossy(&out[..20]));
    }

    #[test]
    fn states_that_were_set_in_the_gap_are_set_behind_it() {
        let mut log = OutputLog::new(PRESENT_BYTES);
        log.push(b"\x1b[?25l\x1b[?1049h\x1b[1m\x1b[0;7m\x1b[31m\x1b[2J\x1b[?25h\x1b(0");
        fill(&mut log, &lines(0..50_000));
        let out = drain(&mut log);
        let expected = b"\x1b[?1049h\x1b[0;7m\x1b[31m\x1b[?25h\x1b(0line ";
        assert!(out.starts_with(expected), "{:?}", String::from_utf8_lossy(&out[..60]));
    }

    #[test]
    fn nothing_is_dropped_inside_a_picture_or_control_mode() {
        for head in [&b"\x1b_Gf=100;"[..], b"\x1bP1000p%begin 1 1 0\r\n"] {
            let mut log = OutputLog::new(PRESENT_BYTES);
            let bytes = [head, &lines(0..50_000)].concat();
            let taken = fill(&mut log, &bytes);
            assert!(taken < bytes.len(), "the program waits");
            assert_eq!(drain(&mut log), bytes[..taken]);
            assert_eq!(log.take_gap(), None);
        }
    }

    #[test]
    fn the_interrupt_key_drops_what_is_under_way_and_cuts_nothing() {
        let mut log = OutputLog::new(1 << 20);
        log.push(b"\x1b[3");
        log.advance(3);
        log.push(b"1mred\r\n\x1b[?25h");
        log.push(&lines(0..1000));
        log.interrupt();
        log.push(b"^C\r\n$ ");
        assert_eq!(drain(&mut log), b"1mred\r\n\x1b[?25h^C\r\n$ ");
        assert_eq!(log.take_gap(), None, "what was asked for is not reported");
    }

    proptest! {
        #[test]
        fn a_gap_never_cuts_a_sequence_or_a_character(
            tokens in proptest::collection::vec(
                proptest::sample::select(vec!["plain", "é", "😀", "\r\n", "\x1b[1;31m", "\x1b[2K", "\x1b]0;t\x07", "\x1b[?7h"]),
                0..60,
            ),
            handed in 0usize..200,
            dropped in 0usize..300,
        ) {
            let bytes = tokens.concat().into_bytes();
            let mut log = OutputLog::new(PRESENT_BYTES);
            log.push(&bytes);
            let mut out = Vec::new();
            while out.len() < handed.min(bytes.len()) {
                let n = log.next().len().min(handed - out.len());
                out.extend_from_slice(&log.next()[..n]);
                log.advance(n);
            }
            log.drop_front(dropped);
            let rest = drain(&mut log);
            out.extend_from_slice(&rest);
            let mut scanner = Scanner::default();
            scanner.feed(&out, |_| {});
            prop_assert!(scanner.is_between());
            prop_assert!(String::from_utf8(out.clone()).is_ok());
            let gap = log.take_gap().unwrap_or_default();
            prop_assert!(out.len() as u64 + gap.bytes >= bytes.len() as u64);
        }
    }
}
