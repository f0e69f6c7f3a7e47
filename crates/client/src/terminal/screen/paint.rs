//! Cells and attributes as control sequences.
//!
//! Only what every terminal of the last decades knows, plus what the program
//! itself has used: a colour or a line style that is in a cell came from a
//! sequence that the terminal had understood.

use std::fmt::Write as _;

use alacritty_terminal::grid::Cursor;
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{CharsetIndex, Color, NamedColor, StandardCharset};

/// Writes sequences.
#[derive(Debug, Default)]
pub(super) struct Painter {
    out: String,
    link: Option<(String, String)>,
}

impl Painter {
    /// Makes the terminal take text as it is, wherever the program has stopped.
    pub(super) fn begin(&mut self, mode: &TermMode, cursor: &Cursor<Cell>) {
        if mode.contains(TermMode::INSERT) {
            self.out.push_str("\x1b[4l");
        }
        if is_line_drawing(cursor) {
            self.out.push_str("\x1b(B");
        }
        self.link = link_of(&cursor.template);
    }

    /// Makes the terminal go on as the program has left it; the cursor is there.
    pub(super) fn end(&mut self, mode: &TermMode, cursor: &Cursor<Cell>) {
        self.attributes(&cursor.template);
        if is_line_drawing(cursor) {
            self.out.push_str("\x1b(0");
        }
        if mode.contains(TermMode::INSERT) {
            self.out.push_str("\x1b[4h");
        }
    }

    pub(super) fn go(&mut self, row: u16, column: usize) {
        let _ = write!(self.out, "\x1b[{};{}H", row + 1, column + 1);
    }

    /// Writes a line of ASCII in reverse, cut or filled to `width`.
    pub(super) fn text(&mut self, row: u16, line: &str, width: usize) {
        self.go(row, 0);
        self.link(None);
        let width = width.saturating_sub(1);
        let _ = write!(self.out, "\x1b[0;7m {line:<width$.width$}");
    }

    /// Writes cells as they are; blank ones are erased.
    pub(super) fn cells<'a>(
        &mut self,
        row: u16,
        first: usize,
        cells: impl Iterator<Item = &'a Cell>,
    ) {
        let blank = Cell::default();
        self.cells_but(row, first, cells, |cell| *cell == blank);
    }

    /// Prints a cell even where it is blank: printing is what counts.
    pub(super) fn print<'a>(
        &mut self,
        row: u16,
        first: usize,
        cells: impl Iterator<Item = &'a Cell>,
    ) {
        self.cells_but(row, first, cells, |_| false);
    }

    fn cells_but<'a>(
        &mut self,
        row: u16,
        first: usize,
        cells: impl Iterator<Item = &'a Cell>,
        is_blank: impl Fn(&Cell) -> bool,
    ) {
        self.go(row, first);
        let mut last: Option<Cell> = None;
        let mut blanks = 0;
        for cell in cells {
            let mut plain = cell.clone();
            plain.flags.remove(Flags::WRAPLINE);
            if plain.c == '\t' {
                plain.c = ' ';
            }
            if is_blank(&plain) {
                // Erased rather than filled with spaces: they are not text.
                blanks += 1;
                continue;
            }
            self.erase(&mut blanks, &mut last);
            if cell.flags.intersects(Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER) {
                continue;
            }
            if !last.as_ref().is_some_and(|last| looks_alike(last, cell)) {
                self.attributes(cell);
                last = Some(cell.clone());
            }
            self.out.push(plain.c);
            self.out.extend(cell.zerowidth().unwrap_or_default());
        }
        self.erase(&mut blanks, &mut last);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    pub(super) fn by_ref(&mut self) -> &mut Self {
        self
    }

    fn erase(&mut self, blanks: &mut usize, last: &mut Option<Cell>) {
        let count = std::mem::take(blanks);
        if count > 0 {
            self.attributes(&Cell::default());
            let _ = write!(self.out, "\x1b[{count}X\x1b[{count}C");
            *last = None;
        }
    }

    fn attributes(&mut self, cell: &Cell) {
        self.link(link_of(cell));
        self.out.push_str("\x1b[0");
        for (flag, code) in FLAGS {
            if cell.flags.contains(*flag) {
                let _ = write!(self.out, ";{code}");
            }
        }
        self.colour(cell.fg, 30);
        self.colour(cell.bg, 40);
        match cell.underline_color() {
            Some(Color::Indexed(index)) => {
                let _ = write!(self.out, ";58:5:{index}");
            }
            Some(Color::Spec(rgb)) => {
                let _ = write!(self.out, ";58:2::{}:{}:{}", rgb.r, rgb.g, rgb.b);
            }
            Some(Color::Named(_)) | None => {}
        }
        self.out.push('m');
    }

    fn colour(&mut self, colour: Color, base: u16) {
        let _ = match colour {
            Color::Named(name) => match name as u16 {
                index @ 0..=7 => write!(self.out, ";{}", base + index),
                index @ 8..=15 => write!(self.out, ";{}", base + 60 + index - 8),
                _ => Ok(()),
            },
            Color::Indexed(index) => write!(self.out, ";{};5;{index}", base + 8),
            Color::Spec(rgb) => write!(self.out, ";{};2;{};{};{}", base + 8, rgb.r, rgb.g, rgb.b),
        };
    }

    fn link(&mut self, link: Option<(String, String)>) {
        if link == self.link {
            return;
        }
        match &link {
            Some((id, uri)) => {
                let _ = write!(self.out, "\x1b]8;id={id};{uri}\x1b\\");
            }
            None => self.out.push_str("\x1b]8;;\x1b\\"),
        }
        self.link = link;
    }
}

