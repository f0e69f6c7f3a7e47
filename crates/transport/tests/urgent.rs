//! What somebody waits for goes before bulk, on a link that bulk keeps full (DESIGN D6).
//!
//! All in virtual time, a round trip of 50 ms, and a queue of a second that whoever
//! fills it has to wait for.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[macro_use]
mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Kind, Pair, RTT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tssh_transport::{RecvStream, SendStream};

with_both!(
    keys_are_echoed_within_two_round_trips_under_a_flood,
    keys_are_echoed_soon_under_a_flood_of_a_narrow_link,
    what_follows_a_flood_on_its_own_stream_is_there_within_a_round_trip_and_200_ms,
);

/// Bytes a second of 1 Mbit/s.
const NARROW: u64 = 125_000;

async fn narrow(kind: Kind) -> Pair {
    let pair = Pair::connected(kind).await;
    pair.net.set_rate(NARROW);
    pair.net.set_queue(Duration::from_secs(1));
    pair
}

/// A stream that both ends hold.
async fn stream(pair: &Pair) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let (mut send, recv) = pair.client.open_stream().await.unwrap();
    send.write_all(b"!").await.unwrap();
    let (served_send, mut served_recv) = pair.server.accept_stream().await.unwrap();
    served_recv.read_exact(&mut [0; 1]).await.unwrap();
    ((send, recv), (served_send, served_recv))
}

/// Floods a stream from the server, in pieces as a terminal gives them.
async fn flood(pair: &Pair) -> Vec<JoinHandle<()>> {
    let ((send, mut recv), (mut served_send, served_recv)) = stream(pair).await;
    let writer = tokio::spawn(async move {
        let _open = served_recv;
        while served_send.write_all(&[b'y'; 4096]).await.is_ok() {}
    });
    let reader = tokio::spawn(async move {
        let _open = send;
        let mut buf = vec![0; 64 * 1024];
        while recv.read(&mut buf).await.is_ok_and(|n| n > 0) {}
    });
    vec![writer, reader]
}

/// Types a key each 130 ms at the client, for the server to echo; returns the
/// times of the echoes, in order of length.
async fn echoes(pair: &Pair) -> Vec<Duration> {
    let ((mut send, mut recv), (mut served_send, mut served_recv)) = stream(pair).await;
    let echo = tokio::spawn(async move {
        let mut key = [0; 1];
        while served_recv.read_exact(&mut key).await.is_ok() {
            served_send.write_all(&key).await.unwrap();
        }
    });
    let mut times = Vec::new();
    for _ in 0..200 {
        let typed_at = Instant::now();
        send.write_all(b"x").await.unwrap();
        recv.read_exact(&mut [0; 1]).await.unwrap();
        times.push(typed_at.elapsed());
        sleep(Duration::from_millis(130)).await;
    }
    echo.abort();
    times.sort_unstable();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

/// Returns the 99th percentile of echoes under a flood.
async fn echo_under_a_flood(pair: &Pair) -> Duration {
    let _flood = flood(pair).await;
    sleep(Duration::from_secs(5)).await;
    p99(&echoes(pair).await)
}

async fn keys_are_echoed_within_two_round_trips_under_a_flood(kind: Kind) {
    let pair = narrow(kind).await;
    pair.net.set_rate(10 * NARROW);
    let p99 = echo_under_a_flood(&pair).await;
    // And a packet that was being sent.
    assert!(p99 <= 2 * RTT + Duration::from_millis(5), "{p99:?}");
}

/// A packet takes 11 ms here, so that the link holds five; the controllers never
/// keep fewer than about ten under way.
async fn keys_are_echoed_soon_under_a_flood_of_a_narrow_link(kind: Kind) {
    let pair = narrow(kind).await;
    let p99 = echo_under_a_flood(&pair).await;
    assert!(p99 <= 4 * RTT, "{p99:?}");
}

async fn what_follows_a_flood_on_its_own_stream_is_there_within_a_round_trip_and_200_ms(
    kind: Kind,
) {
    let pair = narrow(kind).await;
    let ((_send, mut recv), (mut served_send, _served_recv)) = stream(&pair).await;
    let started = Instant::now();
    let writer = tokio::spawn(async move {
        while started.elapsed() < Duration::from_secs(10) {
            served_send.write_all(&[b'y'; 4096]).await.unwrap();
        }
        let stopped_at = Instant::now();
        served_send.write_all(b"$").await.unwrap();
        (stopped_at, served_send)
    });
    let mut buf = vec![0; 64 * 1024];
    loop {
        let n = recv.read(&mut buf).await.unwrap();
        if buf[..n].contains(&b'$') {
            break;
        }
    }
    let (stopped_at, _send) = writer.await.unwrap();
    // The interrupt key has half a round trip behind it.
    let took = stopped_at.elapsed() + RTT / 2;
    assert!(took <= RTT + Duration::from_millis(200), "{took:?}");
}

/// Sends datagrams from the server, four times what the link takes.
fn flood_of_datagrams(pair: &Pair) -> JoinHandle<()> {
    let server = pair.server.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            for _ in 0..4 {
                server.send_datagram(Bytes::from_static(&[0; 1250])).await.unwrap();
            }
        }
    })
}

/// With KCP nobody acknowledges datagrams: there is nothing to pace them by.
#[tokio::test(start_paused = true)]
async fn keys_are_echoed_while_datagrams_flood_the_link() {
    let pair = narrow(Kind::Quic).await;
    let _flood = flood_of_datagrams(&pair);
    sleep(Duration::from_secs(5)).await;
    let times = echoes(&pair).await;
    assert!(p99(&times) <= 4 * RTT, "{:?}", p99(&times));
}

#[tokio::test(start_paused = true)]
async fn bulk_goes_on_while_datagrams_flood_the_link() {
    let pair = narrow(Kind::Quic).await;
    let _flood = flood_of_datagrams(&pair);
    let ((_send, mut recv), (mut served_send, _served_recv)) = stream(&pair).await;
    tokio::spawn(async move { while served_send.write_all(&[b'y'; 4096]).await.is_ok() {} });
    let (mut buf, mut total) = (vec![0; 64 * 1024], 0);
    let end = Instant::now() + Duration::from_secs(20);
    while let Ok(n) = tokio::time::timeout_at(end, recv.read(&mut buf)).await {
        total += n.unwrap() as u64;
    }
    let share = total as f64 / (20 * NARROW) as f64;
    assert!(share >= 0.2, "{share}");
}
