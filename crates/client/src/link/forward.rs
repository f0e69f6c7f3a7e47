//! Connections over the link (PROTOCOL §6.6, §6.7).
//!
//! Every one takes a stream, of which the peer allows a number. Forwards take
//! theirs from [`Slots`], which always leave some for sessions, so that these
//! never wait behind forwards (DESIGN D18).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::codec;
use proto::ext::{Ext, ExtSet};
use proto::json::Bytes;
use proto::open::{DialMessage, DialResponse, IdMessage, Outcome, StreamCommand};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use transport::relay::FarWrite;
use transport::{RecvStream, SendStream};

use super::Link;
use super::listen::{Kind, Nets};
use crate::remote::{BoxFuture, RemoteError, RemoteStream, Target};
use crate::wire;

/// Stream priority of forwards, below every session.
const PRIORITY: i32 = -1;

/// Streams the reference allows; ours allows ten times as many.
const REFERENCE_STREAMS: usize = 100;
const OUR_STREAMS: usize = 1000;

/// Streams left to sessions, stderr and what else is no forward.
const RESERVED_STREAMS: usize = 8;

/// How long the reference holds on to a finished stream (PROTOCOL §3.3).
const REFERENCE_LINGER: Duration = Duration::from_secs(60);

/// The streams that forwards may have.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    linger: Duration,
}

impl Slots {
    /// Returns the slots that a server with these extensions allows.
    pub(super) fn new(ext: ExtSet) -> Self {
        let (streams, linger) = match ext.is_empty() {
            true => (REFERENCE_STREAMS, REFERENCE_LINGER),
            false => (OUR_STREAMS, Duration::ZERO),
        };
        Self { free: Arc::new(Semaphore::new(streams - RESERVED_STREAMS)), linger }
    }

    pub(super) async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Slot { permit: permit.ok(), linger: self.linger }
    }
}

/// A stream's place among the others; free again once the stream is forgotten by the peer.
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    linger: Duration,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let linger = self.linger;
        if linger.is_zero() {
            return;
        }
        if let (Some(permit), Ok(runtime)) =
            (self.permit.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                sleep(linger).await;
                drop(permit);
            });
        }
    }
}

/// Connects to `target`.
pub(super) async fn dial(
    link: &Link,
    target: Target,
    farewell: Vec<u8>,
) -> Result<RemoteStream, RemoteError> {
    let shared = &link.shared;
    let (net, addr) = match target {
        Target::Tcp { host, port } => ("tcp", address(&host, port)),
        Target::Unix(path) => ("unix", path),
    };
    let message = DialMessage {
        net: net.into(),
        addr,
        farewell: kept(link, farewell),
        ..DialMessage::default()
    };
    let opening = codec::command_and_message(StreamCommand::Dial.name(), &message);
    let slot = shared.slots.take().await;
    let (send, mut recv) = open(link, &opening, "open").await?;
    wire::read_response::<DialResponse>(&mut recv, "open").await?;
    Ok(stream(send, recv, slot))
}

/// A farewell as it is said to a server that keeps some, and not to others.
pub(super) fn kept(link: &Link, farewell: Vec<u8>) -> Bytes {
    Bytes(if link.shared.ext.has(Ext::Farewell) { farewell } else { Vec::new() })
}

/// Opens a stream, sends `opening`, and reads the answer to the command in it.
pub(super) async fn open(
    link: &Link,
    opening: &[u8],
    what: &str,
) -> Result<(SendStream, RecvStream), RemoteError> {
    let shared = &link.shared;
    if !shared.ext.has(Ext::Early) || !shared.connection.has_forward_secrecy() {
        shared.bus.wait_up().await?;
    }
    let opened = shared.connection.open_stream().await;
    let (mut send, mut recv) = opened.map_err(|error| wire::lost(what, &error))?;
    send.set_priority(PRIORITY);
    send.write_all(opening).await.map_err(|error| wire::lost(what, &error))?;
    wire::read_response::<Outcome>(&mut recv, what).await?;
    Ok((send, recv))
}

fn stream(send: SendStream, recv: RecvStream, slot: Slot) -> RemoteStream {
    RemoteStream { read: Box::new(recv), write: Box::new(Holding { send, _slot: slot }) }
}

/// Writes `host:port` as the server reads it.
pub(super) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connections that the server accepts.
pub(super) struct Connections;

impl Kind for Connections {
    type Accepted = RemoteStream;

    const COMMAND: StreamCommand = StreamCommand::Listen;
    const NETS: Nets = ["tcp", "tcp4", "tcp6", "unix"];
    const WHAT: &'static str = "listening";

    async fn claim(link: &Link, id: u64) -> Result<RemoteStream, RemoteError> {
        let opening = codec::command_and_message(StreamCommand::Accept.name(), &IdMessage { id });
        let slot = link.shared.slots.take().await;
        let (send, mut recv) = open(link, &opening, "accept").await?;
        wire::read_response::<Outcome>(&mut recv, "accept").await?;
        Ok(stream(send, recv, slot))
    }
}

/// The sending half of a forward, with its slot.
struct Holding {
    send: SendStream,
    _slot: Slot,
}

impl AsyncWrite for Holding {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.send).poll_shutdown(cx)
    }
}

impl FarWrite for Holding {
    fn stopped(&self) -> BoxFuture<'static, bool> {
        self.send.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn eight_streams_are_left_and_a_reference_s_finished_ones_count_for_a_minute() {
        let slots = Slots::new(ExtSet::NONE);
        let mut taken = Vec::new();
        for _ in 0..92 {
            taken.push(slots.take().await);
        }
        assert_eq!(slots.free.available_permits(), 0);
        taken.clear();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(slots.free.available_permits(), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(slots.free.available_permits(), 92);

        let slots = Slots::new(ExtSet::all());
        drop(slots.take().await);
        assert_eq!(slots.free.available_permits(), 992);
    }
}