fn is_line_drawing(cursor: &Cursor<Cell>) -> bool {
    cursor.charsets[CharsetIndex::G0] == StandardCharset::SpecialCharacterAndLineDrawing
}

fn link_of(cell: &Cell) -> Option<(String, String)> {
    cell.hyperlink().map(|link| (link.id().to_owned(), link.uri().to_owned()))
}

fn looks_alike(a: &Cell, b: &Cell) -> bool {
    let shape = |cell: &Cell| {
        let mut flags = cell.flags;
        flags.remove(Flags::WRAPLINE | Flags::WIDE_CHAR);
        flags
    };
    shape(a) == shape(b)
        && (a.fg, a.bg) == (b.fg, b.bg)
        && a.underline_color() == b.underline_color()
        && a.hyperlink() == b.hyperlink()
}

const FLAGS: &[(Flags, &str)] = &[
    (Flags::BOLD, "1"),
    (Flags::DIM, "2"),
    (Flags::ITALIC, "3"),
    (Flags::UNDERLINE, "4"),
    (Flags::DOUBLE_UNDERLINE, "4:2"),
    (Flags::UNDERCURL, "4:3"),
    (Flags::DOTTED_UNDERLINE, "4:4"),
    (Flags::DASHED_UNDERLINE, "4:5"),
    (Flags::INVERSE, "7"),
    (Flags::HIDDEN, "8"),
    (Flags::STRIKEOUT, "9"),
];

/// Returns whether the parameters of an SGR ask for what a cell here cannot have.
pub(super) fn is_beyond(parameters: &[u8]) -> bool {
    let mut words = parameters.split(|byte| *byte == b';');
    while let Some(word) = words.next() {
        let code = word.split(|byte| *byte == b':').next().unwrap_or_default();
        match code {
            b"38" | b"48" | b"58" if code.len() == word.len() => {
                // The colour's own numbers follow.
                let skipped = match words.next() {
                    Some(b"5") => 1,
                    Some(b"2") => 3,
                    _ => return true,
                };
                words.by_ref().take(skipped).for_each(drop);
            }
            b"" | b"0" | b"1" | b"2" | b"3" | b"4" | b"7" | b"8" | b"9" | b"21" | b"22" | b"23"
            | b"24" | b"25" | b"27" | b"28" | b"29" | b"38" | b"39" | b"48" | b"49" | b"58"
            | b"59" => {}
            [b'3' | b'4' | b'9', b'0'..=b'7'] | [b'1', b'0', b'0'..=b'7'] => {}
            _ => return true,
        }
    }
    false
}

/// Checked where the compiler sees it: the numbers above rest on it.
const _: () = assert!(NamedColor::BrightWhite as u16 == 15);
