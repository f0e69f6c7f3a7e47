//! The notice that the link is away: when it is shown, what it says, its keys.
//!
//! ```text
//!   Fine ──lost──▶ Waiting ──due──▶ Asked ──place──▶ Shown
//!    ▲                │               │ no answer      │ output, a new size
//!    └───────back─────┴───────────────┴──▶ Hidden ◀────┘
//! ```
//!
//! A machine without I/O: bytes for the terminal are taken with
//! [`Notice::take_output`], time is an argument, one timer is armed with
//! [`Notice::timer`]. *Asked* means that the terminal was asked where its cursor
//! is (`CSI 6 n`): the answer comes among the keys, and is taken out of them.
//! Nothing is asked or shown before the outage has lasted long enough, and
//! never in the middle of the program's output.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::config::NoticeSettings;
use crate::remote::{Outage, TerminalSize};
use crate::report;
use crate::terminal::screen::{Cover, Place, Position, Screen};

/// How long a terminal may take to say where its cursor is.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How long an answer is looked for: one that comes late is no key either.
const LATE_ANSWER_TIME: Duration = Duration::from_secs(30);

/// The key that shows more or less.
const SIZE_KEY: u8 = 0x01;

/// Asks a terminal for the place of its cursor.
const QUESTION: &[u8] = b"\x1b[6n";

/// Longest answer: two numbers of five digits.
const MAX_ANSWER: usize = 14;

/// The notice of one session.
#[derive(Debug)]
pub struct Notice {
    settings: NoticeSettings,
    /// Outage after which it is shown.
    after: Duration,
    host: String,
    screen: Screen,
    /// What has been printed around the model, by [`report::printed`].
    printed: u64,
    state: State,
    is_full: bool,
    /// Whether the terminal is no longer ours.
    is_retired: bool,
    answer: Answer,
    output: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Fine,
    Waiting { due: Instant },
    Asked { until: Instant },
    Shown { place: Place, cover: Cover, next: Instant },
    Hidden,
}

/// The terminal's answer on its way.
#[derive(Debug, Default)]
struct Answer {
    /// Until when it is looked for.
    awaited: Option<Instant>,
    /// The last keys, which may be its front.
    held: Vec<u8>,
}

/// What keys have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// These go on as if there were no notice.
    Pass(Vec<u8>),
    /// The user leaves.
    Leave,
}

impl Notice {
    /// Returns the notice of a session with `host` in a terminal of this size.
    #[must_use]
    pub fn new(
        settings: NoticeSettings,
        after: Duration,
        host: String,
        size: TerminalSize,
    ) -> Self {
        Self {
            settings,
            after,
            host,
            screen: Screen::new(size),
            printed: report::printed(),
            state: State::Fine,
            is_full: settings.full,
            is_retired: false,
            answer: Answer::default(),
            output: Vec::new(),
        }
    }

    // ---- ways in -----------------------------------------------------------

    /// Takes bytes of the program that are about to go to the terminal; what
    /// [`Notice::take_output`] has by now goes in front of them.
    pub fn on_program(&mut self, bytes: &[u8]) {
        self.hide();
        self.screen.push(bytes);
    }

    /// Looks at some of what the program has printed, when there is time;
    /// returns whether there is more.
    pub fn work(&mut self) -> bool {
        self.screen.work()
    }

    /// Takes how the link is.
    pub fn on_health(&mut self, now: Instant, outage: Option<&Outage>) {
        match (&self.state, outage) {
            _ if self.is_retired => {}
            (State::Fine, Some(outage)) => {
                let due = (outage.since + self.after).max(now);
                self.state = State::Waiting { due };
            }
            (_, Some(_)) => {}
            (_, None) => {
                self.hide();
                self.state = State::Fine;
            }
        }
    }

    /// Lets time pass.
    pub fn on_time(&mut self, now: Instant, outage: Option<&Outage>) {
        if self.answer.awaited.is_some_and(|until| now >= until) {
            self.answer.awaited = None;
        }
        match &self.state {
            State::Waiting { due } if now >= *due => self.ask(now),
            State::Asked { until } if now >= *until => self.state = State::Hidden,
            State::Shown { place, next, .. } if now >= *next => {
                let place = *place;
                self.show(now, place, outage);
            }
            _ => {}
        }
    }

