//! [`Terminal`]: a client in a pty, with the time at which its output came.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use netlab::Host;
use pty_process::blocking::Pty;

/// A client that runs in a terminal.
pub(super) struct Terminal {
    pty: Pty,
    child: Child,
    output: Receiver<(Instant, Vec<u8>)>,
    visible: Visible,
    /// The latest visible output that nobody has asked for.
    text: String,
    pub(super) started: Instant,
}

/// Characters of output kept to look for a text in.
const KEPT: usize = 1 << 16;

impl Terminal {
    /// Starts a command in a pty, in a host.
    pub(super) fn start(host: &Host, command: Command) -> anyhow::Result<Self> {
        let (pty, pts) = pty_process::blocking::open()?;
        pty.resize(pty_process::Size::new(24, 80))?;
        let mut reader = File::from(pty.as_fd().try_clone_to_owned()?);
        let what = format!("{:?}", command.get_program());
        let command = pty_process::blocking::Command::from(command);
        let started = Instant::now();
        let child = host.enter(move || command.spawn(pts))?.context(what)?;
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut chunk = vec![0; 1 << 16];
            // Ends with an error when the last user of the terminal is gone.
            while let Ok(length) = reader.read(&mut chunk) {
                let sent = sender.send((Instant::now(), chunk[..length].to_vec()));
                if length == 0 || sent.is_err() {
                    break;
                }
            }
        });
        let visible = Visible::default();
        Ok(Self { pty, child, output, visible, text: String::new(), started })
    }

    /// Types something.
    pub(super) fn send(&mut self, keys: &str) -> anyhow::Result<()> {
        Ok(self.pty.write_all(keys.as_bytes())?)
    }

    /// Waits until a text is shown after what was waited for last; returns when.
    ///
    /// # Errors
    /// When the client ends or the patience does.
    pub(super) fn wait_for(&mut self, text: &str, patience: Duration) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + patience;
        let mut at = Instant::now();
        loop {
            if let Some(place) = self.text.find(text) {
                self.text.drain(..place + text.len());
                return Ok(at);
            }
            let Some((when, shown)) = self.next(deadline)? else {
                bail!("no {text:?} within {patience:?}; there was {:?}", self.text)
            };
            at = when;
            self.text.push_str(&shown);
            if self.text.len() > KEPT {
                let cut = self.text.len() - KEPT / 2;
                self.text.drain(..cut);
            }
        }
    }

    /// Returns the next visible output and when it came; `None` at the deadline.
    ///
    /// # Errors
    /// When the client has ended.
    pub(super) fn next(&mut self, deadline: Instant) -> anyhow::Result<Option<(Instant, String)>> {
        let Some((at, bytes)) = self.next_bytes(deadline)? else { return Ok(None) };
        Ok(Some((at, self.visible.filter(&bytes))))
    }

    /// Returns the next output as it came.
    ///
    /// # Errors
    /// When the client has ended.
    pub(super) fn next_bytes(
        &mut self,
        deadline: Instant,
    ) -> anyhow::Result<Option<(Instant, Vec<u8>)>> {
        let wait = deadline.saturating_duration_since(Instant::now());
        match self.output.recv_timeout(wait) {
            Ok(output) => Ok(Some(output)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the client has ended; it said {:?}", self.text)
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes control sequences out of a terminal's output, so that what is left is text.
#[derive(Debug, Default)]
struct Visible {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// After `ESC (` and the like: one more.
    Charset,
    /// After `ESC [`: parameters until a final byte.
    Control,
    /// After `ESC ]`: a string until BEL or `ESC \`.
    String,
}

impl Visible {
    /// Returns the printable ASCII of some output.
    fn filter(&mut self, bytes: &[u8]) -> String {
        let mut text = String::new();
        for byte in bytes {
            self.state = match (self.state, byte) {
                (_, 0x1b) => State::Escape,
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']') => State::String,
                (State::Escape, b'(' | b')') => State::Charset,
                (State::Escape | State::Charset, _) => State::Text,
                (State::Control, 0x40..=0x7e) | (State::String, 0x07) => State::Text,
                (State::Text, 0x20..=0x7e) => {
                    text.push(char::from(*byte));
                    State::Text
                }
                (state, _) => state,
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shown_remains_however_it_is_cut() {
        let output = b"\x1b[1;32mab\x1b[0m\x1b]0;title\x07c\x1b(B\r\nd\x1b[?25le";
        for cut in 0..output.len() {
            let mut visible = Visible::default();
            let (first, second) = output.split_at(cut);
            assert_eq!(visible.filter(first) + &visible.filter(second), "abcde");
        }
    }
}
