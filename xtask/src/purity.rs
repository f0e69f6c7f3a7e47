//! `cargo xtask purity`: the sans-IO crates build where there is no system.
//!
//! Without their `driver` feature, `proto`, `proxy` and `transport` must not
//! need sockets, threads or a clock. A target that has none of them shows
//! it: wasm32-unknown-unknown, where std's sockets and clock are mere stubs
//! and tokio, mio and socket2 do not compile.

use crate::shell;

/// Checks the crates for the bare target, or for this machine where that cannot be had.
///
/// # Errors
/// When a crate does not compile.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut command = shell::cargo(["check", "--quiet", "--lib", "--no-default-features"]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    if shell::has_target(BARE) {
        command.args(["--target", BARE]);
    } else {
        shell::say(&format!(
            "purity: {BARE} is not installed and cannot be added (rustup target add {BARE}); \
             checked for this machine only, which shows the features but not the imports"
        ));
    }
    shell::run(command)
}

const PACKAGES: [&str; 5] =
    ["tssh-proto", "tssh-proxy", "tssh-transport", "tssh-testkit", "tssh-tty"];
const BARE: &str = "wasm32-unknown-unknown";
