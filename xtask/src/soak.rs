//! `cargo xtask soak`: the second tier of tests, with full counts and full sizes (DESIGN D11).
//!
//! Nothing here is a test of its own: variables tell the tests of the first tier to do more.
//! Seeds and cases are others each time; what fails names them. `cargo xtask soak 100` does a
//! hundredth of everything and leaves outages short, to see that each step works.

use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::shell;
use crate::steps::Steps;

/// How many seeds each simulation runs; `testkit::with_seeds` reads it.
const SEEDS: u64 = 10_000;
/// The packages with such simulations.
const SIMULATED: [&str; 4] = ["--package", "tssh-proxy", "--package", "tssh-transport"];
/// How often the property tests draw new cases.
const PROPERTY_ROUNDS: u64 = 50;
/// How many configurations are generated and compared with `ssh -G`.
const CONFIGURATIONS: u64 = 5000;
/// How often the end-to-end suite runs whole.
const SUITES: u64 = 3;
/// End-to-end tests with a full size: outages of minutes (ten of them under a forward), files of
/// a GiB, ten thousand connections in a row, all of the configurations that sshd and tsshd are
/// compared under.
const FULL_SIZE: [&str; 5] = ["outage::", "handover::", "forward::", "jump_roam::", "like_sshd::"];

/// Runs the tests that have a full size, or one `part`th of them.
pub(crate) fn run(part: u64) -> ExitCode {
    let counted = |full: u64| full.div_ceil(part.max(1));
    let mut steps = Steps::default();
    let built = steps.run("build", || {
        shell::run(shell::cargo(["build", "--workspace", "--all-targets", "--locked"]))
    });
    if !built {
        steps.skip("everything else", "the build failed");
        return steps.summary();
    }
    let first = first_seed();
    let count = counted(SEEDS);
    steps.run(&format!("simulations: {count} seeds from {first}"), || {
        let mut simulations = shell::cargo(["test", "--locked", "--no-fail-fast"]);
        simulations.args(SIMULATED).arg("--quiet");
        simulations.env("TSSH_SEEDS", count.to_string());
        simulations.env("TSSH_FIRST_SEED", first.to_string());
        shell::run(simulations)
    });
    let rounds = counted(PROPERTY_ROUNDS);
    steps.run(&format!("properties: {rounds} rounds"), || {
        (0..rounds).try_for_each(|_| properties())
    });
    let cases = counted(CONFIGURATIONS);
    steps.run(&format!("configurations: {cases}"), || {
        let mut configurations =
            shell::cargo(["test", "--package", "tssh", "--test", "ssh_config"]);
        configurations.env("TSSH_CONFIG_CASES", cases.to_string());
        shell::run(configurations)
    });
    let suites = counted(SUITES);
    steps.run(&format!("end to end: {suites} times"), || {
        (0..suites).try_for_each(|_| shell::run(suite(&[])))
    });
    steps.run("end to end in full size", || {
        let mut full = suite(&FULL_SIZE);
        if part <= 1 {
            full.env("E2E_FULL", "1");
        }
        shell::run(full)
    });
    steps.summary()
}

/// Runs the property tests once, with cases that nobody has seen.
fn properties() -> anyhow::Result<()> {
    let words = ["test", "--workspace", "--exclude", "e2e", "--lib", "--quiet"];
    let mut properties = shell::cargo(words);
    properties.env_remove("PROPTEST_RNG_SEED");
    shell::run(properties)
}

/// Returns the command for the tests of the end-to-end suite whose names hold one of `filters`.
fn suite(filters: &[&str]) -> Command {
    let mut suite = shell::cargo(["test", "--package", "e2e", "--test", "suite", "--"]);
    suite.args(filters);
    suite
}

/// A seed nobody has begun with: the second in which we run.
fn first_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
