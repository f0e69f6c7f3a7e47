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
}

/// Splits input at escapes.
#[derive(Clone, Debug)]
pub struct Escapes {
    /// The escape character; `None` turns escapes off.
    character: Option<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    MidLine,
    /// The escape character was typed at the start of a line and is held back.
    Escape,
}

const SUSPEND: u8 = 0x1a;

impl Escapes {
    /// Returns a splitter for this escape character.
    #[must_use]
    pub const fn new(character: Option<u8>) -> Self {
        Self { character, state: State::LineStart }
    }

    /// Splits the next piece of input.
    pub fn feed(&mut self, input: &[u8]) -> Vec<Step> {
        let Some(escape) = self.character else { return vec![Step::Send(input.to_vec())] };
        let mut steps = Vec::new();
        let mut send = Vec::new();
        for &byte in input {
            if self.state == State::Escape {
                self.state = State::LineStart;
                let step = match byte {
                    b'.' => Some(Step::Disconnect),
                    SUSPEND => Some(Step::Suspend),
                    b'?' => Some(Step::Help),
                    _ => None,
                };
                if let Some(step) = step {
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
        [
            format!("{c}?\r\nSupported escape sequences:"),
            format!(" {c}.   - terminate connection"),
            format!(" {c}^Z  - suspend tssh"),
            format!(" {c}?   - this message"),
            format!(" {c}{c}   - send the escape character by typing it twice"),
            "(Note that escapes are only recognized immediately after newline.)\r\n".to_owned(),
        ]
        .join("\r\n")
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
        let mut escapes = Escapes::new(Some(b'~'));
        assert_eq!(escapes.feed(b"a~."), [send(b"a~.")]);
        assert_eq!(escapes.feed(b"\r~."), [send(b"\r"), Step::Disconnect]);
    }

    #[test]
    fn an_escape_may_be_typed_key_by_key() {
        let mut escapes = Escapes::new(Some(b'~'));
        assert_eq!(escapes.feed(b"~"), []);
        assert_eq!(escapes.feed(b"?"), [Step::Help]);
        assert_eq!(escapes.feed(b"~\x1a"), [Step::Suspend]);
    }

    #[test]
    fn typed_twice_it_is_sent_once_and_unknown_escapes_pass_whole() {
        let mut escapes = Escapes::new(Some(b'~'));
        assert_eq!(escapes.feed(b"~~."), [send(b"~.")]);
        assert_eq!(escapes.feed(b"\n~x"), [send(b"\n~x")]);
        assert_eq!(escapes.feed(b"\n~\r~."), [send(b"\n~\r"), Step::Disconnect]);
    }

    #[test]
    fn without_an_escape_character_everything_passes() {
        assert_eq!(Escapes::new(None).feed(b"~."), [send(b"~.")]);
    }
}
