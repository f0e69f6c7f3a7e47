//! The plain-ssh make of [`Remote`]: every session is a channel of the login.
//!
//! Each session has two tasks. The *pump* takes what arrives on the channel
//! out of russh at once and queues it for the reader: russh delivers all
//! channels from one loop, and a channel nobody reads would stop the others
//! (and the keep-alives). The queue holds [`QUEUE_BYTES`]; a reader further
//! behind than that stalls the connection after all, because russh offers no
//! way to hold back one channel's window. The *steward* owns the channel's
//! sending half and carries out [`Command`]s, so that control never blocks.
//!
//! Not here: authentication ([`crate::login`]) and the far side's view of a
//! session (RFC 4254 §6).

pub(crate) mod forward;
mod pipe;
mod sink;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, Pty, Sig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{
    BoxFuture, Program, PtyRequest, Remote, RemoteError, RemoteListener, RemoteSession,
    RemoteStream, SessionControl, SessionEnd, SessionRequest, Target, TerminalSize, X11Request,
};
use crate::config::forward::Listen;
use crate::login::{Login, lost_reason};
use pipe::PipeWriter;
use sink::Sink;

impl Remote for Login {
    fn open_session(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'_, Result<RemoteSession, RemoteError>> {
        Box::pin(open_session(self, request))
    }

    fn dial(&self, target: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        Box::pin(forward::dial(self, target))
    }

    fn listen(&self, at: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>> {
        Box::pin(forward::listen(self, at))
    }

    fn forward_agent(&self) -> mpsc::Receiver<RemoteStream> {
        self.shared.listeners.serve_agent()
    }

    fn forward_x11(&self, x11: X11Request) -> mpsc::Receiver<RemoteStream> {
        self.shared.listeners.serve_x11(x11)
    }

    fn closed(&self) -> BoxFuture<'_, RemoteError> {
        Box::pin(async { lost_reason(self.shared.ended().await) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let farewell = async {
                let sent = self
                    .handle
                    .disconnect(Disconnect::ByApplication, "disconnected by user", "")
                    .await;
                if sent.is_ok() {
                    self.shared.ended().await;
                }
            };
            // On a dead link there is nobody to take leave of.
            let _ = tokio::time::timeout(CLOSE_GRACE, farewell).await;
        })
    }

    fn renew_keys(&self) {
        let handle = Arc::clone(&self.handle);
        tokio::spawn(async move {
            // A connection that is gone needs no keys.
            let _ = handle.rekey_soon().await;
        });
    }

    fn roams(&self) -> bool {
        false
    }
}

/// Opens a channel and starts the program on it.
///
/// All requests travel in one flight, and with the channel's opening where the
/// server allows it; see docs/decisions/0010-login-round-trips.md.
async fn open_session(
    login: &Login,
    request: SessionRequest,
) -> Result<RemoteSession, RemoteError> {
    let offered = login.shared.offer_first_flight(&request);
    let opened = login.handle.channel_open_session().await;
    let written = offered && login.shared.take_back_first_flight();

    let channel = match opened {
        Ok(channel) => channel,
        Err(russh::Error::ChannelOpenFailure(reason)) => {
            return Err(RemoteError::Refused {
                what: "session".into(),
                reason: format!("channel open failed: {reason:?}"),
            });
        }
        Err(_) => return Err(lost_reason(login.shared.ended().await)),
    };
    let (read, write) = channel.split();
    let agent = request.agent && login.shared.listeners.serves_agent();
    let x11 = login.shared.listeners.x11().filter(|_| request.x11);
    if !written && write_requests(&write, &request, agent, x11.as_ref()).await.is_err() {
        return Err(lost_reason(login.shared.ended().await));
    }

    let (session, mut replies) = Session::start(read, write);
    if let Some(x11) = &x11
        && !answer(login, &mut replies).await?
    {
        (x11.on_refusal)();
    }
    let mut pty_granted = false;
    if request.pty.is_some() {
        pty_granted = answer(login, &mut replies).await?;
    }
    if !answer(login, &mut replies).await? {
        let what = match request.program {
            Program::Shell => "shell",
            Program::Exec(_) => "exec",
            Program::Subsystem(_) => "subsystem",
        };
        return Err(RemoteError::Refused {
            what: format!("{what} request"),
            reason: format!("{what} request failed on channel 0"),
        });
    }
    Ok(session.into_remote(pty_granted))
}

