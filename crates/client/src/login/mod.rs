//! The ssh login: from a host name to an authenticated connection.
//!
//! This module and its children are the only place that knows russh. They
//! dial, check the host key against known_hosts, authenticate as OpenSSH's
//! client would, and hand out a [`Login`], on which
//! [`remote::login`](crate::remote::login) runs sessions.
//! Not here: configuration (it arrives resolved, as [`Settings`]), the
//! terminal (it arrives as a [`Ui`]), and anything that happens after the
//! first session has been asked for.
//!
//! Invariants: no credential leaves the process before the host key has been
//! accepted; secrets are wiped after use and never reach an error, a log or a
//! `Debug` text; whatever the server says is cleaned of control characters
//! before it reaches a [`Ui`].
//! Wire: RFC 4251 to 4254, 8308 (extension negotiation), 8332 (RSA with SHA-2).
//! What each round trip is spent on: docs/decisions/0010-login-round-trips.md.

mod agent;
mod algorithms;
mod answers;
mod auth;
mod dial;
mod fingerprint;
mod gate;
mod handler;
mod host_cert;
mod host_command;
mod host_key;
mod identity;
mod kinds;
mod known_hosts;
mod methods;
mod output;
mod renewed;
mod revoked;
mod signer;
mod sshfp;
mod token;
mod ui;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::client::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::settings::{Settings, UpdateHostKeys};
use crate::remote::RemoteStream;

pub(crate) use agent::AGENT_LOG_TARGET;
pub use algorithms::query;
pub(crate) use handler::{Connection, Shared, lost_reason};
pub use known_hosts::count_entries;
pub use revoked::judge;
pub use russh::keys::PublicKey as HostKey;
pub(crate) use ui::printable;
pub use ui::{Echo, PromptError, Ui};

/// An authenticated ssh connection.
pub struct Login {
    pub(crate) handle: Arc<Handle<Connection>>,
    pub(crate) shared: Arc<Shared>,
    /// Keeps known_hosts up to date; ends with the connection.
    renewal: Option<JoinHandle<()>>,
    host_key: Option<HostKey>,
    round_trip: Option<Duration>,
}

impl Drop for Login {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl Login {
    /// Returns the address the connection reached, where the next path may start from.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.shared.peer
    }

    /// Returns the host key that was accepted.
    pub fn host_key(&self) -> Option<&HostKey> {
        self.host_key.as_ref()
    }

    /// Returns how long it took to connect, which is a round trip; none where somebody else did.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Returns the server's identification, such as `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub fn server_version(&self) -> String {
        self.shared.server_version()
    }
}

/// Connects to the host that `settings` name and logs in.
///
/// Prompts and remarks go to `ui`.
///
/// # Errors
/// See [`LoginError`]; nothing is left behind but entries in known_hosts that
/// were agreed to.
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn connect(settings: &Settings, ui: &dyn Ui) -> Result<Login, LoginError> {
    log_in(settings, dial::dial(settings).await?, None, ui).await
}

/// Logs in over a connection that a jump host made; otherwise as [`connect`].
///
/// # Errors
/// As [`connect`].
/// # Cancel safety
/// As [`connect`].
pub async fn connect_through(
    settings: &Settings,
    stream: RemoteStream,
    ui: &dyn Ui,
) -> Result<Login, LoginError> {
    log_in(settings, dial::through(settings, stream), None, ui).await
}

/// Logs in to a host again, by a connection that a jump host made if there is one: it must show
/// the very key that it showed before, whatever settings and known_hosts say of others.
///
/// # Errors
/// As [`connect`].
/// # Cancel safety
/// As [`connect`].
pub async fn connect_again(
    settings: &Settings,
    stream: Option<RemoteStream>,
    host_key: &HostKey,
    ui: &dyn Ui,
) -> Result<Login, LoginError> {
    let dialled = match stream {
        None => dial::dial(settings).await?,
        Some(stream) => dial::through(settings, stream),
    };
    log_in(settings, dialled, Some(host_key), ui).await
}

