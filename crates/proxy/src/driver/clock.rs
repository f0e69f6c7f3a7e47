//! [`boot_time`] and [`SleepWatch`]: a clock that sleep does not stop, and what notices sleep.
//!
//! `Instant` stands still while a Linux or macOS machine is suspended. The
//! difference to a clock that runs on is the time slept. Nothing polls: the
//! clocks are compared whenever the proxy has something to do, which is when
//! the first timer, packet or keystroke comes after waking up.

use std::time::{Duration, Instant};

/// Clocks differ by less than this without sleep.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Compares two clocks from call to call.
#[derive(Debug, Default)]
pub(super) struct SleepWatch {
    last: Option<(Instant, Duration)>,
}

impl SleepWatch {
    /// Returns how long the machine slept since the last call, if it did.
    pub(super) fn slept(&mut self, awake: Instant, boot: Duration) -> Option<Duration> {
        let (last_awake, last_boot) = self.last.replace((awake, boot))?;
        let passed = boot.checked_sub(last_boot)?;
        let slept = passed.checked_sub(awake.saturating_duration_since(last_awake))?;
        (slept > TOLERANCE).then_some(slept)
    }
}

/// Returns the time since some fixed point, sleep included.
#[cfg(target_os = "linux")]
#[must_use]
pub fn boot_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Returns the time since some fixed point, sleep included. Somebody who sets
/// the wall clock forward causes one needless renewal.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn boot_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn sleep_is_what_one_clock_counts_and_the_other_does_not() {
        let (start, mut watch) = (Instant::now(), SleepWatch::default());
        assert_eq!(watch.slept(start, 100 * SECOND), None);
        assert_eq!(watch.slept(start + 5 * SECOND, 105 * SECOND), None, "awake");
        assert_eq!(watch.slept(start + 6 * SECOND, 706 * SECOND), Some(600 * SECOND));
        assert_eq!(watch.slept(start + 7 * SECOND, 707 * SECOND), None, "told once");
        assert_eq!(watch.slept(start + 8 * SECOND, 100 * SECOND), None, "clock set back");
    }
}
