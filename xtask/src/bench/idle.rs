//! Idle: what a session costs in which nothing happens.

use std::thread;
use std::time::Duration;

use netlab::{Conditions, Direction, LinkConfig, Side};

use super::Bench;
use super::report::Report;
use super::terminal::Terminal;
use super::world::{Client, FIRST, Process, World};

/// How long sessions rest before they are looked at, so that their start does not count.
const REST: Duration = Duration::from_secs(10);
/// The same for memory, which is looked at for each session alone: of what
/// several have in common each would only have its share.
const MEMORY_REST: Duration = Duration::from_secs(3);
/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Programs of a session; its shell and the lab's own are not among them.
const PROGRAMS: [&str; 8] =
    ["ssh", "sshd", "sshd-session", "sshd-auth", "mosh-client", "mosh-server", "tssh", "tsshd"];

pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    for client in bench.clients {
        match memory(bench, *client) {
            Ok(values) => report.note("idle", "memory, server / client", "MiB", *client, &values),
            Err(why) => report.miss("idle", *client, &why),
        }
    }
    for client in bench.clients.iter().filter(|client| client.is_ours()) {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let size = |name: &str| -> anyhow::Result<f64> {
            Ok(std::fs::metadata(bench.programs.join(name))?.len() as f64 / 1e6)
        };
        let sizes = [size("tsshd")?, size("tssh")?];
        report.note("idle", "program, server / client", "MB", *client, &sizes);
    }
    let mut sessions = Vec::new();
    for client in bench.clients {
        match Session::start(bench, *client) {
            Ok(session) => sessions.push(session),
            Err(why) => report.miss("idle", *client, &why),
        }
    }
    thread::sleep(REST);
    let before: Vec<_> = sessions.iter().map(Session::look).collect();
    thread::sleep(LOOK);
    for (session, before) in sessions.iter().zip(before) {
        session.note(report, &before, &session.look());
    }
    Ok(())
}

/// Returns the memory of a session's server and client, in MiB.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn memory(bench: &Bench<'_>, client: Client) -> anyhow::Result<[f64; 2]> {
    let session = Session::start(bench, client)?;
    thread::sleep(MEMORY_REST);
    let pss = |side| session.processes(side).iter().map(Process::pss_kib).sum::<u64>();
    Ok([Side::Server, Side::Client].map(|side| pss(side) as f64 / 1024.0))
}

struct Session {
    client: Client,
    // Ends before its world.
    _terminal: Terminal,
    world: World,
}

/// What a session has used so far.
struct Used {
    cpu: Duration,
    packets: u64,
}

impl Session {
    fn start(bench: &Bench<'_>, client: Client) -> anyhow::Result<Self> {
        let conditions = Conditions::delayed(Duration::from_millis(10));
        let world = World::start(bench, &[LinkConfig::both(conditions)])?;
        let terminal = world.shell(client)?;
        Ok(Self { client, _terminal: terminal, world })
    }

    fn processes(&self, side: Side) -> Vec<Process> {
        let mut processes = self.world.processes(side);
        processes.retain(|process| PROGRAMS.contains(&&*process.name) && !process.is_listener());
        processes
    }

    fn look(&self) -> Used {
        let processes = [Side::Client, Side::Server].map(|side| self.processes(side)).concat();
        let offered = |direction| self.world.lab.counters(FIRST, direction).offered;
        Used {
            cpu: processes.iter().map(Process::cpu).sum(),
            packets: Direction::BOTH.map(offered).iter().sum(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn note(&self, report: &mut Report, before: &Used, after: &Used) {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e3;
        report.note("idle", "processor time of both in a minute", "ms", self.client, &[cpu]);
        let packets = (after.packets - before.packets) as f64 * 60.0 / LOOK.as_secs_f64();
        report.note("idle", "packets both ways, each minute", "", self.client, &[packets]);
    }
}
