//! Echo: from typing a key to seeing it, while packets are lost.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use netlab::{Conditions, LinkConfig};

use super::Bench;
use super::report::{Report, ms, percentiles};
use super::terminal::Terminal;
use super::world::{Client, DEADLINE, FIRST, World};

/// The echo's round trip time, halved.
const DELAY: Duration = Duration::from_millis(50);

/// How long the last keys are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let lossy = |loss, burst| Conditions { loss, burst, ..Conditions::delayed(DELAY) };
    let rows = match bench.options.conditions {
        Some(mut conditions) => {
            if conditions.delay.is_zero() {
                conditions.delay = DELAY;
            }
            vec![(conditions.to_string(), conditions)]
        }
        None => vec![
            ("100 ms RTT, 5 % loss".to_owned(), lossy(0.05, 1.0)),
            ("100 ms RTT, 20 % loss".to_owned(), lossy(0.2, 1.0)),
            ("100 ms RTT, 10 % loss in bursts of 4".to_owned(), lossy(0.1, 4.0)),
        ],
    };
    for (what, conditions) in rows {
        // Each client has a network of its own, and they hardly use the
        // processor: measured at the same time, they take a fraction of it.
        let measured: Vec<_> = thread::scope(|scope| {
            let clients = bench.clients.iter();
            let threads = clients.map(|client| scope.spawn(|| measure(bench, *client, conditions)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for (client, result) in bench.clients.iter().zip(measured) {
            let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("panicked")));
            match result {
                Ok((times, bytes)) => {
                    let what_time = format!("{what}, p50 / p90 / p99");
                    let keys = bench.options.keys;
                    let values = percentiles(times, keys, &[0.5, 0.9, 0.99]);
                    report.note("echo", &what_time, "ms", *client, &values);
                    report.note(
                        "echo",
                        &format!("{what}, sent per key"),
                        "bytes",
                        *client,
                        &[bytes],
                    );
                }
                Err(why) => report.miss("echo", *client, &why),
            }
        }
    }
    Ok(())
}

/// Returns the time of each key that was echoed, in ms, and the bytes sent both ways per key.
fn measure(
    bench: &Bench<'_>,
    client: Client,
    conditions: Conditions,
) -> anyhow::Result<(Vec<f64>, f64)> {
    // The login is not what is measured here.
    let calm = Conditions { loss: 0.0, ..conditions };
    let world = World::start(bench, &[LinkConfig::both(calm)])?;
    let mut terminal = shell_that_echoes(&world, client)?;
    world.lab.set_both(FIRST, conditions);
    let bytes = || {
        let directions = netlab::Direction::BOTH;
        let count = directions.map(|direction| world.lab.counters(FIRST, direction).offered_bytes);
        count.iter().sum::<u64>()
    };
    let before = bytes();
    let mut typist = Typist::new(bench.options.seed);
    let mut waiting: VecDeque<(char, Instant)> = VecDeque::new();
    let mut times = Vec::new();
    let mut typed = 0;
    let mut due = Instant::now();
    let mut end = due + PATIENCE;
    while (typed < bench.options.keys || !waiting.is_empty()) && Instant::now() < end {
        if typed < bench.options.keys && Instant::now() >= due {
            let key = typist.key();
            terminal.send(key.encode_utf8(&mut [0; 4]))?;
            waiting.push_back((key, Instant::now()));
            due += typist.pause();
            typed += 1;
            end = Instant::now() + PATIENCE;
        }
        let wait = if typed < bench.options.keys { due } else { end };
        let Some((at, shown)) = terminal.next(wait)? else { continue };
        for key in shown.chars() {
            // A screen may be brought up to date all at once.
            let Some(place) = waiting.iter().position(|(typed, _)| *typed == key) else { continue };
            times.extend(waiting.drain(..=place).map(|(_, typed)| ms(at - typed)));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let per_key = (bytes() - before) as f64 / typed.max(1) as f64;
    Ok((times, per_key))
}

/// Starts a shell in which nothing but the terminal itself answers a key.
pub(super) fn shell_that_echoes(world: &World, client: Client) -> anyhow::Result<Terminal> {
    let mut terminal = world.shell(client)?;
    // The quotes keep the typed line from looking like its output.
    terminal.send("echo re''ady; exec cat > /dev/null\r")?;
    terminal.wait_for("ready", DEADLINE)?;
    Ok(terminal)
}

/// Types letters at the pace of a person.
pub(super) struct Typist {
    state: u64,
    next: u8,
}

impl Typist {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, next: 0 }
    }

    /// Returns the next letter: all others come before it comes again.
    pub(super) fn key(&mut self) -> char {
        self.next = (self.next + 1) % 26;
        char::from(b'a' + self.next)
    }

    /// Returns how long it is until the next key: 100 to 200 ms.
    fn pause(&mut self) -> Duration {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Duration::from_millis(100 + (self.state >> 33) % 101)
    }
}
