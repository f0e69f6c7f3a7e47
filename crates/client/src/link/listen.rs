//! What the server accepts for us: listeners, and what it announces (PROTOCOL §6.7–§6.9).
//!
//! Connections and flows of datagrams differ in what takes one over ([`Kind`]) and in nothing
//! else. Announcements come by the listener's own stream or, for the agent and X11, by the bus.
//!
//! Invariant: whatever a server announces, the number of takeovers under way is bounded. A
//! listener's stream is read no further meanwhile; the bus, which has other things to say, is,
//! and what there is no room for is left unclaimed, for the server to close.

use std::sync::Arc;

use proto::codec;
use proto::ext::{Ext, ExtSet};
use proto::open::{IdMessage, ListenMessage, ListenResponse, StreamCommand};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use transport::frames;

use super::Link;
use super::forward::{address, open};
use crate::config::forward::Listen;
use crate::remote::RemoteError;
use crate::wire;

/// What was taken over and may wait for its owner.
const BACKLOG: usize = 128;

/// Takeovers under way, of one listener or one kind of channel: as many as a server of ours lets
/// wait.
const TAKEOVERS: usize = 256;

/// The networks of a protocol by their names on the wire: of either family, of IPv4, of IPv6,
/// and of unix sockets.
pub(super) type Nets = [&'static str; 4];

/// A kind of things that servers accept.
pub(super) trait Kind: 'static {
    /// What it is here, once taken over.
    type Accepted: Send + 'static;

    /// How a listener is asked for.
    const COMMAND: StreamCommand;

    /// Where it may listen.
    const NETS: Nets;

    /// What the request is called in errors.
    const WHAT: &'static str;

    /// Takes over what the server announced under `id`.
    fn claim(
        link: &Link,
        id: u64,
    ) -> impl Future<Output = Result<Self::Accepted, RemoteError>> + Send;
}

/// Listeners of the server, and what they accept.
pub(super) struct Listening<T> {
    /// The port that the server chose, where it was to choose and said.
    pub(super) port: Option<u16>,
    pub(super) incoming: mpsc::Receiver<T>,
    /// Ends them when dropped.
    pub(super) guard: Vec<Listener>,
}

/// A listener's task; dropping it ends the listener.
pub(super) struct Listener(tokio::task::JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks the server to listen.
pub(super) async fn listen<K: Kind>(
    link: &Link,
    at: &Listen,
) -> Result<Listening<K::Accepted>, RemoteError> {
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let mut port = None;
    let mut guard = Vec::new();
    for (number, (net, addr)) in places(at, K::NETS, link.shared.ext).into_iter().enumerate() {
        match listen_at(net, addr, Takeovers::<K>::new(link, accepted.clone())).await {
            Ok((told, listener)) => {
                port = port.or(told);
                guard.push(listener);
            }
            // A host without IPv6 has no second family to listen in.
            Err(RemoteError::Refused { reason, .. }) if number > 0 => {
                tracing::debug!(reason, "the second address is not listened at");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Listening { port, incoming, guard })
}

/// Opens one listener; returns the port it was given, and the task that keeps it.
async fn listen_at<K: Kind>(
    net: &str,
    addr: String,
    takeovers: Takeovers<K>,
) -> Result<(Option<u16>, Listener), RemoteError> {
    let message = ListenMessage { net: net.into(), addr };
    let opening = codec::command_and_message(K::COMMAND.name(), &message);
    let (send, mut recv) = open(&takeovers.link, &opening, K::WHAT).await?;
    let response: ListenResponse = wire::read_response(&mut recv, K::WHAT).await?;
    let task = tokio::spawn(async move {
        // Kept: the end of the stream ends the listener.
        let _send = send;
        loop {
            let room = takeovers.room().await;
            let Ok(IdMessage { id }) = frames::read_message(&mut recv).await else { return };
            takeovers.start(id, room);
        }
    });
    Ok(((response.port != 0).then_some(response.port), Listener(task)))
}

/// Takes over what the server announces on the bus as `channel`.
pub(super) fn channels<K: Kind>(link: &Link, channel: &'static str) -> mpsc::Receiver<K::Accepted> {
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let mut ids = link.shared.bus.take_channels(channel);
    let takeovers = Takeovers::<K>::new(link, accepted);
    tokio::spawn(async move {
        loop {
            let room = takeovers.room().await;
            let Some(id) = ids.recv().await else { return };
            takeovers.start(id, room);
        }
    });
    incoming
}

/// What is being taken over.
struct Takeovers<K: Kind> {
    link: Link,
    accepted: mpsc::Sender<K::Accepted>,
    room: Arc<Semaphore>,
}

impl<K: Kind> Takeovers<K> {
    fn new(link: &Link, accepted: mpsc::Sender<K::Accepted>) -> Self {
        Self { link: link.clone(), accepted, room: Arc::new(Semaphore::new(TAKEOVERS)) }
    }

    /// Waits until there is room for one more.
    async fn room(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.room).acquire_owned().await.expect("it is never closed")
    }

    fn start(&self, id: u64, room: OwnedSemaphorePermit) {
        let (link, accepted) = (self.link.clone(), self.accepted.clone());
        tokio::spawn(async move {
            match K::claim(&link, id).await {
                // Nobody to take it means that the listener is given up.
                Ok(taken) => drop(accepted.send(taken).await),
                Err(error) => tracing::debug!(%error, "what the server accepted is lost"),
            }
            drop(room);
        });
    }
}

/// What to ask the server for; with extension `listen` it finds the addresses itself.
fn places(at: &Listen, nets: Nets, ext: ExtSet) -> Vec<(&'static str, String)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMS: Nets = ["tcp", "tcp4", "tcp6", "unix"];

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
}
