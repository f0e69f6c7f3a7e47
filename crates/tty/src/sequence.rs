//! Follows a terminal's output byte by byte: is it between two things, or inside one?
//!
//! ```text
//!   Ground ──ESC──▶ Escape ──[──▶ Csi ──final──▶ Ground
//!     │               └─] P X ^ _──▶ String ──BEL, ST──▶ Ground
//!     └──first byte of UTF-8──▶ Character ──last byte──▶ Ground
//! ```
//!
//! The grammar is ECMA-48's as terminals read it: a control character inside a
//! sequence acts at once and the sequence goes on, CAN and SUB end it, ESC
//! begins another one. 8-bit controls are not known: they are UTF-8's bytes.

/// Longest sequence that is handed out whole; longer ones are followed only.
pub const MAX_SEQUENCE: usize = 64;

/// What tmux begins its control mode with, behind `ESC P`.
const CONTROL_MODE: &[u8] = b"1000p";

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

/// Where in the output one is.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    state: State,
    /// The sequence under way, as far as it is short.
    sequence: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Inside a character: so many bytes are to come.
    Character(u8),
    Escape,
    Csi,
    /// The parameters of a device control string.
    DeviceControl,
    /// Text up to ST, or BEL for an operating system command.
    String(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SystemCommand,
    /// tmux speaks to a terminal program, not to a terminal.
    ControlMode,
    Other,
}

