//! [`with_seeds`]: one test, many runs, and the name of the one that failed.

use std::ops::Range;

/// How many seeds a test runs, where that is more than it runs by itself.
const COUNT: &str = "TSSH_SEEDS";
/// Where so many seeds begin, to run others than yesterday.
const FIRST: &str = "TSSH_FIRST_SEED";
/// The only seed to run, to look at a failure again.
const ONLY: &str = "TSSH_SEED";

/// Runs `test` with each seed of `fixed`; a failing one is named, whatever fails.
///
/// `TSSH_SEEDS=10000` makes it so many from the same start, or, as `cargo xtask soak`
/// does, from `TSSH_FIRST_SEED`; `TSSH_SEED=n` runs that one alone.
///
/// # Panics
/// When `test` does, and when one of the variables is not a number.
pub fn with_seeds(fixed: Range<u64>, test: impl Fn(u64)) {
    for seed in chosen(fixed, variable(COUNT), variable(FIRST), variable(ONLY)) {
        let _name = Name(seed);
        test(seed);
    }
}

fn chosen(
    fixed: Range<u64>,
    count: Option<u64>,
    first: Option<u64>,
    only: Option<u64>,
) -> Range<u64> {
    match (only, count, first) {
        (Some(seed), _, _) => seed..seed + 1,
        (None, Some(count), Some(first)) => first..first.saturating_add(count),
        (None, count, _) => {
            let end = fixed.start + count.unwrap_or(0);
            fixed.start..fixed.end.max(end)
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

/// Says its seed when it is dropped by a panic.
struct Name(u64);

impl Drop for Name {
    #[expect(clippy::print_stdout, reason = "a test's output is read when it fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failing seed: {}; run it alone with {ONLY}={}", self.0, self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_adds_seeds_and_never_takes_any_away() {
        assert_eq!(chosen(100..130, None, None, None), 100..130);
        assert_eq!(chosen(100..130, Some(5), None, None), 100..130);
        assert_eq!(chosen(100..130, Some(10_000), None, None), 100..10_100);
        assert_eq!(chosen(100..130, Some(10_000), None, Some(7)), 7..8);
    }

    #[test]
    fn a_first_seed_moves_as_many_as_are_counted() {
        assert_eq!(chosen(100..130, Some(50), Some(7_000), None), 7_000..7_050);
        assert_eq!(chosen(100..130, None, Some(7_000), None), 100..130);
        assert_eq!(chosen(100..130, Some(50), Some(7_000), Some(3)), 3..4);
    }
}
