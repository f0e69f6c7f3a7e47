//! What a router in the middle has to know of IP: reading headers, rewriting
//! addresses, splitting packets, telling the sender of one that is too long.
//!
//! IPv4 (RFC 791), ICMP (RFC 792, 1191), ICMPv6 (RFC 4443). Packets come from
//! the kernels of both hosts, but a test may send anything: whatever cannot be
//! read yields `None` or is left alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Length of an IPv4 header without options.
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Next protocol; for IPv6 the first next header.
    pub(crate) protocol: u8,
    /// Where the payload begins.
    pub(crate) payload: usize,
    /// Whether routers may split it.
    pub(crate) may_split: bool,
    /// Whether this is a fragment other than the first, which has no ports.
    pub(crate) later_fragment: bool,
}

impl Header {
    /// Reads the header of an IP packet.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet.first_chunk()?),
            6 => Self::read_v6(packet.first_chunk()?),
            _ => None,
        }
    }

    fn read_v4(bytes: &[u8; V4_HEADER]) -> Option<Self> {
        let payload = usize::from(bytes[0] & 0x0f) * 4;
        let fragment = u16::from_be_bytes([bytes[6], bytes[7]]);
        (payload >= V4_HEADER).then(|| Self {
            source: Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]).into(),
            destination: Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]).into(),
            protocol: bytes[9],
            payload,
            may_split: fragment & DONT_FRAGMENT == 0,
            later_fragment: fragment & OFFSET != 0,
        })
    }

    fn read_v6(bytes: &[u8; V6_HEADER]) -> Option<Self> {
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        };
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            protocol: bytes[6],
            payload: V6_HEADER,
            may_split: false,
            later_fragment: false,
        })
    }
}

/// The bits of IPv4's fragment field.
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Which address of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Returns the port at one end of an IPv4 packet; an echo's identifier counts as its port.
pub(crate) fn port(packet: &[u8], header: &Header, end: End) -> Option<u16> {
    let at = header.payload + port_offset(packet, header, end)?;
    Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}

/// Whether a packet is of TCP, and neither end has this port.
pub(crate) fn is_other_tcp(packet: &[u8], header: &Header, only: u16) -> bool {
    let has = |end| port(packet, header, end) == Some(only);
    header.protocol == TCP && !header.later_fragment && !has(End::Source) && !has(End::Destination)
}

fn port_offset(packet: &[u8], header: &Header, end: End) -> Option<usize> {
    match (header.protocol, end) {
        (TCP | UDP, End::Source) => Some(0),
        (TCP | UDP, End::Destination) => Some(2),
        // Echo reply and echo request.
        (ICMP, _) if matches!(packet.get(header.payload)?, 0 | 8) => Some(4),
        _ => None,
    }
}

/// Gives an IPv4 packet another address and, where it has one, port.
///
/// Checksums are adjusted rather than computed anew (RFC 1624), so that a
/// damaged packet stays damaged.
pub(crate) fn rewrite(packet: &mut [u8], end: End, address: Ipv4Addr, port: Option<u16>) {
    let Some(header) = Header::read(packet) else { return };
    let at = if end == End::Source { 12 } else { 16 };
    let mut changes = Change::default();
    for (index, half) in address.octets().chunks_exact(2).enumerate() {
        changes.put(packet, at + 2 * index, half);
    }
    changes.apply(packet, 10);
    if header.later_fragment {
        return;
    }
    // ICMP has no pseudo header: its checksum does not cover the addresses.
    let mut inner = if header.protocol == ICMP { Change::default() } else { changes };
    if let (Some(port), Some(offset)) = (port, port_offset(packet, &header, end)) {
        inner.put(packet, header.payload + offset, &port.to_be_bytes());
    }
    let sum = match header.protocol {
        TCP => 16,
        UDP => 6,
        ICMP => 2,
        _ => return,
    };
    let sum = header.payload + sum;
    let absent = header.protocol == UDP && packet.get(sum..sum + 2) == Some(&[0, 0]);
    if !absent {
        inner.apply(packet, sum);
    }
}

/// The difference that changed words make to a checksum.
#[derive(Clone, Copy, Debug, Default)]
struct Change(u32);

impl Change {
    fn put(&mut self, packet: &mut [u8], at: usize, word: &[u8]) {
        let Some(place) = packet.get_mut(at..at + 2) else { return };
        self.0 += u32::from(!word_of(place)) + u32::from(word_of(word));
        place.copy_from_slice(word);
    }

