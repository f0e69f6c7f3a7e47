//! [`PtyClient`]: a client in a real terminal, driven as a person would.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pty_process::blocking::Pty;
use rustix::process::Signal;
use rustix::termios::{Termios, tcgetattr, tcsetattr};

use crate::run::wait_for_exit;
use crate::transcript::{self, Missing, Transcript};
use crate::{DEADLINE, process};

/// The settings of a terminal, as `stty -a` would show them.
///
/// Compared as text: it names what differs, and the library's own type has no
/// notion of equality.
pub type Modes = String;

type Adjust = Box<dyn FnOnce(&mut Termios)>;

/// A client about to be started in a terminal.
pub struct PtyBuilder {
    command: Command,
    rows: u16,
    cols: u16,
    adjust: Option<Adjust>,
    stdin: Option<Stdio>,
}

impl PtyBuilder {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, rows: 24, cols: 80, adjust: None, stdin: None }
    }

    /// Adds words after the host: the remote command.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command.args(words);
        self
    }

    /// Sets a variable of the client's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the size of the terminal; without it, 24 rows of 80 columns.
    #[must_use]
    pub fn size(mut self, rows: u16, cols: u16) -> Self {
        (self.rows, self.cols) = (rows, cols);
        self
    }

    /// Changes the modes of the terminal before the client sees it.
    #[must_use]
    pub fn modes(mut self, adjust: impl FnOnce(&mut Termios) + 'static) -> Self {
        self.adjust = Some(Box::new(adjust));
        self
    }

    /// Gives the client another standard input than the terminal it sits in.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When there is no pty or the program cannot be started.
    #[must_use]
    pub fn start(self) -> PtyClient {
        let (pty, pts) = pty_process::blocking::open().expect("a pty can be opened");
        pty.resize(pty_process::Size::new(self.rows, self.cols)).expect("a pty has a size");
        if let Some(adjust) = self.adjust {
            let mut termios = tcgetattr(&pty).expect("a pty has modes");
            adjust(&mut termios);
            tcsetattr(&pty, rustix::termios::OptionalActions::Now, &termios)
                .expect("the modes of a pty can be set");
        }
        let before = modes_of(&pty);
        let output = pty.as_fd().try_clone_to_owned().expect("a descriptor can be copied");
        let what = format!("{:?}", self.command);
        // The fixture's command already carries directory and environment.
        let mut command = pty_process::blocking::Command::from(self.command);
        if let Some(stdin) = self.stdin {
            command = command.stdin(stdin);
        }
        let child = command.spawn(pts).expect("the client starts in the pty");
        let screen = Transcript::record(File::from(output));
        PtyClient { what, pty, child, screen, cursor: 0, before }
    }
}

/// A client that runs in a terminal.
pub struct PtyClient {
    what: String,
    pty: Pty,
    child: Child,
    screen: Transcript,
    /// How much of the screen's bytes earlier waits have consumed.
    cursor: usize,
    before: Modes,
}

