//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
///
/// Far above what a loaded machine with two cores needs: reaching it means
/// that the thing waited for does not happen, not that it is slow.
pub const DEADLINE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// After [`DEADLINE`], with `what` in the message.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `probe` yields a value and returns it.
///
/// # Panics
/// After [`DEADLINE`], with `what` in the message.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(POLL);
    }
}
