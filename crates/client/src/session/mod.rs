//! One session, from the local terminal or pipes to the far program and back.
//!
//! Written once for both makes of [`Remote`]. Not a byte of ours goes into the
//! program's streams, in either direction.

pub mod escape;

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::remote::{
    Remote, RemoteError, RemoteSession, SessionControl, SessionEnd, SessionRequest,
};
use crate::sys::signals::is_ignored;
use crate::sys::stdio::{Output, Stdin};
use crate::sys::tty;
use crate::terminal::raw::RawMode;
use escape::{Escapes, Step};

/// Bytes moved at a time.
const BUFFER: usize = 64 * 1024;

/// How a session is run locally.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The escape character, if escapes are on.
    pub escape: Option<u8>,
    /// Read nothing from standard input (`-n`).
    pub stdin_null: bool,
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
    Killed,
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
        () = signals.leave() => return Ok(Outcome::Killed),
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
    let escapes = Escapes::new(if raw.is_some() { options.escape } else { None });
    Ok(attend(session, options, escapes, raw.as_ref(), &mut signals).await)
}

async fn attend(
    session: RemoteSession,
    options: Options<'_>,
    escapes: Escapes,
    raw: Option<&RawMode>,
    signals: &mut Signals,
) -> Outcome {
    let RemoteSession { input, output, error, control, end } = session;
    let results = async {
        let both = async {
            tokio::try_join!(async { copy(output, Output::stdout()?).await }, async {
                match error {
                    Some(error) => copy(error, Output::stderr()?).await,
                    None => Ok(()),
                }
            },)
        };
        match both.await {
            Ok(_) => Outcome::Ended(end.await),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Outcome::OutputClosed,
            Err(error) => Outcome::Failed(error),
        }
    };
    let typing = async {
        match type_in(input, options, escapes, raw, control.as_ref()).await {
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
        () = signals.leave_or_resize(control.as_ref()) => Outcome::Killed,
    }
}

/// Copies until end of file; a far stream that breaks just ends.
///
/// # Errors
/// Those of writing locally.
async fn copy(mut from: Box<dyn AsyncRead + Send + Unpin>, mut to: Output) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(n) => n,
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
    options: Options<'_>,
    mut escapes: Escapes,
    raw: Option<&RawMode>,
    control: &dyn SessionControl,
) -> io::Result<Typed> {
    if !options.stdin_null
        && let Ok(mut stdin) = Stdin::open()
    {
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            let typed = buffer.get(..n).unwrap_or_default();
            if raw.is_none() {
                broken_pipe(input.write_all(typed).await)?;
                continue;
            }
            for step in escapes.feed(typed) {
                match step {
                    Step::Send(bytes) => broken_pipe(input.write_all(&bytes).await)?,
                    Step::Disconnect => return Ok(Typed::Left),
                    Step::Help => {
                        Output::stderr()?.write_all(escapes.help().as_bytes()).await?;
                    }
                    Step::Suspend => {
                        if let Some(raw) = raw {
                            raw.pause(tty::suspend)?;
                            control.resize(tty::size());
                        }
                    }
                }
            }
        }
    }
    broken_pipe(input.shutdown().await)?;
    Ok(Typed::EndOfInput(input))
}

/// Whatever stops us from writing to the far program, it is its input that broke.
fn broken_pipe(result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
}

/// Signals that concern a session.
struct Signals {
    /// Those that tell us to leave, without the ones our caller had ignored.
    leave: Vec<Signal>,
    resize: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let leave = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ];
        let leave = leave.into_iter().filter(|kind| !is_ignored(kind.as_raw_value()));
        Ok(Self {
            leave: leave.map(signal).collect::<io::Result<_>>()?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// Waits for a signal that tells us to leave.
    async fn leave(&mut self) {
        poll_fn(|cx| {
            let told = self.leave.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
            if told { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Passes changes of the terminal's size on until it is time to leave.
    async fn leave_or_resize(&mut self, control: &dyn SessionControl) {
        poll_fn(|cx| {
            while self.resize.poll_recv(cx).is_ready() {
                control.resize(tty::size());
            }
            let told = self.leave.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
            if told { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Waits for a signal that tells us to leave, for runs without a session (`-N`).
///
/// # Errors
/// When signals cannot be waited for.
pub async fn until_told_to_leave() -> io::Result<()> {
    Signals::new()?.leave().await;
    Ok(())
}
