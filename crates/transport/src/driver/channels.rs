//! Datagram channels: whole datagrams for many purposes over one connection (PROTOCOL §6.9).
//!
//! ```text
//! send ─▶ fits?  yes ─▶ unreliable datagram: payload | channel id u64be ─▶ Channels ─┐
//!                no  ─▶ the channel's stream: length u16be | payload ────────────────┴─▶ recv
//! ```
//! A channel lives as long as its stream: the end of either half ends it.
//! Not here: who gives out ids, and what the datagrams are for.
//!
//! Invariants: what waits to be received is bounded, and what comes too much is
//! dropped, as networks do; a datagram is received whole, once or not at all.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use proto::{ChannelId, codec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Connection, DatagramError, RecvStream, SendStream};

/// Datagrams of one channel that may wait to be received; each is a packet's worth at most.
const QUEUE: usize = 1024;

/// Frames from its stream that may wait; the peer waits with more.
const FRAMES: usize = 4;

/// Bytes of the channel id behind each datagram.
const ID_LEN: usize = 8;

/// Why a datagram was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It is longer than a frame can be; the channel is unharmed.
    #[error("a datagram of {0} bytes is longer than the 65535 that a channel carries")]
    TooLong(usize),
    /// The channel has ended: by the peer, or with the connection.
    #[error("the channel has ended: {0}")]
    Ended(#[source] io::Error),
}

/// The datagram channels of one connection. Clones are the same ones.
#[derive(Clone)]
pub struct Channels(Arc<Inner>);

struct Inner {
    connection: Connection,
    queues: Arc<Queues>,
    /// Hands out what arrives; started with the first channel.
    reader: OnceLock<AbortOnDrop>,
}

#[derive(Default)]
struct Queues(Mutex<HashMap<ChannelId, mpsc::Sender<Bytes>>>);

impl Queues {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channels {
    /// Returns the channels of `connection`; there is none at first.
    ///
    /// Nobody else may read the connection's datagrams.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        let reader = OnceLock::new();
        Self(Arc::new(Inner { connection, queues: Arc::default(), reader }))
    }

    /// Keeps what arrives for `id` from now on; `None` where there is such a channel already.
    ///
    /// Datagrams may overtake what is said on the stream: call this before the
    /// peer is told that it may send.
    #[must_use]
    pub fn register(&self, id: ChannelId) -> Option<Registration> {
        let (queue, datagrams) = mpsc::channel(QUEUE);
        let mut queues = self.0.queues.lock();
        if queues.contains_key(&id) {
            return None;
        }
        queues.insert(id, queue);
        drop(queues);
        self.0.reader.get_or_init(|| {
            let work = hand_out(self.0.connection.clone(), self.0.queues.clone());
            AbortOnDrop(tokio::spawn(work))
        });
        Some(Registration { entry: Entry { id, channels: self.clone() }, datagrams })
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channels").field(&self.0.queues.lock().len()).finish()
    }
}

/// Puts every datagram into the queue of its channel.
async fn hand_out(connection: Connection, queues: Arc<Queues>) {
    while let Ok(mut datagram) = connection.read_datagram().await {
        let Some((payload, id)) = codec::split_channel_datagram(&datagram) else { continue };
        let len = payload.len();
        if let Some(queue) = queues.lock().get(&id) {
            datagram.truncate(len);
            // A full queue drops the newest, as a socket's does.
            let _ = queue.try_send(datagram);
        }
    }
}

/// A channel's place among the others, which exist as long as one of them does.
struct Entry {
    id: ChannelId,
    channels: Channels,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.channels.0.queues.lock().remove(&self.id);
    }
}

/// A channel whose stream is still being negotiated.
pub struct Registration {
    entry: Entry,
    datagrams: mpsc::Receiver<Bytes>,
}

