//! One session, from the local terminal or pipes to the far program and back.
//!
//! Written once for both makes of [`Remote`]. Not a byte of ours goes into the
//! program's streams, in either direction.

mod command;
mod display;
pub mod escape;
pub mod notice;
mod streams;
mod typing;

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

use crate::config::NoticeSettings;
use crate::forward::Forwarder;
use crate::remote::{
    BoxFuture, HealthWatch, Remote, RemoteError, RemoteSession, SessionControl, SessionEnd,
    SessionRequest, TerminalSize,
};
use crate::sys::signals::{Signal, SignalKind, is_ignored, signal};
use crate::sys::stdio::Output;
use crate::sys::tty;
use crate::terminal::raw::RawMode;
use display::Display;
use escape::{Escapes, Owner};
use notice::Notice;
pub use streams::Streams;
use typing::{Typed, type_in};

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
    pub tell: &'a (dyn Fn(&str) + Sync),
    /// This side of it.
    pub streams: Streams,
    /// What is forwarded beside it.
    pub forwarder: &'a Forwarder,
    /// Whether there is a command line (EnableEscapeCommandline).
    pub command_line: bool,
    /// Whether commands may be run here (PermitLocalCommand).
    pub local_commands: bool,
    /// Leaves the terminal to the shell here. Nothing of ours may be running in other threads.
    pub background: &'a (dyn Fn() -> BoxFuture<'static, io::Result<()>> + Sync),
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
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return Ok(Outcome::Failed(error)),
    };
    let asked_size = request.pty.as_ref().map(|pty| pty.size);
    let session = tokio::select! {
        session = remote.open_session(request) => session?,
        kind = signals.leave() => return Ok(Outcome::Killed(kind)),
    };
    // A stderr of its own means that the terminal was asked for and refused.
    let interactive = asked_size.is_some() && session.error.is_none();
    if asked_size.is_some() && !interactive {
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
    let mut local = Local::new(remote, options, interactive, Owner::Us);
    local.raw = raw.as_ref();
    Ok(local.attend(session, asked_size, Patience::Ours(&mut signals)).await)
}

/// Runs a session that was opened for another process, which leaves when `gone` is ready.
pub async fn run_for_guest(
    remote: &dyn Remote,
    session: RemoteSession,
    asked_size: Option<TerminalSize>,
    options: Options<'_>,
    gone: BoxFuture<'_, ()>,
) -> Outcome {
    let resized = match signal(SignalKind::window_change()) {
        Ok(signal) => signal,
        Err(error) => return Outcome::Failed(error),
    };
    let interactive = asked_size.is_some() && session.error.is_none();
    let local = Local::new(remote, options, interactive, Owner::Guest);
    local.attend(session, asked_size, Patience::Guests { resized, gone }).await
}

/// Whose patience a session lasts for, besides the program's.
enum Patience<'a> {
    /// Ours, which signals end.
    Ours(&'a mut Signals),
    /// That of another process, which may go away.
    Guests { resized: Signal, gone: BoxFuture<'a, ()> },
}

impl Patience<'_> {
    /// Waits until it is time to leave, and follows the terminal's size meanwhile.
    async fn end(self, local: &Local<'_>, control: &dyn SessionControl) -> Outcome {
        match self {
            Self::Ours(signals) => loop {
                let kind = signals.leave_or_resize(|| local.resize_to_streams(control)).await;
                let is_key = [SignalKind::interrupt(), SignalKind::quit()].contains(&kind);
                if is_key && local.is_away.load(Ordering::Relaxed) {
                    // Meant for the command that has the terminal.
                    continue;
                }
                if !local.interactive
                    && let Some(name) = signal_name(kind)
                {
                    // In a terminal it would be a keystroke; here nothing else tells the program.
                    control.signal(name);
                }
                return Outcome::Killed(kind);
            },
            Self::Guests { mut resized, mut gone } => loop {
                tokio::select! {
                    () = &mut gone => return Outcome::Left,
                    // Whoever sits there tells us of changes by our own signal.
                    _ = resized.recv() => local.resize_to_streams(control),
                }
            },
        }
    }
}

/// This side of a session.
struct Local<'a> {
    remote: &'a dyn Remote,
    options: Options<'a>,
    raw: Option<&'a RawMode>,
    display: Option<Display>,
    health: std::sync::Mutex<Option<Box<dyn HealthWatch>>>,
    escapes: Escapes,
    interactive: bool,
    /// Who may write to the terminal: the program, or somebody who has to be let finish.
    turn: Mutex<()>,
    /// Whether another program has our terminal at present.
    is_away: AtomicBool,
}

