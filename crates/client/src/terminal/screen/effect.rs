//! What control sequences do to what is known of the screen.
//!
//! A table, and a cautious one: what is not in it is beyond the model.

use alacritty_terminal::term::TermMode;
use tty::sequence::Sequence;

use super::paint::is_beyond;

/// What a sequence does to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing to what is shown or where.
    Quiet,
    /// Nothing that the model does not know better.
    Plain,
    /// Erases or moves a part of the cursor's row.
    Edits,
    /// Clears the cursor's row from there on, and all rows below.
    ClearsBelow,
    /// Names a row.
    Row,
    /// Sets or resets the rows that scroll.
    Region(bool),
    /// Clears rows that may not be the program's.
    Clears {
        /// All of them.
        all: bool,
    },
    Up,
    EndsLine,
    Down(i32),
    /// Moves rows as far as the screen's end.
    ScrollsRows,
    Saves,
    Restores,
    /// Moves the cursor in some terminals.
    MayMove,
    EntersAlternate,
    LeavesAlternate,
    Resets,
    /// Beyond the model.
    Spoils,
}

impl Effect {
    /// Whether the cursor's row stays what it is.
    pub(super) const fn keeps_rows(self) -> bool {
        matches!(self, Self::Quiet | Self::Plain | Self::Edits | Self::ClearsBelow)
    }

    /// Returns the effect of a sequence in a terminal with these modes.
    pub(super) fn of(sequence: Sequence<'_>, mode: &TermMode) -> Self {
        match sequence {
            Sequence::String([_, b']', ..]) => Self::Quiet,
            // Device control and application commands draw pictures.
            Sequence::String(_) => Self::Spoils,
            Sequence::Control([_, b'[', parameters @ .., last]) => {
                Self::of_csi(parameters, *last, mode.contains(TermMode::ALT_SCREEN))
            }
            Sequence::Control([_, kind]) => match kind {
                b'7' => Self::Saves,
                b'8' => Self::Restores,
                b'c' => Self::Resets,
                b'M' => Self::Up,
                b'D' | b'E' => Self::EndsLine,
                b'H' | b'=' | b'>' | b'\\' => Self::Plain,
                _ => Self::Spoils,
            },
            Sequence::Control([_, b'(' | b')', b'0' | b'B']) => Self::Plain,
            Sequence::Control(_) => Self::Spoils,
        }
    }

    fn of_csi(parameters: &[u8], last: u8, is_alternate: bool) -> Self {
        let count =
            || std::str::from_utf8(parameters).ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        match (parameters, last) {
            ([b'?', modes @ ..], b'h' | b'l') => Self::of_modes(modes, last == b'h', is_alternate),
            // Questions, keyboards, cursor shapes: nothing that shows.
            ([b'>' | b'=' | b'<' | b'?', ..], b'c' | b'm' | b'n' | b'p' | b'q' | b'u')
            | ([.., b' '], b'q')
            | ([.., b'$'], b'p') => Self::Quiet,
            (parameters, _)
                if parameters.iter().any(|b| !matches!(b, b'0'..=b'9' | b';' | b':')) =>
            {
                Self::Spoils
            }
            (_, b'H' | b'f' | b'd') => Self::Row,
            (_, b'r') => Self::Region(!parameters.is_empty()),
            ([_, ..], b'J') if parameters != b"0" => Self::Clears { all: parameters == b"2" },
            (_, b'A' | b'F') => Self::Up,
            (_, b'B' | b'E' | b'e') => Self::Down(count()),
            (_, b'S' | b'T' | b'L' | b'M') => Self::ScrollsRows,
            (b"", b's') => Self::Saves,
            (b"", b'u') => Self::Restores,
            (_, b'm') if is_beyond(parameters) => Self::Spoils,
            (b"4", b'h' | b'l') | (_, b'm' | b'n' | b'c' | b'i' | b't' | b'g') => Self::Quiet,
            (_, b'J') => Self::ClearsBelow,
            (_, b'K' | b'P' | b'X' | b'@') => Self::Edits,
            (_, b'C' | b'D' | b'G' | b'I' | b'Z' | b'`' | b'a' | b'b') => Self::Plain,
            _ => Self::Spoils,
        }
    }

    fn of_modes(modes: &[u8], is_set: bool, is_alternate: bool) -> Self {
        match modes {
            // Some terminals clear the screen or restore the cursor even so.
            b"1049" if is_set == is_alternate => Self::MayMove,
            b"1049" if is_set => Self::EntersAlternate,
            b"1049" => Self::LeavesAlternate,
            b"6" => Self::MayMove,
            b"3" | b"40" | b"45" | b"47" | b"69" | b"80" | b"1047" | b"1048" => Self::Spoils,
            modes if modes.contains(&b';') => {
                let mut each = modes.split(|byte| *byte == b';');
                let simple = |mode| Self::of_modes(mode, is_set, is_alternate) == Self::Quiet;
                if each.all(simple) { Self::Quiet } else { Self::Spoils }
            }
            _ => Self::Quiet,
        }
    }
}
