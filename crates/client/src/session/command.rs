//! The command line of `~C`: what is typed, what it means, and carrying it out.
//!
//! The language is OpenSSH's: `-L -R -D` add a forward, `-KL -KR -KD` cancel one, `!command`
//! runs something here where PermitLocalCommand allows it, `?` and `h` list all of that. The line
//! is edited here, with the terminal raw as it is, so that no key of it is a signal to us.

use crate::config::forward::{Forward, Kind, Listen};
use crate::forward::{Forwarder, Side};
use crate::report::Reporter;

/// What is shown in front of the line.
pub(super) const PROMPT: &str = "\r\nssh> ";

/// Longest line, in bytes; more of it is not taken.
const MAX_LINE: usize = 1024;

/// A line being typed.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: Vec<u8>,
}

/// How a line ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// With this text.
    Line(String),
    /// By `^C`, or `^D` on an empty line.
    Cancelled,
}

impl Line {
    /// Takes keys; returns what to show for them, and the line once it is complete.
    pub(super) fn feed(&mut self, keys: &[u8]) -> (Vec<u8>, Option<Typed>) {
        let mut shown = Vec::new();
        for &key in keys {
            match key {
                b'\r' | b'\n' => {
                    shown.extend_from_slice(b"\r\n");
                    let text = String::from_utf8_lossy(&self.text).into_owned();
                    return (shown, Some(Typed::Line(text)));
                }
                INTERRUPT => return (b"\r\n".to_vec(), Some(Typed::Cancelled)),
                END if self.text.is_empty() => return (b"\r\n".to_vec(), Some(Typed::Cancelled)),
                BACKSPACE | DELETE => self.rub_out(1, &mut shown),
                KILL => self.rub_out(usize::MAX, &mut shown),
                0x20.. if self.text.len() < MAX_LINE => {
                    self.text.push(key);
                    shown.push(key);
                }
                _ => {}
            }
        }
        (shown, None)
    }

