//! Flows: datagrams between a channel and something near, a socket or one of the many that
//! send to a socket (PROTOCOL §6.9).
//!
//! Not here: which socket, and who may have it.
//!
//! Invariants: how many peers a socket is kept apart for is bounded, and so is what waits from
//! each; an error of a socket that concerns one datagram ends no flow.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::channels::{Receiver, SendError, Sender};

/// Peers of one socket that are kept apart; datagrams of further ones are dropped.
const MAX_PEERS: usize = 1024;

/// Datagrams of one peer that may wait (PROTOCOL §6.9), and their bytes.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 2 << 20;

/// Bytes that may wait from all peers of one socket: who sends from where can be made up.
const MAX_WAITING_IN_ALL: usize = 16 << 20;

/// The longest datagram there is.
const LARGEST: usize = 65535;

/// A pause after an error of a socket that is about no datagram of ours.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// A socket that anybody may send datagrams to.
pub trait Socket: Send + Sync + 'static {
    /// Who sent a datagram.
    type Peer: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// Waits for a datagram.
    fn receive(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, Self::Peer)>> + Send;

    /// Sends a datagram.
    fn send(&self, payload: &[u8], to: &Self::Peer) -> impl Future<Output = io::Result<()>> + Send;
}

impl Socket for UdpSocket {
    type Peer = std::net::SocketAddr;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Peer)> {
        self.recv_from(buffer).await
    }

    async fn send(&self, payload: &[u8], to: &Self::Peer) -> io::Result<()> {
        self.send_to(payload, to).await.map(drop)
    }
}

/// The near end of one flow.
pub trait Near: Send {
    /// Waits for a datagram.
    ///
    /// # Errors
    /// Those of the socket; `UnexpectedEof` when there will be no more.
    fn recv(&mut self) -> impl Future<Output = io::Result<Bytes>> + Send;

    /// Returns a way to send, which may be used while [`Near::recv`] waits.
    fn outlet(&self) -> impl Outlet + 'static;
}

/// Where datagrams of a flow go to.
pub trait Outlet: Send {
    /// Sends a datagram.
    fn send(&self, payload: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
}

/// A socket that is connected to one peer.
pub trait Pipe: Send + Sync + 'static {
    /// Waits for a datagram.
    fn receive(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Sends a datagram.
    fn send(&self, payload: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
}

impl Pipe for UdpSocket {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recv(buffer).await
    }

    async fn send(&self, payload: &[u8]) -> io::Result<()> {
        Self::send(self, payload).await.map(drop)
    }
}

/// The near end of a flow to the one peer of a socket.
#[derive(Debug)]
pub struct Connected<P> {
    socket: Arc<P>,
    buffer: Vec<u8>,
}

impl<P: Pipe> Connected<P> {
    /// Returns the near end of a flow to the peer of `socket`.
    #[must_use]
    pub fn new(socket: P) -> Self {
        Self { socket: Arc::new(socket), buffer: vec![0; LARGEST] }
    }
}

impl<P: Pipe> Near for Connected<P> {
    async fn recv(&mut self) -> io::Result<Bytes> {
        let len = self.socket.receive(&mut self.buffer).await?;
        Ok(Bytes::copy_from_slice(self.buffer.get(..len).unwrap_or_default()))
    }

    fn outlet(&self) -> impl Outlet + 'static {
        ToConnected(self.socket.clone())
    }
}

struct ToConnected<P>(Arc<P>);

impl<P: Pipe> Outlet for ToConnected<P> {
    async fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.0.send(payload).await
    }
}

/// A socket's peers, told apart.
pub struct Peers<S: Socket> {
    socket: Arc<S>,
    flows: HashMap<S::Peer, Waiting>,
    /// Room for what waits, in bytes.
    room: Arc<Semaphore>,
    buffer: Vec<u8>,
}

impl<S: Socket> Peers<S> {
    /// Returns the peers of `socket`; there is none at first.
    #[must_use]
    pub fn new(socket: S) -> Self {
        let room = Arc::new(Semaphore::new(MAX_WAITING_IN_ALL));
        Self { socket: Arc::new(socket), flows: HashMap::new(), room, buffer: vec![0; LARGEST] }
    }

    /// Waits for somebody new, handing out the datagrams of those who are known.
    ///
    /// # Cancel safety
    /// No datagram is lost if the future is dropped.
    pub async fn next(&mut self) -> Flow<S> {
        loop {
            let (len, peer) = match self.socket.receive(&mut self.buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tolerate(&error).await;
                    continue;
                }
            };
            let payload = Bytes::copy_from_slice(self.buffer.get(..len).unwrap_or_default());
            if let Some(waiting) = self.flows.get(&peer)
                && waiting.push(payload.clone(), &self.room)
            {
                continue;
            }
            self.flows.retain(|_, waiting| !waiting.queue.is_closed());
            if self.flows.len() >= MAX_PEERS {
                tracing::debug!("too many peers of one socket: a datagram is dropped");
                continue;
            }
            let (queue, incoming) = mpsc::channel(MAX_WAITING);
            let waiting = Waiting { queue, room: Arc::new(Semaphore::new(MAX_WAITING_BYTES)) };
            waiting.push(payload, &self.room);
            self.flows.insert(peer.clone(), waiting);
            return Flow { socket: self.socket.clone(), peer, incoming };
        }
    }
}

