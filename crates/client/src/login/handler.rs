//! What russh calls back: host key, banner, announcements, the end.
//!
//! russh runs the handler in a task of its own, which must be free to borrow
//! nothing; questions for a person therefore travel as [`Event`]s to the task
//! that holds the [`Ui`](super::Ui).
//!
//! The [`FirstFlight`]: russh hands out a channel only once the server has
//! confirmed it, and the session's requests would then cost a round trip of
//! their own. OpenSSH's server, however, announces its host keys right after
//! authentication, and while russh handles the announcement it lends us its
//! session, with which requests can be written to a channel that is still
//! being opened. They name the server's channel 0, which is what OpenSSH gives
//! to the first channel of a connection (`channel_new` takes the lowest free
//! slot). So they are written only to OpenSSH, only for the first channel, and
//! only if the opening is already on its way; otherwise they follow the
//! confirmation as usual.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::client::{ChannelOpenHandle, DisconnectReason, Msg, Session};
use russh::keys::ssh_encoding::Decode;
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure};
use tokio::sync::{mpsc, oneshot, watch};

use super::LoginError;
use super::dial::system_words;
use super::gate::Gate;
use super::ui::printable;
use crate::config::settings::Settings;
use crate::remote::login::forward::{Listeners, Origin};
use crate::remote::{Program, RemoteError, SessionRequest, X11Request};

/// Something the task that holds the [`Ui`](super::Ui) must see.
pub(super) enum Event {
    /// The server showed its host key; the connection waits for the verdict.
    HostKey { shown: Box<PublicKeyOrCertificate>, verdict: oneshot::Sender<bool> },
    /// The server's banner, cleaned.
    Banner(String),
}

/// What the handler and the [`Login`](super::Login) know of one connection.
pub(crate) struct Shared {
    pub(super) peer: Option<SocketAddr>,
    host: String,
    server_version: Mutex<Vec<u8>>,
    first_flight: Mutex<FirstFlight>,
    pub(super) gate: Arc<Gate>,
    /// The host keys that the server announces after authentication.
    announced: watch::Sender<Option<Vec<PublicKey>>>,
    /// Who gets the connections that the server accepts for us.
    pub(crate) listeners: Listeners,
    end: watch::Sender<Option<End>>,
}

/// How the connection ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The server said why.
    Disconnected { code: u32, reason: String },
    /// The server would take no method at all, upon which russh hangs up.
    NoMethods,
    /// It broke; in words.
    Lost(String),
}

/// The requests of the first session, while they may still be written early.
enum FirstFlight {
    /// No session has been asked for.
    Idle,
    /// The first session's channel is being opened; these requests belong to it.
    Waiting(Box<SessionRequest>),
    /// They have been written, and the session has not been told yet.
    Written,
    /// Only the first session gets the chance.
    Over,
}

impl Shared {
    pub(super) fn new(settings: &Settings, peer: Option<SocketAddr>) -> Self {
        Self {
            peer,
            host: settings.host_name.clone(),
            server_version: Mutex::default(),
            first_flight: Mutex::new(FirstFlight::Idle),
            gate: Arc::default(),
            announced: watch::Sender::new(None),
            listeners: Listeners::default(),
            end: watch::Sender::new(None),
        }
    }

    pub(super) fn server_version(&self) -> String {
        printable(&String::from_utf8_lossy(&lock(&self.server_version)))
    }

    /// Offers the requests of a session whose channel is about to be opened.
    ///
    /// Returns whether they were taken; then
    /// [`take_back_first_flight`](Self::take_back_first_flight) must follow.
    pub(crate) fn offer_first_flight(&self, request: &SessionRequest) -> bool {
        let openssh = self.announces();
        let mut flight = lock(&self.first_flight);
        match *flight {
            FirstFlight::Idle if openssh => {
                *flight = FirstFlight::Waiting(Box::new(request.clone()));
                self.gate.hold();
                true
            }
            FirstFlight::Written => false,
            // With two channels being opened, nobody knows which is the server's first.
            FirstFlight::Idle | FirstFlight::Waiting(_) | FirstFlight::Over => {
                *flight = FirstFlight::Over;
                self.gate.open();
                false
            }
        }
    }

    /// Ends the offer once the channel is open; returns whether the requests have been written.
    pub(crate) fn take_back_first_flight(&self) -> bool {
        self.gate.open();
        let mut flight = lock(&self.first_flight);
        matches!(std::mem::replace(&mut *flight, FirstFlight::Over), FirstFlight::Written)
    }

