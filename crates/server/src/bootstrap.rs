//! From the command line to a served client and back to an exit code.
//!
//! The first process only starts the second, in the background; that one binds
//! its sockets, makes its keys, prints them to the login in one line, and
//! serves. Keys exist in memory and in that line, nowhere else, and the copies
//! made here are wiped.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::bootstrap::{MODE_KCP, MODE_QUIC, PROXY_MODE_TCP, Secret, ServerInfo};
use proto::bus::Loss;
use proto::ext::{Ext, ExtSet};
use proto::version::{PROGRAM_VERSION, PROTO_VERSION};
use proto::{ClientId, ServerId};
use proxy::PacketSocket;
use proxy::copies::Report;
use proxy::driver::{Events, ServerConfig, ServerEvent, ServerProxy};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use transport::{Listener, kcp_transport, quic};
use zeroize::{Zeroize as _, Zeroizing};

use crate::addresses::{self, Sockets};
use crate::cli::{self, Action, Options, USAGE};
use crate::exit::Exit;
use crate::link::{Below, End, Host, Link, Settings};
use crate::ports::{self, Ports};
use crate::sys::{daemon, scope};
use crate::trace;

/// How long the client has to leave after a signal (PROTOCOL §1.9).
const SIGNAL_GRACE: Duration = Duration::from_secs(1);

/// Runs the program with its arguments, without its own name.
#[must_use]
pub fn run(arguments: &[OsString]) -> Exit {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let options = match cli::parse(&words) {
        Action::Help => return print(USAGE),
        Action::Version { detail: false } => return print(&format!("tsshd {PROGRAM_VERSION}\n")),
        Action::Version { detail: true } => return print(&build()),
        Action::Serve(options) => options,
    };
    if daemon::is_background() {
        return serve(&options);
    }
    match daemon::start(arguments) {
        Ok(()) => Exit::Normal,
        Err(error) => {
            // Standard error is the last place left to say so.
            let _ = writeln!(std::io::stderr(), "tsshd: {error}");
            match error {
                daemon::DaemonError::Start(_) => Exit::CannotDaemonise,
                daemon::DaemonError::Relay(_) => Exit::CannotRelay,
            }
        }
    }
}

fn print(text: &str) -> Exit {
    let mut stdout = std::io::stdout().lock();
    // Who asked does not listen any more: nobody is left to tell.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    Exit::Normal
}

fn build() -> String {
    let kind = if cfg!(debug_assertions) { "debug" } else { "release" };
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    format!("tsshd {PROGRAM_VERSION} protocol {PROTO_VERSION} {os}-{arch} {kind}\n")
}

/// The background process.
fn serve(options: &Options) -> Exit {
    let debug = if options.debug { trace::start() } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start the runtime").and_then(|runtime| {
        let exit = runtime.block_on(async {
            let server = Server::prepare(options)?;
            Ok(server.run(debug).await)
        });
        // Not waiting for name look-ups that may hang.
        runtime.shutdown_background();
        exit
    });
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        print(&format!("tsshd: {error:#}\n"));
        Exit::InitFailed
    })
}

/// A server whose client has been told how to reach it.
struct Server {
    proxy: ServerProxy,
    events: Events,
    listener: Listener,
    signals: Signals,
    options: Options,
    host: Host,
}

