//! The tokio half: the one face of both transports, and the drivers behind it.
//!
//! Each type here is an enum over the transports and only forwards. No
//! protocol knowledge: that is in [`quic`] and [`kcp`].

mod burst;
pub mod channels;
mod error;
pub mod flows;
pub mod frames;
pub mod kcp;
pub mod quic;
pub mod relay;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::crypt::PublicPoint;
use crate::stack::KeyExchangeError;

use burst::Burst;
pub use error::{ConnectionError, DatagramError, HandshakeFailure};

/// A connection to the peer: streams, opened by the client, and datagrams.
///
/// Cheap to clone; all clones are the same connection. It is closed when the
/// last clone and the last stream are gone.
#[derive(Clone, Debug)]
pub struct Connection(ConnectionKind);

#[derive(Clone, Debug)]
enum ConnectionKind {
    Quic(quic::QuicConnection),
    Kcp(kcp::KcpConnection),
}

impl Connection {
    /// Opens a stream, waiting for the peer to allow one more.
    ///
    /// The peer learns of it with the first bytes sent.
    ///
    /// # Errors
    /// When the connection has ended.
    /// # Cancel safety
    /// Nothing is opened if the future is dropped.
    pub async fn open_stream(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match &self.0 {
            ConnectionKind::Quic(connection) => {
                let (send, recv) = connection.open_stream().await?;
                Ok((SendStream::new(SendKind::Quic(send)), RecvStream(RecvKind::Quic(recv))))
            }
            ConnectionKind::Kcp(connection) => {
                let (send, recv) = connection.open_stream().await?;
                Ok((SendStream::new(SendKind::Kcp(send)), RecvStream(RecvKind::Kcp(recv))))
            }
        }
    }

    /// Waits for the next stream the peer opens.
    ///
    /// # Errors
    /// When the connection has ended.
    /// # Cancel safety
    /// No stream is lost if the future is dropped.
    pub async fn accept_stream(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match &self.0 {
            ConnectionKind::Quic(connection) => {
                let (send, recv) = connection.accept_stream().await?;
                Ok((SendStream::new(SendKind::Quic(send)), RecvStream(RecvKind::Quic(recv))))
            }
            ConnectionKind::Kcp(connection) => {
                let (send, recv) = connection.accept_stream().await?;
                Ok((SendStream::new(SendKind::Kcp(send)), RecvStream(RecvKind::Kcp(recv))))
            }
        }
    }

