//! [`Copies`]: small packets at interactive rates go more than once (DESIGN D5).
//!
//! A lost keystroke costs a round trip and more; a second packet of eighty bytes costs next to
//! nothing. Packets are opaque here and go again as they are; both transports drop duplicates
//! before they mean anything. How often depends on the loss of single packets *on the wire*:
//! each side counts what it receives, duplicates included, and tells the other (extension
//! `loss`), so that nothing is sent twice on a clean link.
//!
//! A little more than a round trip later up to eight more follow, so that a burst of losses that
//! ate the others costs that and not the transport's timeout, which has to be more careful and
//! doubles. They are few that really go: once the transport knows that everything has arrived,
//! there is nothing left to repeat.
//!
//! Sans-IO. In: [`Copies::on_sent`], [`Copies::on_received`], [`Copies::on_all_answered`],
//! [`Copies::on_report`]; out:
//! [`Copies::poll_copy`], [`Copies::poll_timeout`], [`Copies::poll_report`].
//!
//! Not here: which path a packet takes; that of the path in use, and only UDP, is the driver's
//! to see to. Invariants: nothing is sent again before [`Copies::enable`]; copies and originals
//! together take at most [`REFILL`] bytes a second, beyond that originals go alone; memory is
//! bounded by [`QUEUE`] packets of [`SMALL`] bytes. Counts of a peer are taken for what they are:
//! whatever it claims, it gets at most [`MOST`] of each packet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest packet that is sent again, in bytes: keystrokes, their echo, a screen's line or two.
pub const SMALL: usize = 640;

/// How often one packet is sent at most, the first time included and late copies not.
pub const MOST: usize = 4;

/// Share of packets that may still be lost with all their copies: below one in a hundred
/// keystrokes, whose echo has to come through as well.
pub const RESIDUE: f64 = 0.003;

/// Bytes that copies may take in one burst.
pub const BURST: u32 = 12 * 1024;

/// Bytes a second within which packets are sent again; what goes anyhow counts first.
pub const REFILL: u32 = 16 * 1024;

/// Packets that wait for their time at most.
pub const QUEUE: usize = 128;

/// When copies go, after the first transmission. Few are spaced, so that one burst of losses
/// does not eat all; where loss is high the first goes back to back, since it is needed often.
const SPACING: [&[Duration]; MOST] =
    [&[], &[millis(2)], &[Duration::ZERO, millis(5)], &[Duration::ZERO, millis(3), millis(8)]];

/// How much later than a round trip and an eighth an answer may come. An acknowledgement alone
/// may be held back for up to 25 ms, but an echo takes it along.
const LATE: Duration = millis(10);

/// When late copies go, after the first of them.
const LATE_SPACING: [Duration; 8] = [
    Duration::ZERO,
    millis(2),
    millis(4),
    millis(8),
    millis(13),
    millis(20),
    millis(30),
    millis(42),
];

/// Estimates of the round trip that are kept.
const ROUND_TRIPS: usize = 8;

/// Longer round trips are taken for this long.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(5);

/// Originals count at least this much, so that a flood of acknowledgements is seen as the bulk
/// transfer it belongs to.
const LEAST_COST: u32 = 128;

/// Packets received between two reports at least.
const REPORT_PACKETS: u64 = 24;

/// Time between two reports at least.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// Packets over which the loss is averaged.
const WINDOW: f64 = 200.0;

/// What is supposed before anything is known: half a packet lost of so many. A clean link is
/// believed in after some 150 packets, and a lossy one at once.
const PRIOR_PACKETS: f64 = 16.0;
const PRIOR_LOST: f64 = 0.5;

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What one side tells the other: message `loss` of the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packets the teller has sent so far.
    pub sent: u64,
    /// What the other side said last of its own; 0 before it said anything.
    pub echo: u64,
    /// How many of those had come when it said so.
    pub received: u64,
}

