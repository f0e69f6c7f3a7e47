//! Prompts: questions and secrets, asked on the controlling terminal.
//!
//! Where there is none, or the user wants it so, an [askpass] program asks.
//!
//! Standard input and output are the remote program's; a person is asked on
//! the controlling terminal, as ssh does. While an answer is read the terminal
//! hands over single keys, so that the interrupt key takes effect at once and
//! without a signal. Signals that end the program are caught only while a
//! question is open: no handler is left behind that the rest of the program
//! would have to live with.
//!
//! Invariant: however a prompt ends, by answer, error, dropped future, signal
//! or [`restore`], the terminal is as it was before. After `kill -9` that is
//! the [guard](crate::guard)'s work.

use std::io::{self, Write as _};

use zeroize::{Zeroize as _, Zeroizing};

use super::askpass;
use crate::config::settings::{Askpass, LogLevel};
use crate::logging::{self, Priority};
use crate::login::{Echo, PromptError, Ui};
use crate::remote::BoxFuture;
use crate::sys::prompt::{Keys, Terminal};

/// The person at the terminal. Remarks go to standard error, as far as LogLevel lets them.
#[derive(Debug)]
pub struct TtyUi {
    log_level: LogLevel,
    askpass: Askpass,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
}

impl TtyUi {
    /// A person who wants to hear no more than `log_level`, and may have a program to ask by.
    #[must_use]
    pub fn new(log_level: LogLevel, askpass: Askpass) -> Self {
        Self { log_level, askpass, asking: tokio::sync::Mutex::default() }
    }

    fn log(&self, level: LogLevel, priority: Priority, text: &str) {
        if self.log_level >= level {
            logging::say(priority, &format!("{text}\n"));
        }
    }
}

impl Ui for TtyUi {
    fn ask<'a>(
        &'a self,
        prompt: &'a str,
        echo: Echo,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, PromptError>> {
        Box::pin(async move {
            let _turn = self.asking.lock().await;
            match &self.askpass {
                Askpass::Never => ask(prompt, echo).await,
                Askpass::Always(program) => askpass::ask(program, prompt, None).await,
                Askpass::WithoutTerminal(program) => match ask(prompt, echo).await {
                    Err(PromptError::NoTerminal) => askpass::ask(program, prompt, None).await,
                    answer => answer,
                },
            }
        })
    }

    fn permit<'a>(&'a self, question: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let _turn = self.asking.lock().await;
            let (Askpass::Always(program) | Askpass::WithoutTerminal(program)) = &self.askpass
            else {
                return false;
            };
            let answer = askpass::ask(program, question, Some("confirm")).await;
            answer.is_ok_and(|answer| answer.is_empty() || answer.eq_ignore_ascii_case("yes"))
        })
    }

    fn tell(&self, text: &str) {
        self.log(LogLevel::Info, Priority::Info, text);
    }

    fn warn(&self, text: &str) {
        self.log(LogLevel::Error, Priority::Error, text);
    }

    fn banner(&self, text: &str) {
        // For the person, wherever the log goes.
        if self.log_level >= LogLevel::Info {
            say(text.strip_suffix('\n').unwrap_or(text));
        }
    }
}

fn say(text: &str) {
    // A closed standard error is no reason to fail. The carriage return is for
    // a terminal that may be raw already.
    let line = format!("{}\r\n", text.replace('\n', "\r\n"));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Puts the terminal back if a prompt has changed it.
///
/// For panic hooks, where a prompt's own clean-up does not run. Does nothing otherwise.
pub fn restore() {
    crate::sys::prompt::restore();
}

async fn ask(prompt: &str, echo: Echo) -> Result<Zeroizing<String>, PromptError> {
    let mut tty = Terminal::open()?.ok_or(PromptError::NoTerminal)?;
    loop {
        crate::guard::wait_ready();
        let (guard, keys) = tty.enter()?;
        tty.write_all(prompt.as_bytes()).await?;
        let key = Line::default().read(&mut tty, &keys, echo).await?;
        // The line end that was not echoed.
        tty.write_all(b"\n").await?;
        drop(guard);
        match key {
            Outcome::Line(line) => return Ok(line),
            Outcome::Interrupted => return Err(PromptError::Interrupted),
            Outcome::End => return Err(PromptError::EndOfInput),
            Outcome::Suspend => crate::sys::tty::suspend()?,
        }
    }
}

/// A line being typed. Wiped when dropped.
#[derive(Default)]
struct Line {
    typed: Zeroizing<Vec<u8>>,
}

/// What a key, or the last one of a line, came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Line(Zeroizing<String>),
    Interrupted,
    Suspend,
    End,
}