    /// Takes keys.
    pub fn on_keys(&mut self, now: Instant, keys: &[u8], outage: Option<&Outage>) -> Keys {
        let (mut keys, place) = self.answer.take_out_of(keys);
        if let Some(place) = place
            && matches!(self.state, State::Asked { .. })
        {
            self.show(now, place, outage);
        }
        let State::Shown { place, .. } = self.state else { return Keys::Pass(keys) };
        if self.settings.exit_key.is_some_and(|exit| keys.contains(&exit)) {
            self.hide();
            return Keys::Leave;
        }
        if keys.contains(&SIZE_KEY) {
            keys.retain(|key| *key != SIZE_KEY);
            self.is_full = !self.is_full;
            self.show(now, place, outage);
        }
        Keys::Pass(keys)
    }

    /// Takes a new size of the terminal. What was covered may be anywhere now.
    pub fn on_size(&mut self, size: TerminalSize) {
        if matches!(self.state, State::Shown { .. } | State::Asked { .. }) {
            self.state = State::Hidden;
        }
        self.screen.resize(size);
    }

    /// Makes room for something else that is about to be printed.
    pub fn on_print(&mut self) {
        self.hide();
        self.screen.disturb();
    }

    /// Ends the notice for good: the terminal is somebody else's from now on.
    pub fn retire(&mut self) {
        self.is_retired = true;
        self.state = State::Fine;
    }

    // ---- ways out ----------------------------------------------------------

    /// Returns what is to be written to the terminal now.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Returns when [`Notice::on_time`] is to be called at the latest.
    #[must_use]
    pub fn timer(&self) -> Option<Instant> {
        match &self.state {
            State::Fine | State::Hidden => None,
            State::Waiting { due } => Some(*due),
            State::Asked { until } => Some(*until),
            State::Shown { next, .. } => Some(*next),
        }
    }

    // ---- transitions -------------------------------------------------------

    fn ask(&mut self, now: Instant) {
        while self.screen.work() {}
        let printed = report::printed();
        if std::mem::replace(&mut self.printed, printed) != printed {
            self.screen.disturb();
        }
        if !self.screen.is_at_rest() {
            self.state = State::Hidden;
            return;
        }
        self.output.extend_from_slice(QUESTION);
        self.answer.awaited = Some(now + LATE_ANSWER_TIME);
        self.state = State::Asked { until: now + ANSWER_TIME };
    }

    fn show(&mut self, now: Instant, place: Place, outage: Option<&Outage>) {
        self.hide();
        let Some(outage) = outage else { return };
        let age = now.saturating_duration_since(outage.last_contact);
        let position = if self.settings.on_top { Position::Top } else { Position::Inline };
        let lines = self.lines(outage, age);
        if let Some((cover, bytes)) = self.screen.cover(place, position, &lines) {
            self.output.extend_from_slice(&bytes);
            self.state = State::Shown { place, cover, next: now + until_next(age) };
        }
    }

    fn hide(&mut self) {
        if let State::Shown { cover, .. } = &self.state {
            let bytes = self.screen.uncover(cover);
            self.output.extend_from_slice(&bytes);
            self.state = State::Hidden;
        }
    }

    fn lines(&self, outage: &Outage, age: Duration) -> Vec<String> {
        let (host, age) = (ascii(&self.host), in_words(age));
        let reason = match &outage.error {
            _ if outage.is_refused => "its port is closed: tsshd may have ended".to_owned(),
            Some(error) => ascii(error),
            None => "nothing comes back".to_owned(),
        };
        let leave = match self.settings.exit_key {
            Some(key) => format!("^{} leaves, ", char::from(key | 0x40)),
            None => String::new(),
        };
        if !self.is_full {
            return vec![format!("tssh: last contact {age} ago ({reason}); {leave}^A: more")];
        }
        vec![
            format!("tssh: last contact with {host} {age} ago; trying to come back"),
            format!("reason: {reason}"),
            format!("{leave}^A shows less; other keys are dropped"),
        ]
    }
}

