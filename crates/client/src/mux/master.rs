//! Lending our connection: the other end of everybody's control socket.
//!
//! Each client is a task of its own. What concerns the whole connection (ending it, taking no
//! more clients) is told to whoever owns it, through [`Sharing`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::local::{Listener, SocketFile, Stream};
use tokio::sync::watch;

use super::channel::Channel;
use super::guest;
use super::message::{Reply, Request, VERSION};
use super::socket::{self, ListenError, Listening};
use crate::config::forward::{Forward, Listen};
use crate::config::{NoticeSettings, Settings};
use crate::forward::{Forwarder, Side};
use crate::login::Ui as _;
use crate::remote::Remote;
use crate::terminal::prompt::TtyUi;

/// A pause after the system refused us a client, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A connection that is lent. Dropping it takes no more clients.
pub(crate) struct Sharing(Arc<Master>);

/// What every client's task knows.
pub(super) struct Master {
    pub(super) remote: Arc<dyn Remote>,
    pub(super) forwarder: Forwarder,
    pub(super) host: String,
    /// How guests' terminals are told that the link is away.
    pub(super) notice: Option<(NoticeSettings, Duration)>,
    /// The agent of this process, for guests who want it.
    agent: Option<PathBuf>,
    /// The person to ask, if one is to be asked.
    person: Option<TtyUi>,
    file: Mutex<Option<SocketFile>>,
    /// How many guests there are.
    guests: watch::Sender<usize>,
    state: watch::Sender<State>,
    next_session: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listening,
    /// Those who are there may stay.
    Stopped,
    /// Everything is to end.
    Quit,
}

/// A guest, who is counted.
pub(super) struct Guest(watch::Sender<usize>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.send_modify(|guests| *guests = guests.saturating_sub(1));
    }
}

impl Sharing {
    /// Lends `remote` at the socket of the settings.
    ///
    /// # Errors
    /// [`ListenError`].
    pub(crate) fn start(
        path: &Path,
        remote: Arc<dyn Remote>,
        forwarder: Forwarder,
        settings: &Settings,
        agent: Option<PathBuf>,
    ) -> Result<Self, ListenError> {
        let Listening { listener, file } = socket::listen(path)?;
        let asks = settings.control.master.asks();
        let udp = &settings.udp;
        let notice = remote.roams().then_some((udp.notice, udp.reconnect_timeout));
        let master = Arc::new(Master {
            remote,
            forwarder,
            host: settings.host_name.clone(),
            notice,
            agent,
            person: asks.then(|| TtyUi::new(settings.log_level, settings.askpass.clone())),
            file: Mutex::new(Some(file)),
            guests: watch::Sender::new(0),
            state: watch::Sender::new(State::Listening),
            next_session: AtomicU32::new(1),
        });
        tokio::spawn(Arc::clone(&master).accept(listener));
        Ok(Self(master))
    }

    /// Waits until somebody has told us to end.
    pub(crate) async fn quit(&self) {
        let mut state = self.0.state.subscribe();
        // Its sender lives as long as we do.
        let _ = state.wait_for(|state| *state == State::Quit).await;
    }

    /// Waits until there are no guests.
    pub(crate) async fn idle(&self) {
        let mut guests = self.0.guests.subscribe();
        let _ = guests.wait_for(|guests| *guests == 0).await;
    }

