//! Login: from starting the client to the shell's prompt.

use std::time::Duration;

use netlab::{Conditions, LinkConfig};

use super::Bench;
use super::report::{Report, ms, percentiles};
use super::world::{Client, DEADLINE, PROMPT, World};

/// The round trip times whose difference counts, in milliseconds.
const NEAR: u32 = 100;
const FAR: u32 = 200;

pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    for client in bench.clients {
        match measure(bench, *client) {
            Ok([none, near, far]) => {
                report.note("prompt", "without delay", "ms", *client, &[none]);
                report.note("prompt", "at 100 ms", "ms", *client, &[near]);
                let slope = (far - near) / f64::from(FAR - NEAR);
                report.note("prompt", "network part", "RTT", *client, &[slope]);
            }
            Err(why) => report.miss("prompt", *client, &why),
        }
    }
    Ok(())
}

/// Returns the median time to the prompt without delay, near and far.
fn measure(bench: &Bench<'_>, client: Client) -> anyhow::Result<[f64; 3]> {
    let mut medians = [0.0; 3];
    for (median, rtt) in medians.iter_mut().zip([0, NEAR, FAR]) {
        let delay = Duration::from_millis(rtt.into()) / 2;
        let world = World::start(bench, &[LinkConfig::both(Conditions::delayed(delay))])?;
        let mut times = Vec::new();
        for _ in 0..bench.options.runs {
            let mut terminal = world.terminal(client, &[], &[])?;
            let at = terminal.wait_for(PROMPT, DEADLINE)?;
            times.push(ms(at - terminal.started));
        }
        *median = percentiles(times, 0, &[0.5])[0];
    }
    Ok(medians)
}