/// The server's answer to the next request that wanted one.
async fn answer(
    login: &Login,
    replies: &mut mpsc::UnboundedReceiver<bool>,
) -> Result<bool, RemoteError> {
    match replies.recv().await {
        Some(reply) => Ok(reply),
        // The channel closed before its program started; usually the connection is gone, too.
        None => match tokio::time::timeout(CLOSE_GRACE, login.shared.ended()).await {
            Ok(end) => Err(lost_reason(end)),
            Err(_) => Err(RemoteError::Refused {
                what: "session".into(),
                reason: "the server closed the channel".into(),
            }),
        },
    }
}

async fn write_requests(
    channel: &ChannelWriteHalf<Msg>,
    request: &SessionRequest,
    agent: bool,
    x11: Option<&X11Request>,
) -> Result<(), russh::Error> {
    if let Some(X11Request { protocol, cookie, screen, .. }) = x11 {
        channel.request_x11(true, false, protocol, cookie, *screen).await?;
    }
    if agent {
        // A refusal is no reason to have no session, so nobody waits for the answer.
        channel.agent_forward(false).await?;
    }
    for (name, value) in &request.env {
        channel.set_env(false, name, value).await?;
    }
    if let Some(PtyRequest { term, size, modes }) = &request.pty {
        let TerminalSize { cols, rows, width_px, height_px } = *size;
        channel
            .request_pty(
                true,
                term,
                cols.into(),
                rows.into(),
                width_px.into(),
                height_px.into(),
                &russh_modes(modes),
            )
            .await?;
    }
    match &request.program {
        Program::Shell => channel.request_shell(true).await,
        Program::Exec(command) => channel.exec(true, command.clone()).await,
        Program::Subsystem(name) => channel.request_subsystem(true, name).await,
    }
}

/// The modes russh has names for, which are all of RFC 4254 §8.
pub(crate) fn russh_modes(modes: &[(u8, u32)]) -> Vec<(Pty, u32)> {
    modes.iter().filter_map(|&(opcode, value)| Some((Pty::from_u8(opcode)?, value))).collect()
}

/// What the holder of a session may ask of it.
enum Command {
    Resize(TerminalSize),
    Signal(String),
}

/// Held by every part of a session. When the last part is dropped, the steward
/// sees its queue end and closes the channel, which ends the far program.
type Life = mpsc::UnboundedSender<Command>;

/// The parts of a running session, before anybody knows whether it has a terminal.
struct Session {
    life: Life,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    output: pipe::PipeReader,
    error: pipe::PipeReader,
    end: oneshot::Receiver<SessionEnd>,
    closed: watch::Receiver<bool>,
}

impl Session {
    /// Starts both tasks. The receiver gets the answers to requests, in order.
    fn start(
        read: ChannelReadHalf,
        write: ChannelWriteHalf<Msg>,
    ) -> (Self, mpsc::UnboundedReceiver<bool>) {
        let budget = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        let (output_in, output) = pipe::pipe(&budget, QUEUE_BYTES);
        let (error_in, error) = pipe::pipe(&budget, QUEUE_BYTES);
        let (replies_in, replies) = mpsc::unbounded_channel();
        let (end_in, end) = oneshot::channel();
        let (closed_in, closed) = watch::channel(false);
        let writer = Box::pin(write.make_writer());
        let pump = Pump {
            channel: read,
            output: Some(output_in),
            error: Some(error_in),
            replies: replies_in,
        };
        tokio::spawn(async move {
            let how = pump.run().await;
            // Nobody may be waiting any more.
            let _ = end_in.send(how);
            closed_in.send_replace(true);
        });
        let (life, commands) = mpsc::unbounded_channel();
        tokio::spawn(steward(write, commands, closed.clone()));
        let session = Self { life, writer, output, error, end, closed };
        (session, replies)
    }

