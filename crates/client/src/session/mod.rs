//! One session, from the local terminal or pipes to the far program and back.
//!
//! Written once for both makes of [`Remote`]. Not a byte of ours goes into the
//! program's streams, in either direction.

mod display;
pub mod escape;
pub mod notice;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::NoticeSettings;
use crate::remote::{
    HealthWatch, Remote, RemoteError, RemoteSession, SessionControl, SessionEnd, SessionRequest,
    TerminalSize,
};
use crate::sys::signals::is_ignored;
use crate::sys::stdio::{Output, Stdin, close_stdout};
use crate::sys::tty;
use crate::terminal::raw::RawMode;
use display::Display;
use escape::{Escapes, Step};
use notice::{Keys, Notice};

/// Bytes moved at a time.
const BUFFER: usize = 64 * 1024;

/// How a session is run locally.
pub struct Options<'a> {
    /// The escape character, if escapes are on.
    pub escape: Option<u8>,
    /// Read nothing from standard input (`-n`).
    pub stdin_null: bool,
    /// How to tell that the link is away, and after what outage; `None` for a terminal that
    /// is not to be written on.
    pub notice: Option<(NoticeSettings, Duration)>,
    /// The host's name, for people.
    pub host: &'a str,
    /// Tells the user something before the session's output begins.
    pub tell: &'a dyn Fn(&str),
}

/// How a session came to its end, as seen from here.
#[derive(Debug)]
pub enum Outcome {
    /// The far program ended.
    Ended(SessionEnd),
    /// The user left with the escape character.
    Left,
    /// A signal told us to leave.
    Killed(SignalKind),
    /// Nobody reads our output any more.
    OutputClosed,
    /// Standard output or input failed.
    Failed(io::Error),
}

/// Runs one session to its end.
///
/// # Errors
/// [`RemoteError`] when it cannot be started.
pub async fn run(
    remote: &dyn Remote,
    request: SessionRequest,
    options: Options<'_>,
) -> Result<Outcome, RemoteError> {
    let asked_size = request.pty.as_ref().map(|pty| pty.size);
    let wanted_terminal = asked_size.is_some();
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return Ok(Outcome::Failed(error)),
    };
    let session = tokio::select! {
        session = remote.open_session(request) => session?,
        kind = signals.leave() => return Ok(Outcome::Killed(kind)),
    };
    // A stderr of its own means that the terminal was asked for and refused.
    let interactive = wanted_terminal && session.error.is_none();
    if wanted_terminal && !interactive {
        (options.tell)("PTY allocation request failed on channel 0");
    }
    let raw = if interactive && tty::stdin_is_tty() {
        match RawMode::enter() {
            Ok(raw) => Some(raw),
            Err(error) => return Ok(Outcome::Failed(error)),
        }
    } else {
        None
    };
    if interactive && asked_size != Some(tty::size()) {
        // The terminal changed during the login, before anyone listened for it.
        session.control.resize(tty::size());
    }
    let health = raw.as_ref().and_then(|_| remote.health()).filter(|_| tty::stdout_is_tty());
    let display = options.notice.zip(health).map(|((settings, after), health)| {
        let notice = Notice::new(settings, after, options.host.to_owned(), tty::size());
        (Display::new(notice), health)
    });
    let escapes = Escapes::new(if interactive { options.escape } else { None });
    let (display, health) = display.unzip();
    let local = Local { options, raw: raw.as_ref(), display: display.as_ref() };
    let outcome = attend(session, &local, health, escapes, &mut signals).await;
    if let (Some(display), Ok(mut stdout)) = (&display, Output::stdout()) {
        // Whatever comes next on the terminal, the notice is not below it.
        let _ = display.make_room(&mut stdout).await;
    }
    Ok(outcome)
}

/// This side of a session.
struct Local<'a> {
    options: Options<'a>,
    raw: Option<&'a RawMode>,
    display: Option<&'a Display>,
}

async fn attend(
    session: RemoteSession,
    local: &Local<'_>,
    health: Option<Box<dyn HealthWatch>>,
    escapes: Escapes,
    signals: &mut Signals,
) -> Outcome {
    let RemoteSession { input, output, error, control, end } = session;
    let interactive = error.is_none();
    let results = async {
        let both = async {
            let output = async {
                let stdout = Output::stdout()?;
                let whole = match local.display.zip(health) {
                    Some((display, health)) => display.show(output, stdout, health).await?,
                    None => copy(output, stdout).await?,
                };
                // Whoever reads our output sees its end now, not when we exit.
                close_stdout();
                Ok(whole)
            };
            let error = async {
                match error {
                    Some(error) => copy(error, Output::stderr()?).await,
                    None => Ok(true),
                }
            };
            tokio::try_join!(output, error)
        };
        match both.await {
            // A status that overtook its output says nothing about what got lost.
            Ok((output, error)) if !(output && error) => Outcome::Ended(SessionEnd::Unknown),
            Ok(_) => Outcome::Ended(end.await),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Outcome::OutputClosed,
            Err(error) => Outcome::Failed(error),
        }
    };
    let typing = async {
        match type_in(input, local, escapes, control.as_ref()).await {
            Ok(Typed::Left) => Outcome::Left,
            // End of input ends nothing but the input. Dropping the stream would
            // do more: a terminal would hang up.
            Ok(Typed::EndOfInput(_input)) => std::future::pending().await,
            // The far side reads no more: what it has to say still comes.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::future::pending().await,
            Err(error) => Outcome::Failed(error),
        }
    };
    tokio::select! {
        outcome = results => outcome,
        outcome = typing => outcome,
        kind = signals.leave_or_resize(|size| local.resize(control.as_ref(), size)) => {
            if !interactive && let Some(name) = signal_name(kind) {
                // In a terminal it would be a keystroke; here nothing else tells the program.
                control.signal(name);
            }
            Outcome::Killed(kind)
        }
    }
}

