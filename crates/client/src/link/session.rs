//! Sessions over the link (PROTOCOL §6.3–§6.5).

use std::io;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use proto::bus::{Resize, Setting, Signal, ToServer};
use proto::codec;
use proto::ext::{Ext, ExtSet};
use proto::json::Bytes;
use proto::open::{
    AGENT_CHANNEL, AgentRequest, IdMessage, Outcome, StartMessage, StreamCommand, X11_CHANNEL,
    encode_modes,
};
use proxy::driver::{LinkState, LinkStatus};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use transport::{RecvStream, SendStream};

use super::Shared;
use super::bus::{Bus, PendingMarker};
use crate::remote::{
    Program, RemoteError, RemoteSession, SessionControl, SessionEnd, SessionRequest, TerminalSize,
};
use crate::wire;

/// Stream priority of a terminal's session, above bulk.
const INTERACTIVE_PRIORITY: i32 = 50;

/// Starts a session.
pub(super) async fn open(
    link: &Shared,
    request: SessionRequest,
) -> Result<RemoteSession, RemoteError> {
    let early = link.ext.has(Ext::Early);
    if !early || !link.connection.has_forward_secrecy() {
        link.bus.wait_up().await?;
    }
    let interactive = request.pty.is_some();
    if link.ext.is_empty() {
        // Not a byte of a session without a terminal may be lost (DESIGN D7). Of a terminal the
        // reference would drop what was typed around every new path, and we look for one
        // within a few round trips; what is typed while there is none, we drop ourselves.
        // A server of ours knows all that.
        link.bus.send(&ToServer::Setting(Setting {
            keep_pending_input: Some(true),
            keep_pending_output: (!interactive).then_some(true),
        }));
    }
    let what = describe(&request.program);
    let (id, marker, end) = link.bus.register();
    let control = Control { bus: link.bus.clone(), id, ext: link.ext };
    let mut start = start_message(id, &request, link.ext)?;
    if request.agent && link.bus.takes_channels(AGENT_CHANNEL) && start.subsystem.is_empty() {
        start.agent = Some(AgentRequest { channel_type: AGENT_CHANNEL.into() });
    }
    if let Some(x11) = link.x11.get()
        && request.x11
        && start.subsystem.is_empty()
    {
        start.x11 = Some(proto::open::X11Request {
            channel_type: X11_CHANNEL.into(),
            single_connection: false,
            auth_protocol: x11.protocol.clone(),
            auth_cookie: x11.cookie.clone(),
            screen_number: x11.screen,
        });
    }

    let broke = |error: &dyn std::error::Error| wire::lost(&what, error);
    let (mut send, mut recv) = link.connection.open_stream().await.map_err(|e| broke(&e))?;
    if interactive {
        send.set_priority(INTERACTIVE_PRIORITY);
    }
    let mut opening = codec::command(StreamCommand::Session.name());
    if early || interactive {
        // No stderr stream to wait for, or a server that waits for it by itself.
        opening.extend_from_slice(&codec::message(&start));
    }
    send.write_all(&opening).await.map_err(|e| broke(&e))?;
    let mut error = None;
    if !interactive {
        let mut stream = open_stderr(link, id).await?;
        if early {
            wire::read_response::<Outcome>(&mut recv, &what).await?;
            stream.confirm(&what).await?;
        } else {
            stream.confirm(&what).await?;
            wire::read_response::<Outcome>(&mut recv, &what).await?;
            send.write_all(&codec::message(&start)).await.map_err(|e| broke(&e))?;
        }
        error = Some(stream);
    } else {
        wire::read_response::<Outcome>(&mut recv, &what).await?;
    }
    wire::read_response::<Outcome>(&mut recv, &what).await?;
    if let Some(pty) = &request.pty
        && request.program != Program::Shell
    {
        // The reference takes the size of a command's pty from here only.
        control.resize(pty.size);
    }
    let input = Input {
        send,
        marker,
        leading: Vec::new(),
        in_chunk: false,
        swallowing: false,
        status: link.proxy.watch(),
        interactive,
    };
    Ok(RemoteSession {
        input: Box::new(input),
        output: Box::new(recv),
        error: error.map(|stream| Box::new(stream) as _),
        control: Box::new(control),
        end: Box::pin(async { end.await.unwrap_or(SessionEnd::Unknown) }),
    })
}

