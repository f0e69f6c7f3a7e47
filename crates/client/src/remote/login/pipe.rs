//! A queue of bytes with a budget, between the pump of a channel and its reader.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What a piece costs besides its bytes: its place in the queue and its own
/// allocation, rounded up. Without it a server that sends single bytes would
/// make us hold many times the budget.
const PIECE_COST: usize = 128;

/// Makes a queue that takes room from `budget`: one permit per byte and
/// [`PIECE_COST`] per piece.
pub(super) fn pipe(budget: &Arc<Semaphore>, budget_bytes: u32) -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let writer = PipeWriter { chunks: sender, budget: Arc::clone(budget), budget_bytes };
    let reader = PipeReader { chunks: receiver, current: None };
    (writer, reader)
}

/// A piece of data and the room it takes.
struct Chunk {
    data: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The pump's end. Dropping it ends the reader's stream.
pub(super) struct PipeWriter {
    chunks: mpsc::UnboundedSender<Chunk>,
    budget: Arc<Semaphore>,
    budget_bytes: u32,
}

impl PipeWriter {
    /// Queues `data`, waiting while there is no room. Without a reader it is dropped.
    pub(super) async fn write(&self, data: Bytes) {
        // Says nothing, would read as the end, and the server's window does not limit it.
        if data.is_empty() {
            return;
        }
        let cost = u32::try_from(data.len() + PIECE_COST).unwrap_or(u32::MAX);
        // A single piece larger than the budget may have all of it.
        let cost = cost.min(self.budget_bytes);
        let room = tokio::select! {
            biased;
            () = self.chunks.closed() => return,
            room = Arc::clone(&self.budget).acquire_many_owned(cost) => room,
        };
        if let Ok(room) = room {
            // Failing means that the reader has just gone.
            let _ = self.chunks.send(Chunk { data, _room: room });
        }
    }
}

/// The reader's end.
pub(super) struct PipeReader {
    chunks: mpsc::UnboundedReceiver<Chunk>,
    current: Option<Chunk>,
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut chunk = match self.current.take() {
            Some(chunk) => chunk,
            None => match ready!(self.chunks.poll_recv(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(chunk) => chunk,
            },
        };
        let taken = chunk.data.len().min(buf.remaining());
        if let Some(part) = chunk.data.get(..taken) {
            buf.put_slice(part);
        }
        chunk.data.advance(taken);
        if !chunk.data.is_empty() {
            self.current = Some(chunk);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn small() -> (Arc<Semaphore>, PipeWriter, PipeReader) {
        let budget = Arc::new(Semaphore::new(4));
        let (writer, reader) = pipe(&budget, 4);
        (budget, writer, reader)
    }

    #[tokio::test]
    async fn a_reader_that_catches_up_lets_the_writer_go_on() {
        let (_budget, writer, mut reader) = small();
        let wrote = tokio::spawn(async move {
            for piece in [&b"abc"[..], b"defg", b"a longer one"] {
                writer.write(Bytes::copy_from_slice(piece)).await;
            }
        });
        let mut all = String::new();
        reader.read_to_string(&mut all).await.expect("whole");
        assert_eq!(all, "abcdefga longer one");
        wrote.await.expect("done");
    }

    #[tokio::test]
    async fn small_pieces_are_held_back_by_what_they_cost_and_empty_ones_are_not_held() {
        const PIECES: usize = 10;
        let budget_bytes = PIECES * (PIECE_COST + 1);
        let budget = Arc::new(Semaphore::new(budget_bytes));
        let (writer, mut reader) =
            pipe(&budget, u32::try_from(budget_bytes).expect("a small number"));
        for _ in 0..PIECES {
            writer.write(Bytes::new()).await;
            writer.write(Bytes::from_static(b"x")).await;
        }
        assert_eq!(reader.chunks.len(), PIECES);
        let mut further = tokio_test_pending(writer.write(Bytes::from_static(b"y")));
        assert!(further.as_mut().now_or_never().is_none(), "the budget is spent");
        let mut byte = [0];
        reader.read_exact(&mut byte).await.expect("the first byte");
        further.await;
        assert_eq!(reader.chunks.len(), PIECES);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_frees_a_writer_that_waits() {
        let (budget, writer, reader) = small();
        writer.write(Bytes::from_static(b"full")).await;
        let mut waiting = tokio_test_pending(writer.write(Bytes::from_static(b"more")));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(reader);
        waiting.await;
        assert_eq!(budget.available_permits(), 4);
    }

    fn tokio_test_pending<'a>(
        future: impl Future<Output = ()> + 'a,
    ) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(future)
    }

    use futures_util::FutureExt as _;
}
