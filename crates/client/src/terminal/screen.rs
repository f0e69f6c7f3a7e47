//! What the terminal shows, as far as it is known: a model beside the byte path.
//!
//! The program's bytes go to the terminal as they are; a copy goes through
//! here, so that a few cells can be covered for a while ([`Screen::cover`]) and
//! be put back as if nothing had been ([`Screen::uncover`]) (DESIGN D17).
//!
//! The model knows what it does not know, and covers nothing of that:
//! * What was there before the program: such cells are *unknown* until the
//!   program has written or cleared them.
//! * In which row the program began. Until it addresses a row by number or has
//!   printed a screenful, rows are known by their distance from the cursor only,
//!   and the terminal is asked where that is ([`Place`]). The screen below the
//!   row where it began is taken to be blank, until it may be in some other row
//!   or has cleared it in colour: what scrolls in then is unknown as well.
//! * What the model cannot show: pictures, blinking, sequences it has never
//!   heard of. They make all cells unknown.
//!
//! In a flood it falls behind and drops what it has no time for: cells become
//! unknown, states (modes, colours) are kept. Not here: when to cover, and with what.

mod effect;
mod paint;

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, TermMode};
use alacritty_terminal::vte::ansi::{CharsetIndex, Processor, StandardCharset, Timeout};
use tty::sequence::Scanner;
use tty::states::States;

use crate::remote::TerminalSize;
use effect::Effect;
use paint::Painter;

type Term = alacritty_terminal::Term<VoidListener>;

/// Bytes that may wait; more are a flood.
const BACKLOG_BYTES: usize = 256 * 1024;

/// Bytes worked off at a time: well under a millisecond.
const SLICE_BYTES: usize = 16 * 1024;

/// Longest string that is looked at: hyperlinks are, clipboards are not.
const STRING_BYTES: usize = 4096;

/// Stands in cells whose content is unknown: no character at all (Unicode 23.7).
const UNKNOWN: char = '\u{10ffff}';

/// Where the terminal says the cursor is; from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Row.
    pub row: u16,
    /// Column.
    pub column: u16,
}

/// Where to cover something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In the topmost rows that are known.
    Top,
    /// Near the cursor.
    Inline,
}

/// Cells that are covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    place: Place,
    /// Row of the terminal and how many of its cells, from the left.
    rows: Vec<(u16, usize)>,
}

/// The model.
pub struct Screen {
    term: Term,
    parser: Processor<Never>,
    scanner: Scanner,
    /// Whether rows are those of the terminal.
    is_anchored: bool,
    /// Nothing but what prints and a few moves has come since the beginning:
    /// while rows are not known, those above the cursor are the program's own.
    is_fresh: bool,
    /// While rows are not known: whether those below the cursor's are blank.
    is_blank_below: bool,
    /// Just cleared to cells like this, with nothing printed since.
    cleared: Option<Cell>,
    /// Whether the edit under way is in a row that is not known.
    edits_unknown: bool,
    /// Whether a part of the rows scrolls by itself.
    has_region: bool,
    /// Line feeds with nothing but text around them.
    lines: usize,
    /// The same of the main screen, while the alternate one is shown.
    main_is_anchored: bool,
    main_is_blank_below: bool,
    /// Whether its cells are out of date as well.
    main_is_stale: bool,
    /// Whether the saved cursor, if there is one, is in a row that is not the terminal's.
    saved_adrift: bool,
    /// Whether characters come from another set than the first (SO).
    is_shifted: bool,
    /// The string under way, as far as it is looked at.
    string: Vec<u8>,
    backlog: Vec<u8>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it shows is the user's.
        f.debug_struct("Screen").field("is_anchored", &self.is_anchored).finish_non_exhaustive()
    }
}

