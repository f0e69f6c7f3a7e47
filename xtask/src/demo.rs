//! `cargo xtask demo`: builds the programs and starts the demo (`crates/demo`).

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::anyhow;

use crate::shell;

/// Becomes the demo, with a login shell or with `words` as one command.
///
/// # Errors
/// When the programs cannot be built or started; otherwise it does not return.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<std::convert::Infallible> {
    let mut build = shell::cargo(["build", "--bins", "-p", "tssh", "-p", "tsshd", "-p", DEMO]);
    // Progress is for people; a script's stderr should be the command's.
    if !std::io::stderr().is_terminal() {
        build.arg("--quiet");
    }
    build.stdin(Stdio::null()).stdout(Stdio::null());
    shell::run(build)?;
    let mut demo = Command::new(shell::binaries()?.join(DEMO));
    // From here on we are the demo: signals and status need no forwarding.
    Err(anyhow!(demo.args(words).exec()).context("cannot start the demo"))
}

/// The program that is the demo.
pub(crate) const DEMO: &str = "tssh-demo";