impl Answer {
    /// Takes the answer out of the keys, if it is looked for and there.
    fn take_out_of(&mut self, keys: &[u8]) -> (Vec<u8>, Option<Place>) {
        if self.awaited.is_none() {
            // What was held back as its front was none.
            return ([&std::mem::take(&mut self.held), keys].concat(), None);
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(keys);
        for at in (0..all.len()).filter(|at| all.get(*at) == Some(&0x1b)) {
            match parse_answer(all.get(at..).unwrap_or_default()) {
                Parsed::Answer(place, len) => {
                    all.drain(at..at + len);
                    self.awaited = None;
                    return (all, Some(place));
                }
                Parsed::NeedMore => {
                    self.held = all.split_off(at);
                    return (all, None);
                }
                Parsed::Other => {}
            }
        }
        (all, None)
    }
}

enum Parsed {
    Answer(Place, usize),
    NeedMore,
    Other,
}

/// Reads `CSI row ; column R`.
fn parse_answer(bytes: &[u8]) -> Parsed {
    let rest = match bytes {
        [0x1b] => return Parsed::NeedMore,
        [0x1b, b'[', rest @ ..] => rest,
        _ => return Parsed::Other,
    };
    let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b';';
    let Some(end) = rest.iter().position(|byte| !is_number(byte)) else {
        return if bytes.len() < MAX_ANSWER { Parsed::NeedMore } else { Parsed::Other };
    };
    let numbers = rest.get(..end).and_then(|text| std::str::from_utf8(text).ok());
    let numbers = numbers.and_then(|text| text.split_once(';'));
    let number = |text: &str| text.parse::<u16>().ok()?.checked_sub(1);
    match (rest.get(end), numbers.map(|(row, column)| (number(row), number(column)))) {
        (Some(b'R'), Some((Some(row), Some(column)))) => {
            Parsed::Answer(Place { row, column }, end + 3)
        }
        _ => Parsed::Other,
    }
}

/// A time as a person would say it; as fine as is of use.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let mut words = String::new();
    let _ = match seconds {
        0..60 => write!(words, "{seconds} s"),
        60..3600 => write!(words, "{} min", seconds / 60),
        _ => write!(words, "{} h {} min", seconds / 3600, seconds / 60 % 60),
    };
    words
}

/// When [`in_words`] says something else.
fn until_next(age: Duration) -> Duration {
    let step = if age < Duration::from_secs(60) { 1000 } else { 60_000 };
    let into = u64::try_from(age.as_millis()).unwrap_or(u64::MAX) % step;
    Duration::from_millis(step - into)
}

