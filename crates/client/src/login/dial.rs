//! Dialling: name to addresses, addresses to one TCP connection; or what stands in its place, a
//! proxy command or a stream through a jump host.
//!
//! All addresses are tried in the resolver's order, as OpenSSH does; which
//! address answered matters later, because the UDP link starts from it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::interfaces;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::LoginError;
use crate::config::Proxy;
use crate::config::settings::Settings;
use crate::proxy_command::{self, ProxyCommand};
use crate::remote::RemoteStream;
use crate::request;

/// A fresh connection to the ssh server.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn Stream>,
    /// The server's address, where the connection is a socket of ours.
    pub(super) peer: Option<SocketAddr>,
    /// When the server must have shown its host key (ConnectTimeout).
    pub(super) deadline: Option<Instant>,
    /// How long it took to connect, where the connection is a socket of ours.
    pub(super) round_trip: Option<Duration>,
}

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Dialled {
    /// A connection of which only the two ends are known.
    fn limited(settings: &Settings, stream: impl Stream + 'static) -> Self {
        let deadline = settings.connect_timeout.map(|limit| Instant::now() + limit);
        Self { stream: Box::new(stream), peer: None, deadline, round_trip: None }
    }
}

/// Takes a connection that a jump host made.
pub(super) fn through(settings: &Settings, stream: RemoteStream) -> Dialled {
    Dialled::limited(settings, tokio::io::join(stream.read, stream.write))
}

/// Connects to the ssh server.
pub(super) async fn dial(settings: &Settings) -> Result<Dialled, LoginError> {
    let Proxy::Command(template) = &settings.proxy else {
        return connect(settings).await;
    };
    let failed = |reason: String| LoginError::ProxyCommand { reason };
    let command = settings.proxy_command(template, settings.port).map_err(failed)?;
    tracing::debug!("Executing proxy command: {command}");
    let started = match settings.proxy_hands_over {
        false => ProxyCommand::start(&command).map(|proxy| Dialled::limited(settings, proxy)),
        true => {
            let socket = proxy_command::receive_socket(&command).await;
            socket.map(|socket| Dialled::limited(settings, socket))
        }
    };
    started.map_err(|error| failed(system_words(&error)))
}

