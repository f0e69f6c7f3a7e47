//! [`Clock`]: time that passes when the test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A virtual clock; clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    elapsed_nanos: Arc<AtomicU64>,
}

impl Clock {
    /// Creates a clock that shows some instant and stands still.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now(), elapsed_nanos: Arc::default() }
    }

    /// Returns the virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.origin + self.elapsed()
    }

    /// Returns how much time has passed since the clock was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed))
    }

    /// Lets `time` pass.
    pub fn advance(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).expect("a test lasts less than 500 years");
        self.elapsed_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Lets time pass until `instant`; an instant in the past changes nothing.
    pub fn advance_to(&self, instant: Instant) {
        self.advance(instant.saturating_duration_since(self.now()));
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_show_the_same_time_and_it_never_goes_back() {
        let clock = Clock::new();
        let (other, start) = (clock.clone(), clock.now());
        clock.advance(Duration::from_secs(3));
        assert_eq!(other.now(), start + Duration::from_secs(3));
        other.advance_to(start + Duration::from_secs(1));
        assert_eq!(clock.elapsed(), Duration::from_secs(3));
    }
}
