//! `dial-udp`, `listen-udp` and `accept-udp`: flows of datagrams (PROTOCOL §6.9).
//!
//! Channel ids count up from 1 for the whole life of the link. The policy is
//! that of connections: what may be dialled or listened at by TCP, or a unix socket, may be by UDP
//! (docs/decisions/0027).
//!
//! Invariant: nothing leaves or enters a channel before the client says that it is ready.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use host::{local, socket};
use proto::ChannelId;
use proto::open::{
    CODE_PROHIBITED, DialMessage, DialUdpResponse, IdMessage, ListenMessage, ListenResponse,
    NO_ERROR, Outcome, Ready,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use transport::channels::{Channels, Registration};
use transport::flows::{self, Connected, Flow, Peers, Pipe, conduct};
use transport::frames::{self, ReadError};
use transport::{Connection, RecvStream, SendStream};

use super::dial::DialError;
use super::farewell::{Farewell, Farewells};
use super::listen::{ListenError, addresses};
use super::parked::Parked;
use super::socket::{PRIORITY, split};
use crate::config::Policy;
use crate::config::policy::Target;
use crate::session::Host;

/// New peers of one listener that may wait to be announced.
const BACKLOG: usize = 16;

/// The datagram channels of a link.
#[derive(Debug)]
pub(crate) struct Datagrams {
    channels: Channels,
    next: AtomicU64,
    parked: Parked<(Peer, Registration)>,
}

impl Datagrams {
    /// Returns the channels of a connection whose client claims peers within `patience`.
    pub(crate) fn new(connection: Connection, patience: Duration) -> Self {
        let channels = Channels::new(connection);
        Self { channels, next: AtomicU64::new(1), parked: Parked::new(patience) }
    }

    /// Registers the next channel.
    fn register(&self) -> Registration {
        let id = ChannelId(self.next.fetch_add(1, Relaxed));
        self.channels.register(id).expect("ids are given out once")
    }
}

/// Serves a `dial-udp` stream behind its hello.
pub(crate) async fn dial(
    host: &Host,
    datagrams: &Datagrams,
    farewells: &Farewells,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let message: DialMessage = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let socket = match connect(host, &message).await {
        Ok(socket) => socket,
        Err(error) => {
            let code = if matches!(error, DialError::Refused(_)) { CODE_PROHIBITED } else { 0 };
            let refusal = DialUdpResponse { code, msg: error.to_string(), id: 0 };
            return Ok(frames::write_message(&mut send, &refusal).await?);
        }
    };
    let channel = datagrams.register();
    let response = DialUdpResponse { code: 0, msg: NO_ERROR.into(), id: channel.id().0 };
    frames::write_message(&mut send, &response).await?;
    let Ready {} = frames::read_message(&mut recv).await?;
    let channel = channel.open(send, recv);
    match socket {
        Dialled::Udp(socket) => {
            let bytes = message.farewell.0;
            let keep = |to| farewells.keep(Farewell { to, is_tcp: false, bytes });
            let _farewell = socket.peer_addr().ok().and_then(keep);
            conduct(Connected::new(socket), channel, None).await;
        }
        Dialled::Unix(socket) => conduct(Connected::new(socket), channel, None).await,
    }
    Ok(())
}

/// A socket that is connected to where a flow leads.
enum Dialled {
    Udp(UdpSocket),
    Unix(Gram),
}

/// A connected unix socket.
struct Gram(local::Gram);

impl Pipe for Gram {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer).await
    }

    async fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.0.send(payload).await
    }
}

/// A unix socket that others send to; who has no name cannot be answered.
#[derive(Debug)]
struct GramListener(local::GramListener);

impl flows::Socket for GramListener {
    type Peer = Option<PathBuf>;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Peer)> {
        self.0.recv_from(buffer).await
    }

    async fn send(&self, payload: &[u8], to: &Self::Peer) -> io::Result<()> {
        let to = to.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.0.send_to(payload, to).await
    }
}

/// A peer of a listener.
#[derive(Debug)]
enum Peer {
    Udp(Flow<UdpSocket>),
    Gram(Flow<GramListener>),
}

/// What a listener takes datagrams at.
enum Bound {
    Udp(Vec<UdpSocket>),
    Gram(GramListener),
}

