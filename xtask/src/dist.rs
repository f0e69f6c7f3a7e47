//! `cargo xtask dist`: static release binaries into `dist/`, with checksums.
//!
//! One pair per Linux target, linked against musl, so that it runs on any
//! distribution. A target whose linker cannot be had is named and left out;
//! no target at all is an error.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::shell;

/// Builds every pair this machine can build.
///
/// # Errors
/// When a build fails, or nothing could be built.
pub(crate) fn run() -> anyhow::Result<()> {
    let dist = shell::root().join("dist");
    fs::create_dir_all(&dist)?;
    let mut names = Vec::new();
    for target in TARGETS {
        match tool(target) {
            Ok(tool) => names.extend(build(target, tool, &dist)?),
            Err(missing) => shell::say(&format!("dist: {target} left out: {missing}")),
        }
    }
    ensure!(!names.is_empty(), "nothing could be built here");
    checksums(&dist, &names)
}

/// Returns the cargo subcommand that can link for a target, or what is missing.
fn tool(target: &str) -> Result<&'static str, String> {
    if !shell::has_target(target) {
        return Err(format!("rustup target add {target} does not work"));
    }
    if shell::works(&["cargo", "zigbuild", "--version"]) && has_zig() {
        return Ok("zigbuild");
    }
    if target.starts_with(std::env::consts::ARCH) {
        if shell::works(&["musl-gcc", "--version"])
            || (shell::can_apt() && shell::apt_install(&["musl-tools"]).is_ok())
        {
            return Ok("build");
        }
        return Err("it needs musl-gcc (Debian: musl-tools)".into());
    }
    Err("it needs cargo-zigbuild and zig (pip install cargo-zigbuild ziglang)".into())
}

/// Returns whether zig is there by either of the names cargo-zigbuild looks for.
fn has_zig() -> bool {
    shell::works(&["zig", "version"]) || shell::works(&["python3", "-m", "ziglang", "version"])
}

fn build(target: &str, tool: &str, dist: &Path) -> anyhow::Result<Vec<String>> {
    shell::say(&format!("dist: building for {target}"));
    let mut command = shell::cargo([tool, "--quiet", "--release", "--locked"]);
    command.args(["-p", "tssh", "-p", "tsshd", "--bins", "--target", target]);
    // Panic messages carry file names; they should be the same wherever it is built.
    let root = shell::root().display();
    let mut flags = format!("--remap-path-prefix={root}=. -Cforce-unwind-tables=no");
    if tool == "build" {
        // A twentieth of the program is relocations otherwise; zig's linker knows no such option.
        flags += " -Clink-arg=-Wl,-z,pack-relative-relocs";
    }
    command.env("RUSTFLAGS", flags);
    shell::run(command)?;
    // <target dir>/debug/xtask is where we are.
    let own = shell::binaries()?;
    let built = own.parent().context("a build directory")?.join(target).join("release");
    let mut names = Vec::new();
    for program in ["tssh", "tsshd"] {
        let name = format!("{program}-{target}");
        let bytes = fs::copy(built.join(program), dist.join(&name))?;
        shell::say(&format!("dist: {name}: {bytes} bytes"));
        names.push(name);
    }
    Ok(names)
}

/// Writes `SHA256SUMS`, in the form `sha256sum -c` reads.
fn checksums(dist: &Path, names: &[String]) -> anyhow::Result<()> {
    let program: &[&str] =
        if shell::works(&["sha256sum", "--version"]) { &["sha256sum"] } else { &SHASUM };
    let mut command = shell::command(program);
    command.args(names).current_dir(dist);
    let sums = shell::output(command)?;
    fs::write(dist.join("SHA256SUMS"), &sums)?;
    shell::say(sums.trim_end());
    Ok(())
}

const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// What does `sha256sum`'s work on systems without coreutils.
const SHASUM: [&str; 3] = ["shasum", "-a", "256"];