impl PtyClient {
    /// Types `keys`.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn send(&mut self, keys: impl AsRef<[u8]>) {
        self.pty.write_all(keys.as_ref()).expect("the terminal takes keys");
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) {
        self.send(format!("{line}\r"));
    }

    /// Waits until `text` appears after what was waited for last; returns what came before it.
    ///
    /// # Panics
    /// When it does not appear.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let found = self.screen.wait_for_bytes(text.as_bytes(), self.cursor);
        let end = found.unwrap_or_else(|why| self.fail(&format!("no {text:?} ({why:?})")));
        let bytes = self.screen.bytes();
        let before = String::from_utf8_lossy(&bytes[self.cursor..end - text.len()]).into_owned();
        self.cursor = end;
        before
    }

    /// Waits for a shell's prompt: a line that ends in `$`, `#`, `%` or `>` and a blank.
    ///
    /// # Panics
    /// When none appears.
    #[track_caller]
    pub fn expect_prompt(&mut self) {
        let is_prompt = |bytes: &[u8]| {
            let text = visible(bytes);
            let line = text.rsplit(['\n', '\r']).next().unwrap_or_default();
            ["$ ", "# ", "% ", "> "].iter().any(|end| line.ends_with(end)).then_some(bytes.len())
        };
        let found = self.screen.wait_for_match(self.cursor, is_prompt);
        let len = found.unwrap_or_else(|why| self.fail(&format!("no prompt ({why:?})")));
        self.cursor += len;
    }

    /// Waits until the shell at the other end executes what is typed.
    ///
    /// Types a command whose output differs from its echo, so that neither the
    /// local nor the remote terminal can be mistaken for the shell.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn sync(&mut self) {
        self.line("echo in-s''ync");
        self.expect("in-sync\r\n");
    }

    /// Types a line until `text` appears, as a person does after an outage.
    ///
    /// What is typed while the path is down never reaches a terminal's program:
    /// keys meant for another moment are dropped (PROTOCOL §7.6). So one line
    /// may have no effect, and this one must be harmless to repeat.
    ///
    /// # Panics
    /// When `text` does not appear however often the line is typed.
    #[track_caller]
    pub fn insist(&mut self, line: &str, text: &str) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.line(line);
            let found = self.screen.wait_for_bytes_until(
                text.as_bytes(),
                self.cursor,
                deadline.min(Instant::now() + PATIENCE),
            );
            match found {
                Ok(end) => return self.cursor = end,
                Err(Missing::TimedOut) if Instant::now() < deadline => {}
                Err(why) => self.fail(&format!("no {text:?} ({why:?})")),
            }
        }
    }

    /// Types a line that ends the client, again and again until it has: like any
    /// other it may be dropped for being typed too near a change of path.
    pub fn insist_on_the_end(&mut self, line: &str) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            self.line(line);
            let again_at = Instant::now() + PATIENCE;
            while Instant::now() < again_at {
                if self.child.try_wait().expect("a child can be asked after").is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Changes the size of the terminal.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, cols: u16) {
        self.pty.resize(pty_process::Size::new(rows, cols)).expect("a pty has a size");
    }

    /// Returns everything the terminal has received so far.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.screen.bytes()
    }

    /// Sends a signal to the client itself.
    pub fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// Returns the client's process id.
    ///
    /// # Panics
    /// Never: the system's process ids fit.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is an i32")
    }

    /// Returns the terminal's modes now.
    #[must_use]
    pub fn modes(&self) -> Modes {
        modes_of(&self.pty)
    }

    /// Returns the terminal's modes before the client was started.
    #[must_use]
    pub fn modes_before(&self) -> &Modes {
        &self.before
    }

    /// Checks that the terminal is as it was before the client started.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn assert_restored(&self) {
        assert_eq!(self.modes(), self.before, "terminal modes after {}", self.what);
    }

    /// Waits until the client ends; returns its status and all the terminal has received.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> (ExitStatus, Vec<u8>) {
        let status = wait_for_exit(&mut self.child);
        let status = status.unwrap_or_else(|| self.fail("it does not end"));
        let whole = self.screen.whole();
        let whole = whole.unwrap_or_else(|_| self.fail("its terminal is still held open"));
        (status, whole)
    }

    /// Waits until the client ends and checks status and terminal.
    ///
    /// # Panics
    /// When the status is another one, or the terminal's modes were not restored.
    #[track_caller]
    pub fn assert_ends(&mut self, code: i32) -> Vec<u8> {
        let (status, whole) = self.wait();
        let said = transcript::tail(&whole);
        assert_eq!(status.code(), Some(code), "exit status of {}; screen: {said}", self.what);
        self.assert_restored();
        whole
    }

    #[track_caller]
    fn fail(&self, why: &str) -> ! {
        panic!("{}: {why}; the screen: {}", self.what, transcript::tail(&self.screen.bytes()))
    }
}

impl Drop for PtyClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modes_of(pty: &Pty) -> Modes {
    format!("{:#?}", tcgetattr(pty).expect("a pty has modes"))
}

/// Drops control sequences (`ESC [ … letter`, `ESC ] … BEL`), which shells put around prompts.
fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next != '\u{1b}' {
            shown.push(next);
            continue;
        }
        match rest.next() {
            Some('[') => drop(rest.find(char::is_ascii_alphabetic)),
            Some(']') => drop(rest.find(|c| *c == '\u{7}')),
            _ => {}
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn control_sequences_around_a_prompt_are_not_seen() {
        assert_eq!(visible(b"\x1b]0;title\x07\x1b[?2004h\x1b[01;32mroot\x1b[0m# "), "root# ");
    }
}