/// A sequence that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence<'a> {
    /// From its ESC to its last byte; a string is not among these.
    Control(&'a [u8]),
    /// The head of a string: ESC, its kind and, for `ESC P`, its parameters.
    /// What follows up to its end is text.
    String(&'a [u8]),
}

impl Scanner {
    /// Returns whether the next byte begins something new.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.state == State::Ground
    }

    /// Returns whether tmux' control mode is under way: a conversation in
    /// lines, not a screen.
    #[must_use]
    pub fn is_control_mode(&self) -> bool {
        self.state == State::String(Kind::ControlMode)
    }

    /// Goes on by `bytes`, and hands out each sequence that ends in them.
    pub fn feed(&mut self, bytes: &[u8], mut on_sequence: impl FnMut(Sequence<'_>)) {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if self.state == State::Ground && byte < 0x80 && byte != ESC {
                // Nearly all output is this.
                let plain = rest.iter().position(|byte| *byte >= 0x80 || *byte == ESC);
                rest = rest.get(plain.unwrap_or(rest.len())..).unwrap_or_default();
                continue;
            }
            self.step(byte, &mut on_sequence);
            rest = behind;
        }
    }

    /// Goes on by `bytes` up to where a sequence begins or ends; returns how many
    /// bytes that takes (all, where none does) and the sequence that has ended.
    pub fn feed_to_sequence(&mut self, bytes: &[u8]) -> (usize, Option<Sequence<'_>>) {
        let mut ended = None;
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            if self.state == State::Ground && *byte < 0x80 && *byte != ESC {
                let rest = bytes.get(taken..).unwrap_or_default();
                let plain = rest.iter().position(|byte| *byte >= 0x80 || *byte == ESC);
                taken += plain.unwrap_or(rest.len());
                continue;
            }
            if *byte == ESC && taken > 0 {
                break;
            }
            taken += 1;
            let was_string = self.is_in_string();
            self.step(*byte, &mut |sequence| ended = Some(matches!(sequence, Sequence::String(_))));
            if ended.is_some() || was_string && self.is_between() {
                break;
            }
        }
        let sequence = ended.map(|is_string| match is_string {
            true => Sequence::String(&self.sequence),
            false => Sequence::Control(&self.sequence),
        });
        (taken, sequence)
    }

    /// Returns whether a string is under way.
    #[must_use]
    pub fn is_in_string(&self) -> bool {
        matches!(self.state, State::String(_))
    }

    /// Goes on by `bytes` up to the first place between two things, and returns
    /// how many bytes that takes; `None` when there is no such place.
    pub fn feed_to_gap(
        &mut self,
        bytes: &[u8],
        mut on_sequence: impl FnMut(Sequence<'_>),
    ) -> Option<usize> {
        if self.is_between() {
            return Some(0);
        }
        for (at, byte) in bytes.iter().enumerate() {
            self.step(*byte, &mut on_sequence);
            if self.is_between() {
                return Some(at + 1);
            }
        }
        None
    }

    fn step(&mut self, byte: u8, on_sequence: &mut impl FnMut(Sequence<'_>)) {
        match (self.state, byte) {
            (State::String(Kind::SystemCommand), BEL) => self.state = State::Ground,
            (State::String(_), CAN | SUB) => self.state = State::Ground,
            (_, ESC) => {
                self.state = State::Escape;
                self.sequence.clear();
                self.sequence.push(ESC);
            }
            (State::String(_), _) => {}
            (State::Ground, _) => self.begin_character(byte),
            (State::Character(left), 0x80..=0xbf) => {
                self.state = if left > 1 { State::Character(left - 1) } else { State::Ground };
            }
            // Not what was announced: this byte begins something itself.
            (State::Character(_), _) => self.begin_character(byte),
            (_, CAN | SUB) => self.state = State::Ground,
            // Acts at once, in the middle of the sequence.
            (_, 0..=0x1f | 0x7f) => {}
            (State::Escape | State::Csi | State::DeviceControl, _) => {
                if self.sequence.len() < MAX_SEQUENCE {
                    self.sequence.push(byte);
                }
                self.on_sequence_byte(byte, on_sequence);
            }
        }
    }

    fn begin_character(&mut self, byte: u8) {
        self.state = match byte {
            0xc2..=0xdf => State::Character(1),
            0xe0..=0xef => State::Character(2),
            0xf0..=0xf4 => State::Character(3),
            _ => State::Ground,
        };
    }

    fn on_sequence_byte(&mut self, byte: u8, on_sequence: &mut impl FnMut(Sequence<'_>)) {
        let is_first = self.sequence.len() == 2;
        self.state = match (self.state, byte) {
            (State::Escape, b'[') if is_first => State::Csi,
            (State::Escape, b'P') if is_first => State::DeviceControl,
            (State::Escape, b']') if is_first => State::String(Kind::SystemCommand),
            (State::Escape, b'X' | b'^' | b'_') if is_first => State::String(Kind::Other),
            // Intermediate bytes.
            (State::Escape, 0x20..=0x2f) => State::Escape,
            (State::Csi, 0x40..=0x7e) | (State::Escape, _) => State::Ground,
            (State::DeviceControl, 0x40..=0x7e) => {
                let parameters = self.sequence.get(2..).unwrap_or_default();
                State::String(if parameters == CONTROL_MODE {
                    Kind::ControlMode
                } else {
                    Kind::Other
                })
            }
            (state, _) => state,
        };
        if self.sequence.len() == MAX_SEQUENCE {
            return;
        }
        match self.state {
            State::Ground => on_sequence(Sequence::Control(&self.sequence)),
            State::String(_) => on_sequence(Sequence::String(&self.sequence)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(bytes: &[u8]) -> (Scanner, Vec<Vec<u8>>) {
        let (mut scanner, mut found) = (Scanner::default(), Vec::new());
        scanner.feed(bytes, |sequence| match sequence {
            Sequence::Control(bytes) | Sequence::String(bytes) => found.push(bytes.to_vec()),
        });
        (scanner, found)
    }

    #[test]
    fn places_inside_a_sequence_or_a_character_are_no_gaps() {
        for (whole, what) in [
            (&b"\x1b[?1049h"[..], "a mode"),
            (b"\x1b[1;31m", "a colour"),
            (b"\x1b(0", "a character set"),
            (b"\x1b]0;title\x07", "a title that ends with BEL"),
            (b"\x1bP1$r0m\x1b\\", "a device control string"),
            (b"\x1b_Gf=100;AAAA\x1b\\", "a picture"),
            ("é".as_bytes(), "two bytes"),
            ("€".as_bytes(), "three bytes"),
            ("😀".as_bytes(), "four bytes"),
        ] {
            for cut in 1..whole.len() {
                assert!(!scan(&whole[..cut]).0.is_between(), "{what} cut at {cut}");
            }
            assert!(scan(whole).0.is_between(), "{what} is whole");
        }
    }

    #[test]
    fn sequences_are_handed_out_whole_and_strings_by_their_head() {
        let (_, found) = scan(b"a\x1b[?25lb\x1b]52;c;AAAA\x07\x1b(B\x1bP1000p%begin\r\n");
        let expected: [&[u8]; 4] = [b"\x1b[?25l", b"\x1b]", b"\x1b(B", b"\x1bP1000p"];
        assert_eq!(found, expected);
    }

    #[test]
    fn control_mode_lasts_until_its_string_ends() {
        assert!(scan(b"\x1bP1000p%output %0 \\033[1m\r\n").0.is_control_mode());
        assert!(!scan(b"\x1bP1000p%exit\r\n\x1b\\").0.is_control_mode());
        assert!(!scan(b"\x1bP1000q").0.is_control_mode());
    }

    #[test]
    fn what_is_broken_off_ends_what_was_broken() {
        assert!(scan(b"\x1b[12\x18").0.is_between());
        assert!(scan(b"\x1b]0;never ended\x1a").0.is_between());
        assert!(scan(b"\xe2x").0.is_between());
        assert_eq!(scan(b"\x1b[1\x1b[2J").1, [b"\x1b[2J"]);
        assert_eq!(scan(b"\x1b[2\rJ").1, [b"\x1b[2J"], "a return in a sequence is not part of it");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(
                prop_oneof![Just(ESC), Just(b'['), Just(b']'), Just(b'P'), Just(BEL), Just(b'm'), any::<u8>()],
                0..80,
            ),
            cut in 0usize..80,
        ) {
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            let (mut in_two, mut found) = scan(front);
            in_two.feed(back, |sequence| match sequence {
                Sequence::Control(bytes) | Sequence::String(bytes) => found.push(bytes.to_vec()),
            });
            let (at_once, all) = scan(&bytes);
            prop_assert_eq!(in_two.state, at_once.state);
            prop_assert_eq!(found, all);
            let mut to_gap = scan(front).0;
            let gap = to_gap.feed_to_gap(back, |_| {});
            prop_assert_eq!(gap.is_some(), to_gap.is_between());
        }
    }
}
