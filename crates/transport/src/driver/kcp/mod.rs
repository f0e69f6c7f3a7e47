//! KCP over a packet socket (PROTOCOL §4, §5).
//!
//! [`connect`] and [`Listener`] make connections; [`Config`] and [`Secrets`]
//! say how. All of the protocol is in [`crate::stack`]; here are the lock
//! around it (`shared`), the task that moves packets and arms the timer (`task`), and
//! the two halves of a stream (`stream`).
//!
//! There is no handshake: a peer with other secrets looks like one that is not
//! there, and who needs an answer has to ask on a stream. There is no
//! packet that closes either: [`Connection::close`] ends the streams, as far as
//! that gets out at once.
//!
//! Not here: anything about addresses. Invariant: the lock is not held while
//! calling the packet socket.

mod shared;
mod stream;
mod task;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proxy::PacketSocket;
use tokio::sync::{Mutex, oneshot};
use zeroize::Zeroizing;

use super::{Connection, ConnectionError, ConnectionKind, DatagramError};
use crate::congestion::Paced;
use crate::crypt::{PublicPoint, SECRET_LEN};
use crate::kcp::Control;
use crate::stack::{self, DATAGRAM_OVERHEAD, Entropy, KeyExchangeError, Stack};
use shared::{Handle, Shared};

pub use crate::stack::Secrets;
pub(super) use stream::{KcpRecvStream, KcpSendStream};

/// The largest packet sent, in bytes: what the proxy carries (PROTOCOL §2.1).
const MAX_PACKET_SIZE: u16 = 1452;
/// The smallest packet sent, in bytes: the least IPv4 hosts must take, whole.
const MIN_PACKET_SIZE: u16 = 576;
/// The packet size where nobody asked for another, in bytes.
pub const DEFAULT_PACKET_SIZE: u16 = 1400;

/// What may be chosen for one connection.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Size in bytes of the packets sent; default 1400. Values outside
    /// 576..=1452 are brought to the nearest allowed one; the peer may send
    /// others (PROTOCOL §4.5).
    pub packet_size: u16,
    /// How many streams may be open at a time; default 4096. The wire has no
    /// way to tell the peer.
    pub max_streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        let smux = crate::smux::Config::default();
        Self { packet_size: DEFAULT_PACKET_SIZE, max_streams: smux.max_streams }
    }
}

impl Config {
    fn stack(self) -> stack::Config {
        let packet_size = self.packet_size.clamp(MIN_PACKET_SIZE, MAX_PACKET_SIZE);
        stack::Config { packet_size, max_streams: self.max_streams }
    }
}

/// The system gives no random numbers, so that nothing can be sealed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct NoEntropy(getrandom::Error);

/// Draws the secrets of a new server.
///
/// # Errors
/// [`NoEntropy`].
pub fn generate_secrets() -> Result<Secrets, NoEntropy> {
    Ok(Secrets { pass: random::<SECRET_LEN>()?, salt: random::<SECRET_LEN>()? })
}

/// Connects to the server at the other end of `socket`.
///
/// Nothing is sent before a stream is opened and written to, and nothing is
/// waited for. Must be called within a tokio runtime.
///
/// # Errors
/// [`NoEntropy`].
pub fn connect(
    socket: Arc<dyn PacketSocket>,
    secrets: &Secrets,
    config: Config,
) -> Result<Connection, NoEntropy> {
    let config = config.stack();
    let stack = Stack::client(real_now(), secrets, entropy()?, config, control(config));
    Ok(start(socket, stack, config, None))
}

/// Waits for the client at the other end of a packet socket.
///
/// Whoever holds the secrets is the client; a second conversation is ignored.
#[derive(Debug)]
pub struct Listener {
    connection: Connection,
    established: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Listener {
    /// Starts to listen; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub fn new(
        socket: Arc<dyn PacketSocket>,
        secrets: &Secrets,
        config: Config,
    ) -> Result<Self, NoEntropy> {
        let config = config.stack();
        let stack = Stack::server(secrets, entropy()?, config, control(config));
        let (sender, receiver) = oneshot::channel();
        let connection = start(socket, stack, config, Some(sender));
        Ok(Self { connection, established: Mutex::new(Some(receiver)) })
    }