impl<'a> Local<'a> {
    fn new(remote: &'a dyn Remote, options: Options<'a>, interactive: bool, owner: Owner) -> Self {
        let is_terminal = interactive && options.streams.is_terminal();
        let health = if is_terminal { remote.health() } else { None };
        let display = options.notice.zip(health);
        let (display, health) = display
            .map(|((settings, after), health)| {
                let host = options.host.to_owned();
                let notice = Notice::new(settings, after, host, options.streams.size());
                (Display::new(notice), health)
            })
            .unzip();
        let escape = options.escape.filter(|_| interactive);
        Self {
            remote,
            options,
            raw: None,
            display,
            health: std::sync::Mutex::new(health),
            escapes: Escapes::new(escape, owner),
            interactive,
            turn: Mutex::default(),
            is_away: AtomicBool::new(false),
        }
    }

    /// Carries bytes until the end of the program or of somebody's patience.
    async fn attend(
        &self,
        session: RemoteSession,
        asked_size: Option<TerminalSize>,
        patience: Patience<'_>,
    ) -> Outcome {
        let RemoteSession { input, output, error, control, end } = session;
        let size = self.options.streams.size();
        if self.interactive && asked_size != Some(size) {
            // The terminal changed during the login, before anyone listened for it.
            control.resize(size);
        }
        let results = async {
            let both = async { tokio::try_join!(self.show(output), self.show_error(error)) };
            match both.await {
                // A status that overtook its output says nothing about what got lost.
                Ok((output, error)) if !(output && error) => Outcome::Ended(SessionEnd::Unknown),
                Ok(_) => Outcome::Ended(end.await),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Outcome::OutputClosed,
                Err(error) => Outcome::Failed(error),
            }
        };
        let typing = async {
            match type_in(input, self, control.as_ref()).await {
                Ok(Typed::Left) => Outcome::Left,
                // End of input ends nothing but the input. Dropping the stream would
                // do more: a terminal would hang up.
                Ok(Typed::EndOfInput(_input)) => std::future::pending().await,
                // The far side reads no more: what it has to say still comes.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    std::future::pending().await
                }
                Err(error) => Outcome::Failed(error),
            }
        };
        let outcome = tokio::select! {
            outcome = results => outcome,
            outcome = typing => outcome,
            outcome = patience.end(self, control.as_ref()) => outcome,
        };
        if let (Some(display), Ok(mut stdout)) = (&self.display, self.options.streams.output()) {
            // Whatever comes next on the terminal, the notice is not below it.
            let _ = display.make_room(&mut stdout).await;
        }
        outcome
    }

    /// Shows the program's output; returns whether it came whole.
    async fn show(&self, output: Box<dyn AsyncRead + Send + Unpin>) -> io::Result<bool> {
        let to = self.options.streams.output()?;
        let health = self.health.lock().ok().and_then(|mut health| health.take());
        let whole = match self.display.as_ref().zip(health) {
            Some((display, health)) => display.show(output, to, health, &self.turn).await?,
            None => copy(output, to, &self.turn).await?,
        };
        // Whoever reads our output sees its end now, not when we exit.
        self.options.streams.close_output();
        Ok(whole)
    }

    async fn show_error(
        &self,
        error: Option<Box<dyn AsyncRead + Send + Unpin>>,
    ) -> io::Result<bool> {
        match error {
            Some(error) => copy(error, self.options.streams.error()?, &self.turn).await,
            None => Ok(true),
        }
    }

    fn resize_to_streams(&self, control: &dyn SessionControl) {
        self.resize(control, self.options.streams.size());
    }

    /// Takes a new size of our terminal.
    fn resize(&self, control: &dyn SessionControl, size: TerminalSize) {
        if let Some(display) = &self.display {
            display.on_size(size);
        }
        control.resize(size);
    }

    /// Says that another program has the terminal, until the value is dropped.
    fn away(&self) -> Away<'_> {
        self.is_away.store(true, Ordering::Relaxed);
        Away(&self.is_away)
    }
}

struct Away<'a>(&'a AtomicBool);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
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
async fn copy(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    mut to: Output,
    turn: &Mutex<()>,
) -> io::Result<bool> {
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
        let _turn = turn.lock().await;
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
    }
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
    async fn leave_or_resize(&mut self, resize: impl Fn()) -> SignalKind {
        poll_fn(|cx| {
            while self.resize.poll_recv(cx).is_ready() {
                resize();
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