/// What can be put into cells by any terminal.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24, width_px: 0, height_px: 0 };
    const SETTINGS: NoticeSettings =
        NoticeSettings { on_top: true, full: true, exit_key: Some(0x04) };

    struct Case {
        notice: Notice,
        start: Instant,
        outage: Outage,
    }

    impl Case {
        fn lost() -> Self {
            Self::with(SETTINGS)
        }

        fn with(settings: NoticeSettings) -> Self {
            let start = Instant::now();
            let after = Duration::from_secs(15);
            let mut notice = Notice::new(settings, after, "box".into(), SIZE);
            notice.on_program(b"\x1b[H\x1b[2Jprogram");
            assert_eq!(notice.take_output(), b"");
            let outage = Outage {
                last_contact: start,
                since: start,
                is_refused: false,
                error: Some("network is unreachable".into()),
            };
            notice.on_health(start + Duration::from_secs(3), Some(&outage));
            Self { notice, start, outage }
        }

        fn at(&mut self, seconds: u64) -> String {
            self.notice.on_time(self.start + Duration::from_secs(seconds), Some(&self.outage));
            self.output()
        }

        fn keys(&mut self, seconds: u64, keys: &[u8]) -> Keys {
            let now = self.start + Duration::from_secs(seconds);
            self.notice.on_keys(now, keys, Some(&self.outage))
        }

        fn output(&mut self) -> String {
            String::from_utf8(self.notice.take_output()).unwrap()
        }

        fn shown() -> Self {
            let mut case = Self::lost();
            case.at(15);
            assert_eq!(case.keys(15, b"\x1b[1;8R"), Keys::Pass(Vec::new()));
            case
        }
    }

    #[test]
    fn a_short_outage_shows_and_asks_nothing() {
        let mut case = Case::lost();
        assert_eq!(case.notice.timer(), Some(case.start + Duration::from_secs(15)));
        assert_eq!(case.at(14), "");
        case.notice.on_health(case.start + Duration::from_secs(14), None);
        assert_eq!(case.at(20), "");
        assert_eq!(case.notice.timer(), None, "nobody waits for anything any more");
    }

    #[test]
    fn a_long_one_is_told_with_age_reason_and_keys() {
        let mut case = Case::lost();
        assert_eq!(case.at(15), "\x1b[6n");
        assert_eq!(case.keys(16, b"\x1b[1;8R"), Keys::Pass(Vec::new()));
        let shown = case.output();
        for text in ["last contact with box 16 s ago", "network is unreachable", "^D leaves"] {
            assert!(shown.contains(text), "{shown:?}");
        }
        assert!(case.at(17).contains("17 s ago"));
        assert!(case.at(7300).contains("2 h 1 min ago"));
        assert_eq!(case.notice.timer(), Some(case.start + Duration::from_secs(7320)));
    }

    #[test]
    fn a_closed_port_is_said_to_be_closed() {
        let mut case = Case::lost();
        case.outage.is_refused = true;
        case.at(15);
        case.keys(15, b"\x1b[1;8R");
        assert!(case.output().contains("its port is closed"));
    }

    #[test]
    fn a_terminal_that_does_not_answer_is_left_alone() {
        let mut case = Case::lost();
        case.at(15);
        assert_eq!(case.at(18), "");
        assert_eq!(case.keys(19, b"\x04"), Keys::Pass(vec![4]), "no notice, no exit key");
        assert_eq!(case.keys(20, b"\x1b[1;8R"), Keys::Pass(Vec::new()), "late, and no key");
        assert_eq!(case.output(), "");
        assert_eq!(case.keys(21, b"\x1b[1;8R"), Keys::Pass(b"\x1b[1;8R".to_vec()), "one answer");
    }

    #[test]
    fn the_answer_is_taken_out_of_the_keys_wherever_it_is_cut() {
        let keys = b"a\x1b[A\x1b[1;8Rb";
        for cut in 0..keys.len() {
            let mut case = Case::lost();
            case.at(15);
            case.output();
            let (front, back) = keys.split_at(cut);
            let mut passed = Vec::new();
            for piece in [front, back] {
                match case.keys(15, piece) {
                    Keys::Pass(keys) => passed.extend(keys),
                    Keys::Leave => panic!("no such key"),
                }
            }
            assert_eq!(passed, b"a\x1b[Ab", "cut at {cut}");
            assert!(case.output().contains("last contact"), "cut at {cut}");
        }
    }

    #[test]
    fn its_keys_count_while_it_is_shown_and_only_then() {
        let mut case = Case::lost();
        assert_eq!(case.keys(4, b"\x04\x01"), Keys::Pass(vec![4, 1]));
        let mut case = Case::shown();
        assert_eq!(case.output().matches("\x1b[0;7m").count(), 3);
        assert_eq!(case.keys(16, b"\x01"), Keys::Pass(Vec::new()));
        let brief = case.output();
        assert!(brief.contains("^A: more") && brief.matches("\x1b[0;7m").count() == 1, "{brief:?}");
        assert_eq!(case.keys(17, b"x\x04"), Keys::Leave);
        assert!(case.output().contains("program"), "what was covered is back");
        let mut case = Case::with(NoticeSettings { exit_key: None, ..SETTINGS });
        case.at(15);
        case.keys(15, b"\x1b[1;8R");
        assert!(!case.output().contains("leaves"));
        assert_eq!(case.keys(17, b"\x04"), Keys::Pass(vec![4]));
    }

    #[test]
    fn it_is_gone_before_the_program_s_next_byte() {
        let mut case = Case::shown();
        case.output();
        case.notice.on_program(b"more");
        assert!(case.output().contains("program"));
        assert_eq!(case.at(30), "", "and does not come back in this outage");
        let mut case = Case::shown();
        case.output();
        case.notice.on_health(case.start, None);
        assert!(case.output().contains("program"));
    }

    #[test]
    fn nothing_is_asked_in_the_middle_of_a_sequence() {
        let mut case = Case::lost();
        case.notice.on_program(b"\x1b]52;c;AAAA");
        assert_eq!(case.at(15), "");
    }

    #[test]
    fn what_others_printed_makes_the_screen_unknown() {
        let mut case = Case::lost();
        case.notice.on_print();
        case.at(15);
        case.output();
        case.keys(15, b"\x1b[1;8R");
        assert_eq!(case.output(), "");
    }

    #[test]
    fn once_the_terminal_is_somebody_else_s_nothing_is_shown() {
        let mut case = Case::lost();
        case.notice.retire();
        case.notice.on_health(case.start + Duration::from_secs(4), Some(&case.outage));
        assert_eq!(case.at(15), "");
        assert_eq!(case.notice.timer(), None);
    }
}
