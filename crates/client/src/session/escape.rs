//! The escape character in the user's input: `~.` and its kin.
//!
//! Recognised right after a line end only, as in ssh(1). Everything that is no
//! escape passes unchanged.

/// What to do with a piece of input, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Leave (`~.`).
    Disconnect,
    /// Suspend the client (`~^Z`).
    Suspend,
    /// List the escapes (`~?`).
    Help,
    /// List the connections that are open (`~#`).
    Connections,
    /// Go to the background, to wait for connections to end (`~&`).
    Background,
    /// Ask for a command (`~C`).
    CommandLine,
    /// Renew the keys (`~R`).
    Rekey,
    /// Say less (`~V`).
    Quieter,
    /// Say more (`~v`).
    Louder,
    /// An escape that a shared connection's session has not; its name.
    NotShared(&'static str),
}

/// Whose session escapes are typed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That of the process with the connection.
    Us,
    /// That of another process, which shares the connection.
    Guest,
}

/// Splits input at escapes.
#[derive(Clone, Debug)]
pub struct Escapes {
    /// The escape character; `None` turns escapes off.
    character: Option<u8>,
    owner: Owner,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    MidLine,
    /// The escape character was typed at the start of a line and is held back.
    Escape,
}

/// An escape: its key, how it is shown, whether guests have it, what it does in words, and what
/// it comes to.
struct Escape {
    key: u8,
    shown: &'static str,
    for_guests: bool,
    meaning: &'static str,
    step: Step,
}

const fn escape(
    key: u8,
    shown: &'static str,
    for_guests: bool,
    meaning: &'static str,
    step: Step,
) -> Escape {
    Escape { key, shown, for_guests, meaning, step }
}

const ESCAPES: &[Escape] = &[
    escape(b'.', ".", true, "terminate session", Step::Disconnect),
    escape(b'C', "C", false, "open a command line", Step::CommandLine),
    escape(b'R', "R", true, "request rekey", Step::Rekey),
    escape(b'V', "V", false, "decrease verbosity (LogLevel)", Step::Quieter),
    escape(b'v', "v", false, "increase verbosity (LogLevel)", Step::Louder),
    escape(SUSPEND, "^Z", false, "suspend tssh", Step::Suspend),
    escape(b'#', "#", true, "list forwarded connections", Step::Connections),
    escape(
        b'&',
        "&",
        false,
        "background tssh (when waiting for connections to terminate)",
        Step::Background,
    ),
    escape(b'?', "?", true, "this message", Step::Help),
];

const SUSPEND: u8 = 0x1a;

impl Escapes {
    /// Returns a splitter for this escape character.
    #[must_use]
    pub const fn new(character: Option<u8>, owner: Owner) -> Self {
        Self { character, owner, state: State::LineStart }
    }

    /// Splits the next piece of input.
    pub fn feed(&mut self, input: &[u8]) -> Vec<Step> {
        let Some(escape) = self.character else { return vec![Step::Send(input.to_vec())] };
        let mut steps = Vec::new();
        let mut send = Vec::new();
        for &byte in input {
            if self.state == State::Escape {
                self.state = State::LineStart;
                if let Some(step) = self.step(byte) {
                    if !send.is_empty() {
                        steps.push(Step::Send(std::mem::take(&mut send)));
                    }
                    steps.push(step);
                    continue;
                }
                // `~~` sends one; anything else sends both.
                send.push(escape);
                if byte == escape {
                    self.state = State::MidLine;
                    continue;
                }
            } else if self.state == State::LineStart && byte == escape {
                self.state = State::Escape;
                continue;
            }
            send.push(byte);
            self.state =
                if matches!(byte, b'\r' | b'\n') { State::LineStart } else { State::MidLine };
        }
        if !send.is_empty() {
            steps.push(Step::Send(send));
        }
        steps
    }

    /// Returns what a key after the escape character comes to, if it is one of the escapes.
    fn step(&self, key: u8) -> Option<Step> {
        let found = ESCAPES.iter().find(|escape| escape.key == key)?;
        Some(match self.has(found) {
            true => found.step.clone(),
            false => Step::NotShared(found.shown),
        })
    }

    fn has(&self, escape: &Escape) -> bool {
        self.owner == Owner::Us || escape.for_guests
    }

    /// Returns what is shown for an escape that was recognised, for a terminal in raw mode.
    #[must_use]
    pub fn echo(&self, escape: &str) -> String {
        format!("{}{escape}\r\n", self.shown())
    }

    fn shown(&self) -> String {
        self.character.map_or_else(|| "none".to_owned(), display)
    }

    /// Returns the list of escapes, for a terminal in raw mode.
    #[must_use]
    pub fn help(&self) -> String {
        let c = self.shown();
        let mut text = format!("{c}?\r\nSupported escape sequences:\r\n");
        for escape in ESCAPES.iter().filter(|escape| self.has(escape)) {
            let meaning = match (&escape.step, self.owner) {
                (Step::Disconnect, Owner::Us) => {
                    "terminate connection (and any multiplexed sessions)"
                }
                _ => escape.meaning,
            };
            text.push_str(&format!(" {c}{:<3} - {meaning}\r\n", escape.shown));
        }
        text.push_str(&format!(" {c}{c}   - send the escape character by typing it twice\r\n"));
        text.push_str("(Note that escapes are only recognized immediately after newline.)\r\n");
        text
    }
}

fn display(byte: u8) -> String {
    match byte {
        0..=31 => format!("^{}", char::from(byte + 64)),
        127 => "^?".to_owned(),
        _ => char::from(byte).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(bytes: &[u8]) -> Step {
        Step::Send(bytes.to_vec())
    }

    #[test]
    fn escapes_count_at_the_start_of_a_line_only() {
        let mut escapes = Escapes::new(Some(b'~'), Owner::Us);
        assert_eq!(escapes.feed(b"a~."), [send(b"a~.")]);
        assert_eq!(escapes.feed(b"\r~."), [send(b"\r"), Step::Disconnect]);
    }

    #[test]
    fn an_escape_may_be_typed_key_by_key() {
        let mut escapes = Escapes::new(Some(b'~'), Owner::Us);
        assert_eq!(escapes.feed(b"~"), []);
        assert_eq!(escapes.feed(b"?"), [Step::Help]);
        assert_eq!(escapes.feed(b"~\x1a"), [Step::Suspend]);
    }

    #[test]
    fn typed_twice_it_is_sent_once_and_unknown_escapes_pass_whole() {
        let mut escapes = Escapes::new(Some(b'~'), Owner::Us);
        assert_eq!(escapes.feed(b"~~."), [send(b"~.")]);
        assert_eq!(escapes.feed(b"\n~x"), [send(b"\n~x")]);
        assert_eq!(escapes.feed(b"\n~\r~."), [send(b"\n~\r"), Step::Disconnect]);
    }

    #[test]
    fn without_an_escape_character_everything_passes() {
        assert_eq!(Escapes::new(None, Owner::Us).feed(b"~."), [send(b"~.")]);
    }

    #[test]
    fn a_guest_has_no_escapes_that_concern_the_whole_connection() {
        let mut escapes = Escapes::new(Some(b'~'), Owner::Guest);
        assert_eq!(escapes.feed(b"~&"), [Step::NotShared("&")]);
        assert_eq!(escapes.feed(b"~\x1a"), [Step::NotShared("^Z")]);
        assert_eq!(escapes.feed(b"~#"), [Step::Connections]);
        assert_eq!(escapes.feed(b"~."), [Step::Disconnect]);
        let help = escapes.help();
        assert!(help.contains(" ~R ") && !help.contains("~C"), "{help}");
    }
}