    /// Queues an unreliable datagram, waiting for room in the queue: while there is no path
    /// it soon is full.
    ///
    /// # Errors
    /// See [`DatagramError`].
    /// # Cancel safety
    /// Nothing is sent if the future is dropped.
    pub async fn send_datagram(&self, payload: Bytes) -> Result<(), DatagramError> {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.send_datagram(payload).await,
            ConnectionKind::Kcp(connection) => connection.send_datagram(payload).await,
        }
    }

    /// Waits for the next datagram of the peer.
    ///
    /// # Errors
    /// When the connection has ended.
    /// # Cancel safety
    /// No datagram is lost if the future is dropped.
    pub async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.read_datagram().await,
            ConnectionKind::Kcp(connection) => connection.read_datagram().await,
        }
    }

    /// Returns the size in bytes of the largest datagram that may be sent: packet size − 37
    /// (PROTOCOL §3.6), − 40 with KCP (§4.6), or what the peer allows if that is less; 0 if it takes none.
    #[must_use]
    pub fn max_datagram_size(&self) -> usize {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.max_datagram_size(),
            ConnectionKind::Kcp(connection) => connection.max_datagram_size(),
        }
    }

    /// Closes the connection at once: what is not yet delivered is dropped.
    ///
    /// The peer is told in one packet, which is handed to the packet socket as
    /// soon as the runtime gets to it: see [`Connection::closing_sent`].
    pub fn close(&self) {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.close(),
            ConnectionKind::Kcp(connection) => connection.close(),
        }
    }

    /// Waits, after [`Connection::close`], until the packet that tells the peer
    /// was handed to the packet socket; without a path it gives up at once.
    pub async fn closing_sent(&self) {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.closing_sent().await,
            ConnectionKind::Kcp(connection) => connection.closing_sent().await,
        }
    }

    /// Waits for the end of the connection and returns its reason.
    pub async fn closed(&self) -> ConnectionError {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.closed().await,
            ConnectionKind::Kcp(connection) => connection.closed().await,
        }
    }

    /// Changes the keys for what is sent from now on, and asks the peer to do the same.
    ///
    /// QUIC does it at once, on either side. With KCP only the client can ask,
    /// and [`Connection::key_request`] returns what it has to say. Neither
    /// needs to be told: both do it by themselves long before a key wears out.
    pub fn update_keys(&self) {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.update_keys(),
            ConnectionKind::Kcp(connection) => connection.update_keys(),
        }
    }

    /// Waits until the server has to be asked for a new key, and returns the
    /// request: 65 bytes for the bus (PROTOCOL §4.7).
    ///
    /// The first one is there at once. Never ready where the transport sees to its
    /// keys by itself (QUIC), on a server, and while a request awaits its answer.
    ///
    /// # Cancel safety
    /// No request is lost if the future is dropped.
    pub async fn key_request(&self) -> PublicPoint {
        match &self.0 {
            ConnectionKind::Quic(_) => std::future::pending().await,
            ConnectionKind::Kcp(connection) => connection.key_request().await,
        }
    }

    /// Takes the server's answer to a key request; packets are sealed with the
    /// new key from now on.
    ///
    /// # Errors
    /// [`KeyExchangeError`]: the old key stays in use.
    pub fn handle_key_answer(&self, answer: &[u8]) -> Result<(), KeyExchangeError> {
        match &self.0 {
            ConnectionKind::Quic(_) => Err(KeyExchangeError::Unexpected),
            ConnectionKind::Kcp(connection) => connection.handle_key_answer(answer),
        }
    }

    /// Takes a client's key request and returns the answer, for the bus.
    ///
    /// # Errors
    /// [`KeyExchangeError`]; nothing has changed.
    pub fn answer_key_request(&self, request: &[u8]) -> Result<PublicPoint, KeyExchangeError> {
        match &self.0 {
            ConnectionKind::Quic(_) => Err(KeyExchangeError::Unexpected),
            ConnectionKind::Kcp(connection) => connection.answer_keys(request),
        }
    }

    /// Returns whether what is sent now is safe from somebody who recorded it
    /// and learns later what the login carried (forward secrecy): always with
    /// QUIC, with KCP from the first key exchange on.
    #[must_use]
    pub fn has_forward_secrecy(&self) -> bool {
        match &self.0 {
            ConnectionKind::Quic(_) => true,
            ConnectionKind::Kcp(connection) => connection.has_exchanged_keys(),
        }
    }

    /// Returns whether our packets have reached the peer: QUIC's handshake shows
    /// it, KCP knows with the first acknowledgement.
    #[must_use]
    pub fn was_heard(&self) -> bool {
        match &self.0 {
            ConnectionKind::Quic(_) => true,
            ConnectionKind::Kcp(connection) => connection.was_heard(),
        }
    }

    /// From now on, tells the peer where a stream is given up in a way that only
    /// our own programs understand (extension `stop`): see [`RecvStream::stop`]
    /// and [`RecvStream::abort`].
    pub fn tell_stops(&self) {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.tell_stops(),
            ConnectionKind::Kcp(connection) => connection.tell_stops(),
        }
    }

    /// Returns the smoothed round-trip time, as the transport measures it.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        match &self.0 {
            ConnectionKind::Quic(connection) => connection.rtt(),
            ConnectionKind::Kcp(connection) => connection.rtt(),
        }
    }
}

/// Waits for the one client of a server.
#[derive(Debug)]
pub enum Listener {
    /// For a client that speaks QUIC.
    Quic(quic::Listener),
    /// For a client that speaks KCP.
    Kcp(kcp::Listener),
}

impl Listener {
    /// Waits for the client; `None` when there already was one, or the packet
    /// socket was closed.
    ///
    /// # Cancel safety
    /// The client is not lost if the future is dropped.
    pub async fn accept(&self) -> Option<Connection> {
        match self {
            Self::Quic(listener) => listener.accept().await,
            Self::Kcp(listener) => listener.accept().await,
        }
    }
}

/// Priorities beyond this, either way, are taken as this.
const PRIORITIES: i32 = 1 << 20;

/// What [`SendStream::finished`] waits for.
type Finished = Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send + Sync>>;

/// The sending half of a stream.
///
/// `shutdown` sends the end of the stream (FIN) and returns at once; see
/// [`SendStream::finished`]. Dropping it does the same, so that a finished
/// task need not wait; to make the peer forget what is still under way, call
/// [`SendStream::reset`] first.
/// What is written without a pause for long is *bulk*: it goes behind what is not,
/// within its priority, and is taken no earlier than it can soon be sent. So
/// what a writer still holds it may drop, and keys overtake what is left.
#[derive(Debug)]
pub struct SendStream {
    kind: SendKind,
    burst: Burst,
    priority: AtomicI32,
    is_bulk: bool,
}

