//! The model against terminals: what was covered is put back to the cell.

use super::*;
use alacritty_terminal::vte::ansi::StdSyncHandler;
use proptest::prelude::*;

const SIZE: TerminalSize = TerminalSize { cols: 30, rows: 8, width_px: 0, height_px: 0 };

/// The terminal of the person, which has a past of its own.
struct Terminal {
    term: Term,
    parser: Processor<StdSyncHandler>,
}

impl Terminal {
    fn with(past: &str) -> Self {
        let config = Config { scrolling_history: 0, ..Config::default() };
        let term = Term::new(config, &Size::of(SIZE), VoidListener);
        let mut terminal = Self { term, parser: Processor::new() };
        terminal.show(past.as_bytes());
        terminal
    }

    fn show(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.term, bytes);
    }

    /// What it answers to `CSI 6 n`.
    fn place(&self) -> Place {
        let point = self.term.grid().cursor.point;
        Place { row: point.line.0.try_into().unwrap(), column: point.column.0.try_into().unwrap() }
    }

    /// Checks everything that can be seen now or make a difference later.
    #[track_caller]
    fn assert_is(&self, other: &Self, when: &str) {
        let (mine, theirs) = (self.state(), other.state());
        assert_eq!(mine.1, theirs.1, "cursor and modes {when}");
        let differs = mine.0.iter().zip(&theirs.0).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let (row, column) = (at / self.term.columns(), at % self.term.columns());
            panic!("row {row}, column {column} {when}: {:?}, not {:?}", mine.0[at], theirs.0[at]);
        }
    }

    fn state(&self) -> (Vec<Cell>, String) {
        let grid = self.term.grid();
        let mut cells: Vec<Cell> = grid.display_iter().map(|cell| cell.cell.clone()).collect();
        let columns = self.term.columns();
        for (at, cell) in cells.iter_mut().enumerate() {
            // Means something at the end of a row only.
            if at % columns != columns - 1 {
                cell.flags.remove(Flags::WRAPLINE);
            }
            // A terminal keeps a tab for its clipboard; it looks like a blank.
            if cell.c == '\t' {
                cell.c = ' ';
            }
            // Why a cell is blank: the wide character in front of which it is did not fit.
            cell.flags.remove(Flags::LEADING_WIDE_CHAR_SPACER);
        }
        (cells, format!("{:?} {:?}", grid.cursor, self.term.mode()))
    }

    fn row(&self, row: i32) -> String {
        let cells =
            (0..self.term.columns()).map(|column| self.term.grid()[Line(row)][Column(column)].c);
        cells.collect::<String>().trim_end().to_owned()
    }
}

fn notice() -> Vec<String> {
    vec!["tssh: no answer for 17 s".into(), "^D leaves".into()]
}

fn model_of(bytes: &[u8]) -> Screen {
    let mut screen = Screen::new(SIZE);
    screen.push(bytes);
    while screen.work() {}
    screen
}

/// Runs a program's output with a cover in its middle, and without; both
/// terminals must be the same in the end. Returns what the first row that is
/// covered looked like meanwhile.
fn compare(past: &str, before: &[u8], position: Position, after: &[u8]) -> Option<(u16, String)> {
    let (mut plain, mut covered) = (Terminal::with(past), Terminal::with(past));
    let mut screen = model_of(before);
    plain.show(before);
    covered.show(before);
    let (cover, bytes) = screen.cover(plain.place(), position, &notice())?;
    covered.show(&bytes);
    let row = cover.rows[0].0;
    let shown = (row, covered.row(row.into()));
    assert_eq!(covered.state().1, plain.state().1, "the cursor while covered");
    covered.show(&screen.uncover(&cover));
    covered.assert_is(&plain, "when put back");
    plain.show(after);
    covered.show(after);
    covered.assert_is(&plain, "later");
    screen.push(after);
    while screen.work() {}
    Some(shown)
}

#[test]
fn over_a_full_screen_program_the_first_rows_are_covered() {
    let program =
        b"\x1b[?1049h\x1b[2J\x1b[H\x1b[1;44mtitle\x1b[K\x1b[m\r\nbody\x1b[5;3H\x1b[31mcursor";
    let (row, shown) =
        compare("$ tssh host\r\n", program, Position::Top, b"\x1b[?1049l$ ").unwrap();
    assert_eq!((row, shown.as_str()), (0, " tssh: no answer for 17 s"));
}

#[test]
fn at_a_shell_only_its_own_lines_are_covered_where_the_terminal_has_others_above() {
    for past in ["", "older\r\n", "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n"] {
        let top = Terminal::with(past).place().row.min(8 - 4);
        let shell = b"welcome\r\nto this\r\nhost\r\n$ ";
        let (row, shown) = compare(past, shell, Position::Top, b"ls\r\n").unwrap();
        assert_eq!((row, shown.as_str()), (top, " tssh: no answer for 17 s"), "{past:?}");
    }
}

