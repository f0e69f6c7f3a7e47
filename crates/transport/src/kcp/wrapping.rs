//! Numbers that wrap: segment numbers and the wire's milliseconds.
//!
//! Both count modulo 2³² and are ordered as RFC 1982 orders serial numbers: of
//! two numbers, the later one is less than 2³¹ ahead. Nothing else in
//! [`super`] compares or adds them.

use std::time::Instant;

/// The number of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sn(pub u32);

impl Sn {
    /// Returns how far this number is after `earlier`; negative if before it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Returns the number `count` further.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Returns the distance from `base`, if this number is not before it.
    pub(super) fn offset(self, base: Self) -> Option<usize> {
        usize::try_from(self.since(base)).ok()
    }
}

/// A sender's time in milliseconds, of which only differences mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ts(pub u32);

impl Ts {
    /// Returns how many milliseconds this is after `earlier`; negative if before it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

/// Turns instants into the milliseconds of the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireClock {
    origin: Instant,
    start: u32,
}

impl WireClock {
    /// Creates a clock that shows `start` at `origin`.
    pub(super) const fn new(origin: Instant, start: Ts) -> Self {
        Self { origin, start: start.0 }
    }

    pub(super) fn at(&self, now: Instant) -> Ts {
        let elapsed = now.saturating_duration_since(self.origin).as_millis();
        #[expect(clippy::cast_possible_truncation, reason = "the wire's clock wraps, as in kcp-go")]
        let elapsed = elapsed as u32;
        Ts(self.start.wrapping_add(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_keep_their_order_across_the_wrap() {
        assert_eq!(Sn(1).since(Sn(u32::MAX)), 2);
        assert_eq!(Sn(u32::MAX).since(Sn(1)), -2);
        assert_eq!(Sn(u32::MAX).plus(2), Sn(1));
        assert_eq!(Sn(3).offset(Sn(u32::MAX)), Some(4));
        assert_eq!(Sn(u32::MAX).offset(Sn(3)), None);
    }

    #[test]
    fn wire_clock_wraps_after_49_days_and_goes_on() {
        let origin = Instant::now();
        let clock = WireClock::new(origin, Ts(0));
        let before = clock.at(origin + Duration::from_millis(u64::from(u32::MAX)));
        let after = clock.at(origin + Duration::from_millis(u64::from(u32::MAX) + 5));
        assert_eq!((before, after), (Ts(u32::MAX), Ts(4)));
        assert_eq!(after.since(before), 5);
    }
}