async fn log_in(
    settings: &Settings,
    dialled: dial::Dialled,
    pinned: Option<&HostKey>,
    ui: &dyn Ui,
) -> Result<Login, LoginError> {
    let place = host_key::Place::new(settings, dialled.peer);
    let known = known_hosts::KnownHosts::load(
        &settings.user_known_hosts_files,
        &settings.global_known_hosts_files,
        &place.lookup_name,
    );
    let expected = match pinned {
        None => expected(settings, &place).await?,
        Some(key) => {
            let blob = key.to_bytes().map_err(|_| LoginError::HostKey)?;
            known_hosts::KnownHosts::of_one(kinds::wire_kind(key), blob)
        }
    };
    let round_trip = dialled.round_trip;
    let config = Arc::new(algorithms::russh_config(settings, &expected)?);

    let (events_tx, mut events) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::new(settings, dialled.peer));
    let connection = Connection::new(events_tx, Arc::clone(&shared));

    let authorities = algorithms::authorities(settings)?;
    let mut checker = host_key::Checker::new(settings, place, known, authorities, pinned);
    let handle = handshake(
        config,
        dialled,
        connection,
        Arc::clone(&shared.gate),
        &mut events,
        &mut checker,
        ui,
    )
    .await;
    let handle = handle.map_err(|failure| match failure {
        Failure::TimedOut => {
            LoginError::Lost { reason: "Connection timed out during banner exchange".into() }
        }
        Failure::Ssh(error) => checker.refusal().unwrap_or_else(|| shared.handshake_error(&error)),
    })?;

    let handle =
        auth::Authentication::new(settings, ui, &mut events, &shared, checker.passwords())?
            .run(handle)
            .await?;
    let handle = Arc::new(handle);
    let mut renewal = None;
    if let Some(name) = checker.update_as().filter(|_| shared.announces()) {
        let update = renewed::Update::new(settings, name);
        if settings.host_keys.update == UpdateHostKeys::Yes {
            let (shared, handle) = (Arc::clone(&shared), Arc::downgrade(&handle));
            renewal = Some(tokio::spawn(update.silently(shared, handle)));
        } else if !settings.batch_mode {
            // Before the session has the terminal. The server may have nothing to announce.
            let announced = tokio::time::timeout(ANNOUNCEMENT_GRACE, shared.announced()).await;
            update.asking(&announced.unwrap_or_default(), &handle, ui).await;
        }
    }
    let host_key = checker.into_accepted();
    Ok(Login { handle, shared, renewal, host_key, round_trip })
}

/// What is known of the host before it has shown its key, for the order to ask for keys in.
async fn expected(
    settings: &Settings,
    place: &host_key::Place,
) -> Result<known_hosts::KnownHosts, LoginError> {
    let name = &place.lookup_name;
    let mut known = known_hosts::KnownHosts::load(
        &settings.user_known_hosts_files,
        &settings.global_known_hosts_files,
        name,
    );
    if let Some(command) = &settings.host_keys.command {
        let purpose = host_command::Purpose::Order;
        let hash = settings.host_keys.fingerprint_hash;
        let text = host_command::run(command, purpose, name, hash).await?;
        known.add(purpose.source(), &text, name);
    }
    Ok(known)
}

enum Failure {
    TimedOut,
    Ssh(russh::Error),
}

