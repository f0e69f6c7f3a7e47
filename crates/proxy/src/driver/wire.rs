//! [`Wire`]: packets over something that is no socket of this machine's, such
//! as a channel through a jump host.
//!
//! The wire itself is two bounded queues; a task at their other end, which the
//! wire keeps, moves the packets. [`Wire::framed`] is the task for a byte
//! stream, with the frames of the TCP carrier (`docs/protocol.md` §2.4).
//!
//! As with TCP all packets of one transmit are taken, and no more until they
//! are in the queue: nothing is lost here, and what is kept is bounded.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::tcp::{FRAME_MAX, FrameReader};
use crate::socket::Transmit;

/// Packets that may wait in either direction; what waits here waits unseen by
/// any congestion control, so it is little.
const QUEUE_PACKETS: usize = 32;

/// Packets read before others get their turn.
const READS: usize = 32;

/// Opens a wire to the server, however long that takes: as long as a jump
/// host is out of reach, if need be. Dropping the future gives it up.
pub type Opener = Arc<dyn Fn() -> Opening + Send + Sync>;

/// What an [`Opener`] returns.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

type Room = Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<Vec<u8>>, ()>> + Send>>;

/// A way for packets, both ways; it ends when its task does.
pub struct Wire {
    incoming: mpsc::Receiver<Vec<u8>>,
    outgoing: mpsc::Sender<Vec<u8>>,
    unsent: VecDeque<Vec<u8>>,
    room: Option<Room>,
    _task: Task,
}

/// The other end of a [`Wire`].
#[derive(Debug)]
pub struct WireEnd {
    /// Takes the packets that arrive for us. Longer ones than the protocol
    /// knows are for the caller to drop.
    pub incoming: mpsc::Sender<Vec<u8>>,
    /// Gives those to be sent.
    pub outgoing: mpsc::Receiver<Vec<u8>>,
}

impl Wire {
    /// Returns a wire whose packets `work` moves. Must be called within a tokio runtime.
    pub fn new<W>(work: impl FnOnce(WireEnd) -> W) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let (arrived, incoming) = mpsc::channel(QUEUE_PACKETS);
        let (outgoing, sent) = mpsc::channel(QUEUE_PACKETS);
        let task = Task(tokio::spawn(work(WireEnd { incoming: arrived, outgoing: sent })));
        Self { incoming, outgoing, unsent: VecDeque::new(), room: None, _task: task }
    }

    /// Returns a wire over a byte stream. Must be called within a tokio runtime.
    pub fn framed(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self::new(|WireEnd { incoming, outgoing }| async move {
            // The end of either direction is the end of both.
            let ended = tokio::select! {
                ended = read_frames(read, incoming) => ended,
                ended = write_frames(write, outgoing) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a wire ended");
            }
        })
    }

    /// Reads what is there and hands every packet to `take`.
    ///
    /// # Errors
    /// When the wire has ended.
    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        for read in 0..READS {
            match self.incoming.poll_recv(cx) {
                Poll::Ready(Some(packet)) => take(&packet),
                Poll::Ready(None) if read == 0 => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Pending if read == 0 => return Poll::Pending,
                // Told, or found out, by the next call.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether earlier packets still wait for room.
    pub(super) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends all packets of `transmit`.
    ///
    /// # Errors
    /// `WouldBlock` while [`Wire::is_blocked`]; anything else is its end.
    pub(super) fn send(&mut self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_blocked() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for packet in transmit.packets() {
            match self.outgoing.try_reserve() {
                Ok(room) if self.unsent.is_empty() => room.send(packet.to_vec()),
                Ok(_) | Err(mpsc::error::TrySendError::Full(())) => {
                    self.unsent.push_back(packet.to_vec());
                }
                Err(mpsc::error::TrySendError::Closed(())) => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        Ok(())
    }

    /// Becomes ready when nothing waits for room any more. One task may wait.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_blocked() {
            let room = self.room.get_or_insert_with(|| {
                let room = self.outgoing.clone().reserve_owned();
                Box::pin(async { room.await.map_err(drop) })
            });
            let room = ready!(room.as_mut().poll(cx));
            self.room = None;
            let Ok(room) = room else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            if let Some(packet) = self.unsent.pop_front() {
                room.send(packet);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("unsent", &self.unsent.len()).finish_non_exhaustive()
    }
}

/// A task that ends with its owner.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cuts the stream into packets until it ends.
async fn read_frames(
    mut read: impl AsyncRead + Unpin,
    incoming: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut frames = FrameReader::default();
    loop {
        let n = read.read(frames.space()).await?;
        if n == 0 {
            return Ok(());
        }
        let mut packets = Vec::new();
        frames.filled(n, &mut |packet: &[u8]| packets.push(packet.to_vec()))?;
        for packet in packets {
            if incoming.send(packet).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Writes packets, as many as there are with one call, until the wire ends.
async fn write_frames(
    mut write: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut packets = Vec::new();
    let mut buffer = Vec::new();
    while outgoing.recv_many(&mut packets, QUEUE_PACKETS).await > 0 {
        buffer.clear();
        for packet in packets.drain(..).filter(|packet| packet.len() <= FRAME_MAX) {
            let Ok(len) = u16::try_from(packet.len()) else { continue };
            buffer.extend_from_slice(&len.to_be_bytes());
            buffer.extend_from_slice(&packet);
        }
        write.write_all(&buffer).await?;
        write.flush().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn packets_come_out_of_a_stream_as_they_went_in() {
        let (near, far) = tokio::io::duplex(100);
        let (read, write) = tokio::io::split(near);
        let mut near = Wire::framed(read, write);
        let (read, write) = tokio::io::split(far);
        let mut far = Wire::framed(read, write);
        let sent: Vec<Vec<u8>> = (0..200).map(|n| vec![n; usize::from(n) * 7]).collect();
        let work = async {
            for packet in &sent {
                let transmit = Transmit { contents: packet, segment_size: None };
                near.send(&transmit).expect("nothing waits");
                std::future::poll_fn(|cx| near.poll_flush(cx)).await.expect("the other end reads");
            }
            std::future::pending().await
        };
        let mut got = Vec::new();
        let read = async {
            while got.len() < sent.len() - 1 {
                std::future::poll_fn(|cx| far.poll_recv(cx, |packet| got.push(packet.to_vec())))
                    .await
                    .expect("packets");
            }
        };
        tokio::select! {
            () = work => {}
            () = read => {}
        }
        assert_eq!(got[..], sent[1..], "an empty packet is none");
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_the_end_of_the_wire() {
        let (near, far) = tokio::io::duplex(100);
        let (read, write) = tokio::io::split(near);
        let mut wire = Wire::framed(read, write);
        drop(far);
        let ended = std::future::poll_fn(|cx| wire.poll_recv(cx, |_| {})).await;
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn what_finds_no_room_is_kept_and_nothing_more_is_taken() {
        let mut wire = Wire::new(|end| async move {
            let _end = end;
            std::future::pending().await
        });
        let packets = vec![1; 2 * QUEUE_PACKETS];
        let transmit = Transmit { contents: &packets, segment_size: Some(1) };
        wire.send(&transmit).expect("all are taken");
        assert!(wire.is_blocked());
        let refused = wire.send(&transmit).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::WouldBlock));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(wire.poll_flush(&mut cx).is_pending());
    }
}
