//! `cargo xtask soak`: the second tier of tests, with full counts and full sizes (DESIGN D11).
//!
//! Nothing here is a test of its own: variables tell the tests of the first tier to do more.

use crate::shell;

/// How many configurations are generated and compared with `ssh -G`.
const CONFIGURATIONS: &str = "5000";

/// How many seeds each simulation runs; `testkit::with_seeds` reads it.
const SEEDS: &str = "10000";
/// How often the property tests draw new cases.
const PROPERTY_ROUNDS: usize = 50;
/// The packages with such simulations.
const SIMULATED: [&str; 4] = ["--package", "tssh-proxy", "--package", "tssh-transport"];

/// End-to-end tests with a full size: outages of minutes (ten of them under a forward), files of
/// a GiB, ten thousand connections in a row, all of the
/// configurations that sshd and tsshd are compared under.
const FULL_SIZE: [&str; 5] = ["outage::", "handover::", "forward::", "jump_roam::", "like_sshd::"];

/// Runs the tests that have a full size.
///
/// # Errors
/// When a test fails or the build does.
pub(crate) fn run() -> anyhow::Result<()> {
    shell::run(shell::cargo(["build", "--workspace", "--all-targets", "--locked"]))?;
    let mut simulations = shell::cargo(["test", "--locked"]);
    simulations.args(SIMULATED).env("TSSH_SEEDS", SEEDS);
    shell::run(simulations)?;
    // Other cases each time; the test prints the one that fails.
    for _ in 0..PROPERTY_ROUNDS {
        let mut properties = shell::cargo(["test", "--workspace", "--exclude", "e2e", "--lib"]);
        properties.env_remove("PROPTEST_RNG_SEED").arg("--quiet");
        shell::run(properties)?;
    }
    let mut configurations = shell::cargo(["test", "--package", "tssh", "--test", "ssh_config"]);
    configurations.env("TSSH_CONFIG_CASES", CONFIGURATIONS);
    shell::run(configurations)?;
    let mut full = shell::cargo(["test", "--package", "e2e", "--test", "suite", "--"]);
    full.args(FULL_SIZE).env("E2E_FULL", "1");
    shell::run(full)
}
