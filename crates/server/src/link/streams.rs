//! Every stream but the bus: from its first byte to its work (PROTOCOL §6).

use std::sync::Arc;

use proto::bus::{Channel, Discard, Exit, ToClient};
use proto::ext::Ext;
use proto::json::Bytes;
use proto::open::{
    AGENT_CHANNEL, CODE_PROHIBITED, IdMessage, Outcome, StartMessage, StreamCommand, X11_CHANNEL,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use transport::{RecvStream, SendStream};

use super::registry::Stderr;
use super::{Bus, Inner};
use crate::forward::agent::Agent;
use crate::forward::parked::Place;
use crate::forward::socket::Socket;
use crate::forward::x11::Display;
use crate::forward::{dial, listen, udp};
use crate::session::{self, Dropped, Ending, Gap, Reach, Running, StartError, Surroundings};
use transport::frames::{self, ReadError};

impl Inner {
    /// Serves one stream to its end.
    pub(super) async fn serve_stream(self: Arc<Self>, send: SendStream, recv: RecvStream) {
        if let Err(error) = self.open(send, recv).await {
            tracing::debug!(%error, "stream ended early");
        }
    }

    async fn open(
        self: Arc<Self>,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), ReadError> {
        let patience = self.connect_timeout;
        let Ok(name) = timeout(patience, frames::read_command(&mut recv)).await else {
            send.reset();
            return Ok(());
        };
        let Some(name) = name? else { return Ok(()) };
        let Some(command) = StreamCommand::from_name(&name) else {
            let refusal = Outcome::failure(format!("unknown command {name:?}"));
            return Ok(frames::write_message(&mut send, &refusal).await?);
        };
        if command == StreamCommand::Bus {
            return self.serve_bus(send, recv).await;
        }
        if let Err(refusal) = self.wait_for_bus().await {
            return Ok(frames::write_message(&mut send, &refusal).await?);
        }
        match command {
            StreamCommand::Session => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                self.serve_session(send, recv).await
            }
            StreamCommand::Stderr => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                self.serve_stderr(send, recv).await
            }
            StreamCommand::Dial => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                dial::serve(&self.host.policy, &self.farewells, send, recv).await
            }
            StreamCommand::Listen => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                let tells_port = self.used().has(Ext::Listen);
                listen::serve(&self.host.policy, &self.parked, tells_port, send, recv).await
            }
            StreamCommand::Accept => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                listen::claim(&self.parked, send, recv).await
            }
            StreamCommand::DialUdp => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                udp::dial(&self.host.policy, &self.datagrams, &self.farewells, send, recv).await
            }
            StreamCommand::ListenUdp => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                let tells_port = self.used().has(Ext::Listen);
                udp::listen(&self.host.policy, &self.datagrams, tells_port, send, recv).await
            }
            StreamCommand::AcceptUdp => {
                frames::write_message(&mut send, &Outcome::success()).await?;
                udp::claim(&self.datagrams, send, recv).await
            }
            // Served above.
            StreamCommand::Bus => Ok(()),
        }
    }

    /// Lets a stream wait for the bus where that was agreed on, and refuses it otherwise.
    async fn wait_for_bus(&self) -> Result<(), Outcome> {
        let is_up = |bus: &Bus| matches!(bus, Bus::Up(_));
        if is_up(&self.bus.borrow()) {
            return self.require_keys();
        }
        if !self.granted.has(Ext::Early) {
            return Err(Outcome::failure("the bus is not up"));
        }
        let Ok(_permit) = self.parking.try_acquire() else {
            return Err(Outcome::failure("too many streams wait for the bus"));
        };
        let mut bus = self.bus.subscribe();
        match timeout(self.connect_timeout, bus.wait_for(is_up)).await {
            Ok(Ok(_)) => self.require_keys(),
            _ => Err(Outcome::failure("the bus did not come up")),
        }
    }

    /// Refuses streams of a client that promised to exchange keys first and has not.
    fn require_keys(&self) -> Result<(), Outcome> {
        if self.used().has(Ext::Rekey) && !self.connection.has_forward_secrecy() {
            return Err(Outcome::failure("keys were not exchanged"));
        }
        Ok(())
    }

    /// Keeps a stderr stream until its session starts.
    async fn serve_stderr(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), ReadError> {
        let message: IdMessage = frames::read_message(&mut recv).await?;
        // Judged before the answer, kept after it: the session may take it at once.
        let verdict = self.registry().can_keep_stderr(message.id);
        if let Err(reason) = verdict {
            return Ok(frames::write_message(&mut send, &Outcome::failure(reason)).await?);
        }
        frames::write_message(&mut send, &Outcome::success()).await?;
        self.registry().keep_stderr(message.id, Stderr { send, _recv: recv });
        self.registry_changed();
        Ok(())
    }

    /// Starts a session and sees it through.
    async fn serve_session(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), ReadError> {
        let start: StartMessage = frames::read_message(&mut recv).await?;
        let id = start.id;
        let reserved = self.registry().reserve(id);
        if let Err(reason) = reserved {
            return Ok(frames::write_message(&mut send, &Outcome::failure(reason)).await?);
        }
        let _slot = Reservation { link: self, id };
        let stderr = self.stderr_of(&start).await;
        let agent = self.open_agent(&start).await;
        let display = self.open_display(&start).await;
        let reach = Reach {
            agent: agent.as_ref().map(|agent| agent.path.as_path()),
            display: display.as_ref().map(|display| display.name.as_str()),
        };
        let (running, stderr) = match self.start(&start, stderr, reach) {
            Ok(started) => started,
            Err(refusal) => return Ok(frames::write_message(&mut send, &refusal).await?),
        };
        frames::write_message(&mut send, &Outcome::success()).await?;
        let ending = tokio::select! {
            ending = self.run(running, send, recv, stderr) => ending,
            never = self.offer_agent(agent) => never,
            never = self.offer_display(display) => never,
        };
        self.tell(ToClient::Exit(self.exit_message(id, ending))).await;
        Ok(())
    }

    /// Takes the stderr stream of a session; one that was announced is waited for.
    async fn stderr_of(&self, start: &StartMessage) -> Option<Stderr> {
        let wait = async {
            let mut changes = self.registered.subscribe();
            loop {
                let stderr = self.registry().take_stderr(start.id);
                if stderr.is_some() || !start.stderr || changes.changed().await.is_err() {
                    return stderr;
                }
            }
        };
        // One that never comes is like none: the output is dropped.
        timeout(self.connect_timeout, wait).await.ok().flatten()
    }

    /// Opens the agent socket that a session asks for; a refusal is a warning only.
    async fn open_agent(&self, start: &StartMessage) -> Option<Agent> {
        start.agent.as_ref()?;
        if let Err(refusal) = self.host.policy.permits_agent() {
            self.warn(format!("agent forwarding is refused: {refusal}")).await;
            return None;
        }
        match Agent::open(start.id, &self.host.account.home) {
            Ok(agent) => Some(agent),
            Err(error) => {
                self.warn(format!("agent forwarding cannot be set up: {error}")).await;
                None
            }
        }
    }

    /// Hands connections to a session's agent socket to the client, as long as the session lasts.
    async fn offer_agent<T>(&self, agent: Option<Agent>) -> T {
        let Some(agent) = agent else { return std::future::pending().await };
        while let Some(place) = self.parked.room().await {
            let socket = agent.listener.accept().await;
            if self.presence.borrow().is_away {
                // An end at once is better than a program that hangs.
                continue;
            }
            self.announce(socket, place, AGENT_CHANNEL).await;
        }
        std::future::pending().await
    }

    /// Parks a connection to something of the client's and tells it.
    async fn announce(&self, socket: Socket, place: Place, kind: &str) {
        let id = self.parked.park(socket, place);
        let channel_type = kind.to_owned();
        self.tell(ToClient::Channel(Channel { channel_type, id })).await;
    }

    /// Opens the display that a session asks for; a refusal is a warning only.
    async fn open_display(&self, start: &StartMessage) -> Option<Display> {
        let request = start.x11.as_ref()?;
        if let Err(refusal) = self.host.policy.permits_x11() {
            self.warn(format!("X11 forwarding is refused: {refusal}")).await;
            return None;
        }
        match Display::open(request, &self.host.policy).await {
            Ok(display) => Some(display),
            Err(error) => {
                self.warn(format!("X11 forwarding cannot be set up: {error}")).await;
                None
            }
        }
    }

    /// Hands connections to a session's display to the client, as long as the session lasts.
    async fn offer_display<T>(&self, display: Option<Display>) -> T {
        let Some(mut display) = display else { return std::future::pending().await };
        while let Some(place) = self.parked.room().await
            && let Some(socket) = display.accept().await
        {
            if self.presence.borrow().is_away {
                // As for the agent: an end at once.
                continue;
            }
            self.announce(socket, place, X11_CHANNEL).await;
            if display.is_for_one {
                drop(display);
                break;
            }
        }
        std::future::pending().await
    }

    fn start(
        &self,
        start: &StartMessage,
        stderr: Option<Stderr>,
        reach: Reach<'_>,
    ) -> Result<(Running, Option<Stderr>), Outcome> {
        if start.attach {
            return Err(Outcome::failure("this server keeps no sessions to attach to"));
        }
        // The registry stays locked, so that no marker is made between the
        // look at the last one and the session's entry.
        let mut registry = self.registry();
        let last_marker = registry.last_marker();
        let running = session::start(start, &self.host, stderr.is_some(), last_marker, reach);
        let running = running.map_err(|error| refusal(&error))?;
        registry.fill(running.session.clone());
        Ok((running, stderr))
    }

    /// Runs a session to its end, reporting what it dropped.
    async fn run(
        &self,
        running: Running,
        send: SendStream,
        recv: RecvStream,
        stderr: Option<Stderr>,
    ) -> Ending {
        let (dropped, mut reports) = mpsc::channel(1);
        let presence = self.presence.subscribe();
        let around = Surroundings { presence, log_bytes: self.output_log_bytes, dropped };
        let (errors, _recv) = stderr.map(|stderr| (stderr.send, stderr._recv)).unzip();
        let run = running.run(send, recv, errors, around);
        let report = async {
            while let Some(dropped) = reports.recv().await {
                self.tell(ToClient::Discard(discard_message(dropped))).await;
            }
        };
        tokio::join!(run, report).0
    }

    fn exit_message(&self, id: u64, ending: Ending) -> Exit {
        match ending {
            Ending::Exited(code) => Exit { id, exit_code: code.into(), ..Exit::default() },
            Ending::Signaled(name) => {
                let signal = if self.used().has(Ext::Signal) { name } else { String::new() };
                Exit { id, exit_code: -1, signal }
            }
        }
    }
}

fn discard_message(dropped: Dropped) -> Discard {
    match dropped {
        Dropped::Input(input) => Discard { input: Bytes(input), ..Discard::default() },
        Dropped::Output(Gap { lines, bytes }) => {
            Discard { output_lines: lines, output_bytes: bytes, ..Discard::default() }
        }
    }
}

/// The place of a session among the others, as long as it lasts.
struct Reservation<'a> {
    link: &'a Inner,
    id: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.link.registry().remove(self.id);
        self.link.registry_changed();
    }
}

fn refusal(error: &StartError) -> Outcome {
    let code = if error.is_prohibited() { CODE_PROHIBITED } else { 0 };
    Outcome { code, msg: error.to_string() }
}