impl<S: Socket> fmt::Debug for Peers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("flows", &self.flows.len()).finish_non_exhaustive()
    }
}

/// Where the datagrams of one peer wait.
struct Waiting {
    queue: mpsc::Sender<Queued>,
    /// Room of this peer, in bytes.
    room: Arc<Semaphore>,
}

/// A datagram that waits, and the room it takes.
struct Queued {
    payload: Bytes,
    _room: [OwnedSemaphorePermit; 2],
}

impl Waiting {
    /// Queues or drops a datagram; returns whether its flow still exists.
    fn push(&self, payload: Bytes, of_all: &Arc<Semaphore>) -> bool {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let take = |room: &Arc<Semaphore>| room.clone().try_acquire_many_owned(len).ok();
        if let (Some(own), Some(shared)) = (take(&self.room), take(of_all)) {
            let queued = Queued { payload, _room: [own, shared] };
            if self.queue.try_send(queued).is_ok() {
                return true;
            }
        }
        !self.queue.is_closed()
    }
}

/// The datagrams of one peer; once dropped, the peer is somebody new.
pub struct Flow<S: Socket> {
    socket: Arc<S>,
    peer: S::Peer,
    incoming: mpsc::Receiver<Queued>,
}

impl<S: Socket> Near for Flow<S> {
    async fn recv(&mut self) -> io::Result<Bytes> {
        let queued = self.incoming.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(queued.payload)
    }

    fn outlet(&self) -> impl Outlet + 'static {
        ToPeer { socket: self.socket.clone(), peer: self.peer.clone() }
    }
}

impl<S: Socket> fmt::Debug for Flow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("peer", &self.peer).finish_non_exhaustive()
    }
}

struct ToPeer<S: Socket> {
    socket: Arc<S>,
    peer: S::Peer,
}

impl<S: Socket> Outlet for ToPeer<S> {
    async fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send(payload, &self.peer).await
    }
}

/// Waits out an error of a socket, which most often tells of an earlier datagram only.
async fn tolerate(error: &io::Error) {
    tracing::trace!(%error, "a datagram was not delivered or received");
    let is_of_a_datagram =
        matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset);
    if !is_of_a_datagram {
        sleep(ERROR_PAUSE).await;
    }
}

/// Carries datagrams both ways until the channel ends, the near end does, or
/// nothing has passed for `idle`.
///
/// Time in which a datagram waits for a path does not count as idle.
pub async fn conduct(
    mut near: impl Near,
    (mut sender, mut receiver): (Sender, Receiver),
    idle: Option<Duration>,
) {
    let last = Mutex::new(Instant::now());
    let touch = || *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    let outlet = near.outlet();
    let outwards = async {
        loop {
            let payload = tokio::select! {
                payload = near.recv() => payload,
                () = idle_for(&last, idle) => return,
            };
            match payload {
                Ok(payload) => match sender.send(&payload).await {
                    Ok(()) | Err(SendError::TooLong(_)) => touch(),
                    Err(SendError::Ended(_)) => return,
                },
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
                Err(error) => tolerate(&error).await,
            }
        }
    };
    tokio::select! {
        () = outwards => {}
        () = deliver(&outlet, &mut receiver, touch) => {}
    }
}

/// Hands what arrives to the near end until the channel ends, which it hears of however long the
/// near end takes; `sent` is called for each datagram that was taken.
async fn deliver(outlet: &impl Outlet, receiver: &mut Receiver, sent: impl Fn()) {
    let (mut waiting, mut bytes) = (VecDeque::<Bytes>::new(), 0);
    loop {
        let payload = match waiting.pop_front() {
            Some(payload) => {
                bytes -= payload.len();
                payload
            }
            None => match receiver.recv().await {
                Some(payload) => payload,
                None => return,
            },
        };
        let mut sending = pin!(outlet.send(&payload));
        loop {
            tokio::select! {
                biased;
                taken = &mut sending => {
                    match taken {
                        Ok(()) => sent(),
                        Err(error) => tracing::trace!(%error, "a datagram was not sent"),
                    }
                    break;
                }
                later = receiver.recv() => {
                    let Some(later) = later else { return };
                    if waiting.len() < MAX_WAITING && bytes + later.len() <= MAX_WAITING_BYTES {
                        bytes += later.len();
                        waiting.push_back(later);
                    }
                }
            }
        }
    }
}

/// Waits until nothing has happened since `last` for as long as `limit`.
async fn idle_for(last: &Mutex<Instant>, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let since = *last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(due) = since.checked_add(limit) else { return std::future::pending().await };
        if due <= Instant::now() {
            return;
        }
        sleep_until(due).await;
    }
}
