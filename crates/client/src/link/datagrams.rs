//! Flows of datagrams over the link (PROTOCOL §6.9).
//!
//! A flow takes a stream like any connection, and its slot; most datagrams go beside it.

use proto::ChannelId;
use proto::codec;
use proto::open::{DialMessage, DialUdpResponse, IdMessage, Outcome, Ready, StreamCommand};
use tokio::io::AsyncWriteExt as _;

use super::Link;
use super::forward::{address, kept, open};
use super::listen::{Kind, Nets};
use crate::remote::{RemoteDatagrams, RemoteError, Target};
use crate::wire;

/// The networks of datagrams, as [`Nets`] has them.
const DATAGRAMS: Nets = ["udp", "udp4", "udp6", "unixgram"];

/// What both requests are called in errors.
const WHAT: &str = "UDP forwarding";

/// Opens a flow to `target`.
pub(super) async fn dial(
    link: &Link,
    target: Target,
    farewell: Vec<u8>,
) -> Result<RemoteDatagrams, RemoteError> {
    let [net, .., unix] = DATAGRAMS;
    let (net, addr) = match target {
        Target::Tcp { host, port } => (net, address(&host, port)),
        Target::Unix(path) => (unix, path),
    };
    let message = DialMessage {
        net: net.into(),
        addr,
        farewell: kept(link, farewell),
        ..DialMessage::default()
    };
    let opening = codec::command_and_message(StreamCommand::DialUdp.name(), &message);
    let slot = link.shared.slots.take().await;
    let (mut send, mut recv) = open(link, &opening, WHAT).await?;
    let DialUdpResponse { id, .. } = wire::read_response(&mut recv, WHAT).await?;
    let channel = link.shared.channels.register(ChannelId(id)).ok_or_else(|| taken(id))?;
    let ready = codec::message(&Ready::default());
    send.write_all(&ready).await.map_err(|error| wire::lost(WHAT, &error))?;
    let (sender, receiver) = channel.open(send, recv);
    Ok(RemoteDatagrams { sender, receiver, _slot: Box::new(slot) })
}

/// Flows that the server accepts: one for each address that sends to a listener.
pub(super) struct Flows;

impl Kind for Flows {
    type Accepted = RemoteDatagrams;

    const COMMAND: StreamCommand = StreamCommand::ListenUdp;
    const NETS: Nets = DATAGRAMS;
    const WHAT: &'static str = WHAT;

    async fn claim(link: &Link, id: u64) -> Result<RemoteDatagrams, RemoteError> {
        let opening =
            codec::command_and_message(StreamCommand::AcceptUdp.name(), &IdMessage { id });
        let slot = link.shared.slots.take().await;
        // Before it is asked for: datagrams may overtake the answer.
        let channel = link.shared.channels.register(ChannelId(id)).ok_or_else(|| taken(id))?;
        let (send, mut recv) = open(link, &opening, WHAT).await?;
        wire::read_response::<Outcome>(&mut recv, WHAT).await?;
        let (sender, receiver) = channel.open(send, recv);
        Ok(RemoteDatagrams { sender, receiver, _slot: Box::new(slot) })
    }
}

/// A server that gives an id out twice.
fn taken(id: u64) -> RemoteError {
    let reason = format!("the server named channel {id} twice");
    RemoteError::Refused { what: WHAT.into(), reason }
}