#[test]
fn a_terminal_that_does_not_agree_is_left_alone() {
    let screen = model_of(b"\x1b[H\x1b[2Jhello");
    assert!(screen.cover(Place { row: 0, column: 5 }, Position::Top, &notice()).is_some());
    for (row, column) in [(0, 4), (1, 5), (9, 5)] {
        assert!(screen.cover(Place { row, column }, Position::Top, &notice()).is_none());
    }
}

#[test]
fn the_place_behind_a_full_line_is_kept() {
    let line = "x".repeat(30);
    compare("", format!("\x1b[H\x1b[2J{line}").as_bytes(), Position::Top, b"y").unwrap();
    let line = format!("{}\u{4e16}", "x".repeat(28));
    compare("", format!("\x1b[H\x1b[2J{line}").as_bytes(), Position::Top, b"y").unwrap();
    let line = " ".repeat(30);
    compare("", format!("\x1b[H\x1b[2J{line}").as_bytes(), Position::Inline, b"y").unwrap();
}

#[test]
fn inline_is_below_the_cursor_where_that_is_known() {
    let program = b"\x1b[H\x1b[2Jone\r\ntwo\r\nthree";
    let (row, _) = compare("", program, Position::Inline, b"").unwrap();
    assert_eq!(row, 3);
    let (row, _) = compare("old\r\n", b"one\r\ntwo\r\nthree", Position::Inline, b"").unwrap();
    assert_eq!(row, 1, "else above it");
}

#[test]
fn pictures_and_what_is_unheard_of_make_the_screen_unknown() {
    for spoils in [
        &b"\x1bPq#0;2;0;0;0~\x1b\\"[..],
        b"\x1b_Gf=100;AAAA\x1b\\",
        b"\x1b]1337;File=inline=1:AAAA\x07",
        b"\x1b[5m",
        b"\x1b[2'}",
        b"\x1b#3",
        b"\x1b%@",
        b"\x1b[?1047h",
        b"\x1b[!p",
    ] {
        let what = String::from_utf8_lossy(spoils);
        let whole = [b"\x1b[H\x1b[2Jtext", spoils].concat();
        let place = Place { row: 0, column: 4 };
        let cover = |bytes: &[u8]| model_of(bytes).cover(place, Position::Top, &notice()).is_some();
        assert!(cover(b"\x1b[H\x1b[2Jtext"));
        assert!(!cover(&whole), "{what}");
        // Until it is cleared.
        assert!(cover(&[&whole[..], b"\x1b[2J"].concat()), "{what}");
    }
}

#[test]
fn nothing_is_covered_in_the_middle_of_a_sequence_or_character() {
    let place = Place { row: 0, column: 4 };
    for open in ["\x1b[3", "\x1b]0;title", "\x1b", "\x0e"] {
        let bytes = format!("\x1b[H\x1b[2Jtext{open}");
        assert!(model_of(bytes.as_bytes()).cover(place, Position::Top, &notice()).is_none());
    }
    let bytes = [b"\x1b[H\x1b[2Jtext", &"\u{20ac}".as_bytes()[..2]].concat();
    assert!(model_of(&bytes).cover(place, Position::Top, &notice()).is_none());
}

#[test]
fn rows_below_the_cursor_are_blank_only_while_nothing_else_can_be_there() {
    let lines = "a\r\n".repeat(8);
    let painted = "\x1b[H\x1b[2J1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8";
    for (before, after) in [
        ("\x1b[44m\x1b[J\x1b[m", "a longer piece of text that wraps around"),
        ("\x1b[44m\x1b[J\x1b[m", "\x1bD"),
        ("\x1b[44m\x1b[J\x1b[m", &*lines),
        // Saves the cursor in a row that nobody knows.
        ("\x1b[?1049h\x1b[?1049l\x1b[H\x1b8\x1b[2L", "text\x1b[H"),
        // Goes home without a word about rows.
        (&*format!("{painted}\x1b[?6l"), &*lines),
    ] {
        for position in [Position::Top, Position::Inline] {
            compare("", format!("{before}{after}").as_bytes(), position, b"later");
        }
    }
    // Cleared to the end, they are blank again.
    let cleared = format!("{painted}\x1b[H\x1b8\x1b[J");
    let both = format!("{cleared}{}", "a\r\n".repeat(8 + 3));
    compare("", both.as_bytes(), Position::Top, b"later").expect("rows that are known");
}

