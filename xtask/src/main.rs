//! Chores of this repository, run as `cargo xtask NAME`.
//!
//! Each chore does its own set-up and needs nothing but a Rust toolchain; what
//! it cannot have on this machine it names and leaves out. Status and progress
//! go to stderr; the exit status is the chore's.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod bench;
mod demo;
mod dist;
mod fuzz;
mod platforms;
mod purity;
mod shell;
mod soak;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Context, bail};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(err) => {
            shell::say(&format!("xtask: {err:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["demo", ref words @ ..] => {
            let words = words.strip_prefix(&["--"]).unwrap_or(words);
            match demo::run(words)? {}
        }
        ["test"] => return test::run(),
        ["tidy"] => tidy::run()?,
        ["purity"] => purity::run()?,
        ["fuzz", ref rest @ ..] => {
            let (seconds, target) = match *rest {
                [] => (None, None),
                [seconds] => (Some(seconds), None),
                [seconds, target] => (Some(seconds), Some(target)),
                _ => bail!("usage: cargo xtask fuzz [SECONDS [TARGET]]"),
            };
            let seconds =
                seconds.map(str::parse).transpose().context("SECONDS is a whole number")?;
            fuzz::run(seconds.unwrap_or(fuzz::SECONDS), target)?;
        }
        #[cfg(target_os = "linux")]
        ["bench", ref words @ ..] => bench::run(words)?,
        ["soak"] => return Ok(soak::run(1)),
        ["soak", part] => {
            return Ok(soak::run(part.parse().context("PART is a whole number")?));
        }
        ["dist"] => dist::run()?,
        [] | ["help" | "-h" | "--help"] => shell::say(HELP),
        [other, ..] => {
            shell::say(HELP);
            bail!("there is no chore with these words: {other}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

const HELP: &str = "\
usage: cargo xtask CHORE

  demo [-- WORDS]         a shell over QUIC on this machine, or WORDS as one command
  test                    everything CI runs: style, lints, unit, simulation, end to end
  tidy                    the rules of the house that a compiler does not check
  purity                  build the sans-IO crates for a target without an operating system
  fuzz [SECONDS [TARGET]] fuzz each target for SECONDS (60)
  soak [PART]             tests with full counts and sizes, or one PARTth of them
  bench [WORDS]           tssh beside OpenSSH and mosh in an emulated network (root, Linux)
  dist                    static release binaries with checksums into dist/
  help                    this text";

/// Exit status of a chore that failed for its own reasons.
const FAILED: u8 = 1;
