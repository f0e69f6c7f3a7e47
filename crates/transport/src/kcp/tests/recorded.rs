//! A recorded session of the reference pair, read by our machine.

use super::*;

const RECORDED: &str = include_str!("recorded.txt");

/// The packets of one direction, each with its capture time.
fn packets(direction: &str) -> Vec<(Duration, Vec<u8>)> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    let ours = fields.filter(|fields| fields[1] == direction);
    ours.map(|fields| (Duration::from_micros(fields[0].parse().unwrap()), hex(fields[2]))).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap();
    (0..text.len() / 2).map(digits).collect()
}

/// What a receiver makes of the packets.
fn replay<'a>(packets: impl Iterator<Item = &'a (Duration, Vec<u8>)>) -> Vec<u8> {
    let clock = Clock::new();
    let (start, mut heard) = (clock.now(), Vec::new());
    let mut kcp: Option<Kcp> = None;
    for (at, packet) in packets {
        clock.advance_to(start + *at);
        let conv = conv_of(packet).unwrap();
        let kcp = kcp
            .get_or_insert_with(|| Kcp::new(clock.now(), conv, config(), Box::new(Uncontrolled)));
        kcp.handle_packet(clock.now(), packet, Origin::Received).unwrap();
        let mut buf = [0; 4096];
        let read = kcp.recv(&mut buf);
        heard.extend_from_slice(&buf[..read]);
        while kcp.poll_transmit(clock.now(), &mut Vec::new()) {}
    }
    heard
}

/// The bytes of the stream, put together without the machine.
fn expected(packets: &[(Duration, Vec<u8>)]) -> Vec<u8> {
    let mut data = std::collections::BTreeMap::new();
    for (_, packet) in packets {
        let pushes = segments(packet).map(Result::unwrap).filter(|s| s.command == Command::Push);
        data.extend(pushes.map(|segment| (segment.sn.0, segment.data.to_vec())));
    }
    data.into_values().flatten().collect()
}

#[test]
fn every_recorded_packet_parses_and_encodes_to_the_same_bytes() {
    for (_, packet) in [packets("c2s"), packets("s2c")].concat() {
        let mut ours = Vec::new();
        for segment in segments(&packet) {
            segment.unwrap().encode(&mut ours);
        }
        assert_eq!(ours, packet);
    }
}

#[test]
fn recorded_sessions_yield_the_streams_in_them() {
    for (direction, first) in [
        // smux: stream 3 is opened, and the command "bus" written to it.
        ("c2s", &b"\x02\x00\x00\x00\x03\x00\x00\x00\x02\x02\x04\x00\x03\x00\x00\x00\x03bus"[..]),
        // smux: one byte of stream 3 was read, its window is 512 KiB.
        ("s2c", b"\x02\x04\x08\x00\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x08\x00"),
    ] {
        let packets = packets(direction);
        assert!(packets.len() > 20);
        let heard = replay(packets.iter());
        assert!(heard.starts_with(first), "{direction}");
        assert_eq!(heard, expected(&packets));
        // In any order, and twice.
        assert_eq!(replay(packets.iter().rev().chain(&packets)), heard);
    }
}