/// Returns the name of a signal in RFC 4254 §6.10.
fn signal_name(kind: SignalKind) -> Option<&'static str> {
    let names = [
        (SignalKind::interrupt(), "INT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::hangup(), "HUP"),
        (SignalKind::quit(), "QUIT"),
    ];
    names.into_iter().find(|(known, _)| *known == kind).map(|(_, name)| name)
}

/// Copies until the end; returns whether that was end of file, not a stream that broke.
///
/// # Errors
/// Those of writing locally.
async fn copy(mut from: Box<dyn AsyncRead + Send + Unpin>, mut to: Output) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) => return Ok(true),
            Ok(n) => n,
            Err(error) => {
                tracing::debug!(%error, "output broke");
                return Ok(false);
            }
        };
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
    }
}

enum Typed {
    /// Nothing more is typed; the stream is finished as far as it may be.
    EndOfInput(Box<dyn AsyncWrite + Send + Unpin>),
    Left,
}

async fn type_in(
    mut input: Box<dyn AsyncWrite + Send + Unpin>,
    local: &Local<'_>,
    mut escapes: Escapes,
    control: &dyn SessionControl,
) -> io::Result<Typed> {
    if !local.options.stdin_null
        && let Ok(mut stdin) = Stdin::open()
    {
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            let typed = buffer.get(..n).unwrap_or_default();
            let keys = local.display.map(|display| display.on_keys(typed));
            let typed = match &keys {
                Some(Keys::Leave) => return Ok(Typed::Left),
                Some(Keys::Pass(keys)) => keys,
                None => typed,
            };
            for step in escapes.feed(typed) {
                match step {
                    Step::Send(bytes) => {
                        broken_pipe(input.write_all(&bytes).await)?;
                        // The end of a chunk, in the sense of PROTOCOL §7.6.
                        broken_pipe(input.flush().await)?;
                    }
                    Step::Disconnect => {
                        local.say(&escapes.echo(".")).await?;
                        return Ok(Typed::Left);
                    }
                    Step::Help => local.say(&escapes.help()).await?,
                    Step::Suspend => {
                        local.say(&escapes.echo("^Z [suspend tssh]")).await?;
                        match local.raw {
                            Some(raw) => raw.pause(tty::suspend)?,
                            None => tty::suspend()?,
                        }
                        local.resize(control, tty::size());
                    }
                }
            }
        }
    }
    broken_pipe(input.shutdown().await)?;
    Ok(Typed::EndOfInput(input))
}

impl Local<'_> {
    /// Prints something of ours beside the program's streams.
    async fn say(&self, text: &str) -> io::Result<()> {
        if let Some(display) = self.display {
            display.make_room(&mut Output::stdout()?).await?;
        }
        Output::stderr()?.write_all(text.as_bytes()).await
    }

    /// Takes a new size of our terminal.
    fn resize(&self, control: &dyn SessionControl, size: TerminalSize) {
        if let Some(display) = self.display {
            display.on_size(size);
        }
        control.resize(size);
    }
}

/// Whatever stops us from writing to the far program, it is its input that broke.
fn broken_pipe(result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
}

/// Signals that concern a session. They are caught for as long as this lives.
pub struct Signals {
    /// Those that tell us to leave, without the ones our caller had ignored.
    leave: Vec<(SignalKind, Signal)>,
    resize: Signal,
}

impl Signals {
    /// Starts to catch them.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn new() -> io::Result<Self> {
        let leave = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ];
        let leave = leave.into_iter().filter(|kind| !is_ignored(kind.as_raw_value()));
        Ok(Self {
            leave: leave.map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>()?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// Waits for a signal that tells us to leave, and returns it.
    pub async fn leave(&mut self) -> SignalKind {
        poll_fn(|cx| self.poll_leave(cx)).await
    }

    /// Passes changes of the terminal's size on until it is time to leave.
    async fn leave_or_resize(&mut self, resize: impl Fn(TerminalSize)) -> SignalKind {
        poll_fn(|cx| {
            while self.resize.poll_recv(cx).is_ready() {
                resize(tty::size());
            }
            self.poll_leave(cx)
        })
        .await
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<SignalKind> {
        let mut told = self.leave.iter_mut();
        match told.find_map(|(kind, signal)| signal.poll_recv(cx).is_ready().then_some(*kind)) {
            Some(kind) => Poll::Ready(kind),
            None => Poll::Pending,
        }
    }
}