impl Server {
    /// Binds sockets, makes keys, prints the line, and lets go of the login.
    fn prepare(options: &Options) -> anyhow::Result<Self> {
        let host = Host::load();
        // Before there are keys.
        host.limits.change_for_server();
        let list = options.ports.as_deref().unwrap_or(ports::DEFAULT);
        let candidates = Ports::parse(list)?.candidates(random_below);
        let connection = std::env::var("SSH_CONNECTION").ok();
        let interfaces = interface_addresses();
        let chosen = addresses::choose(connection.as_deref(), &interfaces, options.family);
        let (mut sockets, port) = addresses::bind(&chosen, candidates, options.tcp, list)?;
        let wants_tcp = !options.tcp && options.extensions.has(Ext::Tcp);
        let mut beside = wants_tcp.then(|| addresses::bind_beside(&chosen, port)).flatten();
        let mut options = options.clone();
        let further = match options.extensions.has(Ext::Addresses) {
            false => Vec::new(),
            // All there are: the login's is not among them.
            true if chosen.len() > 1 => addresses::reachable(&chosen),
            true => {
                let further = addresses::further(&chosen, &interfaces, options.family);
                addresses::bind_further(&further, port, &mut sockets, beside.as_mut())
            }
        };
        if beside.is_none() {
            options.extensions = options.extensions.without(Ext::Tcp);
        }
        let options = &options;

        let mut key = Zeroizing::new([0; 32]);
        fill_random(&mut *key)?;
        let (client_id, server_id) = (ClientId(random_id()?), ServerId(random_id()?));
        let keys = Keys::generate(options)?;
        let ids = (client_id, server_id);
        let addrs = further.iter().map(ToString::to_string).collect();
        let info = ServerInfo { addrs, ..server_info(options, port, ids, &*key, &keys) };

        let config = ServerConfig { client_id, server_id, proxy_key: proxy::ProxyKey::new(*key) };
        let (proxy, events) = match sockets {
            Sockets::Udp(sockets) => ServerProxy::bind_udp(sockets, config),
            Sockets::Tcp(listeners) => ServerProxy::bind_tcp(listeners, config),
        }
        .context("cannot listen")?;
        proxy.add_listeners(beside.unwrap_or_default()).context("cannot listen")?;
        let listener = keys.listen(proxy.socket(), options)?;
        // Before the line, because whoever reads it may end us from then on.
        let signals = Signals::listen().context("cannot wait for signals")?;
        daemon::print_and_detach(&info.to_line()).context("cannot reach the login")?;
        Ok(Self { proxy, events, listener, signals, options: options.clone(), host })
    }

    /// Serves the client to its end.
    async fn run(self, debug: Option<trace::Messages>) -> Exit {
        let Self { proxy, mut events, listener, mut signals, options, host } = self;
        let accept = timeout(options.connect_timeout, listener.accept());
        let connection = tokio::select! {
            accepted = accept => match accepted {
                Ok(Some(connection)) => connection,
                _ => return Exit::NoClient,
            },
            _ = signals.next() => return Exit::Signal,
        };
        let warnings = host.notes().iter().cloned().chain(scope::warning()).collect();
        let link = Link::new(
            connection,
            host,
            Settings {
                granted: options.extensions,
                connect_timeout: options.connect_timeout,
                warnings,
                debug,
                output_log_bytes: options.output_log_bytes,
                below: Box::new(proxy.clone()),
            },
        );
        let follow_paths = async {
            while let Some(event) = events.next().await {
                match event {
                    ServerEvent::NewPath { first: false, after_silence: true, .. } => {
                        link.on_new_path();
                    }
                    ServerEvent::NewPath { .. } => {}
                    ServerEvent::Silent => link.set_away(true),
                    ServerEvent::Back => link.set_away(false),
                    ServerEvent::Goodbye => link.client_gone(),
                }
            }
            std::future::pending().await
        };
        let report_losses = async {
            loop {
                let Report { sent, echo, received } = proxy.next_loss_report().await;
                link.report_loss(Loss { sent, echo, received }).await;
            }
        };
        let end = tokio::select! {
            end = link.serve() => end,
            () = quit_on_signal(&mut signals, &link) => {
                link.end_sessions();
                return Exit::Signal;
            }
            never = follow_paths => never,
            never = report_losses => never,
        };
        tracing::info!(?end, "the client is served");
        proxy.close();
        match end {
            End::Closed | End::Gone => Exit::Normal,
            End::NoBus => Exit::NoClient,
            End::Silent => Exit::NoHeartbeat,
        }
    }
}

impl Below for ServerProxy {
    fn on_bus_up(&self, heartbeat_timeout: Duration, used: ExtSet) {
        self.set_bus_up(heartbeat_timeout, used.has(Ext::Silence));
        if used.has(Ext::Loss) {
            self.enable_copies();
        }
    }

    fn on_loss(&self, loss: &Loss, round_trip: Duration) {
        let Loss { sent, echo, received } = *loss;
        self.loss_reported(Report { sent, echo, received }, Some(round_trip));
    }

    fn last_contact(&self) -> Option<std::time::Instant> {
        self.last_contact()
    }
}

/// Waits for a signal, asks the client to leave, and gives it its time.
async fn quit_on_signal(signals: &mut Signals, link: &Link) {
    let name = signals.next().await;
    tracing::info!(name, "signal");
    let _ = timeout(SIGNAL_GRACE, async {
        link.quit(&format!("tsshd was told to end by {name}")).await;
        sleep(SIGNAL_GRACE).await;
    })
    .await;
}

