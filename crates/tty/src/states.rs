//! What a program's output sets in a terminal, for whoever drops some of it.
//!
//! [`States`] keeps the control sequences that set a mode, a colour, a
//! character set, a scroll region: as many as tell the last state, and no more.
//! Not here: what moves the cursor or shows something.

use crate::sequence::Sequence;

/// Sequences kept at most; a program that sets more states than this loses
/// the oldest.
const MAX_KEPT: usize = 64;

/// The sequences that set a state: the last of each kind, in order.
#[derive(Clone, Debug, Default)]
pub struct States(Vec<Vec<u8>>);

impl States {
    /// Takes note of a sequence if it sets a state.
    pub fn note(&mut self, sequence: Sequence<'_>) {
        let Sequence::Control(sequence) = sequence else { return };
        let Some(kind) = Kind::of(sequence) else { return };
        if kind == Kind::Reset {
            self.0.clear();
        } else if !kind.adds_up(sequence) {
            self.0.retain(|kept| Kind::of(kept).as_ref() != Some(&kind));
        }
        if self.0.len() == MAX_KEPT {
            self.0.remove(0);
        }
        self.0.push(sequence.to_vec());
    }

    /// Returns all that was noted as one text, and forgets it.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).concat()
    }
}

/// What a sequence sets; a later one of the same kind takes its place.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    /// A mode, by all that is in front of its `h` or `l`.
    Mode(&'a [u8]),
    Rendition,
    Region,
    CursorShape,
    Keypad,
    /// A character set, by its slot.
    Charset(u8),
    /// Everything (RIS, DECSTR).
    Reset,
}

impl<'a> Kind<'a> {
    fn of(sequence: &'a [u8]) -> Option<Self> {
        Some(match sequence {
            [0x1b, b'[', mode @ .., b'h' | b'l'] => Self::Mode(mode),
            // `CSI > … m` and its like are no renditions.
            [0x1b, b'[', b'<'..=b'?', ..] => return None,
            [0x1b, b'[', b'!', b'p'] | [0x1b, b'c'] => Self::Reset,
            [0x1b, b'[', .., b'm'] => Self::Rendition,
            [0x1b, b'[', .., b'r'] => Self::Region,
            [0x1b, b'[', .., b' ', b'q'] => Self::CursorShape,
            [0x1b, b'=' | b'>'] => Self::Keypad,
            [0x1b, slot @ b'('..=b'+', _] => Self::Charset(*slot),
            _ => return None,
        })
    }

    /// Whether an earlier sequence of this kind still counts beside this one.
    fn adds_up(&self, sequence: &[u8]) -> bool {
        // A rendition that begins with 0 begins anew.
        *self == Self::Rendition && !matches!(sequence, [_, _, b'm' | b'0', ..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::Scanner;

    fn states(bytes: &[u8]) -> Vec<u8> {
        let mut states = States::default();
        Scanner::default().feed(bytes, |sequence| states.note(sequence));
        states.take()
    }

    #[test]
    fn the_last_of_each_kind_is_kept_and_renditions_add_up() {
        let bytes = b"\x1b[?25l\x1b[1m\x1b[31mtext\x1b[2J\x1b[5;9r\x1b[?25h\x1b[4m\x1b[r";
        assert_eq!(states(bytes), b"\x1b[1m\x1b[31m\x1b[?25h\x1b[4m\x1b[r");
        assert_eq!(states(b"\x1b[1m\x1b[0;7m\x1b(0\x1b(B\x1b)0"), b"\x1b[0;7m\x1b(B\x1b)0");
        assert_eq!(states(b"\x1b[?1h\x1bc\x1b[>4;1m"), b"\x1bc");
    }

    #[test]
    fn memory_is_bounded() {
        let bytes: Vec<u8> = (0..1000).flat_map(|n| format!("\x1b[?{n}h").into_bytes()).collect();
        assert!(states(&bytes).len() < MAX_KEPT * 10);
    }
}
