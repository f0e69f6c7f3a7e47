//! [`Network`]: all links between the two hosts, sans-IO.
//!
//! A packet that enters a link is looked at as a provider's router would:
//! its source must belong to the link (BCP 38), it may have to be split or be
//! too long, and the NAT may translate it. Then it goes into the [`Pipe`] of
//! its direction.
//!
//! After any way in, drain [`Network::poll_transmit`], then wait until
//! [`Network::poll_timeout`].

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use crate::nat::Nat;
use crate::packet::{self, Header};
use crate::{Conditions, Counters, NatConfig, Pipe};

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that roams.
    Client,
    /// The one that stays where it is.
    Server,
}

impl Side {
    /// Returns the other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// One direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Direction {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// Names a link: 0 is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(pub u8);

/// What a link is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkConfig {
    /// From the client to the server.
    pub up: Conditions,
    /// From the server to the client.
    pub down: Conditions,
    /// A NAT in front of the client.
    pub nat: Option<NatConfig>,
    /// Lets the hosts send what their network cards would split, in one piece
    /// of up to 64 KiB, as a fast card with offload does. For clean, fast
    /// links: such a piece counts as one packet for loss and queue, there is
    /// no MTU and no NAT.
    pub offload: bool,
}

impl LinkConfig {
    /// Returns a link with the same conditions in both directions.
    #[must_use]
    pub fn both(conditions: Conditions) -> Self {
        Self { up: conditions, down: conditions, ..Self::default() }
    }
}

/// All links between the two hosts.
#[derive(Debug)]
pub struct Network {
    links: Vec<Link>,
    /// Answers of the routers, to be sent at once.
    answers: VecDeque<(LinkId, Side, Vec<u8>)>,
}

#[derive(Debug)]
struct Link {
    id: LinkId,
    up: Pipe,
    down: Pipe,
    nat: Option<Nat>,
    /// Bytes before the IP header of each packet, which are carried along.
    prefix: usize,
}

impl Network {
    /// Length of what comes before the IP header on a link with offload: the
    /// kernel's `virtio_net_hdr`.
    pub(crate) const OFFLOAD_PREFIX: usize = 10;

    /// Creates the links; `seed` decides all luck.
    ///
    /// # Panics
    /// With more than 200 links.
    #[must_use]
    pub fn new(links: &[LinkConfig], seed: u64) -> Self {
        assert!(links.len() <= 200, "links are numbered by a byte of their addresses");
        let mut seeds = testkit::Prng::new(seed);
        let links = (0..).zip(links).map(|(id, config)| Link {
            id: LinkId(id),
            up: Pipe::new(config.up, seeds.next_u64()),
            down: Pipe::new(config.down, seeds.next_u64()),
            nat: config.nat.map(|nat| Nat::new(nat, outside(id))),
            prefix: if config.offload { Self::OFFLOAD_PREFIX } else { 0 },
        });
        Self { links: links.collect(), answers: VecDeque::new() }
    }

    /// Takes in what a host sends into a link; unknown links lose it.
    pub fn handle_packet(&mut self, now: Instant, link: LinkId, from: Side, packet: Vec<u8>) {
        let Some(link) = self.links.get_mut(usize::from(link.0)) else { return };
        if let Some(answer) = link.handle_packet(now, from, packet) {
            self.answers.push_back((link.id, from, answer));
        }
    }

