//! Soak: the two transports over the real proxy machines, while the networks under them do the worst.
//!
//! Each run draws from its seed: outages told and untold, moves between networks, addresses that
//! change without a word, UDP that is dropped and comes back, loss, delay, processes that are
//! stopped. Meanwhile a stream goes both ways, and every byte of it is checked: nothing may be
//! lost, repeated or stuck. Time is virtual. The transports' keys are not the seed's, so a run
//! that failed may need a few more to fail again.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[path = "soak/world.rs"]
mod world;

use std::time::Duration;

use testkit::{Conditions, Prng, with_seeds};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep, timeout};
use tssh_transport::{Connection, Listener, RecvStream, SendStream, kcp_transport, quic};
use world::{CLIENT, SERVER, World};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// How long after the last trouble everything must have arrived.
const SETTLED: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Quic,
    Kcp,
}

#[test]
fn quic_keeps_a_stream_whole_whatever_the_networks_do() {
    with_seeds(0..60, |seed| run(Kind::Quic, seed));
}

#[test]
fn kcp_keeps_a_stream_whole_whatever_the_networks_do() {
    with_seeds(0..60, |seed| run(Kind::Kcp, seed));
}

fn run(kind: Kind, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(session(kind, seed));
}

async fn session(kind: Kind, seed: u64) {
    let mut random = Prng::new(seed);
    let quiet = random.chance(0.5);
    let world = World::new(seed, quiet);
    let (client, server, _listener) = connect(kind, &world).await;
    let (mut send, recv) = client.open_stream().await.unwrap();
    send.write_all(b"!").await.unwrap();
    let (back, mut there) = server.accept_stream().await.unwrap();
    there.read_exact(&mut [0; 1]).await.unwrap();
    world.bus_up(quiet);
    tokio::spawn(heartbeats(world.clone(), client.clone(), server.clone()));

    let (stop, stopped) = watch::channel(false);
    let mut write = |stream| {
        let pace = Prng::new(random.next_u64());
        tokio::spawn(write_until(stream, pace, stopped.clone()))
    };
    let written = [write(send), write(back)];
    let read = [tokio::spawn(read_all(there)), tokio::spawn(read_all(recv))];
    trouble(&world, &mut random).await;
    world.note("peace");
    stop.send_replace(true);
    for (written, read) in written.into_iter().zip(read) {
        let both = async { (written.await.unwrap(), read.await.unwrap()) };
        let Ok((written, read)) = timeout(SETTLED, both).await else {
            panic!("{kind:?}, seed {seed}: stuck\n{}", world.story());
        };
        assert_eq!(written, read, "{kind:?}, seed {seed}\n{}", world.story());
    }
}

async fn connect(kind: Kind, world: &World) -> (Connection, Connection, Listener) {
    let (near, far) = (world.socket(CLIENT), world.socket(SERVER));
    match kind {
        Kind::Quic => {
            let (server, client) = quic::generate_credentials().unwrap();
            let config = quic::Config::default;
            let listener = quic::Listener::new(far, server, config()).unwrap();
            let (client, server) =
                tokio::join!(quic::connect(near, client, config()), listener.accept());
            (client.unwrap(), server.unwrap(), Listener::Quic(listener))
        }
        Kind::Kcp => {
            let secrets = kcp_transport::generate_secrets().unwrap();
            let config = kcp_transport::Config::default();
            let listener = kcp_transport::Listener::new(far, &secrets, config).unwrap();
            let client = kcp_transport::connect(near, &secrets, config).unwrap();
            // Without a handshake the client has to say something to be heard.
            drop(client.open_stream().await.unwrap());
            let server = listener.accept().await.unwrap();
            drop(server.accept_stream().await.unwrap());
            (client, server, Listener::Kcp(listener))
        }
    }
}