/// See the [module's description](self).
#[derive(Debug, Default)]
pub struct Copies {
    is_enabled: bool,
    /// Packets sent by UDP, copies included.
    sent: u64,
    /// Packets received by UDP, duplicates included.
    received: u64,
    /// The peer's last report: what it had sent, and what of that we had received.
    heard: Option<(u64, u64)>,
    /// When we reported last, and what we had received then.
    reported: Option<(Instant, u64)>,
    loss: Loss,
    round_trip: RoundTrip,
    budget: Budget,
    queue: VecDeque<Copy>,
}

/// A packet that waits to be sent once more.
#[derive(Debug)]
struct Copy {
    at: Instant,
    packet: Arc<[u8]>,
    is_late: bool,
}

impl Copies {
    /// Begins, now that the peer has promised to count; does nothing the second time.
    pub fn enable(&mut self) {
        self.is_enabled = true;
    }

    /// Notes packets that were sent by the path in use, and plans their copies.
    pub fn on_sent<'a>(&mut self, now: Instant, packets: impl Iterator<Item = &'a [u8]>) {
        let spacing = self.spacing();
        for packet in packets {
            self.sent += 1;
            self.budget.charge(now, packet.len());
            if packet.len() > SMALL || spacing.is_empty() || self.budget.is_spent() {
                continue;
            }
            let packet: Arc<[u8]> = packet.into();
            let late = self.round_trip.least().map(|round_trip| round_trip * 9 / 8 + LATE);
            let late = LATE_SPACING
                .iter()
                .take(2 * spacing.len() + 2)
                .filter_map(|after| Some((late? + *after, true)));
            for (after, is_late) in spacing.iter().map(|after| (*after, false)).chain(late) {
                if self.queue.len() < QUEUE {
                    let (at, packet) = (now + after, packet.clone());
                    self.queue.push_back(Copy { at, packet, is_late });
                }
            }
        }
    }

    /// Notes that `packets` were sent to a path that is not in use yet.
    pub const fn on_sent_elsewhere(&mut self, packets: u64) {
        self.sent += packets;
    }

    /// Notes packets that came; returns whether a report is due.
    pub fn on_received(&mut self, now: Instant, packets: u64) -> bool {
        self.received += packets;
        self.is_report_due(now)
    }

    /// Takes the transport's word that the peer has everything: late copies have no use.
    pub fn on_all_answered(&mut self) {
        self.queue.retain(|copy| !copy.is_late);
    }

    /// Takes what the peer tells, and the transport's estimate of the round trip.
    pub fn on_report(&mut self, report: Report, round_trip: Option<Duration>) {
        self.round_trip.sample(round_trip);
        self.heard = Some((report.sent, self.received));
        self.loss.on_report(report.echo.min(self.sent), report.received);
    }

    /// The path was replaced or is gone: what waits belongs to it, and counts that span two
    /// paths say nothing of either.
    pub fn on_path_change(&mut self) {
        self.queue.clear();
        self.loss.skip_to(self.sent);
        self.round_trip = RoundTrip::default();
    }

    /// Returns what to tell the peer, if it is time.
    pub fn poll_report(&mut self, now: Instant) -> Option<Report> {
        if !self.is_report_due(now) {
            return None;
        }
        self.reported = Some((now, self.received));
        let (echo, received) = self.heard.unwrap_or_default();
        Some(Report { sent: self.sent, echo, received })
    }

    /// Writes the next copy that is due into `buf`, cleared first; returns whether there is one.
    /// It counts as sent.
    pub fn poll_copy(&mut self, now: Instant, buf: &mut Vec<u8>) -> bool {
        while let Some(due) = self.queue.iter().position(|copy| copy.at <= now) {
            let Some(copy) = self.queue.remove(due) else { break };
            if self.budget.take(copy.packet.len()) {
                self.sent += 1;
                buf.clear();
                buf.extend_from_slice(&copy.packet);
                return true;
            }
        }
        false
    }

    /// Returns when [`Copies::poll_copy`] has something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.iter().map(|copy| copy.at).min()
    }

    /// Returns how often a small packet goes, the first time included.
    #[must_use]
    pub fn transmissions(&self) -> usize {
        self.spacing().len() + 1
    }

    fn spacing(&self) -> &'static [Duration] {
        let count = if self.is_enabled { self.loss.transmissions() } else { 1 };
        SPACING.get(count - 1).copied().unwrap_or_default()
    }

    fn is_report_due(&self, now: Instant) -> bool {
        let (paused, fresh) = match self.reported {
            None => (true, self.received),
            Some((at, received)) => (now >= at + REPORT_PAUSE, self.received - received),
        };
        self.is_enabled && paused && fresh >= REPORT_PACKETS
    }
}

