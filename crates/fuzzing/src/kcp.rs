//! Targets for what KCP is made of: the packet opener, FEC, KCP itself, smux.
//!
//! Inputs are scripts, as in [`crate::machines`]: one byte says what happens,
//! the following ones with which argument. Two kinds of attack: bytes of any
//! shape into one machine, and a network that may do anything to the packets
//! between two honest ones.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use transport::crypt::{Crypt, MIN_PLAINTEXT, NONCE_LEN, OVERHEAD, TAG_LEN};
use transport::fec::{Decoder, Encoder, Parity, Shard, encode_datagram};
use transport::kcp::{Command, Config, HEADER_LEN, Kcp, Origin, Segment, Sn, Ts, Uncontrolled};
use transport::smux;

/// The packet opener and the keys behind it: what opens is what the peer
/// sealed, and opens once.
pub fn packet_opener(data: &[u8]) {
    let mut script = Script::new(data);
    let (mut ours, mut theirs) = (crypt(1), crypt(2));
    let mut sealed: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut opened = HashSet::new();
    while let Some(step) = script.next() {
        match step % 6 {
            0 => {
                let len = MIN_PLAINTEXT + usize::from(script.byte());
                let mut packet = vec![step; NONCE_LEN + len];
                let plaintext = packet[NONCE_LEN..].to_vec();
                theirs.seal(&mut packet);
                assert_eq!(packet.len(), len + OVERHEAD);
                sealed.push((packet, plaintext));
            }
            1 => {
                // Any packet of the peer's, perhaps for the second time.
                let Some(index) = usize::from(script.byte()).checked_rem(sealed.len()) else {
                    continue;
                };
                let (packet, plaintext) = &sealed[index];
                match ours.open(&mut packet.clone()) {
                    Ok(body) => {
                        assert_eq!(body, plaintext.as_slice());
                        assert!(opened.insert(index), "a packet opens twice");
                    }
                    Err(_) => assert!(opened.contains(&index), "a good packet is refused"),
                }
            }
            2 => {
                // The same, bent.
                let Some(index) = usize::from(script.byte()).checked_rem(sealed.len()) else {
                    continue;
                };
                let mut packet = sealed[index].0.clone();
                let at = usize::from(script.byte()) * 2 % packet.len();
                packet[at] ^= script.byte() | 1;
                assert!(ours.open(&mut packet).is_err(), "a bent packet opens");
            }
            3 => {
                let mut packet = vec![7; NONCE_LEN + MIN_PLAINTEXT];
                ours.seal(&mut packet);
                assert!(ours.open(&mut packet).is_err(), "our own packet opens");
            }
            4 => {
                let len = usize::from(script.byte());
                let mut packet = script.take(len).to_vec();
                assert!(ours.open(&mut packet).is_err(), "an input cannot know the key");
            }
            _ => {
                let point = script.take(65).to_vec();
                // Most points are refused, which is an answer.
                let _ = ours.answer(&point, [step; 32].into());
            }
        }
    }
}

/// FEC: what it hands on is a part of what came in, and recovered once.
pub fn fec(data: &[u8]) {
    let mut script = Script::new(data);
    let mut decoder = Decoder::new();
    let mut encoder = Encoder::new(Parity::WhileBusy);
    while let Some(len) = script.next() {
        let kind = script.byte();
        let bytes = script.take(usize::from(len)).to_vec();
        let plaintext = match kind % 4 {
            0 => {
                let mut plaintext = vec![0; 8];
                plaintext.extend_from_slice(&bytes);
                let parity = encoder.encode_data(script.now, &mut plaintext);
                if let Some(id) = parity.filter(|_| kind & 128 == 0) {
                    id.encode(&mut plaintext);
                }
                plaintext
            }
            1 => {
                let mut plaintext = Vec::new();
                encode_datagram(kind.into(), &bytes, &mut plaintext);
                let shard = Shard::Datagram { conv: kind.into(), payload: &bytes };
                assert_eq!(decoder.decode(&plaintext), Ok(shard));
                plaintext
            }
            2 => {
                // Header and size as they should be, the number as it likes.
                let mut plaintext = script.number().to_le_bytes().to_vec();
                plaintext.extend_from_slice(&[0xf1 + kind % 3, 0]);
                let size = u16::from(len) + 2;
                plaintext.extend_from_slice(&size.to_le_bytes());
                plaintext.extend_from_slice(&bytes);
                plaintext
            }
            _ => bytes,
        };
        if let Ok(shard) = decoder.decode(&plaintext) {
            let (part, was_recovered) = match shard {
                Shard::Data(part) => (part, false),
                Shard::Recovered(part) => (part, true),
                Shard::Datagram { payload, .. } => (payload, false),
                Shard::Spent => continue,
            };
            assert!(part.len() <= plaintext.len());
            if was_recovered {
                assert_eq!(decoder.decode(&plaintext), Ok(Shard::Spent), "recovered twice");
            }
        }
        script.now += Duration::from_millis(kind.into());
    }
}

