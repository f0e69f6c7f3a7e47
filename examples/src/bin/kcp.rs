//! Bytes over KCP through a link in memory that loses, repeats and reorders packets.
//!
//! Nothing here waits: the two [`Stack`]s are machines, time is a number that
//! the loop moves on, and luck comes from a seed. `cargo run -p examples --bin kcp`
//! with a percentage of loss, which is 20 if left out.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use testkit::{Clock, Conditions, Link};
use transport::congestion::Paced;
use transport::stack::{Config, Entropy, Secrets, Stack};

/// How much is sent.
const BYTES: usize = 1_000_000;
const PACKET_SIZE: u16 = 1400;

fn main() -> anyhow::Result<()> {
    let percent: u32 = std::env::args().nth(1).map_or(Ok(20), |word| word.parse())?;
    let conditions = Conditions {
        loss: f64::from(percent) / 100.0,
        duplication: 0.05,
        reordering: 0.05,
        ..Conditions::perfect(Duration::from_millis(25))
    };
    let clock = Clock::new();
    let mut up: Link<Vec<u8>> = Link::new(conditions, 1);
    let mut down: Link<Vec<u8>> = Link::new(conditions, 2);

    // A real program draws the secrets and the entropy at random.
    let secrets = Secrets { pass: [1; 48].into(), salt: [2; 48].into() };
    let entropy = |fill: u8| Entropy { seed: [fill; 32].into(), conv: 7 };
    let config = Config { packet_size: PACKET_SIZE, max_streams: 10 };
    let control = || Box::new(Paced::new(clock.now(), PACKET_SIZE.into()));
    let mut client = Stack::client(clock.now(), &secrets, entropy(3), config, control());
    let mut server = Stack::server(&secrets, entropy(4), config, control());

    let data: Vec<u8> = (0..BYTES).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let stream = client.open()?;
    let (mut written, mut received, mut packets) = (0, Vec::new(), 0_u32);
    while received.len() < BYTES {
        let now = clock.now();
        // Ways in: what has arrived, what is due, what the application wants.
        while let Some(mut packet) = up.receive(now) {
            // Copies are refused: that is what the guard against replay is for.
            let _ = server.handle_packet(now, &mut packet);
        }
        while let Some(mut packet) = down.receive(now) {
            let _ = client.handle_packet(now, &mut packet);
        }
        client.handle_timeout(now);
        server.handle_timeout(now);
        written += client.write(stream, &data[written..]).unwrap_or(0);
        let mut buf = [0; 4096];
        while let Ok(count @ 1..) = server.read(stream, &mut buf) {
            received.extend_from_slice(&buf[..count]);
        }
        // Ways out: packets, events, and the time to come back.
        let mut packet = Vec::new();
        for (stack, link) in [(&mut client, &mut up), (&mut server, &mut down)] {
            while stack.poll_transmit(now, &mut packet) {
                link.send(now, std::mem::take(&mut packet));
                packets += 1;
            }
            while stack.poll_event().is_some() {}
        }
        let timers = [client.poll_timeout(now, false), server.poll_timeout(now, false)];
        let arrivals = [up.next_arrival(), down.next_arrival()];
        let next = timers.into_iter().chain(arrivals).flatten().min();
        let next = next.context("nothing will ever happen")?;
        clock.advance_to(next.max(now + Duration::from_micros(1)));
    }
    ensure!(received == data, "what arrived is not what was sent");
    let seconds = clock.elapsed().as_secs_f64();
    writeln!(
        io::stdout(),
        "{BYTES} bytes arrived in order in {seconds:.2} s; {packets} packets were sent, \
         {percent} of a hundred lost"
    )?;
    Ok(())
}
