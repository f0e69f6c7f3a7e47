//! Steps of a long chore: each is named, timed and counted, and the last lines tell all.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::shell;

/// What has been run so far, and how it ended.
#[derive(Default)]
pub(crate) struct Steps {
    lines: Vec<String>,
    total: Duration,
    failed: bool,
}

impl Steps {
    /// Runs one step; returns whether it went well.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<()>) -> bool {
        shell::say(&format!("== {name}"));
        let start = Instant::now();
        let result = step();
        let took = start.elapsed();
        self.total += took;
        let word = match &result {
            Ok(()) => "ok",
            Err(err) => {
                shell::say(&format!("{name}: {err:#}"));
                "FAILED"
            }
        };
        self.failed |= result.is_err();
        self.lines.push(format!("{word:>7} {:>5} s  {name}", took.as_secs()));
        result.is_ok()
    }

    /// Notes a step that cannot be run here.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        shell::say(&format!("== {name}: skipped: {why}"));
        self.lines.push(format!("skipped          {name}: {why}"));
    }

    /// Prints what has been run; returns whether all of it went well, as an exit status.
    pub(crate) fn summary(self) -> ExitCode {
        shell::say(&format!("== summary\n{}", self.lines.join("\n")));
        let word = if self.failed { "failed" } else { "all is well" };
        shell::say(&format!("{word} after {} s", self.total.as_secs()));
        ExitCode::from(u8::from(self.failed))
    }
}
