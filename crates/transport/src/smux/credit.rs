//! Credit of one stream: how far a sender may go, and what a reader grants.
//!
//! Counters are totals modulo 2³². A sender has `window − (written − consumed)`
//! bytes left; window and consumed are those of the peer's last UPD.
//!
//! Wire: PROTOCOL §5.3.

/// Window in bytes that a sender assumes before the first UPD.
pub const INITIAL_WINDOW: u32 = 262_144;
/// Window in bytes that we grant while there is memory; the reference's.
pub const WINDOW: u32 = 524_288;
/// Window in bytes of a stream that carries bulk, for a link of 100 Mbit/s and
/// 50 ms on which every lost packet holds up what is behind it for a round trip.
pub(super) const BULK_WINDOW: u32 = 2_097_152;
/// Bytes read after which a stream is taken to carry bulk.
const BULK_AFTER: u64 = 1_048_576;
/// Most bytes read before the next UPD (§5.3).
const REPORT_EVERY: u32 = 262_144;

/// What an UPD meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// Numbers no peer can mean; nothing changed.
    Ignored,
    /// The credit is new; it may be less than before.
    Granted,
    /// A window of zero, which the reference never sends: nobody reads.
    Stopped,
}

/// The sender's side.
#[derive(Debug)]
pub(super) struct SendCredit {
    written: u32,
    consumed: u32,
    window: u32,
}

impl SendCredit {
    pub(super) const fn new() -> Self {
        Self { written: 0, consumed: 0, window: INITIAL_WINDOW }
    }

    /// Returns how many bytes may be sent now.
    pub(super) const fn available(&self) -> usize {
        let in_flight = self.written.wrapping_sub(self.consumed);
        // Windows may shrink below what is in flight.
        self.window.saturating_sub(in_flight) as usize
    }

    /// Takes note of `bytes` sent, at most what is available.
    pub(super) fn on_sent(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a frame's payload, far below 4 GiB");
        self.written = self.written.wrapping_add(bytes);
    }

    /// Takes the peer's word, unless it claims bytes that were never written or
    /// takes back some; the pipe is in order, so honest totals only grow.
    pub(super) const fn on_update(&mut self, consumed: u32, window: u32) -> Update {
        let in_flight = self.written.wrapping_sub(self.consumed);
        if consumed.wrapping_sub(self.consumed) > in_flight {
            return Update::Ignored;
        }
        self.consumed = consumed;
        self.window = window;
        if window == 0 { Update::Stopped } else { Update::Granted }
    }
}

/// The reader's side.
#[derive(Debug)]
pub(super) struct ReceiveCredit {
    consumed: u32,
    /// The same, and never wraps.
    total: u64,
    /// Bytes read since the last UPD.
    unreported: u32,
    /// Bytes read at which the next UPD is due.
    report_at: u32,
}

impl ReceiveCredit {
    /// The first read is reported at once (§5.3): it doubles the window.
    pub(super) const fn new() -> Self {
        Self { consumed: 0, total: 0, unreported: 0, report_at: 1 }
    }

    /// Takes note of `bytes` read and returns whether an UPD is due.
    pub(super) fn on_read(&mut self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.consumed = self.consumed.wrapping_add(bytes);
        self.total += u64::from(bytes);
        self.unreported = self.unreported.saturating_add(bytes);
        self.unreported >= self.report_at
    }

    /// Returns whether as much was read as is read between two UPDs.
    pub(super) const fn is_busy(&self) -> bool {
        self.total >= REPORT_EVERY as u64
    }

    /// Returns whether so much was read that the window should grow.
    pub(super) const fn is_bulk(&self) -> bool {
        self.total >= BULK_AFTER
    }

    /// Returns the total for an UPD that grants `window`.
    pub(super) const fn report(&mut self, window: u32) -> u32 {
        self.unreported = 0;
        // A peer with a smaller window would otherwise wait for an UPD that
        // waits for its bytes.
        let half = window / 2;
        self.report_at = if half < REPORT_EVERY { half } else { REPORT_EVERY };
        self.consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_256_kib_until_the_first_update_and_then_what_it_says() {
        let mut credit = SendCredit::new();
        assert_eq!(credit.available(), 262_144);
        credit.on_sent(262_144);
        assert_eq!(credit.available(), 0);
        assert_eq!(credit.on_update(1000, WINDOW), Update::Granted);
        assert_eq!(credit.available(), 524_288 - (262_144 - 1000));
    }

    #[test]
    fn totals_wrap() {
        let mut credit = SendCredit { written: u32::MAX - 9, consumed: u32::MAX - 9, window: 100 };
        credit.on_sent(20);
        assert_eq!(credit.available(), 80);
        assert_eq!(credit.on_update(5, 100), Update::Granted);
        assert_eq!(credit.available(), 95);
    }

    #[test]
    fn a_shrunken_window_stops_the_sender_until_bytes_are_consumed() {
        let mut credit = SendCredit::new();
        credit.on_sent(100_000);
        assert_eq!(credit.on_update(0, 4096), Update::Granted);
        assert_eq!(credit.available(), 0);
        assert_eq!(credit.on_update(99_000, 4096), Update::Granted);
        assert_eq!(credit.available(), 3096);
    }

    #[test]
    fn consuming_what_was_never_written_or_less_than_before_changes_nothing() {
        let mut credit = SendCredit::new();
        credit.on_sent(10);
        assert_eq!(credit.on_update(4, WINDOW), Update::Granted);
        assert_eq!(credit.on_update(11, 0), Update::Ignored);
        assert_eq!(credit.on_update(3, 0), Update::Ignored);
        assert_eq!(credit.available(), 524_288 - 6);
    }

    #[test]
    fn a_window_of_zero_means_that_nobody_reads() {
        let mut credit = SendCredit::new();
        assert_eq!(credit.on_update(0, 0), Update::Stopped);
        assert_eq!(credit.available(), 0);
    }

    #[test]
    fn reads_are_reported_at_once_and_then_every_256_kib() {
        let mut credit = ReceiveCredit::new();
        assert!(credit.on_read(1));
        assert_eq!(credit.report(WINDOW), 1);
        assert!(!credit.on_read(262_143));
        assert!(credit.on_read(1));
        assert_eq!(credit.report(WINDOW), 262_145);
    }

    #[test]
    fn a_small_window_is_reported_by_halves() {
        let mut credit = ReceiveCredit::new();
        credit.report(16_384);
        assert!(!credit.on_read(8191));
        assert!(credit.on_read(1));
    }
}