    /// Takes characters off the end, each of them in one cell.
    fn rub_out(&mut self, count: usize, shown: &mut Vec<u8>) {
        for _ in 0..count {
            // The bytes of a character after its first are continuations.
            while self.text.last().is_some_and(|byte| byte & 0xc0 == 0x80) {
                self.text.pop();
            }
            if self.text.pop().is_none() {
                return;
            }
            shown.extend_from_slice(b"\x08 \x08");
        }
    }
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Help,
    /// A command for the shell here.
    Local(String),
    Add(Side, Forward),
    Cancel(Side, Listen),
    /// A mistake; the text says which.
    Bad(&'static str),
}

impl Command {
    /// Reads a line.
    pub(super) fn parse(line: &str, local_commands: bool) -> Self {
        let line = line.trim();
        let line = line.strip_prefix('-').unwrap_or(line);
        if let Some(command) = line.strip_prefix('!').filter(|_| local_commands) {
            return Self::Local(command.to_owned());
        }
        let (cancel, rest) = match line.strip_prefix('K') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let mut letters = rest.chars();
        let first = letters.next();
        let spec = letters.as_str().trim_start();
        let (side, kind) = match first {
            None if !cancel => return Self::Nothing,
            Some('h' | 'H' | '?') if !cancel => return Self::Help,
            Some('L') => (Side::Local, Kind::Local),
            Some('D') => (Side::Local, Kind::Dynamic),
            Some('R') => (Side::Remote, Kind::Remote),
            _ => return Self::Bad("Invalid command."),
        };
        if cancel {
            // Only where it listens is named.
            return match Forward::parse(spec, Kind::Dynamic) {
                Some(forward) => Self::Cancel(side, forward.listen),
                None => Self::Bad("Bad forwarding close specification."),
            };
        }
        match (Forward::parse(spec, kind), side) {
            (Some(forward), _) => Self::Add(side, forward),
            (None, Side::Remote) => Self::Bad("Bad remote forwarding specification."),
            (None, Side::Local) => Self::Bad("Bad local forwarding specification."),
        }
    }
}

/// The lines of [`Command::Help`].
const HELP: &[&str] = &[
    "Commands:",
    "      -L[bind_address:]port:host:hostport    Request local forward",
    "      -R[bind_address:]port:host:hostport    Request remote forward",
    "      -D[bind_address:]port                  Request dynamic forward",
    "      -KL[bind_address:]port                 Cancel local forward",
    "      -KR[bind_address:]port                 Cancel remote forward",
    "      -KD[bind_address:]port                 Cancel dynamic forward",
];
const HELP_LOCAL: &str = "      !args                                  Execute local command";

/// Lists the commands.
pub(super) fn help(reporter: Reporter, local_commands: bool) {
    for line in HELP.iter().copied().chain(local_commands.then_some(HELP_LOCAL)) {
        reporter.remark(&line);
    }
}

/// Adds a forward. The answer of the far host, which may take an outage to come, is told when it
/// comes.
pub(super) async fn add(forwarder: &Forwarder, side: Side, forward: Forward, reporter: Reporter) {
    match side {
        Side::Local => match forwarder.add_local(forward).await {
            Ok(()) => reporter.remark(&"Forwarding port."),
            Err(_) => reporter.remark(&"Port forwarding failed."),
        },
        Side::Remote => {
            let forwarder = forwarder.clone();
            tokio::spawn(async move {
                let connect = forward.connect.clone();
                match forwarder.add_remote(forward).await {
                    Ok(None) => reporter.remark(&"Forwarding port."),
                    Ok(Some(port)) => reporter.remark(&format_args!(
                        "Allocated port {port} for remote forward to {connect}"
                    )),
                    Err(error) => {
                        reporter.remark(&format_args!("Port forwarding failed: {error}"));
                    }
                }
            });
        }
    }
}

/// Cancels a forward.
pub(super) fn cancel(forwarder: &Forwarder, side: Side, listen: &Listen, reporter: Reporter) {
    match forwarder.cancel(side, listen) {
        true => reporter.remark(&"Canceled forwarding."),
        false => reporter.remark(&"Unknown port forwarding."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> String {
        match Command::parse(line, true) {
            Command::Add(side, Forward { listen, connect }) => {
                format!("add {side:?} {listen} {connect}")
            }
            Command::Cancel(side, listen) => format!("cancel {side:?} {listen}"),
            Command::Bad(why) => why.to_owned(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_line_means_what_it_means_to_openssh() {
        for (line, want) in [
            ("-L 80:db:5432", "add Local 80 [db]:5432"),
            ("L80:db:5432", "add Local 80 [db]:5432"),
            ("-R*:0:h:1", "add Remote [*]:0 [h]:1"),
            ("-R 9000", "add Remote 9000 [socks]:0"),
            ("-D 127.0.0.1:1080", "add Local [127.0.0.1]:1080 [socks]:0"),
            ("-KL80", "cancel Local 80"),
            ("-KR [::1]:80", "cancel Remote [::1]:80"),
            ("-KD /tmp/s", "cancel Local /tmp/s"),
            ("!ls -l", "Local(\"ls -l\")"),
            ("", "Nothing"),
            (" ? ", "Help"),
            ("help", "Help"),
            ("-X", "Invalid command."),
            ("K", "Invalid command."),
            ("-L 80", "Bad local forwarding specification."),
            ("-R x", "Bad remote forwarding specification."),
            ("-KL80:h:1", "Bad forwarding close specification."),
        ] {
            assert_eq!(parse(line), want, "{line:?}");
        }
        assert_eq!(Command::parse("!ls", false), Command::Bad("Invalid command."));
    }

    #[test]
    fn keys_edit_the_line_and_show_what_it_is() {
        let mut line = Line::default();
        assert_eq!(line.feed("-Lx\u{e4}".as_bytes()), ("-Lx\u{e4}".as_bytes().to_vec(), None));
        assert_eq!(line.feed(b"\x7f\x1b\x08"), (b"\x08 \x08\x08 \x08".to_vec(), None));
        let done = Some(Typed::Line("-L80:a:1".into()));
        assert_eq!(line.feed(b"80:a:1\rrest"), (b"80:a:1\r\n".to_vec(), done));
        let mut line = Line::default();
        assert_eq!(line.feed(b"ab\x15\x7f"), (b"ab\x08 \x08\x08 \x08".to_vec(), None));
        assert_eq!(line.feed(b"\x04"), (b"\r\n".to_vec(), Some(Typed::Cancelled)));
        assert_eq!(Line::default().feed(b"x\x04\x03").1, Some(Typed::Cancelled));
        let long = [b'x'; MAX_LINE + 9];
        assert_eq!(Line::default().feed(&long).0.len(), MAX_LINE);
    }
}