/// The longest answer, in bytes; longer ones are cut, as OpenSSH does at 1024.
const MAX_LINE: usize = 8 * 1024;

impl Line {
    async fn read(
        mut self,
        tty: &mut Terminal,
        keys: &Keys,
        echo: Echo,
    ) -> Result<Outcome, PromptError> {
        // Growing would leave copies of a secret behind.
        self.typed.reserve_exact(MAX_LINE);
        let mut buffer = Zeroizing::new([0; 256]);
        loop {
            let read = tty.read(&mut buffer[..]).await?;
            if read == 0 {
                return Ok(Outcome::End); // hung up
            }
            for &byte in buffer.get(..read).unwrap_or_default() {
                let (shown, outcome) = self.key(byte, keys);
                if echo == Echo::On {
                    tty.write_all(&shown).await?;
                }
                if let Some(outcome) = outcome {
                    return Ok(outcome);
                }
            }
            buffer.zeroize();
        }
    }

    /// Takes one key. Returns what to show for it where keys show.
    fn key(&mut self, byte: u8, keys: &Keys) -> (Vec<u8>, Option<Outcome>) {
        const RUB_OUT: &[u8] = b"\x08 \x08";

        // A key that is switched off is zero.
        let is = |key: u8| key != 0 && byte == key;
        if byte == b'\n' || byte == b'\r' {
            let text = String::from_utf8_lossy(&self.typed).into_owned();
            return (Vec::new(), Some(Outcome::Line(Zeroizing::new(text))));
        }
        if keys.interrupt.iter().any(|&key| is(key)) {
            return (Vec::new(), Some(Outcome::Interrupted));
        }
        if is(keys.suspend) {
            return (Vec::new(), Some(Outcome::Suspend));
        }
        if is(keys.end) && self.typed.is_empty() {
            return (Vec::new(), Some(Outcome::End));
        }
        if is(keys.erase) || byte == 0x7f || byte == 0x08 {
            let erased = self.erase();
            return (if erased { RUB_OUT.to_vec() } else { Vec::new() }, None);
        }
        if is(keys.kill) {
            let mut shown = Vec::new();
            while self.erase() {
                shown.extend(RUB_OUT);
            }
            return (shown, None);
        }
        if self.typed.len() >= MAX_LINE {
            return (Vec::new(), None);
        }
        self.typed.push(byte);
        let shown = if byte.is_ascii_control() { Vec::new() } else { vec![byte] };
        (shown, None)
    }

    /// Takes back the last character, all bytes of it.
    fn erase(&mut self) -> bool {
        const CONTINUES: std::ops::Range<u8> = 0x80..0xc0; // RFC 3629 §3

        let mut erased = false;
        while let Some(byte) = self.typed.pop() {
            erased = true;
            if !CONTINUES.contains(&byte) {
                break;
            }
        }
        erased
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys { interrupt: [3, 28], suspend: 26, erase: 127, kill: 21, end: 4 };

    fn type_in(keys: &[u8]) -> (String, Option<Outcome>) {
        let mut line = Line::default();
        let mut shown = Vec::new();
        for &key in keys {
            let (show, outcome) = line.key(key, &KEYS);
            shown.extend(show);
            if outcome.is_some() {
                return (String::from_utf8_lossy(&shown).into_owned(), outcome);
            }
        }
        (String::from_utf8_lossy(&shown).into_owned(), None)
    }

    fn answer(keys: &[u8]) -> String {
        match type_in(keys) {
            (_, Some(Outcome::Line(line))) => line.to_string(),
            other => panic!("no line: {other:?}"),
        }
    }

    #[test]
    fn erasing_takes_back_whole_characters() {
        assert_eq!(answer("aé\x7f\x7fb\n".as_bytes()), "b");
        assert_eq!(answer(b"wrong\x15right\r"), "right");
    }

    #[test]
    fn the_interrupt_key_ends_a_prompt_in_the_middle_of_a_line() {
        assert_eq!(type_in(b"secr\x03").1, Some(Outcome::Interrupted));
        assert_eq!(type_in(b"\x1c").1, Some(Outcome::Interrupted));
    }

    #[test]
    fn end_of_file_counts_only_on_an_empty_line() {
        assert_eq!(type_in(b"\x04").1, Some(Outcome::End));
        assert_eq!(answer(b"a\x04\n"), "a\x04");
    }

    #[test]
    fn a_shown_line_is_rubbed_out_character_by_character() {
        assert_eq!(type_in(b"ab\x7f").0, "ab\x08 \x08");
    }
}
