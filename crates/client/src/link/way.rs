//! [`Way`]: how packets get to the server, where not by sockets of ours alone.
//!
//! Through a jump host with a link every path is a flow of datagrams of that
//! link, or, with the TCP carrier, a connection it makes; through one without,
//! a connection of its login. Whatever happens to the networks under that link
//! is that link's business: here a path is asked for when the server is
//! silent, and once the jump host is back (PROTOCOL §9.4).
//!
//! All packets are sealed end to end: a jump host sees what a router sees.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use proxy::client::RenewReason;
use proxy::driver::{ClientProxy, LinkState, Opener, Wire, WireEnd};

use super::bus::Bus;
use crate::config::Settings;
use crate::proxy_command::{self, ProxyCommand};
use crate::remote::{Remote, RemoteDatagrams, RemoteError, RemoteStream, Target};

/// How packets get to the server.
#[derive(Clone)]
pub enum Way {
    /// By sockets of this machine: to the address that the login reached, whose port is the
    /// login's.
    Direct(SocketAddr),
    /// Through a jump host, which looks the name up.
    Through(Arc<dyn Remote>, String),
    /// By a command that is told the server's port (PROTOCOL §9.5), as ProxyCommand is the login's.
    Command(Arc<Settings>, String),
}

impl Way {
    /// Returns the way by ProxyCommand.
    ///
    /// # Errors
    /// It leads to no other port, or has a token that cannot be expanded.
    pub(crate) fn by_command(settings: &Settings, template: &str) -> Result<Self, String> {
        if settings.proxy_command(template, 1)? == settings.proxy_command(template, 2)? {
            return Err("without %p it cannot lead to tsshd's port; use --tcp".to_owned());
        }
        Ok(Self::Command(Arc::new(settings.clone()), template.to_owned()))
    }

    /// Returns whether datagrams can go this way.
    #[must_use]
    pub fn carries_datagrams(&self) -> bool {
        match self {
            Self::Direct(_) => true,
            Self::Through(hop, _) => hop.datagram_size().is_some(),
            Self::Command(..) => false,
        }
    }

    /// Returns the size in bytes of the packets that fit through a link on the way (PROTOCOL §9.3).
    #[must_use]
    pub fn packet_size(&self) -> Option<u16> {
        match self {
            Self::Through(hop, _) => hop.datagram_size().and_then(|size| u16::try_from(size).ok()),
            Self::Direct(_) | Self::Command(..) => None,
        }
    }

    /// Returns the jump host.
    pub(super) fn hop(&self) -> Option<Arc<dyn Remote>> {
        match self {
            Self::Through(hop, _) => Some(hop.clone()),
            Self::Direct(_) | Self::Command(..) => None,
        }
    }

    /// Returns the host for messages.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Direct(addr) => addr.ip().to_string(),
            Self::Through(_, host) => host.clone(),
            Self::Command(..) => "the host behind the proxy command".into(),
        }
    }

    /// Returns what opens paths to the server's port; `None` where sockets do. The packet
    /// `farewell` is left with the jump host, for the case that we are killed.
    pub(super) fn opener(&self, port: u16, tcp: bool, farewell: &[u8]) -> Option<Opener> {
        let farewell = if tcp { frame(farewell) } else { farewell.to_vec() };
        match self.clone() {
            Self::Direct(_) => None,
            Self::Through(hop, host) => Some(Arc::new(move || {
                let (hop, host, farewell) = (hop.clone(), host.clone(), farewell.clone());
                Box::pin(async move {
                    wait_for(hop.as_ref()).await;
                    let target = Target::Tcp { host, port };
                    let wire = match tcp {
                        true => hop.dial_with_farewell(target, farewell).await.map(over_stream),
                        false => {
                            hop.dial_udp_with_farewell(target, farewell).await.map(over_datagrams)
                        }
                    };
                    wire.map_err(|error| system_error(&error))
                })
            })),
            Self::Command(settings, template) => Some(Arc::new(move || {
                let (settings, template) = (settings.clone(), template.clone());
                Box::pin(async move { by_command(&settings, &template, port).await })
            })),
        }
    }

    /// Ends the link with the one it leads through, and has new paths asked for as soon as that
    /// is back after an outage.
    pub(super) fn follow(&self, proxy: &ClientProxy, bus: &Bus) {
        let Self::Through(hop, _) = self else { return };
        let (before, bus) = (hop.clone(), bus.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = bus.ended() => {}
                reason = before.closed() => {
                    bus.give_up(format!("the jump host before it is gone: {reason}"));
                }
            }
        });
        let Some(mut health) = hop.health() else { return };
        let proxy = proxy.clone();
        let mut status = proxy.watch();
        tokio::spawn(async move {
            let mut was_away = health.outage().is_some();
            loop {
                tokio::select! {
                    () = health.changed() => {}
                    changed = status.changed() => {
                        if changed.is_err() || matches!(proxy.status().state, LinkState::Closed | LinkState::Failed { .. }) {
                            return;
                        }
                        continue;
                    }
                }
                let is_away = health.outage().is_some();
                if was_away && !is_away {
                    proxy.renew(RenewReason::Requested);
                }
                was_away = is_away;
            }
        });
    }
}

