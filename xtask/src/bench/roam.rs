//! Roaming: from typing a key right after the network has changed to its echo.

use std::thread;
use std::time::{Duration, Instant};

use netlab::{Conditions, LinkConfig, LinkId, NatConfig};

use super::Bench;
use super::echo::{Typist, shell_that_echoes};
use super::report::{Report, percentiles};
use super::terminal::Terminal;
use super::world::{Client, FIRST, World};

/// The round trip time, halved.
const DELAY: Duration = Duration::from_millis(50);

/// What has not come back by now never will.
const PATIENCE: Duration = Duration::from_secs(15);

/// When a key without an echo is followed by the next.
const AGAIN: Duration = Duration::from_millis(250);

/// How the network changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Handover,
    Address,
    Rebinding,
}

pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let changes = [
        (Change::Handover, "handover"),
        (Change::Address, "another address"),
        (Change::Rebinding, "NAT rebinding"),
    ];
    for client in bench.clients {
        for (change, name) in changes {
            let what = format!("{name}, 100 ms RTT, median / worst");
            if !client.roams() {
                report.note("roam", &what, "s", *client, &[f64::INFINITY]);
                continue;
            }
            match measure(bench, *client, change) {
                Ok(times) => {
                    let values = percentiles(times, 0, &[0.5, 1.0]);
                    report.note("roam", &what, "s", *client, &values);
                }
                Err(why) => report.miss("roam", *client, &why),
            }
        }
    }
    Ok(())
}

/// Returns the times to the echo after each change, in seconds.
fn measure(bench: &Bench<'_>, client: Client, change: Change) -> anyhow::Result<Vec<f64>> {
    let conditions = bench.options.conditions.unwrap_or(Conditions::delayed(DELAY));
    let mut link = LinkConfig::both(conditions);
    if matches!(change, Change::Rebinding) {
        link.nat = Some(NatConfig { timeout: Duration::from_secs(300) });
    }
    let world = World::start(bench, &[link, link])?;
    let mut terminal = shell_that_echoes(&world, client)?;
    let mut typist = Typist::new(1);
    let mut times = Vec::new();
    for run in 0..bench.options.runs {
        // Whatever the change before set off has come to rest.
        settle(&mut terminal, &mut typist)?;
        match change {
            // Plugging the first back in is a move of its own, which settles above.
            Change::Handover if run % 2 == 1 => {
                world.lab.plug(FIRST)?;
                settle(&mut terminal, &mut typist)?;
                world.lab.unplug(LinkId(1))?;
            }
            Change::Handover => {
                world.lab.plug(LinkId(1))?;
                settle(&mut terminal, &mut typist)?;
                world.lab.unplug(FIRST)?;
            }
            Change::Address => world.lab.change_address(FIRST)?,
            Change::Rebinding => world.lab.rebind(FIRST),
        }
        let time = echo(&mut terminal, &mut typist)?;
        times.push(time);
        if time.is_infinite() {
            break;
        }
    }
    Ok(times)
}

/// Lets two seconds pass, and a few keys be echoed.
fn settle(terminal: &mut Terminal, typist: &mut Typist) -> anyhow::Result<()> {
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(500));
        echo(terminal, typist)?;
    }
    Ok(())
}

/// Types until a key is shown; returns the seconds since the first was typed.
///
/// What is typed into an outage may be dropped, and people type again.
fn echo(terminal: &mut Terminal, typist: &mut Typist) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut typed = Vec::new();
    while start.elapsed() < PATIENCE {
        let key = typist.key();
        terminal.send(key.encode_utf8(&mut [0; 4]))?;
        typed.push(key);
        let again = Instant::now() + AGAIN;
        while let Some((at, shown)) = terminal.next(again)? {
            if shown.contains(&*typed) {
                return Ok((at - start).as_secs_f64());
            }
        }
    }
    Ok(f64::INFINITY)
}
