//! QUIC itself, under our congestion controller, on links that lose packets.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod common;

use std::time::Duration;

use common::{CLIENT, Kind, Net, Pair, SERVER};
use testkit::Prng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

/// Bytes a second of a link of 100 Mbit/s.
const RATE: u64 = 12_500_000;

/// Moves bytes for so long, after as long again to get going, over a link of
/// 50 ms and a queue of 50 ms; returns which part of the rate the reader got.
async fn share_of_the_link(loss: f64, time: Duration) -> f64 {
    let net = Net::new();
    net.set_rate(RATE);
    for end in [CLIENT, SERVER] {
        let mut prng = Prng::new(end as u64);
        net.drop_if(end, move |_| prng.chance(loss));
    }
    let pair = Pair::over(Kind::Quic, net).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    tokio::spawn(async move { while send.write_all(&[0; 64 * 1024]).await.is_ok() {} });
    let (_server_send, mut recv) = pair.server.accept_stream().await.unwrap();
    let mut read_until = async |end: Instant| {
        let (mut buf, mut total) = (vec![0; 64 * 1024], 0);
        while let Ok(count) = timeout_at(end, recv.read(&mut buf)).await {
            total += count.unwrap() as u64;
        }
        total
    };
    let start = Instant::now();
    read_until(start + time).await;
    read_until(start + 2 * time).await as f64 / (RATE * time.as_secs()) as f64
}

#[tokio::test(start_paused = true)]
async fn a_link_with_one_percent_loss_is_filled() {
    let share = share_of_the_link(0.01, Duration::from_secs(10)).await;
    assert!(share > 0.92, "{share}");
}

#[tokio::test(start_paused = true)]
async fn a_link_with_five_percent_loss_is_nearly_filled() {
    let share = share_of_the_link(0.05, Duration::from_secs(10)).await;
    assert!(share > 0.8, "{share}");
}