/// One KCP machine and segments of any kind: it keeps within its bounds, has
/// an end to what it sends, and does not spin.
pub fn kcp(data: &[u8]) {
    let mut script = Script::new(data);
    let start = (Sn(u32::MAX - 3), Ts(u32::MAX - 500));
    let config = Config { start, send_window: 64, receive_window: 64, ..config() };
    let mut machine = Kcp::new(script.now, CONV, config, Box::new(Uncontrolled));
    let mut seen = Vec::new();
    while let Some(step) = script.next() {
        let now = script.now;
        let argument = usize::from(script.byte());
        let origin = if argument & 1 == 0 { Origin::Received } else { Origin::Recovered };
        // Refusals are answers; a panic is not.
        match step % 8 {
            0 => {
                let packet = script.take(argument).to_vec();
                let _ = machine.handle_packet(now, &packet, origin);
            }
            1 | 2 => {
                let packet = script.segments(argument % 6 + 1);
                let _ = machine.handle_packet(now, &packet, origin);
            }
            3 => {
                let _ = machine.handle_packet(now, &seen, origin);
            }
            4 => {
                let room = machine.send_room();
                let taken = machine.send(now, &[step; 4096][..argument * 16]);
                assert_eq!(taken, room.min(argument * 16));
            }
            5 => {
                let mut to = [0; 256];
                let was_readable = machine.is_readable();
                let count = machine.recv(&mut to[..argument]);
                assert!(was_readable || count == 0);
            }
            6 => machine.reset_rto(now),
            _ => {
                script.pass(machine.poll_timeout(), argument);
                machine.handle_timeout(script.now);
            }
        }
        let now = script.now;
        for count in 0.. {
            let mut packet = Vec::new();
            if !machine.poll_transmit(now, &mut packet) {
                break;
            }
            assert!(packet.len() <= config.mtu, "{} bytes in a packet", packet.len());
            assert!(count < 256, "the machine does not run dry");
            seen = packet;
        }
        machine.handle_timeout(now);
        while machine.poll_transmit(now, &mut Vec::new()) {}
        assert!(machine.poll_timeout().is_none_or(|at| at > now), "the machine spins");
        assert!(machine.in_flight_bytes() <= 64 * config.mtu);
    }
}