/// Returns what opens paths to the server's port through the login, for as long as there is one.
pub(super) fn through_login(login: &Weak<dyn Remote>, port: u16) -> Opener {
    let login = login.clone();
    Arc::new(move || {
        let login = login.clone();
        Box::pin(async move {
            let gone = || io::Error::new(io::ErrorKind::NotConnected, "the login has ended");
            let login = login.upgrade().ok_or_else(gone)?;
            let target = Target::Tcp { host: "127.0.0.1".to_owned(), port };
            let stream = login.dial(target).await;
            stream.map(over_stream).map_err(|error| system_error(&error))
        })
    })
}

async fn by_command(settings: &Settings, template: &str, port: u16) -> io::Result<Wire> {
    let command = settings.proxy_command(template, port).map_err(io::Error::other)?;
    if settings.proxy_hands_over {
        let (read, write) = proxy_command::receive_socket(&command).await?.into_split();
        return Ok(Wire::framed(read, write));
    }
    let (read, write) = tokio::io::split(ProxyCommand::start(&command)?);
    Ok(Wire::framed(read, write))
}

/// A packet as the TCP carrier has it (PROTOCOL §2.4); nothing stays nothing.
fn frame(packet: &[u8]) -> Vec<u8> {
    match u16::try_from(packet.len()) {
        Ok(len) if len > 0 => [&len.to_be_bytes(), packet].concat(),
        _ => Vec::new(),
    }
}

/// Waits until a jump host is in reach.
async fn wait_for(hop: &dyn Remote) {
    let Some(mut health) = hop.health() else { return };
    while health.outage().is_some() {
        health.changed().await;
    }
}

fn over_stream(stream: RemoteStream) -> Wire {
    Wire::framed(stream.read, stream.write)
}

fn over_datagrams(flow: RemoteDatagrams) -> Wire {
    Wire::new(|WireEnd { incoming, mut outgoing }| async move {
        let RemoteDatagrams { mut sender, mut receiver, _slot } = flow;
        let send = async {
            while let Some(packet) = outgoing.recv().await {
                if let Err(error) = sender.send(&packet).await {
                    return tracing::debug!(%error, "a flow through the jump host ended");
                }
            }
        };
        let receive = async {
            while let Some(packet) = receiver.recv().await {
                // As from a socket: what nobody has room for is lost.
                if packet.len() <= PACKET_MAX {
                    let _ = incoming.try_send(packet.to_vec());
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = receive => {}
        }
    })
}

/// Longest packet of either transport (PROTOCOL §2.1).
const PACKET_MAX: usize = 1500;

/// A refusal as the proxy shows it.
fn system_error(error: &RemoteError) -> io::Error {
    match error {
        RemoteError::Refused { reason, .. } => io::Error::other(reason.clone()),
        error => io::Error::other(error.to_string()),
    }
}