    /// Whether the server is one that announces its host keys after authentication.
    pub(super) fn announces(&self) -> bool {
        announces_host_keys(&lock(&self.server_version))
    }

    /// Waits for the host keys that the server announces.
    pub(super) async fn announced(&self) -> Vec<PublicKey> {
        let mut announced = self.announced.subscribe();
        match announced.wait_for(Option::is_some).await {
            Ok(keys) => keys.clone().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Gives the first flight up, because a channel that is no session's may come first.
    pub(crate) fn forgo_first_flight(&self) {
        let mut flight = lock(&self.first_flight);
        // A session whose opening is on its way comes first all the same.
        if matches!(*flight, FirstFlight::Idle) {
            *flight = FirstFlight::Over;
            self.gate.open();
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(|| End::Lost(closed_by(&self.host))),
            Err(_) => End::Lost(closed_by(&self.host)),
        }
    }

    fn set_end(&self, end: End) {
        self.end.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                *slot = Some(end);
            }
            first
        });
    }

    /// The error for a handshake that russh gave up.
    pub(super) fn handshake_error(&self, error: &russh::Error) -> LoginError {
        let peer = self.peer_words();
        match error {
            russh::Error::NoCommonAlgo { kind, theirs, .. } => LoginError::NoCommonAlgorithm {
                peer,
                kind: match kind {
                    russh::AlgorithmKind::Kex => "key exchange method",
                    russh::AlgorithmKind::Key => "host key type",
                    russh::AlgorithmKind::Cipher => "cipher",
                    russh::AlgorithmKind::Compression => "compression method",
                    russh::AlgorithmKind::Mac => "MAC",
                },
                theirs: printable(&theirs.join(",")),
            },
            russh::Error::UnknownKey => LoginError::HostKey,
            russh::Error::Disconnect | russh::Error::HUP => LoginError::Lost {
                reason: format!(
                    "kex_exchange_identification: Connection closed by remote host\nConnection closed by {peer}"
                ),
            },
            russh::Error::IO(error)
                if matches!(
                    error.kind(),
                    // To write to a proxy command that has ended comes to the same.
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe
                ) =>
            {
                LoginError::Lost { reason: format!("Connection closed by {peer}") }
            }
            russh::Error::IO(error) => LoginError::Lost {
                reason: format!("Connection to {peer}: {}", system_words(error)),
            },
            russh::Error::Version => LoginError::Lost {
                reason: format!(
                    "kex_exchange_identification: banner line contains invalid characters\nConnection to {peer} is not an SSH server's"
                ),
            },
            other => LoginError::Lost {
                reason: format!("Connection to {peer}: {}", printable(&other.to_string())),
            },
        }
    }

    /// The error for a connection that ended while authenticating.
    pub(super) fn auth_error(&self, end: End) -> LoginError {
        match end {
            End::Disconnected { code, reason } => {
                LoginError::Disconnected { peer: self.peer_words(), code, reason }
            }
            End::NoMethods | End::Lost(_) => {
                LoginError::Lost { reason: format!("Connection closed by {}", self.peer_words()) }
            }
        }
    }

    /// The peer in OpenSSH's words: `127.0.0.1 port 22`.
    fn peer_words(&self) -> String {
        match self.peer {
            Some(peer) => format!("{} port {}", peer.ip(), peer.port()),
            None => self.host.clone(),
        }
    }
}

/// The [`RemoteError`] for the end of a connection that was in use.
pub(crate) fn lost_reason(end: End) -> RemoteError {
    match end {
        End::Disconnected { reason, .. } => RemoteError::Closed { reason },
        End::Lost(reason) => RemoteError::Lost { reason },
        // Cannot come after the login.
        End::NoMethods => RemoteError::Lost { reason: "authentication failed".into() },
    }
}

/// One connection, as russh calls it back.
pub(crate) struct Connection {
    events: mpsc::UnboundedSender<Event>,
    shared: Arc<Shared>,
}

impl Connection {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>, shared: Arc<Shared>) -> Self {
        Self { events, shared }
    }
}