/// As the bus does it: one a second and after every new path, at most one unanswered.
async fn heartbeats(world: World, client: Connection, server: Connection) {
    let (mut send, mut recv) = client.open_stream().await.unwrap();
    let echo = tokio::spawn(async move {
        let (mut back, mut there) = server.accept_stream().await?;
        let mut beat = [0; 1];
        while there.read_exact(&mut beat).await.is_ok() {
            if back.write_all(&beat).await.is_err() {
                break;
            }
        }
        Ok::<_, tssh_transport::ConnectionError>(())
    });
    loop {
        let sent_at = Instant::now().into_std();
        let mut beat = [7; 1];
        if send.write_all(&beat).await.is_err() || recv.read_exact(&mut beat).await.is_err() {
            break;
        }
        world.heartbeat(sent_at);
        tokio::select! {
            () = sleep(SECOND) => {}
            () = world.proven() => {}
        }
    }
    echo.abort();
}

/// The byte at a position of a stream.
fn pattern(position: u64) -> u8 {
    let [low, _, high, ..] = position.to_le_bytes();
    low.wrapping_mul(7) ^ high
}

/// Writes by fits and starts until told to stop; returns how much.
async fn write_until(mut send: SendStream, mut pace: Prng, stop: watch::Receiver<bool>) -> u64 {
    let mut written = 0;
    while !*stop.borrow() {
        let most = if pace.chance(0.1) { 20_000 } else { 200 };
        let size = 1 + pace.below(most);
        let chunk: Vec<u8> = (written..written + size).map(pattern).collect();
        send.write_all(&chunk).await.unwrap();
        written += size;
        let pause = if pace.chance(0.02) { 40_000 } else { 600 };
        let mut stop = stop.clone();
        tokio::select! {
            () = sleep(Duration::from_millis(pace.below(pause))) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    send.shutdown().await.unwrap();
    written
}

/// Reads to the end, checking each byte; returns how many there were.
async fn read_all(mut recv: RecvStream) -> u64 {
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
    }
}

/// Up to two dozen troubles, and then none.
async fn trouble(world: &World, random: &mut Prng) {
    let mut place = 0;
    for _ in 0..4 + random.below(20) {
        sleep(some_time(random, 8_000)).await;
        match random.below(9) {
            0 => {
                let conditions = Conditions {
                    jitter: Duration::from_millis(random.below(20)),
                    duplication: random.below(10) as f64 / 100.0,
                    reordering: random.below(10) as f64 / 100.0,
                    ..Conditions::perfect(Duration::from_millis(1 + random.below(300)))
                };
                let loss = random.below(25) as f64 / 100.0;
                world.set_conditions(place, conditions.with_loss(loss));
            }
            1 => {
                world.set_dark(place, true);
                sleep(some_time(random, 120_000)).await;
                world.set_dark(place, false);
            }
            2 => {
                world.move_to(None);
                sleep(some_time(random, 120_000)).await;
                world.move_to(Some(place));
            }
            3 => {
                place = 1 - place;
                world.move_to(Some(place));
            }
            4 => world.rebind(),
            5 => {
                world.set_walled(true);
                sleep(some_time(random, 60_000)).await;
                world.set_walled(false);
            }
            6 => world.renew(),
            // Stopped and continued: timers are late, and what came meanwhile is found afterwards.
            7 => {
                let time = some_time(random, 3_600_000);
                world.note(&format!("stopped for {time:?}"));
                advance(time).await;
            }
            _ => {
                let time = some_time(random, 600_000);
                world.set_dark(place, true);
                sleep(time).await;
                world.set_dark(place, false);
                world.slept(time);
            }
        }
    }
    for network in 0..2 {
        world.set_conditions(network, Conditions::perfect(20 * MS));
    }
}

/// Mostly short, sometimes as long as `most` milliseconds.
fn some_time(random: &mut Prng, most: u64) -> Duration {
    let most = if random.chance(0.7) { most.div_ceil(20) } else { most };
    Duration::from_millis(random.below(most))
}
