//! Flows of datagrams over the link (PROTOCOL §6.9).
//!
//! A flow takes a stream like any connection, and its slot; most datagrams go beside it.

use proto::ChannelId;
use proto::codec;
use proto::open::{
    DialMessage, DialUdpResponse, IdMessage, ListenMessage, ListenResponse, Outcome, Ready,
    StreamCommand,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use transport::frames;

use super::Link;
use super::forward::{BACKLOG, Listener, Nets, address, open, places};
use crate::config::forward::Listen;
use crate::remote::{RemoteDatagrams, RemoteError, RemoteUdpListener, Target};
use crate::wire;

/// The networks of datagrams, as [`Nets`] has them.
const DATAGRAMS: Nets = ["udp", "udp4", "udp6", "unixgram"];

/// What both requests are called in errors.
const WHAT: &str = "UDP forwarding";

/// Opens a flow to `target`.
pub(super) async fn dial(link: &Link, target: Target) -> Result<RemoteDatagrams, RemoteError> {
    let [net, .., unix] = DATAGRAMS;
    let (net, addr) = match target {
        Target::Tcp { host, port } => (net, address(&host, port)),
        Target::Unix(path) => (unix, path),
    };
    let message = DialMessage { net: net.into(), addr, ..DialMessage::default() };
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

/// Takes over a peer that the server announced.
async fn claim(link: &Link, id: u64) -> Result<RemoteDatagrams, RemoteError> {
    let opening = codec::command_and_message(StreamCommand::AcceptUdp.name(), &IdMessage { id });
    let slot = link.shared.slots.take().await;
    // Before it is asked for: datagrams may overtake the answer.
    let channel = link.shared.channels.register(ChannelId(id)).ok_or_else(|| taken(id))?;
    let (send, mut recv) = open(link, &opening, WHAT).await?;
    wire::read_response::<Outcome>(&mut recv, WHAT).await?;
    let (sender, receiver) = channel.open(send, recv);
    Ok(RemoteDatagrams { sender, receiver, _slot: Box::new(slot) })
}

/// A server that gives an id out twice.
fn taken(id: u64) -> RemoteError {
    let reason = format!("the server named channel {id} twice");
    RemoteError::Refused { what: WHAT.into(), reason }
}

/// Asks the server to listen for datagrams.
pub(super) async fn listen(link: &Link, at: Listen) -> Result<RemoteUdpListener, RemoteError> {
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let mut port = None;
    let mut streams = Vec::new();
    for (number, (net, addr)) in places(&at, DATAGRAMS, link.shared.ext).into_iter().enumerate() {
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
    Ok(RemoteUdpListener { port, incoming, _guard: Box::new(streams) })
}

/// Opens one listener; returns the port it was given, and the task that keeps it.
async fn listen_at(
    link: &Link,
    net: &str,
    addr: String,
    accepted: mpsc::Sender<RemoteDatagrams>,
) -> Result<(Option<u16>, Listener), RemoteError> {
    let message = ListenMessage { net: net.into(), addr };
    let opening = codec::command_and_message(StreamCommand::ListenUdp.name(), &message);
    let (send, mut recv) = open(link, &opening, WHAT).await?;
    let response: ListenResponse = wire::read_response(&mut recv, WHAT).await?;
    let link = link.clone();
    let task = tokio::spawn(async move {
        // Kept: the end of the stream ends the listener.
        let _send = send;
        while let Ok(IdMessage { id }) = frames::read_message(&mut recv).await {
            let (link, accepted) = (link.clone(), accepted.clone());
            tokio::spawn(async move {
                match claim(&link, id).await {
                    // Nobody to take it means that the listener is given up.
                    Ok(flow) => drop(accepted.send(flow).await),
                    Err(error) => tracing::debug!(%error, "an announced peer is lost"),
                }
            });
        }
    });
    Ok(((response.port != 0).then_some(response.port), Listener(task)))
}