/// Two KCP machines and a network that does what the input says: a prefix of
/// what was sent arrives, and all of it once the network is good again.
pub fn kcp_link(data: &[u8]) {
    let mut script = Script::new(data);
    let start = (Sn(u32::MAX - 3), Ts(u32::MAX - 500));
    let small = script.byte();
    let config = match small % 3 {
        0 => Config { start, ..config() },
        1 => Config { start, mtu: 60, send_window: 4, receive_window: 3, ..config() },
        _ => Config { start, receive_window: 2, ..config() },
    };
    let mut ends = [script.now; 2].map(|now| Talker::new(now, config));
    let mut wires = [Vec::new(), Vec::new()];
    while let Some(step) = script.next() {
        let (from, argument) = (usize::from(step >> 7), usize::from(script.byte()));
        let now = script.now;
        match step % 7 {
            0 | 1 => ends[from].say(now, argument * 8),
            2 => deliver(now, &mut wires[from], argument, &mut ends[1 - from]),
            3 => {
                // Twice, and out of turn.
                let copy =
                    argument.checked_rem(wires[from].len()).map(|at| wires[from][at].clone());
                wires[from].extend(copy);
            }
            4 => {
                if let Some(at) = argument.checked_rem(wires[from].len()) {
                    wires[from].remove(at);
                }
            }
            5 => {
                let next = [0, 1].map(|end| ends[end].kcp.poll_timeout()).into_iter().flatten();
                script.pass(next.min(), argument);
            }
            _ => ends[from].kcp.reset_rto(now),
        }
        for end in [0, 1] {
            ends[end].work(script.now, &mut wires[end]);
            wires[end].truncate(64);
        }
        check(&ends);
    }
    // From here on nothing is lost: it has to end, and with everything delivered.
    for _ in 0..20_000 {
        let mut moved = false;
        for from in [0, 1] {
            while !wires[from].is_empty() {
                moved = true;
                deliver(script.now, &mut wires[from], 0, &mut ends[1 - from]);
            }
            ends[from].work(script.now, &mut wires[from]);
            moved |= !wires[from].is_empty();
        }
        let next = [0, 1].map(|end| ends[end].kcp.poll_timeout()).into_iter().flatten().min();
        match next {
            _ if moved => {}
            Some(at) => script.now = script.now.max(at),
            None => break,
        }
    }
    check(&ends);
    let [a, b] = &ends;
    let missing = (a.said.len() - b.heard.len(), b.said.len() - a.heard.len());
    assert_eq!(missing, (0, 0), "bytes never arrive");
}

/// One smux session and a pipe of any bytes: no stream goes past its credit,
/// and what was kept is given back.
pub fn smux(data: &[u8]) {
    let mut script = Script::new(data);
    let limits = smux::Config { max_streams: 8 };
    let mut session = match script.byte() & 1 {
        0 => smux::Session::server(limits),
        _ => smux::Session::client(limits),
    };
    let mut ids = Vec::new();
    let mut failed = false;
    while let Some(step) = script.next() {
        let argument = script.byte();
        let id = usize::from(argument).checked_rem(ids.len()).map(|at| ids[at]);
        match (step % 12, id) {
            (0..=3, _) => {
                let pipe = script.frame(argument);
                match session.handle_bytes(&pipe) {
                    Ok(taken) => assert!(!failed && taken <= pipe.len()),
                    Err(_) => failed = true,
                }
            }
            (4, _) => {
                let pipe = script.take(argument.into()).to_vec();
                failed |= session.handle_bytes(&pipe).is_err();
            }
            (5, _) => ids.extend(session.open()),
            (6, Some(id)) => {
                if let Ok(taken) = session.write(id, &[step; 2048][..usize::from(argument) * 8]) {
                    assert!(taken > 0 || argument == 0);
                }
            }
            (7, Some(id)) => {
                let _ = session.read(id, &mut [0; 300]);
            }
            (8, Some(id)) => session.finish(id),
            (9, Some(id)) => session.stop(id),
            (10, Some(id)) => session.set_priority(id, i32::from(argument) - 128),
            _ => {
                let mut out = Vec::new();
                let count = session.poll_transmit(usize::from(argument) * 16, &mut out);
                assert_eq!((count, count <= usize::from(argument) * 16), (out.len(), true));
            }
        }
        while let Some(event) = session.poll_event() {
            if let smux::Event::Opened(id) = event {
                ids.push(id);
            }
        }
        assert!(session.stream_count() <= limits.max_streams);
    }
    // Streams are gone when both ends have let go of them.
    for id in ids {
        session.close(id);
        while session.read(id, &mut [0; 4096]).is_ok_and(|count| count > 0) {}
    }
    while session.poll_transmit(1 << 16, &mut Vec::new()) > 0 {}
    let left = session.stream_count();
    // A stream whose peer has not finished yet, stopped by us, is over as well.
    assert_eq!(left, 0, "closed streams stay");
}

/// One end of [`kcp_link`] with what it said and heard.
struct Talker {
    kcp: Kcp,
    said: Vec<u8>,
    queued: usize,
    heard: Vec<u8>,
}

impl Talker {
    fn new(now: Instant, config: Config) -> Self {
        let kcp = Kcp::new(now, CONV, config, Box::new(Uncontrolled));
        Self { kcp, said: Vec::new(), queued: 0, heard: Vec::new() }
    }

