//! Outages: however long, over at once, and not a byte lost (DESIGN D3).
//!
//! All in virtual time. "First new byte" is the first byte that reaches a
//! reader after the link is back.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[macro_use]
mod common;

use std::time::Duration;

use common::{CLIENT, Kind, Pair, RTT, SERVER};
use proxy::LinkChange;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep, timeout};
use tssh_transport::{RecvStream, SendStream};

with_both!(
    bulk_flows_again_at_once_after_any_outage,
    a_trickle_flows_again_at_once_after_any_outage,
    bulk_recovers_as_fast_when_only_one_side_knew,
    a_trickle_recovers_as_fast_when_only_one_side_knew,
    a_key_update_under_way_does_not_hinder_recovery,
    an_outage_nobody_noticed_is_over_within_seconds_of_its_end,
    bulk_is_as_fast_after_an_outage_as_before,
    a_move_does_not_disturb_what_is_in_flight,
    offline_nothing_runs,
    a_process_stopped_for_an_hour_goes_on_as_if_nothing_had_been,
);

const SECOND: Duration = Duration::from_secs(1);
const OUTAGES: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(120), Duration::from_secs(3600)];

/// How long after an outage new bytes may take: with KCP a round trip, and what it
/// takes a few packets to leave. QUIC often needs no more; but where the guess of
/// what the outage swallowed is wrong, quinn has to hear it from the peer.
fn at_once(kind: Kind) -> Duration {
    match kind {
        Kind::Quic => 3 * RTT,
        Kind::Kcp => RTT + Duration::from_millis(5),
    }
}

/// What flows while the link goes down.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// As much as goes.
    Bulk,
    /// 50 bytes each 50 ms.
    Trickle,
}

/// Who hears of the outage.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// Both are told that the path is lost, and restored.
    Both,
    /// This end is; the other learns only, at the end, that its peer moved.
    Only(usize),
}

/// The byte at a position of a stream.
fn pattern(position: u64) -> u8 {
    let [low, _, high, ..] = position.to_le_bytes();
    low.wrapping_mul(7) ^ high
}

/// Writes until told to stop; returns how much.
async fn write_load(mut send: SendStream, load: Load, stop: watch::Receiver<bool>) -> u64 {
    let mut written = 0;
    while !*stop.borrow() {
        let size = match load {
            Load::Bulk => 16 * 1024,
            Load::Trickle => 50,
        };
        let chunk: Vec<u8> = (written..written + size).map(pattern).collect();
        send.write_all(&chunk).await.unwrap();
        written += size;
        if let Load::Trickle = load {
            sleep(Duration::from_millis(50)).await;
        }
    }
    send.shutdown().await.unwrap();
    written
}

/// Reads to the end, checking each byte; shows the time of the latest, and returns how many.
async fn read_load(mut recv: RecvStream, latest: watch::Sender<Instant>) -> u64 {
    let mut total = 0;
    let mut buf = vec![0; 64 * 1024];
    loop {
        let n = recv.read(&mut buf).await.unwrap();
        if n == 0 {
            return total;
        }
        let wrong = (total..).zip(&buf[..n]).find(|(at, byte)| pattern(*at) != **byte);
        assert_eq!(wrong, None, "position and byte");
        total += n as u64;
        latest.send_replace(Instant::now());
    }
}

/// One flow in one direction.
struct Flow {
    stop: watch::Sender<bool>,
    latest: watch::Receiver<Instant>,
    writer: tokio::task::JoinHandle<u64>,
    reader: tokio::task::JoinHandle<u64>,
}

impl Flow {
    fn start(send: SendStream, recv: RecvStream, load: Load) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (show, latest) = watch::channel(Instant::now());
        Self {
            stop,
            latest,
            writer: tokio::spawn(write_load(send, load, stopped)),
            reader: tokio::spawn(read_load(recv, show)),
        }
    }

    /// Waits for the first byte from now on, and returns how long it took.
    async fn first_new_byte(&mut self) -> Duration {
        let from = Instant::now();
        self.latest.borrow_and_update();
        timeout(Duration::from_secs(3600), self.latest.changed())
            .await
            .expect("bytes flow again")
            .unwrap();
        from.elapsed()
    }

    async fn finish(self) {
        self.stop.send_replace(true);
        assert_eq!(self.writer.await.unwrap(), self.reader.await.unwrap());
    }
}