/// The stderr stream of a session.
///
/// Nothing more is said on it; our side stays open as long as theirs, because
/// a peer might take its end for the end of both (PROTOCOL §5.5).
struct Stderr {
    recv: RecvStream,
    _send: SendStream,
}

impl AsyncRead for Stderr {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.recv).poll_read(cx, buf)
    }
}

async fn open_stderr(link: &Shared, id: u64) -> Result<Stderr, RemoteError> {
    let what = "standard error of the session";
    let (mut send, recv) = link.connection.open_stream().await.map_err(|e| wire::lost(what, &e))?;
    let opening = codec::command_and_message(StreamCommand::Stderr.name(), &IdMessage { id });
    send.write_all(&opening).await.map_err(|e| wire::lost(what, &e))?;
    Ok(Stderr { recv, _send: send })
}

impl Stderr {
    async fn confirm(&mut self, what: &str) -> Result<(), RemoteError> {
        wire::read_response::<Outcome>(&mut self.recv, what).await?;
        wire::read_response::<Outcome>(&mut self.recv, what).await?;
        Ok(())
    }
}

fn describe(program: &Program) -> String {
    match program {
        Program::Shell => "shell request".into(),
        Program::Exec(_) => "exec request".into(),
        Program::Subsystem(name) => format!("subsystem request for {name}"),
    }
}

fn start_message(
    id: u64,
    request: &SessionRequest,
    ext: ExtSet,
) -> Result<StartMessage, RemoteError> {
    let early = ext.has(Ext::Early);
    let mut start = StartMessage {
        id,
        // Without a terminal there is a stderr stream; `early` lets it come in any order.
        stderr: early && request.pty.is_none(),
        ..StartMessage::default()
    };
    if let Program::Subsystem(name) = &request.program {
        start.subsystem.clone_from(name);
        return Ok(start);
    }
    start.envs = request.env.iter().cloned().collect();
    if let Some(pty) = &request.pty {
        start.pty = true;
        if request.program == Program::Shell || !ext.is_empty() {
            // The reference leaves it out for a command; a resize follows (PROTOCOL §6.3).
            start.cols = pty.size.cols.into();
            start.rows = pty.size.rows.into();
        }
        start.envs.insert("TERM".into(), pty.term.clone());
        if ext.has(Ext::Modes) {
            start.modes = encode_modes(&pty.modes);
            start.width_px = pty.size.width_px.into();
            start.height_px = pty.size.height_px.into();
        }
    }
    match &request.program {
        Program::Exec(command) if ext.has(Ext::Command) => {
            start.command = Bytes(command.clone());
        }
        Program::Exec(command) => {
            let command = std::str::from_utf8(command).map_err(|_| RemoteError::Refused {
                what: describe(&request.program),
                reason: "the command is not UTF-8, which this server cannot take".into(),
            })?;
            start.name = "sh".into();
            start.args = vec!["-c".into(), through_user_shell(command)];
        }
        Program::Shell | Program::Subsystem(_) => start.shell = true,
    }
    Ok(start)
}

/// Returns a command for `sh -c` that has the user's own shell run `command` (DESIGN D8).
fn through_user_shell(command: &str) -> String {
    format!("exec \"$SHELL\" -c '{}'", command.replace('\'', r"'\''"))
}

/// Control of one session; dropping it kills the program.
struct Control {
    bus: Bus,
    id: u64,
    ext: ExtSet,
}

impl SessionControl for Control {
    fn resize(&self, size: TerminalSize) {
        if size.cols == 0 || size.rows == 0 {
            // The server would refuse it (PROTOCOL §6.5).
            return;
        }
        let pixels = self.ext.has(Ext::Modes);
        self.bus.send(&ToServer::Resize(Resize {
            id: self.id,
            cols: size.cols.into(),
            rows: size.rows.into(),
            width_px: if pixels { size.width_px.into() } else { 0 },
            height_px: if pixels { size.height_px.into() } else { 0 },
            ..Resize::default()
        }));
    }