    fn into_remote(self, pty: bool) -> RemoteSession {
        let mut closed = self.closed;
        let ended = async move {
            // Without its sender the session is closed as well.
            let _ = closed.wait_for(|&closed| closed).await;
        };
        let input = Sink::new(self.writer, Box::pin(ended), self.life.clone());
        let reader = |pipe| -> Box<dyn AsyncRead + Send + Unpin> {
            Box::new(Output { pipe, _life: self.life.clone() })
        };
        let end = self.end;
        let life = self.life.clone();
        RemoteSession {
            input: Box::new(input),
            output: reader(self.output),
            error: (!pty).then(|| reader(self.error)),
            control: Box::new(Control(self.life.clone())),
            end: Box::pin(async move {
                let how = end.await.unwrap_or(SessionEnd::Unknown);
                drop(life);
                how
            }),
        }
    }
}

/// Takes what arrives out of russh.
struct Pump {
    channel: ChannelReadHalf,
    output: Option<PipeWriter>,
    error: Option<PipeWriter>,
    replies: mpsc::UnboundedSender<bool>,
}

/// SSH_EXTENDED_DATA_STDERR, RFC 4254 §5.2.
const STDERR: u32 = 1;

impl Pump {
    /// Returns how the program ended, once everything it wrote is queued.
    ///
    /// A status alone does not say that: it may overtake output that others
    /// still write. Without the end of the data (or of the channel) behind it,
    /// output may be missing, and the end is [`SessionEnd::Unknown`].
    async fn run(mut self) -> SessionEnd {
        let mut how = SessionEnd::Unknown;
        let mut complete = false;
        while let Some(message) = self.channel.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    if let Some(output) = &self.output {
                        output.write(data).await;
                    }
                }
                ChannelMsg::ExtendedData { data, ext: STDERR } => {
                    if let Some(error) = &self.error {
                        error.write(data).await;
                    }
                }
                ChannelMsg::Eof => {
                    complete = true;
                    self.output = None;
                    self.error = None;
                }
                ChannelMsg::Success | ChannelMsg::Failure => {
                    // After the start nobody waits for answers.
                    let _ = self.replies.send(matches!(message, ChannelMsg::Success));
                }
                ChannelMsg::ExitStatus { exit_status } => how = SessionEnd::Exited(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    how = SessionEnd::Signaled(signal_word(signal_name));
                }
                ChannelMsg::Close => {
                    complete = true;
                    break;
                }
                _ => {}
            }
        }
        if complete { how } else { SessionEnd::Unknown }
    }
}

/// Carries out commands until the session is let go of, then closes the channel.
async fn steward(
    channel: ChannelWriteHalf<Msg>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut closed: watch::Receiver<bool>,
) {
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = closed.wait_for(|&closed| closed) => return,
        };
        let sent = match command {
            Some(Command::Resize(size)) => {
                channel
                    .window_change(
                        size.cols.into(),
                        size.rows.into(),
                        size.width_px.into(),
                        size.height_px.into(),
                    )
                    .await
            }
            Some(Command::Signal(name)) => channel.signal(Sig::Custom(name)).await,
            None => {
                // The connection may be gone; then so is the program.
                let _ = channel.close().await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

struct Control(Life);

impl SessionControl for Control {
    fn resize(&self, size: TerminalSize) {
        // Failing means that the session has ended.
        let _ = self.0.send(Command::Resize(size));
    }

    fn signal(&self, name: &str) -> bool {
        self.0.send(Command::Signal(name.to_owned())).is_ok()
    }
}

/// The program's standard output or error.
struct Output {
    pipe: pipe::PipeReader,
    _life: Life,
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

fn signal_word(signal: Sig) -> String {
    match signal {
        Sig::ABRT => "ABRT".into(),
        Sig::ALRM => "ALRM".into(),
        Sig::FPE => "FPE".into(),
        Sig::HUP => "HUP".into(),
        Sig::ILL => "ILL".into(),
        Sig::INT => "INT".into(),
        Sig::KILL => "KILL".into(),
        Sig::PIPE => "PIPE".into(),
        Sig::QUIT => "QUIT".into(),
        Sig::SEGV => "SEGV".into(),
        Sig::TERM => "TERM".into(),
        Sig::USR1 => "USR1".into(),
        // A name outside RFC 4254; shown to people, so cleaned.
        Sig::Custom(name) => name.chars().filter(char::is_ascii_graphic).collect(),
    }
}

/// Bytes of output a session may have queued here, with what it costs to hold
/// them, before the connection stalls.
const QUEUE_BYTES: u32 = 4 * 1024 * 1024;

/// How long to wait for a farewell to be sent, or for the reason of an end.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