#[derive(Debug)]
enum SendKind {
    Quic(quic::QuicSendStream),
    Kcp(kcp::KcpSendStream),
}

impl SendStream {
    fn new(kind: SendKind) -> Self {
        Self { kind, burst: Burst::default(), priority: AtomicI32::new(0), is_bulk: false }
    }

    /// Tells the transport the priority; bulk has half a step less.
    fn apply_priority(&self) {
        let priority = self.priority.load(Relaxed).saturating_mul(2) - i32::from(self.is_bulk);
        match &self.kind {
            SendKind::Quic(stream) => stream.set_priority(priority),
            SendKind::Kcp(stream) => stream.set_priority(priority),
        }
    }

    /// Drops what is not yet delivered and ends the stream (code 0: "closed normally").
    pub fn reset(&mut self) {
        match &mut self.kind {
            SendKind::Quic(stream) => stream.reset(),
            SendKind::Kcp(stream) => stream.reset(),
        }
    }

    /// Sets which streams go first: higher before lower, 0 to begin with.
    /// Streams of the same priority share, but bulk, which goes behind.
    pub fn set_priority(&self, priority: i32) {
        self.priority.store(priority.clamp(-PRIORITIES, PRIORITIES), Relaxed);
        self.apply_priority();
    }

    /// Waits until the peer takes no more, because it has everything, the end
    /// included, or because it stopped us; returns whether it broke the stream
    /// off (see [`RecvStream::abort`]).
    ///
    /// The future does not borrow the stream.
    pub fn stopped(&self) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
        match &self.kind {
            SendKind::Quic(stream) => Box::pin(stream.stopped()),
            SendKind::Kcp(stream) => {
                let finished = stream.finished();
                // There is no word for a break (PROTOCOL §5.5).
                Box::pin(async {
                    let _ = finished.await;
                    false
                })
            }
        }
    }

    /// Waits until the peer has everything, the end included, or wants no more.
    ///
    /// Not meaningful before `shutdown`. The future does not borrow the stream.
    ///
    /// # Errors
    /// When the connection ended first: the peer may lack some of it.
    pub fn finished(
        &self,
    ) -> impl Future<Output = Result<(), ConnectionError>> + Send + Sync + 'static {
        let finished: Finished = match &self.kind {
            SendKind::Quic(stream) => Box::pin(stream.finished()),
            SendKind::Kcp(stream) => Box::pin(stream.finished()),
        };
        finished
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let is_bulk = self.burst.is_bulk(tokio::time::Instant::now().into_std());
        if std::mem::replace(&mut self.is_bulk, is_bulk) != is_bulk {
            self.apply_priority();
        }
        let written = match &mut self.kind {
            SendKind::Quic(stream) => stream.poll_write(cx, buf, is_bulk),
            SendKind::Kcp(stream) => stream.poll_write(cx, buf, is_bulk),
        };
        self.burst.on_written(match &written {
            Poll::Pending => None,
            Poll::Ready(result) => Some(*result.as_ref().unwrap_or(&0)),
        });
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            SendKind::Quic(stream) => Poll::Ready(stream.finish()),
            SendKind::Kcp(stream) => Poll::Ready(stream.finish()),
        }
    }
}

/// The receiving half of a stream.
///
/// A stream the peer reset with code 0 ends like a finished one (PROTOCOL §3.3).
/// Dropping it tells the peer to stop, as [`RecvStream::stop`] does.
#[derive(Debug)]
pub struct RecvStream(RecvKind);

#[derive(Debug)]
enum RecvKind {
    Quic(quic::QuicRecvStream),
    Kcp(kcp::KcpRecvStream),
}

impl RecvStream {
    /// Drops what was not read, and tells the peer that no more is wanted: by
    /// code 0 with QUIC; with KCP only after [`Connection::tell_stops`].
    pub fn stop(&mut self) {
        match &mut self.0 {
            RecvKind::Quic(stream) => stream.stop(),
            RecvKind::Kcp(stream) => stream.stop(),
        }
    }

    /// Tells the peer that what it sends went to something that broke: by code 1
    /// with QUIC and after [`Connection::tell_stops`]; elsewhere this is
    /// [`RecvStream::stop`].
    ///
    /// What we sent before is still delivered, which a reset of our own half would prevent.
    pub fn abort(&mut self) {
        match &mut self.0 {
            RecvKind::Quic(stream) => stream.abort(),
            RecvKind::Kcp(stream) => stream.stop(),
        }
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            RecvKind::Quic(stream) => stream.poll_read(cx, buf),
            RecvKind::Kcp(stream) => stream.poll_read(cx, buf),
        }
    }
}