impl Registration {
    /// Returns the channel's id.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.entry.id
    }

    /// Opens the channel over its stream, of which everything that was to be said has been said.
    #[must_use]
    pub fn open(self, send: SendStream, recv: RecvStream) -> (Sender, Receiver) {
        let (queue, frames) = mpsc::channel(FRAMES);
        let reader = AbortOnDrop(tokio::spawn(read_frames(recv, queue)));
        let sender = Sender {
            connection: self.entry.channels.0.connection.clone(),
            id: self.entry.id,
            stream: send,
            frame: Vec::new(),
            sent: 0,
        };
        let receiver =
            Receiver { datagrams: self.datagrams, frames, _entry: self.entry, _reader: reader };
        (sender, receiver)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.entry.id).finish_non_exhaustive()
    }
}

/// Reads what came by the stream; ends with it.
async fn read_frames(mut recv: RecvStream, queue: mpsc::Sender<Bytes>) {
    let read = async {
        loop {
            let len = recv.read_u16().await?;
            // Grows with what arrives, not with what is announced.
            let mut frame = Vec::new();
            (&mut recv).take(len.into()).read_to_end(&mut frame).await?;
            if frame.len() < usize::from(len) || queue.send(frame.into()).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    if let Err(error) = read.await {
        tracing::trace!(%error, "a datagram channel's stream ended");
    }
}

/// The sending half of a channel; dropping it ends the channel.
pub struct Sender {
    connection: Connection,
    id: ChannelId,
    stream: SendStream,
    /// The frame that is being written to the stream.
    frame: Vec<u8>,
    /// How much of it has been.
    sent: usize,
}

impl Sender {
    /// Sends one datagram, waiting while neither queue nor stream takes it: for
    /// as long as the connection has no path, if need be.
    ///
    /// # Errors
    /// See [`SendError`]. That a datagram was sent says nothing about its arrival.
    /// # Cancel safety
    /// The datagram is sent whole, or not at all.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), SendError> {
        // What a dropped future left of a frame goes first.
        self.flush().await?;
        if payload.len() + ID_LEN <= self.connection.max_datagram_size() {
            let datagram = codec::channel_datagram(payload, self.id);
            match self.connection.send_datagram(datagram.into()).await {
                Ok(()) => return Ok(()),
                Err(DatagramError::Connection(error)) => {
                    return Err(SendError::Ended(io::Error::other(error)));
                }
                Err(error) => tracing::trace!(%error, "a datagram takes the stream"),
            }
        }
        self.frame = codec::udp_frame(payload).ok_or(SendError::TooLong(payload.len()))?;
        self.sent = 0;
        self.flush().await
    }

    /// Returns the size in bytes of the largest payload that travels as a datagram; what is
    /// larger takes the stream.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.connection.max_datagram_size().saturating_sub(ID_LEN)
    }

    async fn flush(&mut self) -> Result<(), SendError> {
        while let Some(rest) = self.frame.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += self.stream.write(rest).await.map_err(SendError::Ended)?;
        }
        self.frame.clear();
        self.sent = 0;
        Ok(())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A channel ends by a reset (PROTOCOL §6.9): nobody waits for what is under way.
        self.stream.reset();
    }
}

/// The receiving half of a channel; dropping it ends the channel.
pub struct Receiver {
    datagrams: mpsc::Receiver<Bytes>,
    frames: mpsc::Receiver<Bytes>,
    _entry: Entry,
    _reader: AbortOnDrop,
}

impl Receiver {
    /// Waits for the next datagram, by whichever way it came; `None` once the channel has ended.
    ///
    /// # Cancel safety
    /// No datagram is lost if the future is dropped.
    pub async fn recv(&mut self) -> Option<Bytes> {
        tokio::select! {
            Some(datagram) = self.datagrams.recv() => Some(datagram),
            frame = self.frames.recv() => match frame {
                Some(frame) => Some(frame),
                // What came before the end is still good.
                None => self.datagrams.try_recv().ok(),
            },
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