    /// Waits for the client's first packet; `None` when there already was one,
    /// or the packet socket was closed.
    ///
    /// # Cancel safety
    /// The client is not lost if the future is dropped.
    pub async fn accept(&self) -> Option<Connection> {
        let mut established = self.established.lock().await;
        let heard = established.as_mut()?.await;
        *established = None;
        heard.ok().map(|()| self.connection.clone())
    }
}

fn start(
    socket: Arc<dyn PacketSocket>,
    stack: Stack,
    config: stack::Config,
    established: Option<oneshot::Sender<()>>,
) -> Connection {
    let shared = Arc::new(Shared::new(stack, established));
    tokio::spawn(task::Task::new(socket, shared.clone()));
    let max_datagram = usize::from(config.packet_size) - DATAGRAM_OVERHEAD;
    let handle = Arc::new(Handle(shared));
    Connection(ConnectionKind::Kcp(KcpConnection { handle, max_datagram }))
}

/// What limits a conversation besides the windows.
fn control(config: stack::Config) -> Box<dyn Control> {
    Box::new(Paced::new(real_now(), config.packet_size.into()))
}

fn entropy() -> Result<Entropy, NoEntropy> {
    Ok(Entropy { seed: random()?, conv: u32::from_ne_bytes(*random()?) })
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoEntropy> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(NoEntropy)?;
    Ok(bytes)
}

/// Returns the real time, which tests may move (tokio's paused clock).
fn real_now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A connection over KCP.
#[derive(Clone)]
pub(super) struct KcpConnection {
    handle: Arc<Handle>,
    max_datagram: usize,
}

impl KcpConnection {
    pub(super) async fn open_stream(
        &self,
    ) -> Result<(KcpSendStream, KcpRecvStream), ConnectionError> {
        let id = self.handle.0.open().await?;
        Ok(stream::halves(&self.handle, id))
    }

    pub(super) async fn accept_stream(
        &self,
    ) -> Result<(KcpSendStream, KcpRecvStream), ConnectionError> {
        let id = self.handle.0.accept().await?;
        Ok(stream::halves(&self.handle, id))
    }

    pub(super) async fn send_datagram(&self, payload: Bytes) -> Result<(), DatagramError> {
        let (size, limit) = (payload.len(), self.max_datagram);
        if size > limit {
            return Err(DatagramError::TooLarge { size, limit });
        }
        Ok(self.handle.0.send_datagram(payload.into()).await?)
    }

    pub(super) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        self.handle.0.read_datagram().await
    }

    pub(super) const fn max_datagram_size(&self) -> usize {
        self.max_datagram
    }

    pub(super) fn close(&self) {
        self.handle.0.end(ConnectionError::ClosedLocally);
    }

    pub(super) async fn closing_sent(&self) {
        self.handle.0.flushed().await;
    }

    pub(super) async fn closed(&self) -> ConnectionError {
        self.handle.0.closed().await
    }

    pub(super) fn rtt(&self) -> Duration {
        self.handle.0.lock().stack.rtt()
    }

    pub(super) fn was_heard(&self) -> bool {
        self.handle.0.lock().stack.was_heard()
    }

    pub(super) fn tell_stops(&self) {
        self.handle.0.lock().stack.tell_stops();
    }

    pub(super) fn update_keys(&self) {
        self.handle.0.update_keys();
    }

    pub(super) async fn key_request(&self) -> PublicPoint {
        self.handle.0.key_request().await
    }

    pub(super) fn handle_key_answer(&self, answer: &[u8]) -> Result<(), KeyExchangeError> {
        self.handle.0.handle_key_answer(answer)
    }

    pub(super) fn answer_keys(&self, request: &[u8]) -> Result<PublicPoint, KeyExchangeError> {
        self.handle.0.answer_keys(request)
    }

    pub(super) fn has_exchanged_keys(&self) -> bool {
        self.handle.0.lock().stack.has_exchanged_keys()
    }
}

impl fmt::Debug for KcpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.0.lock().stack.fmt(f)
    }
}