    /// Returns the next packet that has arrived, its link and the host it goes to.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<(LinkId, Side, Vec<u8>)> {
        self.answers.pop_front().or_else(|| {
            self.links.iter_mut().find_map(|link| {
                let up = link.up.poll_transmit(now).map(|packet| (Side::Server, packet));
                let any = up.or_else(|| Some((Side::Client, link.down.poll_transmit(now)?)));
                any.map(|(to, packet)| (link.id, to, packet))
            })
        })
    }

    /// Returns when the next packet arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pipes = self.links.iter().flat_map(|link| [&link.up, &link.down]);
        pipes.filter_map(Pipe::poll_timeout).min()
    }

    /// Returns the number of links.
    #[must_use]
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Returns one direction of a link; `None` when there is no such link.
    #[must_use]
    pub fn pipe(&self, link: LinkId, direction: Direction) -> Option<&Pipe> {
        let link = self.links.get(usize::from(link.0))?;
        Some(match direction {
            Direction::Up => &link.up,
            Direction::Down => &link.down,
        })
    }

    /// Treats packets otherwise from now on; unknown links are ignored.
    pub fn set_conditions(&mut self, link: LinkId, direction: Direction, conditions: Conditions) {
        let Some(link) = self.links.get_mut(usize::from(link.0)) else { return };
        link.pipe(direction).set_conditions(conditions);
    }

    /// Returns what became of the packets of one direction.
    #[must_use]
    pub fn counters(&self, link: LinkId, direction: Direction) -> Counters {
        self.pipe(link, direction).map_or(Counters::default(), |pipe| *pipe.counters())
    }

    /// Returns how a link's NAT behaves, if it has one.
    #[must_use]
    pub fn nat(&self, link: LinkId) -> Option<NatConfig> {
        self.links.get(usize::from(link.0))?.nat.as_ref().map(Nat::config)
    }

    /// Gives a link a NAT, changes it (its mappings stay), or takes it away.
    pub fn set_nat(&mut self, link: LinkId, config: Option<NatConfig>) {
        let Some(link) = self.links.get_mut(usize::from(link.0)) else { return };
        match (&mut link.nat, config) {
            (Some(nat), Some(config)) => nat.set_config(config),
            (nat, config) => *nat = config.map(|config| Nat::new(config, outside(link.id.0))),
        }
    }

    /// Lets a link's NAT forget its mappings: the client's next packets come from other ports.
    pub fn rebind(&mut self, link: LinkId) {
        let link = self.links.get_mut(usize::from(link.0));
        if let Some(nat) = link.and_then(|link| link.nat.as_mut()) {
            nat.rebind();
        }
    }
}

impl Link {
    /// Sends a packet into the link; may return an answer to its sender.
    fn handle_packet(&mut self, now: Instant, from: Side, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let direction = if from == Side::Client { Direction::Up } else { Direction::Down };
        let id = self.id.0;
        let header = packet.get(self.prefix..).and_then(Header::read);
        let Some(header) = header.filter(|header| from == Side::Server || is_local(header, id))
        else {
            self.pipe(direction).refuse();
            return None;
        };
        let conditions = *self.pipe(direction).conditions();
        let family = if header.source.is_ipv4() { conditions.ipv4 } else { conditions.ipv6 };
        let walled = packet.get(self.prefix..).is_some_and(|packet| {
            !family
                || (!conditions.udp && header.protocol == packet::UDP)
                || conditions.only.is_some_and(|only| packet::is_other_tcp(packet, &header, only))
        });
        if walled {
            self.pipe(direction).refuse();
            return None;
        }
        if self.prefix > 0 {
            let length = packet.len() - self.prefix;
            self.pipe(direction).handle_packet(now, packet, length);
            return None;
        }
        let mtu = conditions.mtu.filter(|mtu| packet.len() > usize::from(*mtu));
        if let Some(mtu) = mtu.filter(|_| !header.may_split) {
            self.pipe(direction).refuse();
            let told = conditions.icmp && !conditions.down;
            return told.then(|| packet::too_long(&packet, mtu, id)).flatten();
        }
        let translated = self.nat.as_mut().is_none_or(|nat| match direction {
            Direction::Up => nat.outbound(now, &mut packet),
            Direction::Down => nat.inbound(now, &mut packet),
        });
        if !translated {
            self.pipe(direction).refuse();
            return None;
        }
        let pieces = match mtu {
            Some(mtu) => packet::split(&packet, mtu),
            None => vec![packet],
        };
        for piece in pieces {
            let length = piece.len();
            self.pipe(direction).handle_packet(now, piece, length);
        }
        None
    }

    fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// Returns a NAT's address on the outside.
fn outside(link: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, link, 1)
}