/// Connects to the first address that answers.
async fn connect(settings: &Settings) -> Result<Dialled, LoginError> {
    let addresses = resolve(settings).await?;
    let failed = |error: &io::Error| LoginError::Connect {
        host: settings.host_name.clone(),
        port: settings.port,
        reason: system_words(error),
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut unbound = None;
    for attempt in 0..settings.connection_attempts.max(1) {
        if attempt > 0 {
            // OpenSSH waits a second between attempts, too.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for &peer in &addresses {
            let deadline = settings.connect_timeout.map(|limit| Instant::now() + limit);
            let socket = match socket_for(peer, settings).await {
                Ok(socket) => socket,
                // An address of the other family may do.
                Err(error @ LoginError::Bind { .. }) => {
                    unbound = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (host, address) = (&settings.host_name, peer.ip());
            tracing::debug!("Connecting to {host} [{address}] port {}.", peer.port());
            let began = Instant::now();
            let connected = match deadline {
                None => socket.connect(peer).await,
                Some(deadline) => tokio::time::timeout_at(deadline, socket.connect(peer))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            };
            match connected {
                Ok(stream) => {
                    tracing::debug!("Connection established.");
                    let (stream, peer) = (Box::new(stream), Some(peer));
                    let round_trip = Some(began.elapsed());
                    return Ok(Dialled { stream, peer, deadline, round_trip });
                }
                Err(error) => {
                    let why = system_words(&error);
                    tracing::debug!("connect to address {address} port {}: {why}", peer.port());
                    last = error;
                    unbound = None;
                }
            }
        }
    }
    Err(unbound.unwrap_or_else(|| failed(&last)))
}

async fn resolve(settings: &Settings) -> Result<Vec<SocketAddr>, LoginError> {
    let failed = |reason: String| LoginError::Resolve { host: settings.host_name.clone(), reason };
    let found = tokio::net::lookup_host((settings.host_name.as_str(), settings.port))
        .await
        .map_err(|error| failed(resolver_words(&error)))?;
    let addresses: Vec<SocketAddr> =
        found.filter(|address| settings.address_family.allows(address)).collect();
    if addresses.is_empty() {
        return Err(failed("Address family for hostname not supported".into()));
    }
    Ok(addresses)
}

/// A socket for `peer`, bound as BindAddress or BindInterface say.
async fn socket_for(peer: SocketAddr, settings: &Settings) -> Result<TcpSocket, LoginError> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket
        .and_then(|socket| {
            // Without this the last small packet of every flight waits for an
            // acknowledgement, which is a round trip.
            socket.set_nodelay(true)?;
            socket.set_keepalive(settings.tcp_keep_alive)?;
            mark(&socket, peer, settings);
            Ok(socket)
        })
        .map_err(|error| LoginError::Connect {
            host: settings.host_name.clone(),
            port: settings.port,
            reason: system_words(&error),
        })?;
    if let Some(local) = local_address(peer, settings).await? {
        let failed =
            |error| LoginError::Bind { name: local.ip().to_string(), reason: system_words(&error) };
        socket.bind(local).map_err(failed)?;
    }
    Ok(socket)
}

/// Marks what is sent as IPQoS says, from the first packet on. A system that refuses takes away
/// quality, not function.
fn mark(socket: &TcpSocket, peer: SocketAddr, settings: &Settings) {
    let Some(mark) = settings.marks.of(request::is_interactive(settings)) else { return };
    let result = match peer {
        SocketAddr::V4(_) => socket.set_tos_v4(mark.into()),
        SocketAddr::V6(_) => host::socket::set_traffic_class(socket, mark.into()),
    };
    if let Err(error) = result {
        tracing::debug!(%error, mark, "packets are not marked");
    }
}

/// Where to connect from, of the family of `peer`.
async fn local_address(
    peer: SocketAddr,
    settings: &Settings,
) -> Result<Option<SocketAddr>, LoginError> {
    let same_family = |address: &SocketAddr| address.is_ipv4() == peer.is_ipv4();
    if let Some(name) = &settings.bind_address {
        let failed = |reason| LoginError::Bind { name: name.clone(), reason };
        let found = tokio::net::lookup_host((name.as_str(), 0)).await;
        let found = found.map_err(|error| failed(resolver_words(&error)))?.find(same_family);
        return match found {
            Some(address) => Ok(Some(address)),
            None => Err(failed("Address family for hostname not supported".into())),
        };
    }
    let Some(interface) = &settings.bind_interface else { return Ok(None) };
    let failed = |reason: String| LoginError::Bind { name: interface.clone(), reason };
    let all = interfaces::list().map_err(|error| failed(system_words(&error)))?;
    let its = all.into_iter().filter(|one| one.name == interface.as_bytes());
    // Addresses that reach beyond the link come first, as in OpenSSH's `check_ifaddrs`.
    let mut fitting: Vec<SocketAddr> = its.map(|one| one.address).filter(same_family).collect();
    fitting.sort_by_key(|address| is_near(address.ip()));
    match fitting.first() {
        Some(address) => Ok(Some(*address)),
        None => Err(failed("no suitable addresses".into())),
    }
}

/// Whether an address means something on this machine or link only.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

/// The system's words for an error, without Rust's "(os error N)".
pub(super) fn system_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
        return "Connection timed out".into();
    }
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.into(),
        None => text,
    }
}

fn resolver_words(error: &io::Error) -> String {
    let text = system_words(error);
    // std puts its own words before those of getaddrinfo(3).
    match text.strip_prefix("failed to lookup address information: ") {
        Some(words) => words.into(),
        None => text,
    }
}
