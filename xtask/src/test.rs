//! `cargo xtask test`: everything CI runs, in the order in which it fails fastest.
//!
//! One profile, one set of features (the whole workspace with its tests), so
//! that nothing is built twice. A step that fails does not stop the ones that
//! do not need it; the summary at the end tells all.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::bail;

use crate::steps::Steps;
use crate::{platforms, purity, shell, tidy};

/// Runs all steps; fails when one of them does.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut steps = Steps::default();
    prepare(&mut steps);
    steps.run("fmt", || shell::run(shell::cargo(["fmt", "--all", "--check"])));
    steps.run("tidy", tidy::run);
    let built = steps.run("build", || {
        shell::run(shell::cargo(["build", "--workspace", "--all-targets", "--locked"]))
    });
    if built {
        let nextest = shell::works(&["cargo", "nextest", "--version"]);
        steps.run("tests", || shell::run(units(nextest)));
        steps.run("doc tests", || shell::run(shell::cargo(["test", "--workspace", "--doc"])));
        steps.run("end to end", || shell::run(end_to_end(nextest)));
        steps.run("demo", demonstrate);
    } else {
        steps.skip("tests, doc tests, end to end", "the build failed");
    }
    steps.run("clippy", || {
        let words = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        shell::run(shell::cargo(words))
    });
    steps.run("purity", purity::run);
    match platforms::why_not() {
        None => drop(steps.run("windows", platforms::run)),
        Some(why) => steps.skip("windows", &why),
    }
    Ok(steps.summary())
}

/// Installs what the end-to-end tests need, where that can be done.
fn prepare(steps: &mut Steps) {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return;
    }
    let missing_text = missing.join(" ");
    if !shell::can_apt() {
        let reason = format!("{missing_text} is missing, and only root on Debian can install it");
        steps.skip("parts of end to end", &reason);
        return;
    }
    steps.run(&format!("install {missing_text}"), || shell::apt_install(&missing));
}

/// Returns whether a program is where users or administrators have theirs.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).collect::<Vec<_>>();
    dirs.extend(["/usr/sbin", "/sbin"].map(Into::into));
    dirs.iter().any(|dir| Path::new(dir).join(program).exists())
}

/// Returns the command for everything but the end-to-end suite, fuzz corpora included.
///
/// Property tests draw the same cases each time: what is judged is a change, not
/// the dice. `cargo xtask soak` draws others.
fn units(nextest: bool) -> Command {
    let mut command = if nextest {
        shell::cargo(["nextest", "run", "--workspace", "--no-fail-fast", "-E", "not package(e2e)"])
    } else {
        shell::cargo(["test", "--workspace", "--exclude", "e2e", "--no-fail-fast", "--tests"])
    };
    command.env("PROPTEST_RNG_SEED", "1");
    command
}

/// Returns the command for the end-to-end suite.
///
/// Whole workspace even here: `-p e2e` alone would choose other features for
/// the dependencies and build them a second time. With real processes on a busy
/// machine a test may meet a time-out of a program that is not ours: one that
/// fails is run again, and is listed as flaky when it passes then.
fn end_to_end(nextest: bool) -> Command {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = (cores * TESTS_PER_CORE).to_string();
    let mut command = if nextest {
        let filter = "package(e2e)";
        let words = ["nextest", "run", "--workspace", "--no-fail-fast", "--retries", "2"];
        let mut command = shell::cargo(words);
        command.args(["-E", filter]);
        command
    } else {
        shell::cargo(["test", "--workspace", "--no-fail-fast", "--test", "suite", "--"])
    };
    command.args(["--test-threads", &threads]);
    command
}

/// End-to-end tests at a time: most of them wait for a process or an outage
/// most of the time, and none is judged by the clock.
const TESTS_PER_CORE: usize = 3;

/// Runs a command through the demo, as a newcomer would.
fn demonstrate() -> anyhow::Result<()> {
    let mut demo = Command::new(shell::binaries()?.join(crate::demo::DEMO));
    let output = demo.args(["sh", "-c", "echo over $SSH_CONNECTION; exit 7"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() != Some(7) || !text.starts_with("over 127.0.0.1 ") {
        bail!("the demo printed {text:?} and ended with {}", output.status);
    }
    Ok(())
}

/// Programs the end-to-end tests use, and the Debian packages that have them.
const NEEDED: [(&str, &str); 11] = [
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("ip", "iproute2"),
    ("git", "git"),
    ("rsync", "rsync"),
    ("ansible", "ansible-core"),
    ("zsh", "zsh"),
    ("fish", "fish"),
    ("tcsh", "tcsh"),
    ("busybox", "busybox"),
    ("dropbear", "dropbear-bin"),
];