impl russh::client::Handler for Connection {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        // russh has checked that the exchange is signed by this key; whose it is, we judge.
        let shown = Box::new(match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.clone().into(),
            PublicKeyOrCertificate::Certificate(certificate) => certificate.clone().into(),
        });
        let (verdict, answer) = oneshot::channel();
        if self.events.send(Event::HostKey { shown, verdict }).is_err() {
            return Ok(false);
        }
        // Nobody to answer means the login was given up.
        Ok(answer.await.unwrap_or(false))
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        names: &russh::Names,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        *lock(&self.shared.server_version) = session.remote_sshid().to_vec();
        tracing::debug!("Remote version: {}", self.shared.server_version());
        tracing::debug!("kex: algorithm: {}", names.kex.as_ref());
        tracing::debug!("kex: cipher: {}", names.cipher.as_ref());
        Ok(())
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Self::Error> {
        // Nobody listens once the login is complete, and no banner comes then.
        let _ = self.events.send(Event::Banner(printable(banner)));
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(
        &mut self,
        keys: Vec<PublicKey>,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.shared.announced.send_if_modified(|slot| {
            // One announcement counts, as for OpenSSH.
            let first = slot.is_none();
            if first {
                *slot = Some(keys);
            }
            first
        });
        let mut flight = lock(&self.shared.first_flight);
        if let FirstFlight::Waiting(request) = &*flight
            && let Some(channel) = channel_being_opened(session)
        {
            if let Some(x11) = self.shared.listeners.x11().filter(|_| request.x11) {
                let X11Request { protocol, cookie, screen, .. } = &x11;
                session.request_x11(channel, true, false, protocol, cookie, *screen)?;
            }
            if request.agent && self.shared.listeners.serves_agent() {
                session.agent_forward(channel, false)?;
            }
            write_requests(session, channel, request)?;
            *flight = FirstFlight::Written;
            tracing::debug!("session requests sent with the channel's opening");
        }
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let at = Origin::Tcp(connected_address.to_owned(), connected_port);
        self.shared.listeners.accept(&at, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let at = Origin::Unix(socket_path.to_owned());
        self.shared.listeners.accept(&at, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.shared.listeners.accept(&Origin::Agent, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.shared.listeners.x11().is_none() {
            tracing::error!("Warning: ssh server tried X11 forwarding.");
            tracing::error!("Warning: this is probably a break-in attempt by a malicious server.");
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        self.shared.listeners.accept(&Origin::X11, channel, reply).await;
        Ok(())
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        let host = &self.shared.host;
        let (end, result) = match reason {
            DisconnectReason::ReceivedDisconnect(info) => (
                End::Disconnected {
                    code: info.reason_code as u32,
                    reason: printable(&info.message),
                },
                Ok(()),
            ),
            DisconnectReason::Error(error @ russh::Error::NoAuthMethod) => {
                (End::NoMethods, Err(error))
            }
            DisconnectReason::Error(error) => {
                let words = match &error {
                    russh::Error::KeepaliveTimeout => {
                        format!("Timeout, server {host} not responding.")
                    }
                    russh::Error::IO(error)
                        if error.kind() != std::io::ErrorKind::UnexpectedEof =>
                    {
                        format!("Connection to {host}: {}", system_words(error))
                    }
                    russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP => {
                        closed_by(host)
                    }
                    other => format!("Connection to {host}: {}", printable(&other.to_string())),
                };
                (End::Lost(words), Err(error))
            }
        };
        self.shared.set_end(end);
        result
    }
}

/// The only channel there is, if its opening has been written.
fn channel_being_opened(session: &Session) -> Option<ChannelId> {
    // russh numbers channels from small integers up and offers no list of them;
    // one that exists has a window.
    (0u32..8)
        .filter_map(|number| ChannelId::decode(&mut &number.to_be_bytes()[..]).ok())
        .find(|&channel| session.sender_window_size(channel) > 0)
}

fn write_requests(
    session: &mut Session,
    channel: ChannelId,
    request: &SessionRequest,
) -> Result<(), russh::Error> {
    for (name, value) in &request.env {
        session.set_env(channel, false, name, value)?;
    }
    if let Some(pty) = &request.pty {
        let size = pty.size;
        session.request_pty(
            channel,
            true,
            &pty.term,
            size.cols.into(),
            size.rows.into(),
            size.width_px.into(),
            size.height_px.into(),
            &crate::remote::login::russh_modes(&pty.modes),
        )?;
    }
    match &request.program {
        Program::Shell => session.request_shell(true, channel),
        Program::Exec(command) => session.exec(channel, true, command),
        Program::Subsystem(name) => session.request_subsystem(true, channel, name),
    }
}

/// Whether the server is an OpenSSH that announces host keys after authentication (since 6.8).
fn announces_host_keys(version: &[u8]) -> bool {
    version.starts_with(b"SSH-2.0-OpenSSH_") && !version.starts_with(b"SSH-2.0-OpenSSH_for_Windows")
}

fn closed_by(host: &str) -> String {
    format!("Connection to {host} closed by remote host.")
}

/// A panic elsewhere leaves these plain values as valid as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
