//! Streams and datagrams, as those above the transport use them.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[macro_use]
mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{CLIENT, Kind, Net, Pair, SERVER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tssh_transport::{ConnectionError, DatagramError, RecvStream, SendStream};

with_both!(
    each_direction_ends_on_its_own,
    a_reset_stream_reads_as_ended_and_a_stopped_one_as_a_broken_pipe,
    a_thousand_streams_are_open_at_once,
    a_stream_nobody_reads_does_not_hold_up_another,
    the_largest_datagram_fills_a_packet_and_passes_both_ways,
    losing_every_second_packet_of_a_full_window_does_not_end_the_connection,
    packets_that_arrive_several_to_a_buffer_are_taken_apart,
    closing_tells_the_other_side_and_its_streams,
    a_stream_that_is_finished_or_no_longer_wanted_is_not_broken_off,
    streams_nobody_reads_do_not_stall_the_others,
);

/// Opens a stream at the client and returns both ends of it; "hi" went ahead.
async fn stream(pair: &Pair) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let (mut send, recv) = pair.client.open_stream().await.unwrap();
    send.write_all(b"hi").await.unwrap();
    let (server_send, mut server_recv) = pair.server.accept_stream().await.unwrap();
    let mut hi = [0; 2];
    server_recv.read_exact(&mut hi).await.unwrap();
    ((send, recv), (server_send, server_recv))
}

async fn each_direction_ends_on_its_own(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let ((mut send, mut recv), (mut server_send, mut server_recv)) = stream(&pair).await;

    send.write_all(b"question").await.unwrap();
    send.shutdown().await.unwrap();
    let mut got = String::new();
    server_recv.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "question");
    send.finished().await.unwrap();

    server_send.write_all(b"answer").await.unwrap();
    server_send.shutdown().await.unwrap();
    let mut got = String::new();
    recv.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "answer");
}