    fn say(&mut self, now: Instant, bytes: usize) {
        // A bound on the work of one input, not on what KCP could carry.
        if self.said.len() < 20_000 {
            let start = self.said.len();
            self.said.extend((start..start + bytes).map(|at| (at % 251).to_le_bytes()[0]));
        }
        self.queued += self.kcp.send(now, &self.said[self.queued..]);
    }

    fn work(&mut self, now: Instant, wire: &mut Vec<Vec<u8>>) {
        self.kcp.handle_timeout(now);
        self.queued += self.kcp.send(now, &self.said[self.queued..]);
        let mut to = [0; 4096];
        while let count @ 1.. = self.kcp.recv(&mut to) {
            self.heard.extend_from_slice(&to[..count]);
        }
        let mut packet = Vec::new();
        while self.kcp.poll_transmit(now, &mut packet) {
            wire.push(std::mem::take(&mut packet));
        }
    }
}

fn deliver(now: Instant, wire: &mut Vec<Vec<u8>>, index: usize, to: &mut Talker) {
    let Some(at) = index.checked_rem(wire.len()) else { return };
    let packet = wire.remove(at);
    let taken = to.kcp.handle_packet(now, &packet, Origin::Received);
    assert_eq!(taken, Ok(()), "an honest packet is refused");
}

fn check([a, b]: &[Talker; 2]) {
    assert!(a.said.starts_with(&b.heard) && b.said.starts_with(&a.heard), "not what was said");
}

/// An input read as steps and their arguments, with a clock that only goes forward.
struct Script<'a> {
    rest: &'a [u8],
    now: Instant,
}

impl<'a> Script<'a> {
    fn new(data: &'a [u8]) -> Self {
        // A bound on the steps keeps one input from taking all the time.
        Self { rest: data.get(..4096).unwrap_or(data), now: Instant::now() }
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// Returns the next byte, and 0 once there is none.
    fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// Returns up to `len` of the following bytes.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Returns a number: near zero or near the wrap, where mistakes live, or far.
    fn number(&mut self) -> u32 {
        let (how, value) = (self.byte(), u32::from(self.byte()));
        match how % 4 {
            0 => value,
            1 => u32::MAX - value,
            2 => value << (how >> 3),
            _ => (1 << 31) + value,
        }
    }

    /// Returns a packet of `count` segments that parse.
    fn segments(&mut self, count: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        for _ in 0..count {
            let kind = self.byte();
            let command = match kind % 4 {
                0 => Command::Push,
                1 => Command::Ack,
                2 => Command::WindowAsk,
                _ => Command::WindowTell,
            };
            let (ts, sn, una) = (Ts(self.number()), Sn(self.number()), Sn(self.number()));
            let window = u16::from(self.byte()) << (kind >> 5);
            let data = &[kind; 255][..usize::from(kind)];
            let segment =
                Segment { conv: CONV, command, fragment: kind, window, ts, sn, una, data };
            segment.encode(&mut packet);
        }
        assert!(packet.len() >= count * HEADER_LEN);
        packet
    }

    /// Returns a smux frame that parses, of any command and for one of few streams.
    fn frame(&mut self, kind: u8) -> Vec<u8> {
        let id = u32::from(self.byte() % 16);
        let command = kind % 6;
        let payload = match command {
            2 => vec![kind; usize::from(kind) * 64],
            4 => [self.number().to_le_bytes(), self.number().to_le_bytes()].concat(),
            _ => Vec::new(),
        };
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let mut frame = vec![2, command];
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&id.to_le_bytes());
        frame.extend_from_slice(&payload);
        frame
    }

    /// Moves the clock to a deadline, or a little on where there is none or `by` says so.
    fn pass(&mut self, deadline: Option<Instant>, by: usize) {
        let step = self.now + Duration::from_millis(by as u64 * 10);
        self.now = match deadline {
            Some(deadline) if by < 200 => deadline.max(self.now),
            _ => step,
        };
    }
}

fn crypt(seed: u8) -> Crypt {
    assert_eq!(OVERHEAD, NONCE_LEN + TAG_LEN);
    Crypt::new(&[3; 48], &[4; 48], [seed; 32].into())
}

fn config() -> Config {
    Config::for_packets(1400)
}

const CONV: u32 = 0x1122_3344;
