//! Datagram channels over both transports: which way a datagram takes, and where it ends up.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[macro_use]
mod common;

use std::time::Duration;

use common::{CLIENT, Kind, Pair, SERVER};
use proto::ChannelId;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tssh_transport::channels::{Channels, Receiver, SendError, Sender};
use tssh_transport::flows::{Near, Outlet, conduct};

with_both!(
    datagrams_of_every_size_reach_their_own_channel,
    the_end_of_either_side_ends_the_channel,
    without_a_path_sending_waits_and_goes_on_with_it,
    a_send_that_was_given_up_does_not_tear_a_later_datagram,
    what_nobody_receives_is_bounded_and_holds_nobody_up,
    a_flow_ends_with_its_channel_although_its_near_end_takes_nothing,
);

/// Both ends of some channels; ids from 1.
async fn channels<const N: usize>(pair: &Pair) -> [[(Sender, Receiver); 2]; N] {
    let (near, far) = (Channels::new(pair.client.clone()), Channels::new(pair.server.clone()));
    let mut opened = Vec::new();
    for id in 1..=N as u64 {
        let (mut send, recv) = pair.client.open_stream().await.unwrap();
        send.write_all(b".").await.unwrap();
        let (server_send, mut server_recv) = pair.server.accept_stream().await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut server_recv).await.unwrap();
        let id = ChannelId(id);
        assert!(near.register(id).is_some(), "and forgotten");
        let near = near.register(id).unwrap();
        let far = far.register(id).unwrap();
        opened.push([near.open(send, recv), far.open(server_send, server_recv)]);
    }
    opened.try_into().unwrap_or_else(|_| unreachable!("as many as were opened"))
}

async fn datagrams_of_every_size_reach_their_own_channel(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let [mut first, mut second] = channels(&pair).await;
    let limit = first[0].0.max_payload();
    assert_eq!(limit, if kind == Kind::Quic { 1355 } else { 1352 });
    for size in [0, 1, 1300, limit, limit + 1, 9000, 65535] {
        for (from, to) in [(0, 1), (1, 0)] {
            first[from].0.send(&vec![1; size]).await.unwrap();
            second[from].0.send(&vec![2; size]).await.unwrap();
            assert_eq!(second[to].1.recv().await.unwrap(), vec![2; size]);
            assert_eq!(first[to].1.recv().await.unwrap(), vec![1; size]);
        }
    }
    let too_long = first[0].0.send(&[0; 65536]).await;
    assert!(matches!(too_long, Err(SendError::TooLong(65536))));
    first[0].0.send(b"still here").await.unwrap();
    assert_eq!(first[1].1.recv().await.unwrap(), &b"still here"[..]);
}

async fn the_end_of_either_side_ends_the_channel(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let [[near, mut far], [mut other, other_far]] = channels(&pair).await;
    drop(near);
    assert_eq!(far.1.recv().await, None);
    drop(other_far);
    assert_eq!(other.1.recv().await, None);
}

async fn without_a_path_sending_waits_and_goes_on_with_it(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let [[mut near, mut far]] = channels(&pair).await;
    near.0.send(b"before").await.unwrap();
    assert_eq!(far.1.recv().await.unwrap(), &b"before"[..]);
    pair.net.set_cut(true);
    pair.net.tell_lost(CLIENT);
    pair.net.tell_lost(SERVER);
    let sent = std::sync::atomic::AtomicU32::new(0);
    let flood = async {
        for number in 0u32.. {
            near.0.send(&[number.to_be_bytes().to_vec(), vec![0; 1000]].concat()).await.unwrap();
            sent.store(number + 1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    assert!(timeout(Duration::from_secs(600), flood).await.is_err(), "nobody waited");
    pair.net.set_cut(false);
    pair.net.tell_restored(CLIENT);
    pair.net.tell_restored(SERVER);
    let sent = sent.into_inner();
    assert!((16..200).contains(&sent), "{sent} datagrams were kept");
    for number in 0..sent {
        let datagram = far.1.recv().await.unwrap();
        assert_eq!(datagram[..4], number.to_be_bytes());
    }
    near.0.send(b"after").await.unwrap();
    assert_eq!(far.1.recv().await.unwrap(), &b"after"[..]);
}

async fn a_send_that_was_given_up_does_not_tear_a_later_datagram(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let [[mut near, mut far]] = channels(&pair).await;
    pair.net.tell_lost(CLIENT);
    let large = vec![7; 60_000];
    let flood = async {
        loop {
            near.0.send(&large).await.unwrap();
        }
    };
    assert!(timeout(Duration::from_secs(60), flood).await.is_err());
    pair.net.tell_restored(CLIENT);
    let receive = async {
        loop {
            let datagram = far.1.recv().await.unwrap();
            if datagram == [8; 2000][..] {
                return;
            }
            assert_eq!(datagram, large);
        }
    };
    let send = async { near.0.send(&[8; 2000]).await.unwrap() };
    tokio::join!(receive, send);
}

async fn what_nobody_receives_is_bounded_and_holds_nobody_up(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let [[mut near, mut far], [mut other, mut other_far]] = channels(&pair).await;
    for _ in 0..3000 {
        near.0.send(&[1; 500]).await.unwrap();
    }
    // The network may lose it behind the flood.
    let mut heard = false;
    while !heard {
        other.0.send(b"through").await.unwrap();
        heard = timeout(Duration::from_secs(1), other_far.1.recv()).await.is_ok();
    }
    let mut waiting = 0;
    while timeout(Duration::from_secs(1), far.1.recv()).await.is_ok() {
        waiting += 1;
    }
    assert!((1..=1024).contains(&waiting), "{waiting}");
}

/// A near end that sends nothing, takes nothing, and tells when it has been asked to.
struct Stuck(std::sync::Arc<tokio::sync::Notify>);

impl Near for Stuck {
    async fn recv(&mut self) -> std::io::Result<bytes::Bytes> {
        std::future::pending().await
    }

    fn outlet(&self) -> impl Outlet + 'static {
        Self(self.0.clone())
    }
}

impl Outlet for Stuck {
    async fn send(&self, _: &[u8]) -> std::io::Result<()> {
        self.0.notify_one();
        std::future::pending().await
    }
}

async fn a_flow_ends_with_its_channel_although_its_near_end_takes_nothing(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let [[mut far, near]] = channels(&pair).await;
    let asked = std::sync::Arc::<tokio::sync::Notify>::default();
    let flow = tokio::spawn(conduct(Stuck(asked.clone()), near, None));
    far.0.send(b"first").await.unwrap();
    asked.notified().await;
    // More than waits in all queues, by both ways.
    for _ in 0..100 {
        far.0.send(&[0; 65535]).await.unwrap();
        far.0.send(b"more").await.unwrap();
    }
    drop(far);
    timeout(Duration::from_secs(60), flow).await.expect("it ends").unwrap();
}