/// The share of packets that do not come.
#[derive(Debug, Default)]
struct Loss {
    /// The last report that was used: packets we had sent, and those that had come.
    base: Option<(u64, u64)>,
    /// Reports about what was sent before this many packets are not used.
    since: u64,
    /// Over the latest packets. May fall below zero for a while, when a report was late.
    lost: f64,
    total: f64,
}

impl Loss {
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds, and a share of them")]
    fn on_report(&mut self, echo: u64, received: u64) {
        let base = self.base.replace((echo, received));
        // The first report of a path says from where to count.
        let Some((base_echo, base_received)) = base.filter(|(echo, _)| *echo >= self.since) else {
            return;
        };
        let (Some(sent), Some(came)) =
            (echo.checked_sub(base_echo), received.checked_sub(base_received))
        else {
            return;
        };
        let (sent, came) = (sent as f64, came as f64);
        if self.total + sent > WINDOW {
            let keep = ((WINDOW - sent).max(0.0) / self.total.max(1.0)).min(1.0);
            self.lost *= keep;
            self.total *= keep;
        }
        self.lost = (self.lost + sent - came).max(-sent);
        self.total += sent;
    }

    const fn skip_to(&mut self, sent: u64) {
        self.since = sent;
    }

    /// The smallest number of transmissions of which rarely all are lost.
    fn transmissions(&self) -> usize {
        if self.total <= 0.0 {
            // Nothing is known yet.
            return 2;
        }
        let share = ((self.lost.max(0.0) + PRIOR_LOST) / (self.total + PRIOR_PACKETS)).min(1.0);
        let mut residue = share;
        let mut count = 1;
        while residue > RESIDUE && count < MOST {
            residue *= share;
            count += 1;
        }
        count
    }
}

/// The latest estimates of the round trip, of which the least counts: loss inflates the others.
#[derive(Debug, Default)]
struct RoundTrip(VecDeque<Duration>);

impl RoundTrip {
    fn sample(&mut self, estimate: Option<Duration>) {
        let Some(estimate) = estimate else { return };
        if self.0.len() >= ROUND_TRIPS {
            self.0.pop_front();
        }
        self.0.push_back(estimate.min(LONGEST_ROUND_TRIP));
    }

    fn least(&self) -> Option<Duration> {
        self.0.iter().min().copied()
    }
}

/// Bytes that may be sent again: a bucket that everything drains.
#[derive(Debug)]
struct Budget {
    bytes: u32,
    filled: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: BURST, filled: None }
    }
}

impl Budget {
    /// Takes away what is sent anyhow.
    fn charge(&mut self, now: Instant, bytes: usize) {
        let past = now.saturating_duration_since(*self.filled.get_or_insert(now));
        let refill = past.as_millis().saturating_mul(u128::from(REFILL)) / 1000;
        // Rests below one byte are left for the next time.
        if refill > 0 {
            self.filled = Some(now);
            let refill = u32::try_from(refill).unwrap_or(u32::MAX);
            self.bytes = self.bytes.saturating_add(refill).min(BURST);
        }
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX).max(LEAST_COST);
        self.bytes = self.bytes.saturating_sub(cost);
    }

    const fn is_spent(&self) -> bool {
        self.bytes == 0
    }

    /// Takes the bytes of one copy, if they are there.
    fn take(&mut self, bytes: usize) -> bool {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_sub(bytes));
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }
}

#[cfg(test)]
mod tests;
