//! The recorded KCP sessions of the reference pair: every packet opens, and our
//! framing of the same segments at the same times gives the same plaintexts,
//! parity included.
//!
//! The recordings were made without rekeying, so that one key opens them all.
//! Nothing here needs the driver: `cargo test --no-default-features --test recordings`.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its vectors must fail")]

use std::time::{Duration, Instant};

use proto::bootstrap::{ServerInfo, TransportKind};
use proto::json::Message as _;
use serde_json::Value;
use tssh_transport::crypt::{Crypt, OVERHEAD, Refused, SECRET_LEN};
use tssh_transport::fec::{Decoder, Encoder, HEADER_LEN, Parity, Shard};
use tssh_transport::kcp::Uncontrolled;
use tssh_transport::smux;
use tssh_transport::stack::{Config, Entropy, Event, Secrets, Stack};
use zeroize::Zeroizing;

const UDP: &str = include_str!("vectors/kcp-shell.jsonl");
const TCP: &str = include_str!("vectors/kcp-tcp-shell.jsonl");

/// The auth packet and its ack come first; they are the proxy's (PROTOCOL §2.2).
const AUTH_LEN: usize = 44;

/// When a packet was captured, in its recording, and the packet.
type Captured = (Duration, Vec<u8>);

/// A recording: what the server printed, and what went each way, in order.
struct Recording {
    info: ServerInfo,
    to_server: Vec<Captured>,
    to_client: Vec<Captured>,
}

impl Recording {
    fn read(text: &str) -> Self {
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let info = lines.next().unwrap()["server_info"].to_string();
        let info = ServerInfo::from_json(info.as_bytes()).unwrap();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        for line in lines {
            let time = Duration::from_micros(line["t_us"].as_u64().unwrap());
            let bytes = hex::decode(line["hex"].as_str().unwrap()).unwrap();
            match line["dir"].as_str().unwrap() {
                "c2s" => to_server.push((time, bytes)),
                "s2c" => to_client.push((time, bytes)),
                other => panic!("direction {other}"),
            }
        }
        Self { info, to_server, to_client }
    }

    fn crypt(&self, seed: u8) -> Crypt {
        let Secrets { pass, salt } = self.secrets();
        Crypt::new(&pass, &salt, Zeroizing::new([seed; 32]))
    }

    fn secrets(&self) -> Secrets {
        let secret = |bytes: &[u8]| Zeroizing::new(<[u8; SECRET_LEN]>::try_from(bytes).unwrap());
        Secrets { pass: secret(self.info.pass.expose()), salt: secret(self.info.salt.expose()) }
    }
}

/// Takes TCP segments apart into the frames they carry, `length u16be | packet`
/// (PROTOCOL §2.4); a frame has the time of its first byte.
fn frames(segments: &[Captured]) -> Vec<Captured> {
    let stream: Vec<_> =
        segments.iter().flat_map(|(time, bytes)| bytes.iter().map(|&byte| (*time, byte))).collect();
    let mut frames = Vec::new();
    let mut rest = stream.as_slice();
    while let Some((&[(time, high), (_, low)], after)) = rest.split_first_chunk() {
        let (frame, after) = after.split_at(usize::from(u16::from_be_bytes([high, low])));
        frames.push((time, frame.iter().map(|&(_, byte)| byte).collect()));
        rest = after;
    }
    assert!(rest.is_empty(), "a recording ends with a frame");
    frames
}

/// Opens what came one way and frames it again; returns how many packets were KCP's.
fn replay(crypt: &mut Crypt, packets: &[Captured]) -> usize {
    let (auth, packets) = packets.split_first().unwrap();
    assert_eq!(auth.1.len(), AUTH_LEN);
    let start = Instant::now();
    let (mut decoder, mut encoder) = (Decoder::new(), Encoder::new(Parity::WhileBusy));
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for (time, packet) in packets {
        let plaintext = crypt.open(&mut packet.clone()).expect("one key opens them all").to_vec();
        assert_eq!(packet.len(), plaintext.len() + OVERHEAD);
        assert_eq!(crypt.open(&mut packet.clone()), Err(Refused::Replayed));
        match decoder.decode(&plaintext).expect("well formed") {
            Shard::Data(segments) => {
                let mut data = [&[0; HEADER_LEN], segments].concat();
                let parity = encoder.encode_data(start + *time, &mut data);
                ours.push(data.clone());
                ours.extend(parity.map(|id| {
                    id.encode(&mut data);
                    data
                }));
            }
            Shard::Spent => {}
            other => panic!("nothing was lost and no datagram sent, but: {other:?}"),
        }
        theirs.push(plaintext);
    }
    // The process may have ended between its last data packet and the parity.
    assert!(ours.len() <= theirs.len() + 1);
    ours.truncate(theirs.len());
    assert_eq!(ours, theirs);
    theirs.len()
}

