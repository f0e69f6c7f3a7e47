//! [`Burst`]: tells bulk from what somebody waits for.
//!
//! A stream that goes on and on is bulk, until it pauses; a key, an echo, a
//! prompt and a small answer are not. Waiting for the link is no pause.

use std::time::{Duration, Instant};

/// Bytes without a pause that make bulk: more than a screen full.
const BYTES: u64 = 8 * 1024;
/// What a pause is.
const PAUSE: Duration = Duration::from_millis(100);

/// What one stream has written since it last paused.
#[derive(Debug, Default)]
pub(super) struct Burst {
    bytes: u64,
    tried_at: Option<Instant>,
    /// The last try had to wait.
    waits: bool,
}

impl Burst {
    /// Notes that the stream wants to write; returns whether that is bulk.
    pub(super) fn is_bulk(&mut self, now: Instant) -> bool {
        let since = self.tried_at.replace(now).map(|at| now.saturating_duration_since(at));
        if !self.waits && since.is_none_or(|since| since > PAUSE) {
            self.bytes = 0;
        }
        self.bytes > BYTES
    }

    /// Notes what became of it; `None` is that it has to wait.
    pub(super) fn on_written(&mut self, bytes: Option<usize>) {
        self.waits = bytes.is_none();
        self.bytes += bytes.unwrap_or(0) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_flood_is_bulk_and_stays_so_while_the_link_makes_it_wait() {
        let start = Instant::now();
        let mut burst = Burst::default();
        for at in 0..3 {
            assert!(!burst.is_bulk(start + at * MILLISECOND));
            burst.on_written(Some(4096));
        }
        assert!(burst.is_bulk(start + 3 * MILLISECOND));
        burst.on_written(None);
        assert!(burst.is_bulk(start + 3000 * MILLISECOND), "it waited for the link");
    }

    #[test]
    fn keys_and_what_follows_a_pause_are_not() {
        let start = Instant::now();
        let mut burst = Burst::default();
        for at in 0..1000 {
            assert!(!burst.is_bulk(start + at * 150 * MILLISECOND));
            burst.on_written(Some(4096));
        }
    }
}
