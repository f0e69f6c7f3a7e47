//! [`Nat`]: the address translator between a home and the world, sans-IO.
//!
//! Endpoint-independent mapping, address-independent filtering ("full cone"),
//! ports handed out in order (RFC 4787). A mapping lives as long as packets go
//! *out* through it: the strict reading, by which what comes in keeps nothing
//! alive. IPv4 only: IPv6 is not translated, as it is not at home either.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::packet::{self, End, Header, ICMP, TCP};

/// How a link's address translator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// How long a mapping of UDP or ICMP is kept without outgoing packets.
    pub timeout: Duration,
}

/// How long a mapping of TCP is kept (RFC 5382: two hours and four minutes).
const TCP_TIMEOUT: Duration = Duration::from_secs(7440);

/// Ports on the outside begin here, so that none looks like one of the inside.
const FIRST_PORT: u16 = 20_000;

#[derive(Debug)]
pub(crate) struct Nat {
    config: NatConfig,
    outside: Ipv4Addr,
    next_port: u16,
    by_inside: HashMap<(u8, Ipv4Addr, u16), u16>,
    by_outside: HashMap<(u8, u16), Mapping>,
    /// The host on the inside, for later fragments, which have no ports.
    latest: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    inside: (Ipv4Addr, u16),
    used: Instant,
}

impl Nat {
    pub(crate) fn new(config: NatConfig, outside: Ipv4Addr) -> Self {
        Self {
            config,
            outside,
            next_port: FIRST_PORT,
            by_inside: HashMap::new(),
            by_outside: HashMap::new(),
            latest: None,
        }
    }

    pub(crate) fn config(&self) -> NatConfig {
        self.config
    }

    pub(crate) fn set_config(&mut self, config: NatConfig) {
        self.config = config;
    }

    /// Forgets every mapping: what goes out next has another source port.
    pub(crate) fn rebind(&mut self) {
        self.by_inside.clear();
        self.by_outside.clear();
    }

    /// Translates a packet on its way out; `false` when it cannot be.
    pub(crate) fn outbound(&mut self, now: Instant, packet: &mut [u8]) -> bool {
        let Some(header) = Header::read(packet) else { return false };
        let IpAddr::V4(inside) = header.source else { return true };
        self.latest = Some(inside);
        if header.later_fragment {
            packet::rewrite(packet, End::Source, self.outside, None);
            return true;
        }
        if let Some(port) = packet::port(packet, &header, End::Source) {
            let port = self.map(now, header.protocol, (inside, port));
            packet::rewrite(packet, End::Source, self.outside, Some(port));
            return true;
        }
        let Some(quoted) = quoted(packet, &header) else { return false };
        let Some(end) = quoted_end(quoted, End::Destination) else { return false };
        let Some(port) = self.by_inside.get(&(end.0, inside, end.1)).copied() else { return false };
        packet::rewrite(quoted, End::Destination, self.outside, Some(port));
        packet::renew_icmp_checksum(packet, header.payload);
        packet::rewrite(packet, End::Source, self.outside, None);
        true
    }

    /// Translates a packet on its way in; `false` when there is no mapping.
    pub(crate) fn inbound(&mut self, now: Instant, packet: &mut [u8]) -> bool {
        let Some(header) = Header::read(packet) else { return false };
        if header.destination.is_ipv6() {
            return true;
        }
        if header.later_fragment {
            let Some(inside) = self.latest else { return false };
            packet::rewrite(packet, End::Destination, inside, None);
            return true;
        }
        if let Some(port) = packet::port(packet, &header, End::Destination) {
            let Some(inside) = self.lookup(now, header.protocol, port) else { return false };
            packet::rewrite(packet, End::Destination, inside.0, Some(inside.1));
            return true;
        }
        let Some(quoted) = quoted(packet, &header) else { return false };
        let Some(end) = quoted_end(quoted, End::Source) else { return false };
        let Some(inside) = self.lookup(now, end.0, end.1) else { return false };
        packet::rewrite(quoted, End::Source, inside.0, Some(inside.1));
        packet::renew_icmp_checksum(packet, header.payload);
        packet::rewrite(packet, End::Destination, inside.0, None);
        true
    }

    /// Returns the outside port for an inside one, made or kept alive.
    fn map(&mut self, now: Instant, protocol: u8, inside: (Ipv4Addr, u16)) -> u16 {
        let key = (protocol, inside.0, inside.1);
        if let Some(port) = self.by_inside.get(&key).copied()
            && self.lookup(now, protocol, port).is_some()
        {
            self.by_outside.insert((protocol, port), Mapping { inside, used: now });
            return port;
        }
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        if let Some(old) = self.by_outside.insert((protocol, port), Mapping { inside, used: now }) {
            self.by_inside.remove(&(protocol, old.inside.0, old.inside.1));
        }
        self.by_inside.insert(key, port);
        port
    }