/// Flows in both directions, over streams of their own.
async fn flows(pair: &Pair, load: Load) -> [Flow; 2] {
    let (mut up, down) = pair.client.open_stream().await.unwrap();
    up.write_all(b"!").await.unwrap();
    let (server_send, mut server_recv) = pair.server.accept_stream().await.unwrap();
    server_recv.read_exact(&mut [0; 1]).await.unwrap();
    [Flow::start(up, server_recv, load), Flow::start(server_send, down, load)]
}

/// Cuts the link under load for so long, and returns how long each direction took to recover.
async fn outage(
    kind: Kind,
    load: Load,
    length: Duration,
    told: Told,
    key_update: bool,
) -> [Duration; 2] {
    let pair = Pair::connected(kind).await;
    let mut flows = flows(&pair, load).await;
    sleep(2 * SECOND).await;

    if key_update {
        // What is sent with the new keys is on its way when the link is cut.
        update_keys(&pair).await;
        sleep(Duration::from_millis(10)).await;
    }
    pair.net.set_cut(true);
    // The proxies notice a little later.
    sleep(SECOND).await;
    match told {
        Told::Both => {
            pair.net.tell_lost(CLIENT);
            pair.net.tell_lost(SERVER);
        }
        Told::Only(end) => pair.net.tell_lost(end),
    }
    sleep(length).await;

    pair.net.set_cut(false);
    match told {
        Told::Both => {
            pair.net.tell_restored(CLIENT);
            pair.net.tell_restored(SERVER);
        }
        Told::Only(end) => {
            pair.net.tell_restored(end);
            pair.net.tell(1 - end, LinkChange::Moved { same_network: true });
        }
    }
    let [up, down] = &mut flows;
    let took = tokio::join!(up.first_new_byte(), down.first_new_byte());
    // It has to stay well, too.
    sleep(3 * SECOND).await;
    for flow in flows {
        let quiet = flow.latest.borrow().elapsed();
        assert!(quiet < SECOND, "{load:?}, {length:?}, {told:?}: stalled for {quiet:?}");
        flow.finish().await;
    }
    [took.0, took.1]
}

async fn assert_recovers(kind: Kind, load: Load, told: Told) {
    for length in OUTAGES {
        let took = outage(kind, load, length, told, false).await;
        assert!(took.iter().all(|took| *took <= at_once(kind)), "{load:?}, {length:?}: {took:?}");
    }
}

async fn bulk_flows_again_at_once_after_any_outage(kind: Kind) {
    assert_recovers(kind, Load::Bulk, Told::Both).await;
}

async fn a_trickle_flows_again_at_once_after_any_outage(kind: Kind) {
    assert_recovers(kind, Load::Trickle, Told::Both).await;
}

async fn bulk_recovers_as_fast_when_only_one_side_knew(kind: Kind) {
    assert_recovers(kind, Load::Bulk, Told::Only(CLIENT)).await;
    assert_recovers(kind, Load::Bulk, Told::Only(SERVER)).await;
}

async fn a_trickle_recovers_as_fast_when_only_one_side_knew(kind: Kind) {
    assert_recovers(kind, Load::Trickle, Told::Only(CLIENT)).await;
    assert_recovers(kind, Load::Trickle, Told::Only(SERVER)).await;
}

async fn a_key_update_under_way_does_not_hinder_recovery(kind: Kind) {
    for load in [Load::Bulk, Load::Trickle] {
        for length in OUTAGES {
            let took = outage(kind, load, length, Told::Both, true).await;
            assert!(
                took.iter().all(|took| *took <= at_once(kind)),
                "{load:?}, {length:?}: {took:?}"
            );
        }
    }
}

async fn an_outage_nobody_noticed_is_over_within_seconds_of_its_end(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let mut flows = flows(&pair, Load::Trickle).await;
    sleep(SECOND).await;
    pair.net.set_cut(true);
    sleep(Duration::from_secs(3600)).await;
    pair.net.set_cut(false);
    let took = flows[0].first_new_byte().await;
    assert!(took < 6 * SECOND, "{took:?}");
    for flow in flows {
        flow.finish().await;
    }
}