/// The signals that end the server.
struct Signals([(&'static str, tokio::signal::unix::Signal); 3]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self([
            ("SIGTERM", signal(SignalKind::terminate())?),
            ("SIGHUP", signal(SignalKind::hangup())?),
            ("SIGINT", signal(SignalKind::interrupt())?),
        ]))
    }

    async fn next(&mut self) -> &'static str {
        let Self([(term, on_term), (hup, on_hup), (int, on_int)]) = self;
        tokio::select! {
            _ = on_term.recv() => term,
            _ = on_hup.recv() => hup,
            _ = on_int.recv() => int,
        }
    }
}

/// The keys of the transport.
enum Keys {
    /// Ours, and what the client needs.
    Quic { credentials: quic::ServerCredentials, for_client: quic::ClientCredentials },
    /// Both sides have the same.
    Kcp(kcp_transport::Secrets),
}

impl Keys {
    /// Makes keys that nobody had before.
    fn generate(options: &Options) -> anyhow::Result<Self> {
        if options.kcp {
            return Ok(Self::Kcp(kcp_transport::generate_secrets()?));
        }
        let (credentials, for_client) =
            quic::generate_credentials().context("cannot make certificates")?;
        Ok(Self::Quic { credentials, for_client })
    }

    /// Starts the transport.
    fn listen(self, socket: Arc<dyn PacketSocket>, options: &Options) -> anyhow::Result<Listener> {
        match self {
            Self::Quic { credentials, .. } => {
                let config = quic::Config {
                    packet_size: options.mtu.unwrap_or(quic::DEFAULT_PACKET_SIZE),
                    connect_timeout: options.connect_timeout,
                    ..quic::Config::default()
                };
                let listener = quic::Listener::new(socket, credentials, config);
                Ok(Listener::Quic(listener.context("cannot start the transport")?))
            }
            Self::Kcp(secrets) => {
                let config = kcp_transport::Config {
                    packet_size: options.mtu.unwrap_or(kcp_transport::DEFAULT_PACKET_SIZE),
                    ..kcp_transport::Config::default()
                };
                let listener = kcp_transport::Listener::new(socket, &secrets, config);
                Ok(Listener::Kcp(listener.context("cannot start the transport")?))
            }
        }
    }
}

fn server_info(
    options: &Options,
    port: u16,
    (client_id, server_id): (ClientId, ServerId),
    key: &[u8],
    keys: &Keys,
) -> ServerInfo {
    let secret = |bytes: &[u8]| Secret::new(bytes.to_vec());
    let info = match keys {
        Keys::Quic { for_client, .. } => ServerInfo {
            mode: MODE_QUIC.into(),
            server_cert: secret(&for_client.server_cert),
            client_cert: secret(&for_client.client_cert),
            client_key: secret(&for_client.client_key),
            ..ServerInfo::default()
        },
        Keys::Kcp(secrets) => ServerInfo {
            mode: MODE_KCP.into(),
            pass: secret(secrets.pass.as_slice()),
            salt: secret(secrets.salt.as_slice()),
            ..ServerInfo::default()
        },
    };
    ServerInfo {
        server_ver: PROGRAM_VERSION.into(),
        proto_ver: PROTO_VERSION,
        port,
        proxy_key: secret(key),
        client_id: client_id.0,
        server_id: server_id.0,
        proxy_mode: if options.tcp { PROXY_MODE_TCP.into() } else { String::new() },
        mtu: options.mtu.unwrap_or(0),
        ext: options.extensions.names(),
        ..info
    }
}

fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))
}

/// Returns a random id; 0 would be absent on the wire.
fn random_id() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes)?;
    let id = u64::from_be_bytes(bytes).max(1);
    bytes.zeroize();
    Ok(id)
}

/// Returns the machine's addresses, each once.
fn interface_addresses() -> Vec<SocketAddr> {
    let all = host::interfaces::list().unwrap_or_default();
    let mut addresses: Vec<SocketAddr> = all.into_iter().map(|one| one.address).collect();
    addresses.dedup();
    addresses
}

/// Returns a random number below `bound`, for choices that are no secret.
fn random_below(bound: usize) -> usize {
    let mut bytes = [0; size_of::<usize>()];
    // Without randomness the first choice is as good as any.
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    usize::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
}