    /// Waits until nobody has used the connection for `time`, or for ever with `None`; once no
    /// more clients are taken, until the last one is gone.
    pub(crate) async fn unused_for(&self, time: Option<Duration>) {
        let mut state = self.0.state.subscribe();
        loop {
            self.idle().await;
            self.0.forwarder.idle().await;
            if *self.0.guests.borrow() > 0 {
                continue;
            }
            if *state.borrow_and_update() != State::Listening {
                return;
            }
            let patience = async {
                match time {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            let mut guests = self.0.guests.subscribe();
            tokio::select! {
                () = patience => return,
                _ = guests.wait_for(|guests| *guests > 0) => {}
                () = self.0.forwarder.busy() => {}
                _ = state.changed() => {}
            }
        }
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.stop(State::Quit);
    }
}

impl Master {
    fn stop(&self, to: State) {
        // At once, so that nobody finds a socket that takes no clients.
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.state.send_if_modified(|state| {
            let is_news = *state == State::Listening || to == State::Quit;
            *state = if is_news { to } else { *state };
            is_news
        });
    }

    async fn accept(self: Arc<Self>, listener: Listener) {
        let mut state = self.state.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = state.wait_for(|state| *state != State::Listening) => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let master = Arc::clone(&self);
                    tokio::spawn(async move {
                        if let Err(error) = master.serve(stream).await {
                            tracing::debug!(%error, "a client of the shared connection broke off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no client can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: Stream) -> io::Result<()> {
        let channel = Channel::new(stream)?;
        channel.send(&Reply::Hello { version: VERSION }.encode()).await?;
        match next(&channel).await? {
            Some(Request::Hello { version: VERSION }) => {}
            Some(_) => return Err(io::Error::other("it speaks another version")),
            None => return Ok(()),
        }
        while let Some(request) = next(&channel).await? {
            match request {
                Request::NewSession { id, session } => {
                    return guest::session(&self, &channel, id, *session).await;
                }
                Request::StdioForward { id, connect } => {
                    return guest::stdio(&self, &channel, id, connect).await;
                }
                request => self.answer(&channel, request).await?,
            }
        }
        Ok(())
    }

    /// Answers what needs no descriptors.
    async fn answer(&self, channel: &Channel, request: Request) -> io::Result<()> {
        let reply = match request {
            Request::AliveCheck { id } => Reply::Alive { id, pid: std::process::id() },
            Request::Terminate { id } => {
                let question = format!("Terminate shared connection to {}? ", self.host);
                match self.permits(&question).await {
                    true => {
                        channel.send(&Reply::Ok { id }.encode()).await?;
                        self.stop(State::Quit);
                        return Ok(());
                    }
                    false => denied(id),
                }
            }
            Request::StopListening { id } => {
                let host = &self.host;
                let question =
                    format!("Disable further multiplexing on shared connection to {host}? ");
                match self.permits(&question).await {
                    true => {
                        self.stop(State::Stopped);
                        Reply::Ok { id }
                    }
                    false => denied(id),
                }
            }
            Request::OpenForward { id, side, forward } => self.open(id, side, forward).await,
            Request::CloseForward { id, side, forward } => {
                match self.forwarder.cancel(side, &forward.listen) {
                    true => Reply::Ok { id },
                    false => Reply::Failure { id, reason: "port not forwarded".into() },
                }
            }
            Request::Hello { .. } => return Err(io::Error::other("a second greeting")),
            Request::NewSession { id, .. } | Request::StdioForward { id, .. } => {
                Reply::Failure { id, reason: "Multiple sessions not supported".into() }
            }
            Request::Proxy { id } => {
                Reply::Failure { id, reason: "-O proxy is not supported by tssh".into() }
            }
            Request::Unknown { id } => Reply::Failure { id, reason: "unsupported request".into() },
        };
        channel.send(&reply.encode()).await
    }

    async fn open(&self, id: u32, side: Side, forward: Forward) -> Reply {
        let Forward { listen, connect } = &forward;
        let question = format!("Open forward from {listen} to {connect} on {}? ", self.host);
        if !self.permits(&question).await {
            return denied(id);
        }
        if self.forwarder.has(side, &forward) {
            return Reply::Ok { id };
        }
        let place = match listen {
            Listen::Tcp { port, .. } => format!("port {port}"),
            Listen::Unix(path) => format!("path {path}"),
        };
        match side {
            Side::Local => match self.forwarder.add_local(forward).await {
                Ok(()) => Reply::Ok { id },
                Err(_) => Reply::Failure { id, reason: "Port forwarding failed".into() },
            },
            Side::Remote => match self.forwarder.add_remote(forward).await {
                Ok(None) => Reply::Ok { id },
                Ok(Some(port)) => Reply::RemotePort { id, port: port.into() },
                Err(error) => {
                    tracing::info!(%error, "no remote forward");
                    let reason = format!("remote port forwarding failed for listen {place}");
                    Reply::Failure { id, reason }
                }
            },
        }
    }

    /// Asks the person, if one is to be asked.
    pub(super) async fn permits(&self, question: &str) -> bool {
        match &self.person {
            Some(person) => person.permit(question).await,
            None => true,
        }
    }

    /// Counts a guest for as long as the value lives.
    pub(super) fn guest(&self) -> Guest {
        self.guests.send_modify(|guests| *guests += 1);
        Guest(self.guests.clone())
    }

    /// Returns a number for the next session.
    pub(super) fn next_session(&self) -> u32 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// Has programs over there reach our agent, if we have one.
    pub(super) fn forward_agent(&self) -> bool {
        if let Some(agent) = &self.agent {
            self.forwarder.forward_agent(agent.clone());
        }
        self.agent.is_some()
    }

    /// Waits until a client has gone, and answers what it asks meanwhile.
    pub(super) async fn until_gone(&self, channel: &Channel) {
        loop {
            let answered = match next(channel).await {
                Ok(Some(request)) => self.answer(channel, request).await,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "a client of the shared connection broke off");
                return;
            }
        }
    }
}

/// Reads what a client asks next.
async fn next(channel: &Channel) -> io::Result<Option<Request>> {
    let Some(message) = channel.receive().await? else { return Ok(None) };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    Request::decode(&message).map(Some).map_err(invalid)
}

pub(super) fn denied(id: u32) -> Reply {
    Reply::PermissionDenied { id, reason: "Permission denied".into() }
}