/// Runs version and key exchange, answering the host key question on the way.
///
/// The connect timeout counts until the server has shown its host key: what
/// comes after that may wait for a person.
async fn handshake(
    config: Arc<russh::client::Config>,
    dialled: dial::Dialled,
    connection: Connection,
    gate: Arc<gate::Gate>,
    events: &mut mpsc::UnboundedReceiver<handler::Event>,
    checker: &mut host_key::Checker<'_>,
    ui: &dyn Ui,
) -> Result<Handle<Connection>, Failure> {
    let deadline = dialled.deadline;
    let stream = gate::GatedStream::new(dialled.stream, gate);
    let handshake = russh::client::connect_stream(config, stream, connection);
    tokio::pin!(handshake);
    let mut shown = false;
    loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => match event {
                handler::Event::HostKey { shown: key, verdict } => {
                    shown = true;
                    let accepted = checker.check(&key, ui).await;
                    // The asker is gone only if the connection is.
                    let _ = verdict.send(accepted);
                }
                handler::Event::Banner(text) => ui.banner(&text),
            },
            result = &mut handshake => return result.map_err(Failure::Ssh),
            () = until(deadline), if !shown => return Err(Failure::TimedOut),
        }
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// How long UpdateHostKeys `ask` waits for an announcement of the server.
const ANNOUNCEMENT_GRACE: Duration = Duration::from_secs(1);

/// How long a failed signature or a lost connection may keep us from saying why.
const DISCONNECT_GRACE: Duration = Duration::from_millis(500);

/// Why there is no login. The texts are OpenSSH's; all of them end with status 255.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The name could not be turned into an address.
    #[error("ssh: Could not resolve hostname {host}: {reason}")]
    Resolve {
        /// The name, as looked up.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// No address could be connected to.
    #[error("ssh: connect to host {host} port {port}: {reason}")]
    Connect {
        /// The name, as looked up.
        host: String,
        /// The TCP port.
        port: u16,
        /// What the last address said.
        reason: String,
    },
    /// The proxy command cannot be run.
    #[error("ProxyCommand: {reason}")]
    ProxyCommand {
        /// Why.
        reason: String,
    },
    /// A jump host would not connect to the next host.
    #[error("ssh: connect to host {host} port {port} from jump host {via}: {reason}")]
    Jump {
        /// The jump host, as typed.
        via: String,
        /// The next host, as named to the jump host.
        host: String,
        /// Its port.
        port: u16,
        /// The jump host's words.
        reason: String,
    },
    /// The configured local address cannot be used.
    #[error("bind {name}: {reason}")]
    Bind {
        /// The address, name or interface asked for.
        name: String,
        /// The system's words.
        reason: String,
    },
    /// An algorithm list names nothing we can do.
    #[error("Bad {keyword} '{value}'.")]
    BadAlgorithms {
        /// The configuration keyword.
        keyword: &'static str,
        /// Its value.
        value: String,
    },
    /// No algorithm in common with the server.
    #[error("Unable to negotiate with {peer}: no matching {kind} found. Their offer: {theirs}")]
    NoCommonAlgorithm {
        /// The server's address and port.
        peer: String,
        /// What there is no match for ("host key type", "cipher", …).
        kind: &'static str,
        /// The server's list.
        theirs: String,
    },
    /// The host key is unknown and was not accepted, or is not the known one.
    /// Why has already been said through the [`Ui`].
    #[error("Host key verification failed.")]
    HostKey,
    /// The host's RSA key is shorter than RequiredRSASize.
    #[error("Bad server host key: Invalid key length")]
    ShortHostKey,
    /// KnownHostsCommand did not tell what is known of the host.
    #[error("KnownHostsCommand {reason}\nKnownHostsCommand failed")]
    KnownHostsCommand {
        /// The program and what became of it.
        reason: String,
    },
    /// Every method was tried, or none may be.
    #[error("{user}@{host}: Permission denied ({methods}).")]
    Denied {
        /// The user to log in as.
        user: String,
        /// The host's name.
        host: String,
        /// What the server would still accept, comma separated.
        methods: String,
    },
    /// The server ended the connection and said why.
    #[error("Received disconnect from {peer}:{code}: {reason}\nDisconnected from {peer}")]
    Disconnected {
        /// The server's address and port, as OpenSSH words it.
        peer: String,
        /// The reason code of RFC 4253 §11.1.
        code: u32,
        /// The server's words, cleaned.
        reason: String,
    },
    /// The connection broke.
    #[error("{reason}")]
    Lost {
        /// What happened, in words.
        reason: String,
    },
    /// The user pressed the interrupt key at a prompt.
    #[error("interrupted")]
    Interrupted,
}
