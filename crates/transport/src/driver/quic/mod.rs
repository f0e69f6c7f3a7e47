//! QUIC by quinn, over a packet socket (PROTOCOL §3).
//!
//! [`connect`] and [`Listener`] make connections; [`Config`] and the
//! credentials say how. The parts: `socket` shows the packet socket to quinn,
//! `clock` keeps outages from it, `gate` more data than it can send, `replay` sends
//! what they swallowed once more, `acceptance` tells the proxy which packets
//! were genuine, `config` and `tls` hold the settings of §3.1 and §3.2.
//!
//! Not here: anything about addresses. Invariant: no lock of ours is held
//! while calling quinn or the packet socket.

mod acceptance;
mod clock;
mod config;
mod control;
mod failure;
mod gate;
mod listener;
mod replay;
mod socket;
mod stream;
mod tls;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proxy::PacketSocket;
use quinn::{EndpointConfig, VarInt};
use tokio::time::timeout;

use acceptance::{Acceptance, Watched};
use clock::Clock;
use gate::{Gate, Place};
use listener::AbortOnDrop;
use socket::Adapter;

use super::{Connection, ConnectionError, ConnectionKind, DatagramError};

pub use config::{Config, DEFAULT_PACKET_SIZE, MAX_PACKET_SIZE, MIN_PACKET_SIZE};
pub use control::ModelFactory;
pub use failure::ConnectError;
pub use listener::Listener;
pub(super) use stream::{QuicRecvStream, QuicSendStream};
pub use tls::{
    ClientCredentials, CredentialsError, Owner, ServerCredentials, generate_credentials,
};

/// The code of every close and reset we send, and of every stop but one (PROTOCOL §3.3, §3.4).
const NORMAL: VarInt = VarInt::from_u32(0);
/// The code of a stop that tells one of ours of a failure; every code but 0 does (PROTOCOL §3.3).
const BROKEN: VarInt = VarInt::from_u32(1);
/// A datagram's size is the packet size less this (PROTOCOL §3.6).
const DATAGRAM_OVERHEAD: usize = 37;
/// Length of the connection ids we choose as a client: none is needed, as in
/// the reference, because the packet socket has one peer.
const CLIENT_ID_LEN: usize = 0;
/// Length of the connection ids we choose as a server, as in the reference.
const SERVER_ID_LEN: usize = 4;

/// Turns of the runtime after which everything woken before has run.
const CLOSING_TURNS: usize = 8;

/// Connects to the server at the other end of `socket`.
///
/// Returns when the server has proven itself; a server that does not like our
/// certificate says so only after that, and the connection then ends with
/// [`ConnectionError::Handshake`].
///
/// # Errors
/// See [`ConnectError`]; the packet socket stays usable for another attempt.
/// # Cancel safety
/// Dropping the future gives up the attempt.
pub async fn connect(
    socket: Arc<dyn PacketSocket>,
    credentials: ClientCredentials,
    config: Config,
) -> Result<Connection, ConnectError> {
    let link = Link::new(socket);
    let tls = Watched::new(tls::client_config(&credentials)?, link.acceptance.clone());
    drop(credentials); // wiped, before anything is waited for
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(config::transport(&config, &link));
    let endpoint = link.endpoint(None, CLIENT_ID_LEN)?;
    let connecting = endpoint
        .connect_with(client, socket::PEER, tls::SERVER_NAME)
        .map_err(|error| ConnectError::Local(error.to_string()))?;
    match timeout(config.connect_timeout, connecting).await {
        Ok(Ok(inner)) => Ok(link.connection(&config, endpoint, inner, None)),
        Ok(Err(error)) => Err(ConnectError::Failed(link.failure(&error))),
        Err(_) => Err(ConnectError::Timeout { after: config.connect_timeout }),
    }
}

/// What lies between quinn and the packet socket.
#[derive(Clone, Debug)]
struct Link {
    adapter: Arc<Adapter>,
    acceptance: Arc<Acceptance>,
    clock: Clock,
    gate: Gate,
    /// Whether stops may tell of failures; see [`Connection::tell_stops`].
    tells_breaks: Arc<AtomicBool>,
}

impl Link {
    fn new(socket: Arc<dyn PacketSocket>) -> Self {
        let clock = Clock::new();
        let acceptance = Arc::new(Acceptance::new(socket.clone()));
        let adapter = Arc::new(Adapter::new(socket, acceptance.clone(), clock.clone()));
        Self { adapter, acceptance, clock, gate: Gate::default(), tells_breaks: Arc::default() }
    }

