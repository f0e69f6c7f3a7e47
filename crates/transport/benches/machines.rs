//! How fast the machines of KCP are, each alone: sealing, FEC, KCP, smux.
//!
//! No network, no clock, one thread; `docs/testing.md` has the command.
//! Numbers are reported, never judged: what passes or fails is a test.

use std::time::{Duration, Instant};

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tssh_transport::crypt::{Crypt, NONCE_LEN};
use tssh_transport::fec::{Decoder, Encoder, HEADER_LEN, Parity};
use tssh_transport::kcp::{Config, Kcp, Origin, Uncontrolled};
use tssh_transport::smux;

fn main() {
    divan::main();
}

/// Bytes of plaintext in a full packet of 1400 (`docs/protocol.md` §4.5).
const PLAINTEXT: usize = 1400 - 28;
/// What one bulk transfer moves.
const BULK: usize = 1 << 20;

fn crypt(seed: u8) -> Crypt {
    Crypt::new(&[3; 48], &[4; 48], [seed; 32].into())
}

#[divan::bench(args = [64, PLAINTEXT])]
fn seal(bencher: Bencher<'_, '_>, plaintext: usize) {
    let mut crypt = crypt(1);
    let mut packet = vec![7; NONCE_LEN + plaintext];
    bencher.counter(BytesCount::new(plaintext)).bench_local(|| {
        crypt.seal(black_box(&mut packet));
        packet.truncate(NONCE_LEN + plaintext);
    });
}

#[divan::bench(args = [64, PLAINTEXT])]
fn open(bencher: Bencher<'_, '_>, plaintext: usize) {
    let (mut ours, mut theirs) = (crypt(1), crypt(2));
    let sealed = move || {
        let mut packet = vec![7; NONCE_LEN + plaintext];
        theirs.seal(&mut packet);
        packet
    };
    bencher.counter(BytesCount::new(plaintext)).with_inputs(sealed).bench_local_values(
        |mut packet| {
            assert!(ours.open(black_box(&mut packet)).is_ok());
            packet
        },
    );
}

#[divan::bench]
fn fec_without_parity(bencher: Bencher<'_, '_>) {
    let now = Instant::now();
    let (mut encoder, mut decoder) = (Encoder::new(Parity::Never), Decoder::new());
    let mut plaintext = vec![7; HEADER_LEN + PLAINTEXT];
    bencher.counter(BytesCount::new(PLAINTEXT)).bench_local(|| {
        assert_eq!(encoder.encode_data(now, black_box(&mut plaintext)), None);
        assert!(decoder.decode(&plaintext).is_ok());
    });
}

#[divan::bench]
fn fec_with_parity_of_a_lost_packet(bencher: Bencher<'_, '_>) {
    let now = Instant::now();
    let (mut encoder, mut decoder) = (Encoder::new(Parity::WhileBusy), Decoder::new());
    let mut plaintext = vec![7; HEADER_LEN + PLAINTEXT];
    encoder.encode_data(now, &mut plaintext);
    bencher.counter(BytesCount::new(PLAINTEXT)).bench_local(|| {
        let parity = encoder.encode_data(now, black_box(&mut plaintext));
        let mut copy = plaintext.clone();
        parity.expect("the packet before it was just now").encode(&mut copy);
        assert!(decoder.decode(&copy).is_ok());
    });
}

/// A mebibyte through two conversations; every `lose`th packet is lost.
#[divan::bench(args = [0, 100, 10])]
fn kcp_bulk(bencher: Bencher<'_, '_>, lose: usize) {
    let data = vec![7; BULK];
    bencher.counter(BytesCount::new(BULK)).bench_local(|| {
        let mut now = Instant::now();
        let config = Config::for_packets(1400);
        let [mut from, mut to] = [(); 2].map(|()| Kcp::new(now, 1, config, Box::new(Uncontrolled)));
        let mut rest = data.as_slice();
        let (mut buf, mut packet) = (vec![0; 1 << 16], Vec::new());
        let (mut received, mut sent) = (0, 0_usize);
        while received < BULK {
            let taken = from.send(now, rest);
            rest = &rest[taken..];
            while from.poll_transmit(now, &mut packet) {
                sent += 1;
                if lose == 0 || sent % lose != 0 {
                    assert!(to.handle_packet(now, &packet, Origin::Received).is_ok());
                }
                packet.clear();
            }
            received += to.recv(&mut buf);
            now += Duration::from_millis(10);
            from.handle_timeout(now);
            to.handle_timeout(now);
            while to.poll_transmit(now, &mut packet) {
                assert!(from.handle_packet(now, &packet, Origin::Received).is_ok());
                packet.clear();
            }
        }
        received
    });
}

/// A mebibyte through two sessions, over so many streams in turns.
#[divan::bench(args = [1, 100])]
fn smux_bulk(bencher: Bencher<'_, '_>, streams: usize) {
    let data = vec![7; BULK / streams];
    bencher.counter(BytesCount::new(BULK)).bench_local(|| {
        let mut client = smux::Session::client(smux::Config::default());
        let mut server = smux::Session::server(smux::Config::default());
        let mut open: Vec<_> =
            (0..streams).map(|_| (client.open().expect("room"), data.as_slice())).collect();
        let (mut pipe, mut buf) = (Vec::new(), vec![0; 1 << 16]);
        let mut received = 0;
        while received < streams * data.len() {
            for (id, rest) in &mut open {
                if let Ok(taken) = client.write(*id, rest) {
                    *rest = &rest[taken..];
                }
            }
            // Four segments at a time, as KCP takes them.
            while client.poll_transmit(4 * 1340, &mut pipe) > 0 {
                assert_eq!(server.handle_bytes(&pipe), Ok(pipe.len()));
                pipe.clear();
            }
            for (id, _) in &open {
                while let Ok(count @ 1..) = server.read(*id, &mut buf) {
                    received += count;
                }
            }
            while server.poll_transmit(1 << 16, &mut pipe) > 0 {
                assert_eq!(client.handle_bytes(&pipe), Ok(pipe.len()));
                pipe.clear();
            }
        }
        received
    });
}
