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
use proto::open::{
    DialMessage, DialResponse, IdMessage, ListenMessage, ListenResponse, Outcome, StreamCommand,
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use transport::relay::FarWrite;
use transport::{RecvStream, SendStream, frames};

use super::Link;
use crate::config::forward::Listen;
use crate::remote::{BoxFuture, RemoteError, RemoteListener, RemoteStream, Target};
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

/// Accepted connections that may wait to be taken over.
pub(super) const BACKLOG: usize = 128;

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
pub(super) async fn dial(link: &Link, target: Target) -> Result<RemoteStream, RemoteError> {
    let shared = &link.shared;
    let (net, addr) = match target {
        Target::Tcp { host, port } => ("tcp", address(&host, port)),
        Target::Unix(path) => ("unix", path),
    };
    let message = DialMessage { net: net.into(), addr, timeout: Duration::ZERO };
    let opening = codec::command_and_message(StreamCommand::Dial.name(), &message);
    let slot = shared.slots.take().await;
    let (send, mut recv) = open(link, &opening, "open").await?;
    wire::read_response::<DialResponse>(&mut recv, "open").await?;
    Ok(stream(send, recv, slot))
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

/// Asks the server to listen.
pub(super) async fn listen(link: &Link, at: Listen) -> Result<RemoteListener, RemoteError> {
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let mut port = None;
    let mut streams = Vec::new();
    for (number, (net, addr)) in places(&at, STREAMS, link.shared.ext).into_iter().enumerate() {
        match listen_at(link, net, addr, accepted.clone()).await {
            Ok((told, stream)) => {
                port = port.or(told);
                streams.push(stream);
            }
            // A host without IPv6 has no second family to listen in.
            Err(RemoteError::Refused { reason, .. }) if number > 0 => {
                tracing::debug!(reason, "the second address is not listened at");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(RemoteListener { port, incoming, _guard: Box::new(streams) })
}

/// The networks of a protocol by their names on the wire: of either family, of IPv4, of IPv6,
/// and of unix sockets.
pub(super) type Nets = [&'static str; 4];

/// Those of connections.
const STREAMS: Nets = ["tcp", "tcp4", "tcp6", "unix"];

/// What to ask the server for; with extension `listen` it finds the addresses itself.
pub(super) fn places(at: &Listen, nets: Nets, ext: ExtSet) -> Vec<(&'static str, String)> {
    let [any, v4, v6, unix] = nets;
    let (host, port) = match at {
        Listen::Unix(path) => return vec![(unix, path.clone())],
        Listen::Tcp { host, port } => (host.as_deref(), *port),
    };
    if ext.has(Ext::Listen) {
        return vec![(any, address(host.unwrap_or("localhost"), port))];
    }
    let both = |at4, at6| vec![(v4, address(at4, port)), (v6, address(at6, port))];
    let mut places = match host {
        None | Some("localhost") => both("127.0.0.1", "::1"),
        Some("" | "*") => both("0.0.0.0", "::"),
        Some(host) => vec![(any, address(host, port))],
    };
    if port == 0 {
        // Each would be given a port of its own.
        places.truncate(1);
    }
    places
}

/// Opens one listener; returns the port it was given, and the task that keeps it.
async fn listen_at(
    link: &Link,
    net: &str,
    addr: String,
    accepted: mpsc::Sender<RemoteStream>,
) -> Result<(Option<u16>, Listener), RemoteError> {
    let message = ListenMessage { net: net.into(), addr };
    let opening = codec::command_and_message(StreamCommand::Listen.name(), &message);
    let (send, mut recv) = open(link, &opening, "listening").await?;
    let response: ListenResponse = wire::read_response(&mut recv, "listening").await?;
    let link = link.clone();
    let task = tokio::spawn(async move {
        // Kept: the end of the stream ends the listener.
        let _send = send;
        while let Ok(IdMessage { id }) = frames::read_message(&mut recv).await {
            let (link, accepted) = (link.clone(), accepted.clone());
            tokio::spawn(async move {
                match claim(&link, id).await {
                    // Nobody to take it means that the listener is given up.
                    Ok(stream) => drop(accepted.send(stream).await),
                    Err(error) => tracing::debug!(%error, "an accepted connection is lost"),
                }
            });
        }
    });
    Ok(((response.port != 0).then_some(response.port), Listener(task)))
}

/// Takes the connections of one kind that the server announces on the bus.
pub(super) fn channels(link: &Link, kind: &'static str) -> mpsc::Receiver<RemoteStream> {
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let mut ids = link.shared.bus.take_channels(kind);
    let link = link.clone();
    tokio::spawn(async move {
        while let Some(id) = ids.recv().await {
            let (link, accepted) = (link.clone(), accepted.clone());
            tokio::spawn(async move {
                match claim(&link, id).await {
                    Ok(stream) => drop(accepted.send(stream).await),
                    Err(error) => tracing::debug!(%error, "an announced connection is lost"),
                }
            });
        }
    });
    incoming
}

/// Takes over a connection that the server accepted.
async fn claim(link: &Link, id: u64) -> Result<RemoteStream, RemoteError> {
    let opening = codec::command_and_message(StreamCommand::Accept.name(), &IdMessage { id });
    let slot = link.shared.slots.take().await;
    let (send, mut recv) = open(link, &opening, "accept").await?;
    wire::read_response::<Outcome>(&mut recv, "accept").await?;
    Ok(stream(send, recv, slot))
}

/// A listener's task; dropping it ends the listener.
pub(super) struct Listener(pub(super) tokio::task::JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
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

    fn tcp(host: Option<&str>, port: u16) -> Listen {
        Listen::Tcp { host: host.map(str::to_owned), port }
    }

    #[test]
    fn the_reference_is_asked_for_each_address_and_our_server_for_the_name() {
        let plain = |at| places(&at, STREAMS, ExtSet::NONE);
        assert_eq!(
            plain(tcp(None, 8080)),
            [("tcp4", "127.0.0.1:8080".to_owned()), ("tcp6", "[::1]:8080".to_owned())]
        );
        assert_eq!(
            plain(tcp(Some("*"), 8080)),
            [("tcp4", "0.0.0.0:8080".to_owned()), ("tcp6", "[::]:8080".to_owned())]
        );
        assert_eq!(plain(tcp(Some("10.0.0.1"), 1)), [("tcp", "10.0.0.1:1".to_owned())]);
        assert_eq!(plain(tcp(None, 0)), [("tcp4", "127.0.0.1:0".to_owned())]);
        assert_eq!(plain(Listen::Unix("/s".to_owned())), [("unix", "/s".to_owned())]);
        let ours = |at| places(&at, STREAMS, ExtSet::all());
        assert_eq!(ours(tcp(None, 0)), [("tcp", "localhost:0".to_owned())]);
        assert_eq!(ours(tcp(Some("*"), 7)), [("tcp", "*:7".to_owned())]);
    }

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