/// Whether a packet's source belongs to the client's end of a link.
fn is_local(header: &Header, link: u8) -> bool {
    match header.source {
        IpAddr::V4(source) => source.octets().starts_with(&[10, 77, link]),
        IpAddr::V6(source) => source.segments().starts_with(&[0xfd77, 0, 0, link.into()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{FAR, NEAR, udp};

    const LINK: LinkId = LinkId(0);

    fn network(config: LinkConfig) -> (Network, Instant) {
        (Network::new(&[config], 1), testkit::Clock::new().now())
    }

    fn drain(network: &mut Network, now: Instant) -> Vec<(Side, Vec<u8>)> {
        let packets = std::iter::from_fn(|| network.poll_transmit(now));
        packets.map(|(_, to, packet)| (to, packet)).collect()
    }

    #[test]
    fn a_packet_from_an_address_of_another_link_goes_nowhere() {
        let (mut network, now) = network(LinkConfig::default());
        let stale = udp((Ipv4Addr::new(10, 77, 1, 1), 1), (FAR, 2), b"x");
        network.handle_packet(now, LINK, Side::Client, stale);
        let own = udp((NEAR, 1), (FAR, 2), b"x");
        network.handle_packet(now, LINK, Side::Client, own.clone());
        assert_eq!(drain(&mut network, now), [(Side::Server, own)]);
        assert_eq!(network.counters(LINK, Direction::Up).refused, 1);
    }

    #[test]
    fn a_family_of_addresses_can_be_turned_away() {
        let conditions = Conditions { ipv4: false, ..Conditions::default() };
        let (mut network, now) = network(LinkConfig::both(conditions));
        network.handle_packet(now, LINK, Side::Client, udp((NEAR, 1), (FAR, 2), b"x"));
        assert_eq!(drain(&mut network, now), []);
        let ipv6 = Conditions { ipv4: true, ipv6: false, ..conditions };
        network.set_conditions(LINK, Direction::Up, ipv6);
        network.handle_packet(now, LINK, Side::Client, udp((NEAR, 1), (FAR, 2), b"x"));
        assert_eq!(drain(&mut network, now).len(), 1);
    }

    #[test]
    fn a_long_packet_is_split_or_refused_as_its_sender_allows() {
        let conditions = Conditions { mtu: Some(1280), ..Conditions::default() };
        let (mut network, now) = network(LinkConfig::both(conditions));
        let mut long = udp((NEAR, 1), (FAR, 2), &[0; 1400]);
        network.handle_packet(now, LINK, Side::Client, long.clone());
        let arrived = drain(&mut network, now);
        assert_eq!(arrived.len(), 2);
        assert!(arrived.iter().all(|(to, piece)| *to == Side::Server && piece.len() <= 1280));

        long[6] |= 0x40;
        network.handle_packet(now, LINK, Side::Client, long.clone());
        let told = drain(&mut network, now);
        assert!(matches!(&told[..], [(Side::Client, _)]), "{told:?}");

        let silent = Conditions { icmp: false, ..conditions };
        network.set_conditions(LINK, Direction::Up, silent);
        network.handle_packet(now, LINK, Side::Client, long);
        assert_eq!(drain(&mut network, now), []);
        assert_eq!(network.counters(LINK, Direction::Up).refused, 2);
    }

    #[test]
    fn a_nat_hides_the_client_and_lets_answers_in() {
        let config = LinkConfig {
            nat: Some(NatConfig { timeout: std::time::Duration::from_secs(30) }),
            ..LinkConfig::default()
        };
        let (mut network, now) = network(config);
        network.handle_packet(now, LINK, Side::Client, udp((NEAR, 7), (FAR, 2), b"x"));
        let arrived = drain(&mut network, now);
        let outside = Ipv4Addr::new(10, 78, 0, 1);
        assert_eq!(arrived, [(Side::Server, udp((outside, 20_000), (FAR, 2), b"x"))]);
        network.handle_packet(now, LINK, Side::Server, udp((FAR, 2), (outside, 20_000), b"y"));
        assert_eq!(drain(&mut network, now), [(Side::Client, udp((FAR, 2), (NEAR, 7), b"y"))]);
        network.rebind(LINK);
        network.handle_packet(now, LINK, Side::Server, udp((FAR, 2), (outside, 20_000), b"y"));
        assert_eq!(drain(&mut network, now), []);
    }
}