    fn endpoint(
        &self,
        server: Option<quinn::ServerConfig>,
        id_len: usize,
    ) -> Result<quinn::Endpoint, ConnectError> {
        let mut config = EndpointConfig::default();
        config
            .max_udp_payload_size(MAX_PACKET_SIZE)
            .expect("the proxy's largest packet is larger than QUIC's smallest")
            .cid_generator(move || Box::new(quinn_proto::RandomConnectionIdGenerator::new(id_len)));
        let runtime = Arc::new(self.clock.clone());
        quinn::Endpoint::new_with_abstract_socket(config, server, self.adapter.clone(), runtime)
            .map_err(|error| ConnectError::Local(error.to_string()))
    }

    fn connection(
        self,
        config: &Config,
        endpoint: quinn::Endpoint,
        inner: quinn::Connection,
        listener: Option<Arc<AbortOnDrop>>,
    ) -> Connection {
        let most_datagram = usize::from(config.clamped_packet_size()) - DATAGRAM_OVERHEAD;
        Connection(ConnectionKind::Quic(QuicConnection {
            inner,
            link: self,
            most_datagram,
            _endpoint: endpoint,
            _listener: listener,
        }))
    }

    /// Puts the end of a connection into our words.
    fn failure(&self, error: &quinn::ConnectionError) -> ConnectionError {
        if self.adapter.is_closed() {
            return ConnectionError::SocketClosed;
        }
        failure::connection_error(error)
    }
}

/// A connection over QUIC.
#[derive(Clone, Debug)]
pub(super) struct QuicConnection {
    inner: quinn::Connection,
    link: Link,
    most_datagram: usize,
    /// Keeps the endpoint's driver running.
    _endpoint: quinn::Endpoint,
    /// Keeps refusing further clients; servers only.
    _listener: Option<Arc<AbortOnDrop>>,
}

impl QuicConnection {
    pub(super) async fn open_stream(
        &self,
    ) -> Result<(QuicSendStream, QuicRecvStream), ConnectionError> {
        let (send, recv) = self.inner.open_bi().await.map_err(|error| self.link.failure(&error))?;
        Ok((QuicSendStream::new(send, &self.link), QuicRecvStream::new(recv, &self.link)))
    }

    pub(super) async fn accept_stream(
        &self,
    ) -> Result<(QuicSendStream, QuicRecvStream), ConnectionError> {
        let (send, recv) =
            self.inner.accept_bi().await.map_err(|error| self.link.failure(&error))?;
        Ok((QuicSendStream::new(send, &self.link), QuicRecvStream::new(recv, &self.link)))
    }

    pub(super) async fn send_datagram(&self, payload: Bytes) -> Result<(), DatagramError> {
        let (size, limit) = (payload.len(), self.max_datagram_size());
        if limit > 0 && size > limit {
            return Err(DatagramError::TooLarge { size, limit });
        }
        let mut place = Place::of_datagram(&self.link.gate);
        // Waits until quinn has little to send, or the connection has ended.
        tokio::select! {
            _ = poll_fn(|cx| place.poll_room(cx)) => {}
            _ = self.inner.closed() => {}
        }
        let sent = self.inner.send_datagram_wait(payload).await;
        if sent.is_ok() {
            place.on_given(size);
        }
        sent.map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => DatagramError::TooLarge { size, limit },
            quinn::SendDatagramError::UnsupportedByPeer | quinn::SendDatagramError::Disabled => {
                DatagramError::Unsupported
            }
            quinn::SendDatagramError::ConnectionLost(error) => {
                DatagramError::Connection(self.link.failure(&error))
            }
        })
    }

    pub(super) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        self.inner.read_datagram().await.map_err(|error| self.link.failure(&error))
    }

    pub(super) fn tell_stops(&self) {
        self.link.tells_breaks.store(true, Ordering::Relaxed);
    }

    pub(super) fn max_datagram_size(&self) -> usize {
        self.inner.max_datagram_size().map_or(0, |size| size.min(self.most_datagram))
    }

    pub(super) fn close(&self) {
        self.inner.close(NORMAL, b"");
    }

    pub(super) async fn closing_sent(&self) {
        // The connection's driver is woken already; once it and those woken
        // before it have run, the packet is with the packet socket.
        for _ in 0..CLOSING_TURNS {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn closed(&self) -> ConnectionError {
        self.link.failure(&self.inner.closed().await)
    }

    pub(super) fn update_keys(&self) {
        self.inner.force_key_update();
    }

    pub(super) fn rtt(&self) -> Duration {
        self.inner.rtt()
    }
}