    fn signal(&self, name: &str) -> bool {
        if self.ext.has(Ext::Signal) {
            let signal = name.to_owned();
            self.bus.send(&ToServer::Signal(Signal { id: self.id, signal }));
        }
        self.ext.has(Ext::Signal)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.bus.kill(self.id);
    }
}

/// Input of a session, with the marker of PROTOCOL §7.6 put in where it is due.
struct Input {
    send: SendStream,
    marker: PendingMarker,
    /// What is left to send of a marker.
    leading: Vec<u8>,
    /// Whether part of a chunk has been offered for sending; a flush ends the chunk.
    in_chunk: bool,
    /// Whether the rest of the chunk is stale and goes nowhere.
    swallowing: bool,
    status: watch::Receiver<LinkStatus>,
    interactive: bool,
}

impl Input {
    fn is_marker_due(&self) -> bool {
        self.marker.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.interactive {
            // What is typed blindly must not reach the program minutes later, nor must
            // the tail of a paste whose head an outage swallowed.
            let lost = this.status.borrow().state == LinkState::Lost;
            this.swallowing |= this.in_chunk && (lost || this.is_marker_due());
            this.in_chunk = true;
            if lost || this.swallowing {
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        if this.leading.is_empty()
            && let Some(marker) = this.marker.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            this.leading = marker;
        }
        while !this.leading.is_empty() {
            let n = ready!(Pin::new(&mut this.send).poll_write(cx, &this.leading))?;
            this.leading.drain(..n.min(this.leading.len()));
        }
        Pin::new(&mut this.send).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_chunk = false;
        this.swallowing = false;
        Pin::new(&mut this.send).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.interactive {
            // The far side would hang the terminal up (ADR 0021).
            return Pin::new(&mut this.send).poll_flush(cx);
        }
        Pin::new(&mut this.send).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::PtyRequest;
    use proto::json::Message as _;

    fn exec(command: &[u8]) -> SessionRequest {
        SessionRequest {
            program: Program::Exec(command.to_vec()),
            pty: None,
            env: Vec::new(),
            agent: false,
            x11: false,
        }
    }

    #[test]
    fn without_extensions_a_command_reaches_the_user_s_shell_as_one_word() {
        let start = start_message(1, &exec(b"echo 'it''s' | wc"), ExtSet::NONE).unwrap();
        assert_eq!(
            start.to_json(),
            r#"{"ID":1,"Name":"sh","Args":["-c","exec \"$SHELL\" -c 'echo '\\''it'\\'''\\''s'\\'' | wc'"]}"#
        );
    }

    #[test]
    fn without_extensions_a_shell_s_start_is_the_reference_s() {
        let request = SessionRequest {
            program: Program::Shell,
            pty: Some(PtyRequest {
                term: "xterm-256color".into(),
                size: TerminalSize { cols: 120, rows: 40, width_px: 900, height_px: 700 },
                modes: vec![(53, 1)],
            }),
            env: Vec::new(),
            agent: false,
            x11: false,
        };
        assert_eq!(
            start_message(1, &request, ExtSet::NONE).unwrap().to_json(),
            r#"{"ID":1,"Pty":true,"Shell":true,"Cols":120,"Rows":40,"Envs":{"TERM":"xterm-256color"}}"#
        );
    }

    #[test]
    fn with_extensions_a_command_travels_raw_even_if_it_is_not_utf8() {
        let start = start_message(2, &exec(b"printf \xff"), ExtSet::all()).unwrap();
        assert_eq!(start.to_json(), r#"{"ID":2,"Cmd":"cHJpbnRmIP8=","Stderr":true}"#);
        assert!(start_message(2, &exec(b"printf \xff"), ExtSet::NONE).is_err());
    }

    #[test]
    fn a_subsystem_s_start_names_nothing_else() {
        let request = SessionRequest {
            program: Program::Subsystem("sftp".into()),
            pty: None,
            env: vec![("LANG".into(), "C".into())],
            agent: false,
            x11: false,
        };
        let start = start_message(3, &request, ExtSet::NONE).unwrap();
        assert_eq!(start.to_json(), r#"{"ID":3,"Subs":"sftp"}"#);
    }
}
