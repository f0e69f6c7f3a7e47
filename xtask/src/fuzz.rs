//! `cargo xtask fuzz`: every fuzz target for a while, with cargo-fuzz on nightly.
//!
//! The seeds in `fuzz/corpus` are read, never written: what a run finds
//! interesting stays in `fuzz/target/found`, and a crash in `fuzz/artifacts`.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};

use crate::shell;

/// How long one target runs when nothing is said.
pub(crate) const SECONDS: u32 = 60;

/// Fuzzes one target or all, and prints how many inputs each has seen.
///
/// # Errors
/// When there is no nightly toolchain, or a target finds something.
pub(crate) fn run(seconds: u32, target: Option<&str>) -> anyhow::Result<()> {
    ensure!(
        shell::works(&["cargo", "+nightly", "--version"]),
        "fuzzing needs a nightly toolchain: rustup toolchain install nightly"
    );
    if !shell::works(&["cargo", "fuzz", "--version"]) {
        shell::say("fuzz: installing cargo-fuzz");
        shell::run(shell::command(&["cargo", "install", "--locked", "cargo-fuzz"]))?;
    }
    let targets = targets()?;
    if let Some(target) = target {
        ensure!(targets.iter().any(|name| name == target), "the targets are: {targets:?}");
    }
    let mut found = Vec::new();
    // A target that does not build has found nothing.
    shell::run(shell::command(&["cargo", "+nightly", "fuzz", "build"]))?;
    for name in targets.iter().filter(|name| target.is_none_or(|target| target == *name)) {
        match fuzz(name, seconds) {
            Ok(count) => shell::say(&format!("fuzz: {name}: {count} inputs, nothing found")),
            Err(err) => {
                shell::say(&format!("fuzz: {name}: {err:#}"));
                found.push(name.as_str());
            }
        }
    }
    if !found.is_empty() {
        bail!("something was found by: {}", found.join(", "));
    }
    Ok(())
}

/// Returns the names of all targets: the files of `fuzz/fuzz_targets`.
fn targets() -> anyhow::Result<Vec<String>> {
    let dir = shell::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Runs one target and returns how many inputs it has executed.
fn fuzz(name: &str, seconds: u32) -> anyhow::Result<u64> {
    let found = shell::root().join("fuzz/target/found").join(name);
    fs::create_dir_all(&found)?;
    let seeds = shell::root().join("fuzz/corpus").join(name);
    let mut command = shell::command(&["cargo", "+nightly", "fuzz", "run", name]);
    // libFuzzer writes to the first directory and only reads the others.
    command.arg(found).arg(seeds).arg("--");
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    let output = command.stdin(Stdio::null()).output().context("cannot start cargo fuzz")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        bail!("ended with {}\n{tail}", output.status);
    }
    let count = text.lines().find_map(|line| line.strip_prefix(EXECUTED));
    count.context("no statistics")?.trim().parse().context("a count is a number")
}

/// How libFuzzer's statistics call the number of inputs.
const EXECUTED: &str = "stat::number_of_executed_units:";