    fn apply(self, packet: &mut [u8], at: usize) {
        let Some(place) = packet.get_mut(at..at + 2) else { return };
        let sum = !fold(self.0 + u32::from(!word_of(place)));
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

fn word_of(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |word| u16::from_be_bytes(*word))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded above.
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Computes the internet checksum over several pieces, each but the last of even length.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0;
    for word in pieces.iter().flat_map(|piece| piece.chunks(2)) {
        let low = word.get(1).copied().unwrap_or(0);
        sum = u32::from(fold(sum)) + u32::from(u16::from_be_bytes([word[0], low]));
    }
    !fold(sum)
}

/// Computes an ICMP message's checksum anew, after its content was rewritten.
pub(crate) fn renew_icmp_checksum(packet: &mut [u8], payload: usize) {
    let Some(message) = packet.get_mut(payload..) else { return };
    let Some(place) = message.get_mut(2..4) else { return };
    place.fill(0);
    let sum = checksum(&[message]).to_be_bytes();
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum);
    }
}

/// Splits an IPv4 packet into pieces of at most `mtu` bytes.
///
/// Options are repeated in every piece, which no receiver minds.
pub(crate) fn split(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let Some(header) = Header::read(packet) else { return Vec::new() };
    let (Some(head), Some(body)) = (packet.get(..header.payload), packet.get(header.payload..))
    else {
        return Vec::new();
    };
    let old = word_of(head.get(6..).unwrap_or_default());
    // Offsets count in eights.
    let step = (usize::from(mtu).saturating_sub(head.len()) & !7).max(8);
    let pieces = body.chunks(step).enumerate().map(|(index, chunk)| {
        let last = (index + 1) * step >= body.len();
        let offset = u16::try_from(index * step / 8).unwrap_or(OFFSET) + (old & OFFSET);
        let more = if last { old & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        let length = u16::try_from(head.len() + chunk.len()).unwrap_or(u16::MAX);
        let mut piece = head.to_vec();
        piece[2..4].copy_from_slice(&length.to_be_bytes());
        piece[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        piece[10..12].fill(0);
        let sum = checksum(&[&piece]);
        piece[10..12].copy_from_slice(&sum.to_be_bytes());
        piece.extend_from_slice(chunk);
        piece
    });
    pieces.collect()
}

/// Returns what a router tells the sender of a packet that is longer than `mtu`.
pub(crate) fn too_long(packet: &[u8], mtu: u16, link: u8) -> Option<Vec<u8>> {
    let header = Header::read(packet)?;
    match header.source {
        IpAddr::V4(source) => {
            let quoted = packet.get(..packet.len().min(header.payload + 8))?;
            let router = Ipv4Addr::new(10, 77, link, 254);
            // Destination unreachable, fragmentation needed.
            let mut message = vec![3, 4, 0, 0, 0, 0];
            message.extend_from_slice(&mtu.to_be_bytes());
            message.extend_from_slice(quoted);
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Some(v4(router, source, ICMP, &message))
        }
        IpAddr::V6(source) => {
            let quoted = packet.get(..packet.len().min(1280 - V6_HEADER - 8))?;
            let router = Ipv6Addr::new(0xfd77, 0, 0, link.into(), 0, 0, 0, 0xfe);
            // Packet too big.
            let mut message = vec![2, 0, 0, 0];
            message.extend_from_slice(&u32::from(mtu).to_be_bytes());
            message.extend_from_slice(quoted);
            let length = u32::try_from(message.len()).ok()?.to_be_bytes();
            let pseudo = [router.octets(), source.octets()].concat();
            let sum = checksum(&[&pseudo, &length, &[0, 0, 0, ICMPV6], &message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let length = u16::try_from(message.len()).ok()?.to_be_bytes();
            let start = [0x60, 0, 0, 0, length[0], length[1], ICMPV6, 64];
            Some([&start, &*pseudo, &message].concat())
        }
    }
}

/// Builds an IPv4 packet.
pub(crate) fn v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(V4_HEADER + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    pub(crate) const FAR: Ipv4Addr = crate::SERVER_V4;

    /// Returns a UDP packet with a right checksum.
    pub(crate) fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).expect("short").to_be_bytes();
        let mut datagram = [from.1.to_be_bytes(), to.1.to_be_bytes(), length, [0, 0]].concat();
        datagram.extend_from_slice(payload);
        let sum = udp_checksum(from.0, to.0, &datagram).to_be_bytes();
        datagram[6..8].copy_from_slice(&sum);
        v4(from.0, to.0, UDP, &datagram)
    }

    fn udp_checksum(from: Ipv4Addr, to: Ipv4Addr, datagram: &[u8]) -> u16 {
        let length = u16::try_from(datagram.len()).expect("short").to_be_bytes();
        checksum(&[&from.octets(), &to.octets(), &[0, UDP], &length, datagram])
    }

    /// Whether all checksums of a UDP packet are right: summed over, they give zero.
    pub(crate) fn is_sound(packet: &[u8]) -> bool {
        let header = Header::read(packet).expect("a header");
        let (IpAddr::V4(from), IpAddr::V4(to)) = (header.source, header.destination) else {
            panic!("not IPv4")
        };
        checksum(&[&packet[..20]]) == 0 && udp_checksum(from, to, &packet[20..]) == 0
    }

    #[test]
    fn a_rewritten_packet_has_right_checksums() {
        let mut packet = udp((NEAR, 5000), (FAR, 22), b"odd");
        assert!(is_sound(&packet));
        rewrite(&mut packet, End::Source, Ipv4Addr::new(192, 0, 2, 7), Some(40_001));
        assert_eq!(packet, udp((Ipv4Addr::new(192, 0, 2, 7), 40_001), (FAR, 22), b"odd"));
        rewrite(&mut packet, End::Destination, NEAR, Some(9));
        assert!(is_sound(&packet));
    }

    #[test]
    fn pieces_fit_and_hold_every_byte_once() {
        let body: Vec<u8> = (0..1372_u32).map(|n| n.to_le_bytes()[0]).collect();
        let packet = udp((NEAR, 1), (FAR, 2), &body);
        let pieces = split(&packet, 600);
        let mut joined = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            assert!(piece.len() <= 600);
            assert_eq!(checksum(&[&piece[..20]]), 0);
            assert_eq!(usize::from(word_of(&piece[2..])), piece.len());
            let field = word_of(&piece[6..]);
            assert_eq!(usize::from(field & OFFSET) * 8, joined.len());
            assert_eq!(field & MORE_FRAGMENTS == 0, index + 1 == pieces.len());
            joined.extend_from_slice(&piece[20..]);
        }
        assert_eq!(joined, packet[20..]);
    }

    #[test]
    fn the_sender_of_a_long_packet_is_told_the_mtu_in_its_own_family() {
        let long = udp((NEAR, 1), (FAR, 2), &[0; 1400]);
        let told = too_long(&long, 1280, 3).expect("an answer");
        let header = Header::read(&told).expect("a header");
        assert_eq!((header.destination, header.protocol), (NEAR.into(), ICMP));
        assert_eq!((&told[20..22], word_of(&told[26..])), (&[3, 4][..], 1280));
        assert_eq!(checksum(&[&told[20..]]), 0);
        assert_eq!(told[28..], long[..28]);

        let mut long = vec![0x60, 0, 0, 0, 5, 0xdc, UDP, 64];
        long.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        long.extend_from_slice(&crate::SERVER_V6.octets());
        long.resize(1540, 7);
        let told = too_long(&long, 1300, 3).expect("an answer");
        let header = Header::read(&told).expect("a header");
        assert_eq!(header.destination, Ipv6Addr::LOCALHOST);
        assert_eq!((told.len(), told[40], word_of(&told[46..])), (1280, 2, 1300));
        let length = u32::try_from(told.len() - 40).expect("short").to_be_bytes();
        assert_eq!(checksum(&[&told[8..40], &length, &[0, 0, 0, ICMPV6], &told[40..]]), 0);
    }

    #[test]
    fn no_garbage_makes_it_panic() {
        let mut prng = testkit::Prng::new(1);
        for _ in 0..20_000 {
            let length = usize::try_from(prng.below(80)).expect("small");
            let mut packet = vec![0; length];
            prng.fill(&mut packet);
            if let Some(first) = packet.first_mut() {
                *first = if *first & 1 == 0 { 0x45 } else { 0x60 };
            }
            let _ = too_long(&packet, 1280, 0);
            let _ = split(&packet, 576);
            rewrite(&mut packet, End::Source, NEAR, Some(1));
            rewrite(&mut packet, End::Destination, NEAR, Some(1));
        }
    }
}
