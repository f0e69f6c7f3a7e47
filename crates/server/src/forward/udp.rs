//! `dial-udp`, `listen-udp` and `accept-udp`: flows of datagrams (PROTOCOL §6.9).
//!
//! Channel ids count up from 1 for the whole life of the link. The policy is
//! that of connections: what may be dialled or listened at by TCP, or a unix socket, may be by UDP
//! (docs/decisions/0027).
//!
//! Invariant: nothing leaves or enters a channel before the client says that it is ready.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use host::{local, socket};
use proto::ChannelId;
use proto::open::{
    DialMessage, DialUdpResponse, IdMessage, ListenMessage, NO_ERROR, Outcome, Ready,
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

use super::dial::{Destination, DialError};
use super::farewell::{Farewell, Farewells};
use super::listen::{ListenError, Places, answer};
use super::parked::Parked;
use super::socket::PRIORITY;
use crate::config::Policy;
use crate::config::policy::Target;

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
    policy: &Policy,
    datagrams: &Datagrams,
    farewells: &Farewells,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let message: DialMessage = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let socket = match connect(policy, &message).await {
        Ok(socket) => socket,
        Err(error) => {
            let refusal = DialUdpResponse { code: error.code(), msg: error.to_string(), id: 0 };
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
        self.0.send(payload)
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
        self.0.send_to(payload, to)
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

impl Bound {
    /// Returns the address of a port.
    fn place(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(sockets) => sockets.first()?.local_addr().ok(),
            Self::Gram(_) => None,
        }
    }
}

/// Makes a socket that is connected to where the message says.
async fn connect(policy: &Policy, message: &DialMessage) -> Result<Dialled, DialError> {
    let failed = |error| DialError::Connect { to: message.addr.clone(), error };
    if message.net == "unixgram" {
        policy.permits_dial(Target::Unix)?;
        let socket = local::Gram::connect(&message.addr);
        return socket.map(|socket| Dialled::Unix(Gram(socket))).map_err(failed);
    }
    let to = Destination::read(policy, message, ["udp", "udp4", "udp6"])?;
    let connect = async {
        let found = tokio::net::lookup_host((to.host, to.port)).await?;
        host::udp::connect(found.filter(to.wants)).await.map(Dialled::Udp)
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
    let bound = bind(policy, &message).await;
    let place = |bound: &Bound| bound.place().filter(|_| tells_port);
    let Some(bound) = answer(&mut send, &message, bound, place).await? else { return Ok(()) };
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
    let places = Places::read(policy, message, ["udp", "udp4", "udp6"]).await?;
    places.bind(socket::bind_udp, UdpSocket::local_addr).map(Bound::Udp).map_err(failed)
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
