//! Throughput: of a forward, of a command's input and output, of a terminal.
//!
//! What counts is what arrives, from one second after the first byte on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use netlab::{Conditions, LinkConfig, Side};

use super::Bench;
use super::report::Report;
use super::world::{Client, DEADLINE, World};

/// Which way the bytes go, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Measures `-L`.
pub(super) fn forward(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    both_ways(bench, report, "forward", forwarded)
}

/// Measures a command's standard input and output.
pub(super) fn pipe(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    both_ways(bench, report, "pipe", piped)
}

/// Measures text through a terminal.
pub(super) fn pty(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    for client in bench.clients.iter().filter(|client| **client != Client::Mosh) {
        match typed_out(bench, *client) {
            Ok(rate) => report.note("pty", "clean link", "Mbit/s", *client, &[rate]),
            Err(why) => report.miss("pty", *client, &why),
        }
    }
    Ok(())
}

type Measure = fn(&Bench<'_>, &World, Client, Way) -> anyhow::Result<f64>;

fn both_ways(
    bench: &Bench<'_>,
    report: &mut Report,
    scenario: &'static str,
    measure: Measure,
) -> anyhow::Result<()> {
    let lossy = Conditions {
        rate: Some(100_000_000),
        queue: 400,
        loss: 0.01,
        ..Conditions::delayed(Duration::from_millis(25))
    };
    let rows = match bench.options.conditions {
        Some(conditions) => vec![(conditions.to_string(), LinkConfig::both(conditions))],
        None => vec![
            ("clean".to_owned(), LinkConfig { offload: true, ..LinkConfig::default() }),
            ("lossy".to_owned(), LinkConfig::both(lossy)),
        ],
    };
    for (what, link) in rows {
        for client in bench.clients.iter().filter(|client| **client != Client::Mosh) {
            let one = |way| {
                let world = World::start(bench, &[link])?;
                measure(bench, &world, *client, way)
            };
            match one(Way::Up).and_then(|up| Ok([up, one(Way::Down)?])) {
                Ok(rates) => {
                    let what = format!("{what}, up / down");
                    report.note(scenario, &what, "Mbit/s", *client, &rates);
                }
                Err(why) => report.miss(scenario, *client, &why),
            }
        }
    }
    Ok(())
}

/// The port a forward listens on, in the client's host.
const PORT: u16 = 9000;

/// Returns the rate of one connection through `-L`, in Mbit/s.
fn forwarded(bench: &Bench<'_>, world: &World, client: Client, way: Way) -> anyhow::Result<f64> {
    let far = world.lab.host(Side::Server).enter(|| TcpListener::bind(("127.0.0.1", 0)))??;
    let target = far.local_addr()?.port();
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    thread::spawn(move || {
        let Ok((stream, _)) = far.accept() else { return };
        move_bytes(way == Way::Up, stream, &count);
    });
    let option = format!("{PORT}:127.0.0.1:{target}");
    let mut command = world.command(client, &["-N", "-L", &option], &[]);
    let mut running = Running::start(world, &mut command)?;
    let near = connect(world, &mut running)?;
    let count = Arc::clone(&arrived);
    thread::spawn(move || move_bytes(way == Way::Down, near, &count));
    rate(bench, &arrived)
}

/// Connects to the forward's port, once it is there.
fn connect(world: &World, client: &mut Running) -> anyhow::Result<TcpStream> {
    let start = Instant::now();
    loop {
        let to = (Ipv4Addr::LOCALHOST, PORT);
        match world.lab.host(Side::Client).enter(|| TcpStream::connect(to))? {
            Ok(stream) => return Ok(stream),
            Err(why) if start.elapsed() > DEADLINE => return Err(why.into()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
        if let Some(status) = client.0.try_wait()? {
            bail!("the client ended ({status}) without a forward");
        }
    }
}

/// Reads and counts, or writes, until the other end is gone.
fn move_bytes(reads: bool, mut stream: impl Read + Write, arrived: &AtomicU64) {
    let mut chunk = vec![0; 1 << 17];
    loop {
        let moved = if reads { stream.read(&mut chunk) } else { stream.write(&chunk) };
        match moved {
            Ok(0) | Err(_) => return,
            Ok(length) if reads => {
                arrived.fetch_add(length as u64, Ordering::Relaxed);
            }
            Ok(_) => {}
        }
    }
}

/// Returns the rate of a command's input or output, in Mbit/s.
fn piped(bench: &Bench<'_>, world: &World, client: Client, way: Way) -> anyhow::Result<f64> {
    let fifo = world.path("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status()?;
    ensure!(made.success(), "mkfifo failed");
    let remote = match way {
        // Counted at the far end, which is on the same disk.
        Way::Up => format!("cat > {}", fifo.display()),
        Way::Down => "cat /dev/zero".to_owned(),
    };
    let mut command = world.command(client, &[], &[&remote]);
    let (input, output) = match way {
        Way::Up => (File::open("/dev/zero")?.into(), Stdio::null()),
        Way::Down => (Stdio::null(), Stdio::piped()),
    };
    command.stdin(input).stdout(output);
    let mut running = Running::start(world, &mut command)?;
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    let output = running.0.stdout.take();
    thread::spawn(move || -> io::Result<()> {
        let mut source: Box<dyn Read> = match output {
            Some(output) => Box::new(output),
            None => Box::new(File::open(fifo)?),
        };
        let mut chunk = vec![0; 1 << 17];
        loop {
            let length = source.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
    rate(bench, &arrived)
}

/// Returns the rate at which the counter grows, in Mbit/s.
fn rate(bench: &Bench<'_>, arrived: &AtomicU64) -> anyhow::Result<f64> {
    let start = Instant::now();
    while arrived.load(Ordering::Relaxed) == 0 {
        ensure!(start.elapsed() < DEADLINE, "nothing arrives");
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_secs(1));
    let (start, before) = (Instant::now(), arrived.load(Ordering::Relaxed));
    thread::sleep(bench.options.time);
    let bytes = arrived.load(Ordering::Relaxed) - before;
    Ok(mbit(bytes, start.elapsed()))
}

#[expect(clippy::cast_precision_loss, reason = "a rate, not an account")]
fn mbit(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8e-6 / time.as_secs_f64()
}

/// Lines of text; 141 MB of them.
const LINES: u32 = 17_000_000;

/// Returns the rate of text through a terminal, in Mbit/s.
fn typed_out(bench: &Bench<'_>, client: Client) -> anyhow::Result<f64> {
    let world = World::start(bench, &[LinkConfig { offload: true, ..LinkConfig::default() }])?;
    let text = world.path("text");
    let mut seq = Command::new("seq");
    seq.args(["1", &LINES.to_string()]).stdout(File::create(&text)?);
    ensure!(seq.status()?.success(), "seq failed");
    let command = format!("cat {}", text.display());
    let mut terminal = world.terminal(client, &["-tt"], &[&command])?;
    let (start, _) = terminal.next_bytes(Instant::now() + DEADLINE)?.context("no output")?;
    let (mut bytes, mut last) = (0, start);
    let end = start + 3 * bench.options.time;
    // The output ends with the client, or it takes too long.
    while let Ok(Some((at, output))) = terminal.next_bytes(end) {
        bytes += output.len() as u64;
        last = at;
        if at > end {
            break;
        }
    }
    Ok(mbit(bytes, last - start))
}

/// A client without a terminal; ends with the value.
struct Running(Child);

impl Running {
    fn start(world: &World, command: &mut Command) -> anyhow::Result<Self> {
        command.stderr(Stdio::null());
        Ok(Self(world.lab.host(Side::Client).spawn(command)?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