/// Makes a socket that is connected to where the message says.
async fn connect(host: &Host, message: &DialMessage) -> Result<Dialled, DialError> {
    let policy = &host.policy;
    let failed = |error| DialError::Connect { to: message.addr.clone(), error };
    if message.net == "unixgram" {
        policy.permits_dial(Target::Unix)?;
        let socket = local::Gram::connect(&message.addr);
        return socket.map(|socket| Dialled::Unix(Gram(socket))).map_err(failed);
    }
    let wants = match message.net.as_str() {
        "udp" => |_: &SocketAddr| true,
        "udp4" => SocketAddr::is_ipv4,
        "udp6" => SocketAddr::is_ipv6,
        other => return Err(DialError::Network(other.chars().take(40).collect())),
    };
    let (host, port) = split(&message.addr)
        .ok_or_else(|| DialError::Address(message.addr.chars().take(300).collect()))?;
    policy.permits_dial(Target::Tcp(host, port))?;
    let connect = async {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let found = tokio::net::lookup_host((host, port)).await?.filter(wants);
        let mut found: Vec<SocketAddr> = found.collect();
        // Nobody answers a connect of UDP, so a second address would never be tried: first
        // the family in which more is listened at, above all for "localhost".
        found.sort_by_key(SocketAddr::is_ipv6);
        for address in found {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
            // Nothing is sent: this only finds that there is a route.
            match socket.connect(address).await {
                Ok(()) => return Ok(Dialled::Udp(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    if message.timeout.is_zero() {
        return connect.await.map_err(failed);
    }
    let timed_out = |_| failed(io::Error::from(io::ErrorKind::TimedOut));
    timeout(message.timeout, connect).await.map_err(timed_out)?.map_err(failed)
}

/// Serves a `listen-udp` stream behind its hello, until the client closes it.
pub(crate) async fn listen(
    policy: &Policy,
    datagrams: &Datagrams,
    tells_port: bool,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let message: ListenMessage = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let bound = match bind(policy, &message).await {
        Ok(bound) => bound,
        Err(error) => {
            let code = if matches!(error, ListenError::Refused(_)) { CODE_PROHIBITED } else { 0 };
            let refusal = ListenResponse { code, msg: error.to_string(), port: 0 };
            return Ok(frames::write_message(&mut send, &refusal).await?);
        }
    };
    let port = if tells_port { given_port(&message, &bound) } else { 0 };
    let response = ListenResponse { code: 0, msg: NO_ERROR.into(), port };
    frames::write_message(&mut send, &response).await?;
    let (found, mut flows) = mpsc::channel(BACKLOG);
    let mut tasks = JoinSet::new();
    match bound {
        Bound::Udp(sockets) => {
            for socket in sockets {
                tasks.spawn(find_peers(socket, found.clone(), Peer::Udp));
            }
        }
        Bound::Gram(socket) => drop(tasks.spawn(find_peers(socket, found, Peer::Gram))),
    }
    // Nothing more is said on it: whatever comes is its end.
    let mut end = [0];
    loop {
        tokio::select! {
            Some(flow) = flows.recv() => {
                let Some(place) = datagrams.parked.try_room() else { continue };
                let channel = datagrams.register();
                let id = channel.id().0;
                datagrams.parked.park_as(id, (flow, channel), place);
                frames::write_message(&mut send, &IdMessage { id }).await?;
            }
            _ = recv.read(&mut end) => return Ok(()),
        }
    }
}

/// Hands on whoever sends to a socket and is not known yet.
async fn find_peers<S: flows::Socket>(
    socket: S,
    found: mpsc::Sender<Peer>,
    peer: fn(Flow<S>) -> Peer,
) {
    let mut peers = Peers::new(socket);
    loop {
        let flow = peers.next().await;
        // Known peers are served whether or not there is room for new ones: who finds none is
        // somebody new with its next datagram.
        let _ = found.try_send(peer(flow));
    }
}

/// Binds every address that can be bound, all at one port; or a unix socket.
async fn bind(policy: &Policy, message: &ListenMessage) -> Result<Bound, ListenError> {
    let failed = |error| ListenError::Bind { at: message.addr.clone(), error };
    if message.net == "unixgram" {
        policy.permits_listen(Target::Unix)?;
        let (mask, unlink) = policy.stream_local_bind();
        let path = Path::new(&message.addr);
        if unlink {
            local::clear_place(path).map_err(failed)?;
        }
        let socket = local::GramListener::bind(path, mask).map_err(failed)?;
        return Ok(Bound::Gram(GramListener(socket)));
    }
    let wants = match message.net.as_str() {
        "udp" => |_: &IpAddr| true,
        "udp4" => IpAddr::is_ipv4,
        "udp6" => IpAddr::is_ipv6,
        other => return Err(ListenError::Network(other.chars().take(40).collect())),
    };
    let (host, mut port) = split(&message.addr)
        .ok_or_else(|| ListenError::Address(message.addr.chars().take(300).collect()))?;
    policy.permits_listen(Target::Tcp(host, port))?;
    let addresses = addresses(host, policy.gateway_ports()).await.map_err(failed)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut sockets = Vec::new();
    for address in addresses.into_iter().filter(wants) {
        match socket::bind_udp(SocketAddr::new(address, port)) {
            Ok(socket) => {
                if let Ok(bound) = socket.local_addr() {
                    // Where the system chooses, it chooses once.
                    port = bound.port();
                }
                sockets.push(socket);
            }
            Err(error) => last = error,
        }
    }
    if sockets.is_empty() { Err(failed(last)) } else { Ok(Bound::Udp(sockets)) }
}

/// Returns the port the system chose, where it was to choose.
fn given_port(message: &ListenMessage, bound: &Bound) -> u16 {
    let Bound::Udp(sockets) = bound else { return 0 };
    let asked = message.addr.rsplit_once(':').is_some_and(|(_, port)| port == "0");
    let bound = sockets.first().and_then(|socket| socket.local_addr().ok());
    bound.filter(|_| asked).map_or(0, |address| address.port())
}

/// Serves an `accept-udp` stream behind its hello.
pub(crate) async fn claim(
    datagrams: &Datagrams,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let IdMessage { id } = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let Some((peer, channel)) = datagrams.parked.claim(id) else {
        let refusal = Outcome::failure(format!("no peer {id} waits to be claimed"));
        return Ok(frames::write_message(&mut send, &refusal).await?);
    };
    frames::write_message(&mut send, &Outcome::success()).await?;
    let channel = channel.open(send, recv);
    match peer {
        Peer::Udp(flow) => conduct(flow, channel, None).await,
        Peer::Gram(flow) => conduct(flow, channel, None).await,
    }
    Ok(())
}