#[test]
fn a_flood_is_skipped_but_for_what_it_sets() {
    let line = format!("{}\r\n", "flood".repeat(5));
    let flood = format!("\x1b[1m\x1b(0{}\x1b[m\x1b(B", line.repeat(40_000));
    let mut screen = Screen::new(SIZE);
    let mut terminal = Terminal::with("");
    for piece in flood.as_bytes().chunks(60_000) {
        screen.push(piece);
        terminal.show(piece);
    }
    assert!(screen.backlog.len() <= BACKLOG_BYTES, "memory is bounded");
    while screen.work() {}
    terminal.show(b"\r\nend\r\n$ ");
    screen.push(b"\r\nend\r\n$ ");
    while screen.work() {}
    let plain = terminal.state();
    let (cover, bytes) = screen.cover(terminal.place(), Position::Top, &notice()).unwrap();
    terminal.show(&bytes);
    assert_ne!(terminal.state(), plain);
    terminal.show(&screen.uncover(&cover));
    assert_eq!(terminal.state(), plain);
}

#[test]
fn after_a_change_of_size_only_what_is_painted_anew_is_known() {
    let mut screen = model_of(b"\x1b[H\x1b[2Jtext");
    let size = TerminalSize { cols: 40, rows: 10, ..SIZE };
    screen.resize(size);
    let place = Place { row: 0, column: 4 };
    assert!(screen.cover(place, Position::Top, &notice()).is_none());
    screen.push(b"\x1b[H\x1b[2Jtext");
    screen.work();
    assert!(screen.cover(place, Position::Top, &notice()).is_some());
}

const TOKENS: &[&str] = &[
    "text",
    "a longer piece of text that wraps around",
    "e\u{301}",
    "\t",
    "\r\n",
    "\n",
    "\r",
    "\x08",
    "\x1b[H",
    "\x1b[2J",
    "\x1b[J",
    "\x1b[1J",
    "\x1b[K",
    "\x1b[1K",
    "\x1b[3;5H",
    "\x1b[8;30H",
    "\x1b[4d",
    "\x1b[12G",
    "\x1b[2A",
    "\x1b[2B",
    "\x1b[3C",
    "\x1b[2D",
    "\x1b[3@",
    "\x1b[2P",
    "\x1b[4X",
    "\x1b[2L",
    "\x1b[M",
    "\x1b[2S",
    "\x1b[T",
    "\x1b[2;6r",
    "\x1b[r",
    "\x1b7",
    "\x1b8",
    "\x1bM",
    "\x1bD",
    "\x1bE",
    "\x1b[4h",
    "\x1b[4l",
    "\x1b[?7l",
    "\x1b[?7h",
    "\x1b[?25l",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1b[?6h",
    "\x1b[?6l",
    "\x1b[m",
    "\x1b[1;31m",
    "\x1b[7m",
    "\x1b[44m",
    "\x1b[38;5;196;48;2;1;2;3m",
    "\x1b[4:3;58:2::9:8:7m",
    "\x1b[2;3;9m",
    "\x1b[97;104m",
    "\x1b(0qqxx",
    "\x1b(B",
    "\x1b]8;id=a;http://example.org/\x1b\\link",
    "\x1b]8;;\x1b\\",
    "\x1b]0;title\x07",
    "z\x1b[5b",
    "\x1bc",
    "\x1b#8",
    "\x1b[5m",
    "\x1b_Gpicture\x1b\\",
    "\x0e",
    "\x0f",
];

/// These leave nothing unknown: of a wide character in a cell that is not known
/// a half can stay behind, of which nobody but the terminal knows.
const WIDE_TOKENS: &[&str] = &[
    "text",
    "\u{4e16}\u{754c}\u{4e16}\u{754c}\u{4e16}\u{754c}\u{4e16}\u{754c}",
    "x\u{4e16}",
    "\r\n",
    "\r",
    "\x08",
    "\x1b[3;6H",
    "\x1b[7;29H",
    "\x1b[H",
    "\x1b[K",
    "\x1b[1K",
    "\x1b[J",
    "\x1b[P",
    "\x1b[@",
    "\x1b[X",
    "\x1b[3D",
    "\x1b[A",
    "\x1b[1;44m",
    "\x1b[m",
];

fn tokens(max: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(TOKENS), 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_program_prints_a_cover_leaves_no_trace(
        past in 0usize..20,
        before in tokens(25),
        is_top in any::<bool>(),
        after in tokens(8),
    ) {
        let past = "something older\r\n".repeat(past);
        let position = if is_top { Position::Top } else { Position::Inline };
        compare(&past, before.concat().as_bytes(), position, after.concat().as_bytes());
    }

    #[test]
    fn wide_characters_are_neither_cut_nor_moved(
        before in proptest::collection::vec(proptest::sample::select(WIDE_TOKENS), 0..30),
        is_top in any::<bool>(),
    ) {
        let position = if is_top { Position::Top } else { Position::Inline };
        let before = format!("\x1b[H\x1b[2J{}", before.concat());
        compare("", before.as_bytes(), position, b"after");
    }

    #[test]
    fn no_output_makes_the_model_fail(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let screen = model_of(&bytes);
        let _ = screen.cover(Place { row: 3, column: 0 }, Position::Inline, &notice());
    }
}