#[test]
fn the_session_over_udp_opens_and_is_framed_the_same_by_us() {
    let recording = Recording::read(UDP);
    assert_eq!(recording.info.transport(), Ok(TransportKind::Kcp));
    let mut crypt = recording.crypt(1);
    assert_eq!(replay(&mut crypt, &recording.to_server), 56);
    assert_eq!(replay(&mut crypt, &recording.to_client), 90);
}

#[test]
fn the_session_over_tcp_opens_and_is_framed_the_same_by_us() {
    let recording = Recording::read(TCP);
    assert!(recording.info.is_tcp());
    let mut crypt = recording.crypt(1);
    let to_server = replay(&mut crypt, &frames(&recording.to_server));
    let to_client = replay(&mut crypt, &frames(&recording.to_client));
    assert_eq!((to_server, to_client), (67, 81));
}

/// What our server hears on each stream when it gets the recorded client's packets.
fn heard(recording: &Recording, packets: &[Captured]) -> Vec<(u32, Vec<u8>)> {
    let start = Instant::now();
    let entropy = Entropy { seed: Zeroizing::new([2; 32]), conv: 0 };
    let config = Config { packet_size: 1400, max_streams: 100 };
    let mut server = Stack::server(&recording.secrets(), entropy, config, Box::new(Uncontrolled));
    let mut streams = Vec::new();
    // The first is the proxy's.
    for (time, packet) in packets.iter().skip(1) {
        let now = start + *time;
        server.handle_packet(now, &mut packet.clone()).expect("one key opens them all");
        while let Some(event) = server.poll_event() {
            if let Event::Stream(smux::Event::Opened(id)) = event {
                streams.push((id, Vec::new()));
            }
        }
        for (id, heard) in &mut streams {
            let mut buf = [0; 4096];
            while let Ok(len @ 1..) = server.read(*id, &mut buf) {
                heard.extend_from_slice(&buf[..len]);
            }
        }
        while server.poll_transmit(now, &mut Vec::new()) {}
    }
    streams.into_iter().map(|(id, heard)| (id.value(), heard)).collect()
}

/// Takes commands and JSON messages apart (PROTOCOL §6.1): `length u8 | command`,
/// then, unless it is `close`, `length u32be | JSON`; returns the rest as well.
fn messages(mut bytes: &[u8], most: usize) -> (Vec<(String, Value)>, &[u8]) {
    let mut messages = Vec::new();
    while let (Some((&len, rest)), true) = (bytes.split_first(), messages.len() < most) {
        let (name, rest) = rest.split_at(len.into());
        let name = String::from_utf8(name.to_vec()).unwrap();
        let (json, rest) = match name.as_str() {
            "close" => (Value::Null, rest),
            _ => {
                let (len, rest) = rest.split_first_chunk().unwrap();
                let (json, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
                (serde_json::from_slice(json).unwrap(), rest)
            }
        };
        messages.push((name, json));
        bytes = rest;
    }
    (messages, bytes)
}

#[test]
fn our_server_hears_the_recorded_client_say_what_it_said() {
    let udp = Recording::read(UDP);
    let tcp = Recording::read(TCP);
    for (recording, packets) in [(&udp, udp.to_server.clone()), (&tcp, frames(&tcp.to_server))] {
        let heard = heard(recording, &packets);
        let ids: Vec<_> = heard.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [3, 5, 7], "bus, session, stderr");
        let [(_, bus), (_, session), (_, stderr)] = heard.as_slice() else { unreachable!() };
        let (messages_of_bus, rest) = messages(bus, usize::MAX);
        assert_eq!(
            messages_of_bus,
            [
                ("bus".to_owned(), json(BUS)),
                ("resize".to_owned(), json(r#"{"ID":1,"Cols":120,"Rows":40}"#)),
                ("close".to_owned(), Value::Null),
            ]
        );
        assert_eq!(rest, b"");
        let (start, typed) = messages(session, 1);
        assert_eq!(start, [("session".to_owned(), json(START))]);
        assert_eq!(typed, b"echo hello-$((40+2))\rexit\r");
        let (stderr, rest) = messages(stderr, usize::MAX);
        assert_eq!((stderr, rest), (vec![("stderr".to_owned(), json(r#"{"ID":1}"#))], &b""[..]));
    }
}

const BUS: &str = r#"{
    "ClientVer": "0.1.8", "ProtoVer": 1, "AliveTimeout": 864000000000000,
    "IntervalTime": 1000000000, "HeartbeatTimeout": 3000000000
}"#;

const START: &str = r#"{
    "ID": 1, "Pty": true, "Shell": true, "Cols": 120, "Rows": 40,
    "Envs": {
        "LAB_PS1": "READY", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"
    }
}"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
