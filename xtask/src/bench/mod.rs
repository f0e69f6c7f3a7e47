//! `cargo xtask bench`: what there is of OpenSSH, mosh and tssh, side by side.
//!
//! Every figure comes from real programs in two hosts of `netlab`: a stock
//! sshd on one, a client in a terminal on the other. Release builds; one run,
//! one machine, one table. A benchmark informs and never fails: what a client
//! cannot do or does not finish in time is a gap in the table.

mod bulk;
mod echo;
mod idle;
mod options;
mod prompt;
mod report;
mod roam;
mod terminal;
mod world;

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::shell;
use options::Options;
use report::Report;
use world::Client;

/// Runs the scenarios that the words name.
///
/// # Errors
/// When there can be no lab here, or the programs cannot be built.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = Options::read(words)?;
    if let Some(why) = netlab::why_not() {
        bail!("the benchmark needs a lab, and {why}");
    }
    let programs = build(&options)?;
    let clients = options.clients.iter().copied().filter(|client| {
        let why_not = client.why_not(&programs);
        if let Some(why) = &why_not {
            shell::say(&format!("without {}: {why}", client.name()));
        }
        why_not.is_none()
    });
    let clients: Vec<Client> = clients.collect();
    let mut report = Report::new(&clients, words);
    for scenario in &options.scenarios {
        shell::say(&format!("== {}", scenario.name()));
        let bench = Bench { options: &options, clients: &clients, programs: &programs };
        scenario.run(&bench, &mut report).with_context(|| scenario.name())?;
    }
    report.finish(&options)
}

/// What every scenario gets.
struct Bench<'a> {
    options: &'a Options,
    clients: &'a [Client],
    /// Directory of the release builds.
    programs: &'a PathBuf,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    Prompt,
    Echo,
    Roam,
    Forward,
    Pipe,
    Pty,
    Idle,
}

impl Scenario {
    const ALL: [Self; 7] =
        [Self::Prompt, Self::Echo, Self::Roam, Self::Forward, Self::Pipe, Self::Pty, Self::Idle];

    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Echo => "echo",
            Self::Roam => "roam",
            Self::Forward => "forward",
            Self::Pipe => "pipe",
            Self::Pty => "pty",
            Self::Idle => "idle",
        }
    }

    fn run(self, bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Prompt => prompt::run(bench, report),
            Self::Echo => echo::run(bench, report),
            Self::Roam => roam::run(bench, report),
            Self::Forward => bulk::forward(bench, report),
            Self::Pipe => bulk::pipe(bench, report),
            Self::Pty => bulk::pty(bench, report),
            Self::Idle => idle::run(bench, report),
        }
    }
}

/// Builds the two programs; returns the directory they are in.
fn build(options: &Options) -> anyhow::Result<PathBuf> {
    if let Some(programs) = &options.programs {
        return Ok(programs.clone());
    }
    shell::say("== build");
    shell::run(shell::cargo(["build", "--release", "--locked", "-p", "tssh", "-p", "tsshd"]))?;
    let target = shell::binaries()?;
    Ok(target.parent().context("target/debug has a parent")?.join("release"))
}
