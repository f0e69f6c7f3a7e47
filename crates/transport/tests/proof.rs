//! Which packets prove a path: genuine ones, each for the path it came by (DESIGN D2, D10).
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[macro_use]
mod common;

use std::time::Duration;

use common::{CLIENT, Kind, Net, PATH, Pair, SERVER};
use proxy::PathId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;
use tssh_transport::SendStream;
use tssh_transport::quic::{ClientCredentials, Config, Listener, connect, generate_credentials};

with_both!(
    the_handshake_proves_the_path_to_both_sides,
    a_genuine_packet_proves_the_new_path_it_came_by,
    garbage_proves_nothing_even_between_genuine_packets,
    a_replayed_packet_proves_nothing,
    the_last_packet_before_a_silence_is_reported,
    packets_of_two_proven_paths_are_each_credited_to_their_own,
);

/// The path a client moves to.
const NEW: PathId = PathId(2);
/// A path of someone else.
const EVIL: PathId = PathId(666);

const A_WHILE: Duration = Duration::from_secs(1);

/// Sends a few bytes from the client, one packet, and waits until it has arrived.
async fn say(send: &mut SendStream) {
    send.write_all(b"hello").await.unwrap();
    sleep(A_WHILE).await;
}

async fn the_handshake_proves_the_path_to_both_sides(kind: Kind) {
    let net = Net::new();
    net.send_by(CLIENT, NEW, true);
    net.send_by(SERVER, NEW, true);
    let pair = Pair::over(kind, net).await;
    for end in [CLIENT, SERVER] {
        assert!(pair.net.take_accepted(end).contains(&NEW));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_without_the_right_certificate_proves_nothing_to_the_server() {
    let net = Net::new();
    net.send_by(CLIENT, EVIL, true);
    let (server, client) = generate_credentials().unwrap();
    let (_, other) = generate_credentials().unwrap();
    let stranger = ClientCredentials { server_cert: client.server_cert, ..other };
    let _listener = Listener::new(net.socket(SERVER), server, Config::default()).unwrap();
    let connection = connect(net.socket(CLIENT), stranger, Config::default()).await.unwrap();
    let (mut send, _recv) = connection.open_stream().await.unwrap();
    let _ = send.write_all(b"hello").await;
    sleep(A_WHILE).await;
    assert_eq!(net.take_accepted(SERVER), []);
}

async fn a_genuine_packet_proves_the_new_path_it_came_by(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    say(&mut send).await;
    pair.net.take_accepted(SERVER);

    pair.net.send_by(CLIENT, NEW, true);
    say(&mut send).await;
    let accepted = pair.net.take_accepted(SERVER);
    assert!(!accepted.is_empty() && accepted.iter().all(|path| *path == NEW), "{accepted:?}");
}

async fn garbage_proves_nothing_even_between_genuine_packets(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    pair.net.record(CLIENT);
    say(&mut send).await;
    let genuine = pair.net.recorded(CLIENT).pop().unwrap();
    pair.net.take_accepted(SERVER);

    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            send.write_all(&[1; 2000]).await.unwrap();
            sleep(Duration::from_millis(7)).await;
        }
    });
    for round in 0..1000_usize {
        // Shaped like the genuine thing: right connection id, one bit wrong.
        let mut forged = genuine.clone();
        let at = round % forged.len();
        forged[at] ^= 1 << (round % 8);
        pair.net.inject(SERVER, EVIL, round % 2 == 0, forged);
        pair.net.inject(SERVER, EVIL, round % 2 == 1, vec![0x4a; 1 + round % 1400]);
        sleep(Duration::from_millis(1)).await;
    }
    writer.await.unwrap();
    let accepted = pair.net.take_accepted(SERVER);
    assert!(accepted.len() > 10, "the genuine packets were seen");
    assert!(accepted.iter().all(|path| *path == PATH), "{accepted:?}");
}

async fn a_replayed_packet_proves_nothing(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    pair.net.record(CLIENT);
    for _ in 0..10 {
        say(&mut send).await;
    }
    pair.net.take_accepted(SERVER);
    for packet in pair.net.recorded(CLIENT) {
        pair.net.inject(SERVER, EVIL, true, packet);
        sleep(A_WHILE).await;
    }
    assert_eq!(pair.net.take_accepted(SERVER), []);
}

async fn the_last_packet_before_a_silence_is_reported(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    let (_server_send, mut server_recv) = {
        say(&mut send).await;
        pair.server.accept_stream().await.unwrap()
    };
    for size in [1, 2000, 200_000] {
        send.write_all(&vec![0; size]).await.unwrap();
        pair.net.take_accepted(SERVER);
        sleep(A_WHILE).await;
        // One more packet, and nothing after it.
        pair.net.take_accepted(SERVER);
        say(&mut send).await;
        assert_eq!(pair.net.take_accepted(SERVER).last(), Some(&PATH));
    }
    let mut buf = vec![0; 1 << 20];
    assert!(server_recv.read(&mut buf).await.unwrap() > 0);
}

async fn packets_of_two_proven_paths_are_each_credited_to_their_own(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    say(&mut send).await;
    pair.net.take_accepted(SERVER);
    // Held up on the old path, then both arrive in one batch.
    pair.net.send_by(CLIENT, PATH, false);
    send.write_all(b"old").await.unwrap();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    pair.net.send_by(CLIENT, NEW, false);
    send.write_all(b"new").await.unwrap();
    sleep(A_WHILE).await;
    let accepted = pair.net.take_accepted(SERVER);
    assert!(accepted.contains(&PATH) && accepted.contains(&NEW), "{accepted:?}");
}