async fn bulk_is_as_fast_after_an_outage_as_before(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    tokio::spawn(async move { while send.write_all(&[0; 16 * 1024]).await.is_ok() {} });
    let (_server_send, mut server_recv) = pair.server.accept_stream().await.unwrap();
    let mut read_for_a_second = async || {
        let end = Instant::now() + SECOND;
        let mut buf = vec![0; 64 * 1024];
        let mut total = 0;
        while let Ok(n) = tokio::time::timeout_at(end, server_recv.read(&mut buf)).await {
            total += n.unwrap();
        }
        total
    };
    for _ in 0..5 {
        read_for_a_second().await;
    }
    let before = read_for_a_second().await;
    pair.net.set_cut(true);
    sleep(Duration::from_millis(500)).await;
    pair.net.tell_lost(CLIENT);
    pair.net.tell_lost(SERVER);
    sleep(60 * SECOND).await;
    pair.net.set_cut(false);
    pair.net.tell_restored(CLIENT);
    pair.net.tell_restored(SERVER);
    read_for_a_second().await; // what was lost is sent again
    let after = read_for_a_second().await;
    assert!(after * 10 >= before * 9, "{after} bytes in a second, {before} before");
}

async fn a_move_does_not_disturb_what_is_in_flight(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let flows = flows(&pair, Load::Trickle).await;
    sleep(SECOND).await;
    let rtt = pair.client.rtt();
    for _ in 0..20 {
        for end in [CLIENT, SERVER] {
            pair.net.tell(end, LinkChange::Moved { same_network: true });
        }
        sleep(Duration::from_millis(70)).await;
    }
    let drift = pair.client.rtt().abs_diff(rtt);
    assert!(drift < Duration::from_millis(10), "round-trip time went from {rtt:?} by {drift:?}");
    for flow in flows {
        flow.finish().await;
    }
}

async fn offline_nothing_runs(kind: Kind) {
    let idle = wake_ups_in_an_hour().await;
    let pair = Pair::connected(kind).await;
    let flows = flows(&pair, Load::Trickle).await;
    sleep(SECOND).await;
    for end in [CLIENT, SERVER] {
        pair.net.tell_lost(end);
    }
    for flow in &flows {
        flow.stop.send_replace(true);
    }
    sleep(SECOND).await;
    let before = [pair.net.polls(CLIENT), pair.net.polls(SERVER)];
    let offline = wake_ups_in_an_hour().await;
    assert_eq!([pair.net.polls(CLIENT), pair.net.polls(SERVER)], before);
    assert!(offline <= idle + 2, "{offline} wake-ups, {idle} without any transport");
}

/// Counts how often this thread's runtime wakes up while the test sleeps.
async fn wake_ups_in_an_hour() -> u64 {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_park_count(0);
    sleep(Duration::from_secs(3600)).await;
    metrics.worker_park_count(0) - before
}

async fn a_process_stopped_for_an_hour_goes_on_as_if_nothing_had_been(kind: Kind) {
    let pair = Pair::connected(kind).await;
    let mut flows = flows(&pair, Load::Trickle).await;
    sleep(SECOND).await;
    let rtt = pair.client.rtt();
    // All at once, as SIGSTOP and SIGCONT look from inside: timers are late,
    // and what had arrived meanwhile is found afterwards.
    advance(Duration::from_secs(3600)).await;
    let [up, down] = &mut flows;
    let took = tokio::join!(up.first_new_byte(), down.first_new_byte());
    assert!(took.0 <= at_once(kind) && took.1 <= at_once(kind), "{took:?}");
    sleep(SECOND).await;
    let drift = pair.client.rtt().abs_diff(rtt);
    assert!(drift < Duration::from_millis(50), "round-trip time went from {rtt:?} by {drift:?}");
    for flow in flows {
        flow.finish().await;
    }
}

/// Changes the keys as far as the side that asks for it can: what it sends from
/// now on is sealed with the new ones.
async fn update_keys(pair: &Pair) {
    pair.client.update_keys();
    if let Ok(request) = timeout(SECOND, pair.client.key_request()).await {
        let answer = pair.server.answer_key_request(&request).unwrap();
        pair.client.handle_key_answer(&answer).unwrap();
    }
}