    /// Returns what an outside port is mapped to, unless that has expired.
    fn lookup(&mut self, now: Instant, protocol: u8, port: u16) -> Option<(Ipv4Addr, u16)> {
        let mapping = *self.by_outside.get(&(protocol, port))?;
        let timeout = if protocol == TCP { TCP_TIMEOUT } else { self.config.timeout };
        if now.saturating_duration_since(mapping.used) < timeout {
            return Some(mapping.inside);
        }
        self.by_outside.remove(&(protocol, port));
        self.by_inside.remove(&(protocol, mapping.inside.0, mapping.inside.1));
        None
    }
}

/// Returns the packet that an ICMP error quotes.
fn quoted<'a>(packet: &'a mut [u8], header: &Header) -> Option<&'a mut [u8]> {
    // Destination unreachable, time exceeded, parameter problem.
    let is_error = matches!(packet.get(header.payload)?, 3 | 11 | 12);
    (header.protocol == ICMP && is_error).then_some(())?;
    packet.get_mut(header.payload + 8..)
}

/// Returns protocol and port of a quoted packet.
fn quoted_end(packet: &[u8], end: End) -> Option<(u8, u16)> {
    let header = Header::read(packet)?;
    Some((header.protocol, packet::port(packet, &header, end)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{FAR, NEAR, is_sound, udp};

    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn nat() -> Nat {
        Nat::new(NatConfig { timeout: TIMEOUT }, OUTSIDE)
    }

    /// Sends from an inside port and returns the outside one.
    fn send(nat: &mut Nat, now: Instant, port: u16) -> u16 {
        let mut packet = udp((NEAR, port), (FAR, 443), b"out");
        assert!(nat.outbound(now, &mut packet));
        assert!(is_sound(&packet));
        let header = Header::read(&packet).expect("a header");
        assert_eq!((header.source, header.destination), (OUTSIDE.into(), FAR.into()));
        packet::port(&packet, &header, End::Source).expect("a port")
    }

    fn answer(nat: &mut Nat, now: Instant, port: u16) -> Option<Vec<u8>> {
        let mut packet = udp((FAR, 443), (OUTSIDE, port), b"back");
        nat.inbound(now, &mut packet).then_some(packet)
    }

    #[test]
    fn answers_find_their_way_back_and_strangers_do_not() {
        let (mut nat, now) = (nat(), testkit::Clock::new().now());
        let (one, two) = (send(&mut nat, now, 5001), send(&mut nat, now, 5002));
        assert_ne!(one, two);
        assert_eq!(send(&mut nat, now, 5001), one);
        let expected = udp((FAR, 443), (NEAR, 5002), b"back");
        assert_eq!(answer(&mut nat, now, two), Some(expected));
        assert_eq!(answer(&mut nat, now, 1), None);
    }

    #[test]
    fn a_mapping_lives_by_what_goes_out_only() {
        let (mut nat, start) = (nat(), testkit::Clock::new().now());
        let port = send(&mut nat, start, 5001);
        let late = start + TIMEOUT - Duration::from_secs(1);
        assert!(answer(&mut nat, late, port).is_some());
        assert!(answer(&mut nat, start + TIMEOUT, port).is_none());
        assert_ne!(send(&mut nat, start + TIMEOUT, 5001), port);
    }

    #[test]
    fn rebinding_changes_the_port_and_forgets_the_old_one() {
        let (mut nat, now) = (nat(), testkit::Clock::new().now());
        let port = send(&mut nat, now, 5001);
        nat.rebind();
        assert!(answer(&mut nat, now, port).is_none());
        let new = send(&mut nat, now, 5001);
        assert_ne!(new, port);
        assert!(answer(&mut nat, now, new).is_some());
    }

    #[test]
    fn an_error_about_a_packet_reaches_its_sender_in_the_senders_words() {
        let (mut nat, now) = (nat(), testkit::Clock::new().now());
        let port = send(&mut nat, now, 5001);
        let seen_outside = udp((OUTSIDE, port), (FAR, 443), b"out");
        let mut error = packet::too_long(&seen_outside, 1280, 0).expect("an error");
        assert!(nat.inbound(now, &mut error));
        let header = Header::read(&error).expect("a header");
        assert_eq!(header.destination, NEAR);
        let about = Header::read(&error[28..]).expect("a quoted header");
        assert_eq!(about.source, NEAR);
        assert_eq!(packet::port(&error[28..], &about, End::Source), Some(5001));
        let mut again = error.clone();
        packet::renew_icmp_checksum(&mut again, 20);
        assert_eq!(again, error, "the checksum is right");
    }

    #[test]
    fn fragments_follow_their_first() {
        let (mut nat, now) = (nat(), testkit::Clock::new().now());
        let port = send(&mut nat, now, 5001);
        let long = udp((FAR, 443), (OUTSIDE, port), &[1; 1400]);
        for mut piece in packet::split(&long, 600) {
            assert!(nat.inbound(now, &mut piece));
            assert_eq!(Header::read(&piece).map(|header| header.destination), Some(NEAR.into()));
        }
    }
}