async fn a_reset_stream_reads_as_ended_and_a_stopped_one_as_a_broken_pipe(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let ((mut send, mut recv), (mut server_send, mut server_recv)) = stream(&pair).await;

    send.reset();
    assert_eq!(server_recv.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(server_recv.read(&mut [0; 8]).await.unwrap(), 0, "and stays ended");

    recv.stop();
    let broken = loop {
        if let Err(error) = server_send.write_all(&[0; 1000]).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(broken.kind(), std::io::ErrorKind::BrokenPipe);
    server_send.finished().await.unwrap();
}

async fn a_thousand_streams_are_open_at_once(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let mut open = Vec::new();
    for _ in 0..1000 {
        let (mut send, recv) =
            tokio::time::timeout(Duration::from_secs(1), pair.client.open_stream())
                .await
                .expect("the server allows a thousand")
                .unwrap();
        send.write_all(b"hi").await.unwrap();
        open.push((send, recv));
    }
    let one_more = tokio::time::timeout(Duration::from_secs(60), pair.client.open_stream()).await;
    assert!(one_more.is_err(), "the thousand and first has to wait");

    let mut served = Vec::new();
    for _ in 0..1000 {
        served.push(pair.server.accept_stream().await.unwrap());
    }
    // Ending some, both ways, makes room; quinn hands out new credit in lumps.
    for (mut send, mut recv) in served.drain(..200) {
        send.reset();
        recv.stop();
    }
    for (mut send, _) in open.drain(..200) {
        send.reset();
    }
    pair.client.open_stream().await.unwrap();
}

async fn a_stream_nobody_reads_does_not_hold_up_another(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let ((mut stalled, _), (_keep_send, _keep_recv)) = stream(&pair).await;
    let ((mut send, _recv), (_server_send, mut server_recv)) = stream(&pair).await;
    let filling = tokio::spawn(async move {
        let _ = stalled.write_all(&vec![0; 32 << 20]).await;
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!filling.is_finished(), "nobody read it");

    send.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    server_recv.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");
}

/// Of KCP's, `stack/tests` tells: what was handed to its one pipe stays in order.
#[tokio::test(start_paused = true)]
async fn a_stream_of_higher_priority_overtakes_what_was_written_before() {
    let pair = Pair::connected(Kind::Quic).await;
    let ((mut bulk, _r1), (_s1, mut bulk_recv)) = stream(&pair).await;
    let ((mut keys, _r2), (_s2, mut keys_recv)) = stream(&pair).await;
    keys.set_priority(10);
    let reader = tokio::spawn(async move {
        let mut total = 0;
        let mut buf = vec![0; 65536];
        while total < 2 << 20 {
            total += bulk_recv.read(&mut buf).await.unwrap();
        }
        tokio::time::Instant::now()
    });
    bulk.write_all(&vec![0; 2 << 20]).await.unwrap();
    keys.write_all(b"x").await.unwrap();
    keys_recv.read_exact(&mut [0; 1]).await.unwrap();
    let keys_at = tokio::time::Instant::now();
    assert!(keys_at < reader.await.unwrap());
}

async fn the_largest_datagram_fills_a_packet_and_passes_both_ways(kind: Kind) {
    let pair = Pair::connected(kind).await;
    // PROTOCOL §3.6, §4.6.
    let limit = match kind {
        Kind::Quic => 1400 - 37,
        Kind::Kcp => 1400 - 40,
    };
    for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        assert_eq!(from.max_datagram_size(), limit);
        for len in [limit, 0] {
            let payload = Bytes::from(vec![7; len]);
            from.send_datagram(payload.clone()).await.unwrap();
            assert_eq!(to.read_datagram().await.unwrap(), payload);
        }
        let size = limit + 1;
        assert_eq!(
            from.send_datagram(vec![0; size].into()).await,
            Err(DatagramError::TooLarge { size, limit })
        );
    }
    let largest = |end| pair.net.sent(end).into_iter().max().unwrap();
    assert!(largest(CLIENT) <= 1400 && largest(SERVER) <= 1400);
}

async fn losing_every_second_packet_of_a_full_window_does_not_end_the_connection(kind: Kind) {
    // 1 Gbit/s at 50 ms holds twice the stream's receive window: the client
    // gets as far ahead as that window allows.
    const TOTAL: usize = 96 << 20;
    let net = Net::new();
    net.set_rate(125_000_000);
    let pair = Pair::over(kind, net).await;
    let ((mut send, _recv), (_server_send, mut server_recv)) = stream(&pair).await;
    let sending = tokio::spawn(async move {
        send.write_all(&vec![5; TOTAL]).await.unwrap();
        send.shutdown().await.unwrap();
        send
    });
    let mut got = vec![0; 48 << 20];
    server_recv.read_exact(&mut got).await.unwrap();

    let mut count = 0_u64;
    pair.net.drop_if(CLIENT, move |_| {
        count += 1;
        count.is_multiple_of(2)
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    pair.net.drop_nothing(CLIENT);

    let mut rest = Vec::new();
    server_recv.read_to_end(&mut rest).await.unwrap();
    assert_eq!(got.len() + rest.len(), TOTAL);
    assert!(rest.iter().all(|byte| *byte == 5));
    sending.await.unwrap().finished().await.unwrap();
}

async fn packets_that_arrive_several_to_a_buffer_are_taken_apart(kind: Kind) {
    let net = Net::new();
    net.coalesce(SERVER, 8);
    net.coalesce(CLIENT, 8);
    let pair = Pair::over(kind, net).await;
    let ((mut send, _recv), (_server_send, mut server_recv)) = stream(&pair).await;
    let sent: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    let copy = sent.clone();
    let sending = tokio::spawn(async move {
        send.write_all(&copy).await.unwrap();
        send.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    server_recv.read_to_end(&mut got).await.unwrap();
    assert!(got == sent, "every byte in order");
    sending.await.unwrap();
}

async fn closing_tells_the_other_side_and_its_streams(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let ((_send, _recv), (mut server_send, mut server_recv)) = stream(&pair).await;
    pair.client.close();
    assert_eq!(pair.client.closed().await, ConnectionError::ClosedLocally);
    pair.client.closing_sent().await;
    assert!(pair.client.open_stream().await.is_err());
    match kind {
        Kind::Quic => {
            assert_eq!(pair.server.closed().await, ConnectionError::ClosedByPeer);
            let error = server_recv.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
        }
        // Its wire has no word for it: the streams end.
        Kind::Kcp => assert_eq!(server_recv.read(&mut [0; 1]).await.unwrap(), 0),
    }
    loop {
        if server_send.write_all(b"x").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// KCP's streams have no word for it.
#[tokio::test(start_paused = true)]
async fn a_reference_peer_is_told_that_a_stream_broken_off_is_merely_closed() {
    let pair = Pair::over(Kind::Quic, Net::new()).await;
    let ((send, _recv), (_server_send, mut server_recv)) = stream(&pair).await;
    server_recv.abort();
    assert!(!send.stopped().await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_broken_off_delivers_what_was_sent_and_tells_of_the_break() {
    let pair = Pair::connected(Kind::Quic).await;
    let ((send, mut recv), (mut server_send, mut server_recv)) = stream(&pair).await;

    server_send.write_all(b"last words").await.unwrap();
    server_send.shutdown().await.unwrap();
    server_recv.abort();

    assert!(send.stopped().await, "broken off");
    let mut got = String::new();
    recv.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "last words");
}

async fn a_stream_that_is_finished_or_no_longer_wanted_is_not_broken_off(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let ((mut send, mut recv), (server_send, mut server_recv)) = stream(&pair).await;
    send.shutdown().await.unwrap();
    server_recv.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(!send.stopped().await);
    recv.stop();
    assert!(!server_send.stopped().await);
}

async fn streams_nobody_reads_do_not_stall_the_others(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let (near, (mut server_send, server_recv)) = stream(&pair).await;
        // Until the stream's own window is full.
        let fill = async { while server_send.write_all(&[0; 64 * 1024]).await.is_ok() {} };
        assert!(tokio::time::timeout(Duration::from_secs(60), fill).await.is_err());
        stalled.push((near, server_send, server_recv));
    }
    let ((_send, mut recv), (mut server_send, _recv)) = stream(&pair).await;
    server_send.write_all(b"through").await.unwrap();
    let mut got = [0; 7];
    recv.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"through");
}