impl Screen {
    /// Returns the model of a terminal of which nothing is known but its size,
    /// and that the cursor is in its first column.
    #[must_use]
    pub fn new(size: TerminalSize) -> Self {
        let config = Config { scrolling_history: 0, ..Config::default() };
        let mut screen = Self {
            term: Term::new(config, &Size::of(size), VoidListener),
            parser: Processor::new(),
            scanner: Scanner::default(),
            is_anchored: false,
            is_fresh: false,
            is_blank_below: false,
            cleared: None,
            edits_unknown: false,
            has_region: false,
            lines: 0,
            main_is_anchored: false,
            main_is_blank_below: false,
            main_is_stale: false,
            saved_adrift: true,
            is_shifted: false,
            string: Vec::new(),
            backlog: Vec::new(),
        };
        screen.forget();
        screen.is_fresh = true;
        screen.is_blank_below = true;
        screen.fill(screen.last_row(), &Cell::default());
        screen
    }

    /// Takes bytes that went to the terminal; [`Screen::work`] looks at them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.backlog.extend_from_slice(bytes);
        if self.backlog.len() > BACKLOG_BYTES {
            self.skip();
        }
    }

    /// Works off some of what was pushed; returns whether there is more.
    pub fn work(&mut self) -> bool {
        let backlog = std::mem::take(&mut self.backlog);
        let (now, later) = backlog.split_at(SLICE_BYTES.min(backlog.len()));
        self.feed(now);
        self.backlog.extend_from_slice(later);
        !self.backlog.is_empty()
    }

    /// Takes a new size of the terminal, which has moved its lines as it pleases.
    pub fn resize(&mut self, size: TerminalSize) {
        while self.work() {}
        self.term.resize(Size::of(size));
        self.forget_all();
    }

    /// Learns that others have written to the terminal: nothing is known any more.
    pub fn disturb(&mut self) {
        while self.work() {}
        self.forget_all();
    }

    /// Returns whether something may be put between the bytes seen so far, and
    /// taken away without a trace.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let mode = self.term.mode();
        let charset = self.term.grid().cursor.charsets[CharsetIndex::G0];
        let known_charset = matches!(
            charset,
            StandardCharset::Ascii | StandardCharset::SpecialCharacterAndLineDrawing
        );
        self.scanner.is_between()
            && self.backlog.is_empty()
            && !self.is_shifted
            && !mode.contains(TermMode::ORIGIN)
            && known_charset
    }

    /// Covers cells with lines of ASCII text, as many as there is room for.
    /// Returns what to write to the terminal, whose cursor is at `place`.
    ///
    /// `None` where nothing can be covered that is known: see the module's
    /// description. The cursor, its attributes and all modes are as before.
    #[must_use]
    pub fn cover(
        &self,
        place: Place,
        position: Position,
        lines: &[String],
    ) -> Option<(Cover, Vec<u8>)> {
        let cursor = &self.term.grid().cursor;
        let at_cursor = self.cell(cursor.point.line, cursor.point.column.0);
        // Behind the last column one is only by printing into it, which may change it.
        let cannot_return = cursor.input_needs_wrap
            && (at_cursor.c == UNKNOWN
                || at_cursor.flags.contains(Flags::WRAPLINE)
                || !self.has_whole_characters(cursor.point.line));
        if !self.is_at_rest() || cannot_return {
            return None;
        }
        let shift = self.shift(place)?;
        // The last column stays as it is: it knows whether its line goes on in the next.
        let room = self.columns().checked_sub(1)?;
        let width = lines.iter().map(|line| line.len() + 2).max()?.min(room);
        let first = self.find_rows(place, position, shift, lines.len(), room)?;
        let mut painter = Painter::default();
        painter.begin(self.term.mode(), cursor);
        let mut rows = Vec::new();
        for (row, line) in (first.0..first.0 + first.1).zip(lines) {
            let width = self.whole_cells(self.model_row(row, shift)?, width);
            painter.text(row, line, width);
            rows.push((row, width));
        }
        self.end(painter.by_ref(), place);
        Some((Cover { place, rows }, painter.finish()))
    }

    /// Returns what to write to the terminal to show again what is under `cover`.
    ///
    /// Nothing must have gone to the terminal since it was covered but covers
    /// of the same cells.
    #[must_use]
    pub fn uncover(&self, cover: &Cover) -> Vec<u8> {
        let mut painter = Painter::default();
        let Some(shift) = self.shift(cover.place) else { return Vec::new() };
        painter.begin(self.term.mode(), &self.term.grid().cursor);
        for (row, width) in &cover.rows {
            if let Some(line) = self.model_row(*row, shift) {
                painter.cells(*row, 0, self.cells(line, 0..*width));
            }
        }
        self.end(painter.by_ref(), cover.place);
        painter.finish()
    }

    /// Puts the cursor and its attributes back.
    fn end(&self, painter: &mut Painter, place: Place) {
        let cursor = &self.term.grid().cursor;
        let column = cursor.point.column.0;
        if cursor.input_needs_wrap {
            // Behind the last column, where the next character begins a line:
            // the terminal is there only after it has printed into that column.
            let is_spacer = self.cell(cursor.point.line, column).flags;
            let wide = is_spacer.contains(Flags::WIDE_CHAR_SPACER);
            let start = if wide { column.saturating_sub(1) } else { column };
            painter.print(place.row, start, self.cells(cursor.point.line, start..column + 1));
        } else {
            painter.go(place.row, column);
        }
        painter.end(self.term.mode(), cursor);
    }

    /// Returns how many rows lower the model's rows are than the terminal's,
    /// whose cursor is at `place`; `None` when the two do not agree.
    fn shift(&self, place: Place) -> Option<i32> {
        let point = self.term.grid().cursor.point;
        let shift = point.line.0 - i32::from(place.row);
        let agrees = point.column.0 == usize::from(place.column)
            && usize::from(place.row) < self.rows()
            && (!self.is_anchored || shift == 0);
        agrees.then_some(shift)
    }

    /// Returns the first row of the terminal to cover, and how many.
    fn find_rows(
        &self,
        place: Place,
        position: Position,
        shift: i32,
        wanted: usize,
        room: usize,
    ) -> Option<(u16, u16)> {
        let rows = u16::try_from(self.rows()).ok()?;
        let wanted = u16::try_from(wanted).ok()?;
        let is_known = |row: u16| self.is_known(row, shift, room);
        let run = |first: u16| (first..rows).take(wanted.into()).take_while(|row| is_known(*row));
        let first = match position {
            Position::Top => (0..rows).find(|row| is_known(*row))?,
            Position::Inline => {
                let below = place.row + 1;
                let above = place.row.saturating_sub(wanted);
                let fits = |first: &u16| run(*first).count() == usize::from(wanted);
                [below, above]
                    .into_iter()
                    .find(fits)
                    .or(Some(place.row).filter(|row| is_known(*row)))?
            }
        };
        let count = u16::try_from(run(first).count()).ok()?;
        Some((first, count))
    }

    fn is_known(&self, row: u16, shift: i32, width: usize) -> bool {
        let cursor = self.term.grid().cursor.point.line;
        self.model_row(row, shift).is_some_and(|line| {
            (self.is_anchored || self.is_fresh && line <= cursor)
                && self.cells(line, 0..width).all(|cell| cell.c != UNKNOWN)
                && self.has_whole_characters(line)
        })
    }

    /// Whether no wide character has lost its other half: terminals differ about those.
    fn has_whole_characters(&self, line: Line) -> bool {
        let has = |column, flag| self.cell(line, column).flags.contains(flag);
        let last = self.columns().saturating_sub(1);
        !has(last, Flags::WIDE_CHAR)
            && !has(0, Flags::WIDE_CHAR_SPACER)
            && (0..last).all(|column| {
                has(column, Flags::WIDE_CHAR) == has(column + 1, Flags::WIDE_CHAR_SPACER)
            })
    }

    fn model_row(&self, row: u16, shift: i32) -> Option<Line> {
        let line = i32::from(row) + shift;
        usize::try_from(line).is_ok_and(|line| line < self.rows()).then_some(Line(line))
    }

    /// Returns a width near `width` at which no wide character is cut.
    fn whole_cells(&self, line: Line, width: usize) -> usize {
        let is_cut = self.cell(line, width).flags.contains(Flags::WIDE_CHAR_SPACER);
        if is_cut { width.saturating_sub(1) } else { width }
    }

    fn cell(&self, line: Line, column: usize) -> &Cell {
        &self.term.grid()[line][Column(column.min(self.columns().saturating_sub(1)))]
    }

    fn cells(&self, line: Line, columns: std::ops::Range<usize>) -> impl Iterator<Item = &Cell> {
        columns.map(move |column| self.cell(line, column))
    }

    fn rows(&self) -> usize {
        self.term.screen_lines()
    }

    fn columns(&self) -> usize {
        self.term.columns()
    }

    /// The cursor's.
    fn row(&self) -> i32 {
        self.term.grid().cursor.point.line.0
    }

    // ---- following the program ---------------------------------------------

    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let was_string = self.scanner.is_in_string();
            let (taken, sequence) = self.scanner.feed_to_sequence(rest);
            let (piece, behind) = rest.split_at(taken);
            let effect = sequence.map(|sequence| Effect::of(sequence, self.term.mode()));
            self.on_piece(piece, was_string, effect);
            rest = behind;
        }
    }

    fn on_piece(&mut self, piece: &[u8], was_string: bool, effect: Option<Effect>) {
        if let Some(shift) = piece.iter().rev().find(|byte| matches!(byte, 0x0e | 0x0f)) {
            self.is_shifted = *shift == 0x0e;
        }
        if was_string && piece.first() == Some(&0x1b) {
            self.end_string();
        } else if was_string || self.scanner.is_in_string() {
            return self.on_string(piece, effect);
        }
        let before = self.row();
        let inserts = effect.is_none() && self.term.mode().contains(TermMode::INSERT);
        let shifts_unknown = inserts && self.cursor_row_has(UNKNOWN);
        let meets_unknown = !self.is_anchored && self.may_meet_unknown(piece, effect);
        self.before(effect);
        self.parser.advance(&mut self.term, piece);
        self.after(effect, before);
        if meets_unknown {
            self.blot();
            self.is_fresh = false;
        }
        if shifts_unknown || inserts && self.cursor_row_has(UNKNOWN) {
            self.forget();
        }
        self.count_lines(piece, effect);
    }

    /// Whether the cursor may come to a row of which the model does not know
    /// what it looks like: one below that is not blank, or one that scrolls in
    /// with the background of the text, which happens in the terminal's last
    /// row only, wherever that is.
    fn may_meet_unknown(&self, piece: &[u8], effect: Option<Effect>) -> bool {
        let cursor = &self.term.grid().cursor;
        let ends_line = |byte: &u8| matches!(byte, b'\n' | 0x0b | 0x0c);
        (!self.is_blank_below || self.has_background())
            && (cursor.point.column.0 + piece.len() >= self.columns()
                || piece.iter().any(ends_line)
                || effect == Some(Effect::EndsLine))
    }

    /// Whether what is cleared now gets another background than the terminal's own.
    fn has_background(&self) -> bool {
        self.term.grid().cursor.template.bg != Cell::default().bg
    }

    /// After a screenful of text the cursor is in the last row.
    fn count_lines(&mut self, piece: &[u8], effect: Option<Effect>) {
        self.lines += piece.iter().filter(|byte| **byte == b'\n').count();
        if !effect.is_none_or(Effect::keeps_rows) {
            self.lines = 0;
        }
        if !self.is_anchored && !self.has_region && self.lines >= self.rows() {
            self.is_anchored = true;
        }
    }

    /// A string goes to the model when it is whole and short.
    fn on_string(&mut self, piece: &[u8], effect: Option<Effect>) {
        self.string
            .extend_from_slice(piece.get(..STRING_BYTES.min(piece.len())).unwrap_or_default());
        if effect == Some(Effect::Spoils) {
            self.forget();
        }
        if self.scanner.is_in_string() {
            self.string.truncate(STRING_BYTES);
        } else {
            self.end_string();
        }
    }

    fn end_string(&mut self) {
        if self.string.windows(6).any(|window| window == b"]1337;") {
            self.forget(); // a picture, for all we know
        }
        let string = std::mem::take(&mut self.string);
        if string.len() < STRING_BYTES {
            self.parser.advance(&mut self.term, &string);
        }
    }

    fn before(&mut self, effect: Option<Effect>) {
        if !matches!(effect, Some(Effect::Quiet | Effect::Row | Effect::Region(_))) {
            self.cleared = None;
        }
        self.edits_unknown = matches!(effect, Some(Effect::Edits | Effect::ClearsBelow))
            && self.cursor_row_has(UNKNOWN);
        match effect {
            Some(Effect::Row | Effect::Region(_)) if !self.is_anchored => {
                // Where the rows were that are known so far, nobody knows.
                let cleared = self.cleared.take();
                self.forget();
                self.is_anchored = true;
                if let Some(blank) = cleared {
                    (0..=self.last_row().0).for_each(|row| self.fill(Line(row), &blank));
                }
            }
            Some(Effect::Saves) => self.saved_adrift = !self.is_anchored,
            Some(Effect::EntersAlternate) => {
                self.main_is_anchored = self.is_anchored;
                self.main_is_blank_below = self.is_blank_below;
                self.main_is_stale = false;
                self.saved_adrift |= !self.is_anchored;
            }
            Some(Effect::Restores) if !self.is_anchored || self.saved_adrift => self.lose_rows(),
            Some(Effect::MayMove) => self.lose_rows(),
            Some(Effect::Down(rows))
                if !self.is_anchored && self.row().saturating_add(rows) > self.last_row().0 =>
            {
                self.forget();
            }
            Some(Effect::Spoils) => self.forget(),
            _ => {}
        }
        if let Some(Effect::Region(is_set)) = effect {
            self.has_region = is_set;
        }
    }

    fn after(&mut self, effect: Option<Effect>, row_before: i32) {
        match effect {
            Some(Effect::EntersAlternate) => {
                self.is_anchored = false;
                let blank = self.cell(Line(0), 0).clone();
                self.forget();
                self.is_blank_below = !self.has_background();
                self.cleared = Some(blank);
            }
            Some(Effect::LeavesAlternate) => {
                self.is_anchored = self.main_is_anchored;
                if std::mem::take(&mut self.main_is_stale) {
                    self.forget();
                } else if !self.is_anchored {
                    self.forget();
                    self.is_blank_below = self.main_is_blank_below;
                }
                // The cursor was saved where it was when the other screen was entered.
                self.saved_adrift |= !self.is_anchored;
            }
            Some(Effect::Resets) => {
                self.is_anchored = true;
                self.is_shifted = false;
                self.has_region = false;
                self.saved_adrift = false;
            }
            Some(Effect::Clears { all }) if !self.is_anchored => {
                let blank = all.then(|| self.cell(Line(0), 0).clone());
                let is_blank_below = if all { !self.has_background() } else { self.is_blank_below };
                self.forget();
                self.is_blank_below = is_blank_below;
                self.cleared = blank;
            }
            Some(Effect::ClearsBelow) if !self.is_anchored => {
                self.is_blank_below = !self.has_background();
                self.mend_row();
            }
            Some(Effect::Edits | Effect::ClearsBelow) => self.mend_row(),
            Some(Effect::ScrollsRows) if !self.is_anchored => self.forget(),
            // At the terminal's top it may have stopped earlier than here.
            Some(Effect::Up) if !self.is_anchored => {
                let row = Line(self.row().min(row_before));
                if self.cell(row, 0).c == UNKNOWN {
                    self.forget();
                }
            }
            _ => {}
        }
    }

    /// After an edit of a row with unknown cells, which may have held half of a
    /// wide character.
    fn mend_row(&mut self) {
        if std::mem::take(&mut self.edits_unknown) {
            let row = self.term.grid().cursor.point.line;
            if !self.cells(row, 0..self.columns()).all(|cell| cell.c == ' ') {
                self.fill(row, &unknown());
            }
        }
    }

    /// Makes all cells of the screen in use unknown. While the rows are not
    /// known either, the cursor is in the last one: what it leaves above it is
    /// what the terminal has above its own.
    fn forget(&mut self) {
        self.blot();
        if !self.is_anchored {
            self.term.grid_mut().cursor.point.line = self.last_row();
            self.is_fresh = false;
            self.is_blank_below = false;
            self.lines = 0;
        }
    }

    /// Makes all cells of the screen in use unknown.
    fn blot(&mut self) {
        self.cleared = None;
        for line in (0..=self.last_row().0).map(Line) {
            self.fill(line, &unknown());
        }
    }

    /// Makes the cells and the rows of both screens unknown.
    fn forget_all(&mut self) {
        self.is_anchored = false;
        self.main_is_anchored = false;
        self.main_is_blank_below = false;
        self.main_is_stale = true;
        self.saved_adrift = true;
        self.forget();
    }

    fn fill(&mut self, row: Line, cell: &Cell) {
        for column in (0..self.columns()).map(Column) {
            self.term.grid_mut()[row][column] = cell.clone();
        }
    }

    /// Forgets everything, where the cursor is included.
    fn lose_rows(&mut self) {
        self.is_anchored = false;
        self.forget();
    }

    fn cursor_row_has(&self, content: char) -> bool {
        let row = self.term.grid().cursor.point.line;
        self.cells(row, 0..self.columns()).any(|cell| cell.c == content)
    }

    fn last_row(&self) -> Line {
        Line(i32::try_from(self.rows()).unwrap_or(i32::MAX).saturating_sub(1))
    }

    /// Drops the backlog but for the states it sets and its unfinished end.
    fn skip(&mut self) {
        let backlog = std::mem::take(&mut self.backlog);
        let mut scanner = self.scanner.clone();
        let mut start = scanner.feed_to_gap(&backlog, |_| {}).unwrap_or(backlog.len());
        self.feed(backlog.get(..start).unwrap_or_default());
        let mut states = States::default();
        let (mut end, mut lines) = (start, 0);
        while let Some(rest) = backlog.get(start..).filter(|rest| !rest.is_empty()) {
            let (taken, sequence) = scanner.feed_to_sequence(rest);
            let piece = rest.get(..taken).unwrap_or_default();
            lines += piece.iter().filter(|byte| **byte == b'\n').count();
            if let Some(sequence) = sequence {
                states.note(sequence);
                if !Effect::of(sequence, self.term.mode()).keeps_rows() {
                    lines = 0;
                }
            }
            start += taken;
            if scanner.is_between() {
                end = start;
            }
        }
        // Switches of screen and of region among them put rows in doubt, too.
        self.feed(&states.take());
        self.forget_all();
        self.lines = lines;
        self.backlog.extend_from_slice(backlog.get(end..).unwrap_or_default());
    }
}

fn unknown() -> Cell {
    Cell { c: UNKNOWN, ..Cell::default() }
}

/// Lines and columns for the model.
struct Size {
    rows: usize,
    columns: usize,
}

impl Size {
    fn of(size: TerminalSize) -> Self {
        // A terminal that does not know its size has the size everybody assumes.
        let or = |n: u16, usual: usize| if n == 0 { usual } else { n.into() };
        Self { rows: or(size.rows, 24), columns: or(size.cols, 80).max(2) }
    }
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.rows
    }

    fn screen_lines(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }
}

/// Synchronised updates show at once: we look when nothing comes any more.
#[derive(Debug, Default)]
struct Never;

impl Timeout for Never {
    fn set_timeout(&mut self, _: std::time::Duration) {}

    fn clear_timeout(&mut self) {}

    fn pending_timeout(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
