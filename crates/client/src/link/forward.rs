//! Connections over the link (PROTOCOL §6.6, §6.7).
//!
//! Every one takes a stream, and a place among those that there may be (see [`slots`](super::slots)).

use proto::codec;
use proto::ext::Ext;
use proto::json::Bytes;
use proto::open::{DialMessage, DialResponse, IdMessage, Outcome, StreamCommand};
use tokio::io::AsyncWriteExt as _;
use transport::{RecvStream, SendStream};

use super::Link;
use super::listen::{Kind, Nets};
use crate::remote::{RemoteError, RemoteStream, Target};
use crate::wire;

/// Stream priority of forwards, below every session.
const PRIORITY: i32 = -1;

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
    Ok(slot.hold(send, recv))
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
        Ok(slot.hold(send, recv))
    }
}
