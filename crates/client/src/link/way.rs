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
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use proto::bootstrap::MAX_ADDRESSES;
use proxy::client::RenewReason;
use proxy::driver::{ClientProxy, LinkState, Opener, Resolver, Wire, WireEnd};

use super::bus::Bus;
use crate::config::{AddressFamily, Settings};
use crate::proxy_command::{self, ProxyCommand};
use crate::remote::{Remote, RemoteDatagrams, RemoteError, RemoteStream, Target};

/// A host that sockets of this machine reach.
#[derive(Clone, Debug)]
pub struct Near {
    /// The address that the login reached. Its port is the login's, and its zone, for link-local
    /// addresses, is kept.
    pub peer: SocketAddr,
    /// How long a round trip took, if it is known.
    pub round_trip: Option<Duration>,
    /// The host's name, to be looked up again when it is out of reach, and the family wanted.
    pub name: Option<(String, AddressFamily)>,
}

impl From<SocketAddr> for Near {
    fn from(peer: SocketAddr) -> Self {
        Self { peer, round_trip: None, name: None }
    }
}

impl Near {
    /// Returns where the server listens, the address of the login first; `further` is what the
    /// server says.
    pub(super) fn addresses(&self, port: u16, further: &[IpAddr]) -> Vec<SocketAddr> {
        let mut first = self.peer;
        first.set_port(port);
        let mut addresses = vec![first];
        // A host that is reached over the internet is not looked for on the network at hand: its
        // private addresses are somebody else's here.
        let is_private_too = is_private(self.peer.ip());
        let fits = |ip: &&IpAddr| !is_local(**ip) && (is_private_too || !is_private(**ip));
        add(&mut addresses, further.iter().filter(fits).map(|ip| SocketAddr::new(*ip, port)));
        addresses
    }

    /// Returns what looks the host's name up again, if it has one.
    pub(super) fn resolver(&self, known: &[SocketAddr], port: u16) -> Option<Resolver> {
        let (name, family) = self.name.clone()?;
        if name.parse::<IpAddr>().is_ok() {
            return None;
        }
        let known = known.to_vec();
        Some(Arc::new(move || {
            let (name, known) = (name.clone(), known.clone());
            Box::pin(async move {
                match tokio::net::lookup_host((name, port)).await {
                    Ok(found) => {
                        let mut addresses = Vec::new();
                        let found = found.filter(|address| family.allows(address));
                        add(&mut addresses, found.take(MAX_ADDRESSES).chain(known));
                        addresses
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the server's name is not looked up again");
                        Vec::new()
                    }
                }
            })
        }))
    }
}

/// Adds what is not there yet.
fn add(addresses: &mut Vec<SocketAddr>, more: impl Iterator<Item = SocketAddr>) {
    for address in more {
        if !addresses.iter().any(|known| known.ip() == address.ip()) {
            addresses.push(address);
        }
    }
}

/// Whether an address means this machine or link.
const fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// Whether an address means different hosts on different networks.
const fn is_private(ip: IpAddr) -> bool {
    let is_private = match ip {
        // RFC 6598: what carriers number their customers with.
        IpAddr::V4(ip) => ip.is_private() || matches!(ip.octets(), [100, 64..=127, ..]),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    is_private || is_local(ip)
}

/// How packets get to the server.
#[derive(Clone)]
pub enum Way {
    /// By sockets of this machine.
    Direct(Near),
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
            Self::Direct(near) => near.peer.ip().to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn near(peer: &str) -> Near {
        Near::from(peer.parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn the_address_of_the_login_is_first_and_private_ones_count_where_it_is_private_too() {
        let further = ["192.168.1.9", "2001:db8::9", "203.0.113.9", "fd77::9", "127.0.0.1", "::1"];
        let further = further.map(|ip| ip.parse().unwrap());
        let of = |peer: &str| -> Vec<_> {
            let addresses = near(peer).addresses(61001, &further);
            assert!(addresses.iter().all(|address| address.port() == 61001));
            addresses.iter().map(|address| address.ip().to_string()).collect()
        };
        assert_eq!(of("203.0.113.9:22"), ["203.0.113.9", "2001:db8::9"]);
        let all = ["10.0.0.9", "192.168.1.9", "2001:db8::9", "203.0.113.9", "fd77::9"];
        assert_eq!(of("10.0.0.9:22"), all);
        assert_eq!(of("100.64.0.9:22").len(), 5);
        let zoned = near("[fe80::1%3]:22").addresses(61001, &[]);
        assert_eq!(zoned, ["[fe80::1%3]:61001".parse().unwrap()], "with its zone");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_again_and_an_address_is_not() {
        let mut near = near("192.0.2.7:22");
        near.name = Some(("192.0.2.7".into(), AddressFamily::Any));
        assert!(near.resolver(&[], 61001).is_none());
        near.name = Some(("localhost".into(), AddressFamily::Inet));
        let known = near.addresses(61001, &[]);
        let resolver = near.resolver(&known, 61001).expect("there is a name");
        let expected = ["127.0.0.1:61001", "192.0.2.7:61001"].map(|at| at.parse().unwrap());
        assert_eq!(resolver().await, expected);
    }
}
