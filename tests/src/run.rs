//! [`Run`]: a client without a terminal, its input and what it says.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use crate::transcript::{self, Transcript};
use crate::{DEADLINE, Pattern, World, process};

/// What a client reads.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// A pipe that delivers these bytes and ends.
    Bytes(Vec<u8>),
    /// A pipe that delivers a pattern and ends.
    Pattern(Pattern),
    /// A file, as with `<`.
    File(PathBuf),
    /// A pipe that stays open and silent until [`Running`] closes it.
    Open,
}

/// A client about to be started.
#[derive(Debug)]
pub struct Run<'w> {
    world: &'w World,
    command: Command,
    stdin: Stdin,
    stdout: Option<PathBuf>,
}

impl<'w> Run<'w> {
    pub(crate) fn new(world: &'w World, command: Command) -> Self {
        Self { world, command, stdin: Stdin::Null, stdout: None }
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

    /// Sets what the client reads; without it, nothing.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Sends standard output to a file instead of keeping it.
    #[must_use]
    pub fn stdout(mut self, path: PathBuf) -> Self {
        self.stdout = Some(path);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn output(self) -> Outcome {
        self.start().wait()
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn start(self) -> Running {
        // Without a controlling terminal: no test may ask whoever runs the suite.
        let mut detached = self.world.command("setsid");
        detached.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                detached.env(name, value);
            }
        }
        detached.stdin(match &self.stdin {
            Stdin::Null => Stdio::null(),
            Stdin::File(path) => File::open(path).expect("the input file is there").into(),
            Stdin::Bytes(_) | Stdin::Pattern(_) | Stdin::Open => Stdio::piped(),
        });
        detached.stdout(match &self.stdout {
            Some(path) => File::create(path).expect("the output file can be made").into(),
            None => Stdio::piped(),
        });
        let mut child = detached.stderr(Stdio::piped()).spawn().expect("the client starts");
        let stdout = child.stdout.take().map(Transcript::record);
        let stderr = Transcript::record(child.stderr.take().expect("stderr is a pipe"));
        let stdin = child.stdin.take().and_then(|pipe| feed(self.stdin, pipe));
        let stdout = stdout.unwrap_or_default();
        let captured = self.stdout.is_none();
        Running { what: format!("{:?}", self.command), child, stdin, stdout, captured, stderr }
    }
}

/// Feeds the pipe from a thread of its own; hands it back when it is to stay open.
fn feed(stdin: Stdin, mut pipe: ChildStdin) -> Option<ChildStdin> {
    let mut source: Box<dyn Read + Send> = match stdin {
        Stdin::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes)),
        Stdin::Pattern(pattern) => Box::new(pattern),
        Stdin::Null | Stdin::File(_) | Stdin::Open => return Some(pipe),
    };
    std::thread::spawn(move || {
        // A client that stops reading is judged by the test, not here.
        let _ = std::io::copy(&mut source, &mut pipe);
    });
    None
}

/// A client that has been started.
pub struct Running {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Transcript,
    captured: bool,
    stderr: Transcript,
}

impl Running {
    /// Writes to its input, which must be [`Stdin::Open`].
    ///
    /// # Panics
    /// When the client does not read any more.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("the input was kept open");
        stdin.write_all(bytes).expect("the client reads");
    }

    /// Ends its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    /// When it ends without, or does not in time.
    pub fn wait_for_stdout(&self, text: &str) {
        if let Err(why) = self.stdout.wait_for_bytes(text.as_bytes(), 0) {
            let so_far = transcript::tail(&self.stdout.bytes());
            let said = transcript::tail(&self.stderr.bytes());
            panic!("{}: no {text:?} ({why:?}) in {so_far}\nstderr: {said}", self.what);
        }
    }

    /// Returns what it has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes()).into_owned()
    }

    /// Returns what it has complained of so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes()).into_owned()
    }

    /// Waits until it has complained of something that contains `text`.
    ///
    /// # Panics
    /// When it ends without, or does not in time.
    pub fn wait_for_stderr(&self, text: &str) {
        if let Err(why) = self.stderr.wait_for_bytes(text.as_bytes(), 0) {
            let said = transcript::tail(&self.stderr.bytes());
            panic!("{}: no {text:?} ({why:?}) in {said}", self.what);
        }
    }

    /// Sends a signal to the client itself.
    pub fn signal(&self, signal: Signal) {
        process::send(self.pid(), signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn wait(mut self) -> Outcome {
        let status = wait_for_exit(&mut self.child);
        let stderr = self.stderr.clone();
        let status = status.unwrap_or_else(|| {
            let so_far = transcript::tail(&self.stdout.bytes());
            let said = transcript::tail(&stderr.bytes());
            panic!("{} does not end\nstdout: {so_far}\nstderr: {said}", self.what)
        });
        let whole = |transcript: Transcript, name: &str| {
            let held = format!("{}: {name} is still held open by another process", self.what);
            transcript.whole().expect(&held)
        };
        let stdout = if self.captured { whole(self.stdout, "stdout") } else { Vec::new() };
        Outcome { what: self.what.clone(), status, stdout, stderr: whole(self.stderr, "stderr") }
    }

    /// Returns the process id.
    ///
    /// # Panics
    /// Never: process ids are small.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id is an i32")
    }
}

/// Waits for a child; `None` when it outlives the deadline and was killed.
pub(crate) fn wait_for_exit(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be asked after") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// How a client ended and what it said.
#[derive(Clone)]
pub struct Outcome {
    what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Returns standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Checks the exit status.
    ///
    /// # Panics
    /// When it is another one; the message holds all that was said.
    #[track_caller]
    pub fn assert_status(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "exit status of {self:?}");
        self
    }

    /// Checks that it succeeded, printed exactly `text`, and complained about nothing.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn assert_prints(&self, text: &str) -> &Self {
        self.assert_status(0);
        assert_eq!(self.out(), text, "standard output of {self:?}");
        assert_eq!(self.err(), "", "standard error of {self:?}");
        self
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal {signal:?}"),
        };
        let (out, err) = (transcript::tail(&self.stdout), transcript::tail(&self.stderr));
        write!(f, "{}\n{ended}\nstdout: {out}\nstderr: {err}", self.what)
    }
}
