//! [`Answers`]: whether what the transport sends is answered, and what is not yet.
//!
//! The proxy cannot tell an acknowledgement, which nobody answers, from what
//! must be answered. But a transport acknowledges a packet once, and at once
//! or after some milliseconds. So what is sent after a lull in which nothing
//! came in, or beyond one packet for each that came, is sent of its own
//! accord: a keystroke, a heartbeat or a repetition. It wants an answer. How
//! long an answer takes is learnt from those that came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::path::Carrier;
use crate::timers::{ACKNOWLEDGED, ANSWER_LULL, ANSWER_MIN};

/// Packets kept to be sent again by the next path: what a person types in a
/// few round trips.
const KEPT_PACKETS: usize = 8;

/// Longest packet that is kept. Bulk data repairs itself soon enough, and its
/// owner would rather have the path for what is new.
const KEPT_BYTES: usize = 512;

/// What is under way on the path in use, as far as it matters here.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// When the first packet that wants an answer was sent.
    since: Option<Instant>,
    /// The same, whatever was done about it since.
    silent_since: Option<Instant>,
    /// Small packets since the last answer.
    unanswered: VecDeque<Vec<u8>>,
    heard: Option<Instant>,
    /// Packets accepted of late that may yet be acknowledged.
    acknowledgements: u32,
    /// Nothing was sent since something was accepted: an acknowledgement may be late.
    owes: bool,
    /// How long an answer takes, smoothed.
    usual: Option<Duration>,
}

impl Answers {
    /// Notes what the transport sent on the path in use. If `keep`, small packets are kept, to
    /// be sent again by the next path.
    pub(crate) fn on_sent<'a>(
        &mut self,
        now: Instant,
        packets: impl Iterator<Item = &'a [u8]>,
        keep: bool,
    ) {
        if self.heard.is_none_or(|heard| now >= heard + ANSWER_LULL) {
            self.acknowledgements = 0;
        }
        self.owes &= self.heard.is_some_and(|heard| now < heard + ACKNOWLEDGED);
        for packet in packets {
            match self.acknowledgements.checked_sub(1) {
                Some(left) => self.acknowledgements = left,
                None => {
                    self.since.get_or_insert(now);
                    if !self.owes {
                        self.silent_since.get_or_insert(now);
                    }
                }
            }
            self.owes = false;
            if keep && packet.len() <= KEPT_BYTES && self.unanswered.len() < KEPT_PACKETS {
                self.unanswered.push_back(packet.to_vec());
            }
        }
    }

    /// Notes that something was accepted from the peer, on whichever path.
    pub(crate) fn on_accepted(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            let took = now.saturating_duration_since(since);
            self.usual = Some(self.usual.map_or(took, |usual| usual * 7 / 8 + took / 8));
        }
        self.silent_since = None;
        self.owes = true;
        self.heard = Some(now);
        self.acknowledgements = self.acknowledgements.saturating_add(1);
        self.unanswered.clear();
    }

    /// Notes that the path was replaced or given up: what it owed, it owes no more.
    pub(crate) fn on_path_change(&mut self) {
        self.since = None;
        self.silent_since = None;
        self.unanswered.clear();
    }

    /// Begins to wait anew, after the wait was over.
    pub(crate) fn on_overdue(&mut self) {
        self.since = None;
    }

    /// Returns since when an answer is wanted and nothing came.
    pub(crate) const fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// Returns when an answer is overdue; none while nothing wants one, or its
    /// lack means nothing.
    pub(crate) fn overdue_at(&self, carrier: Carrier) -> Option<Instant> {
        // A TCP connection repeats by itself, and slowly: under loss a new one,
        // whose own handshake may be lost, would be the worse choice.
        (carrier == Carrier::Udp).then_some(())?;
        Some(self.since? + ANSWER_MIN.max(2 * self.usual.unwrap_or_default()))
    }

    /// Returns how long an answer takes, if any came so far.
    pub(crate) const fn usual(&self) -> Option<Duration> {
        self.usual
    }

    /// Returns the small packets that nobody has answered yet, oldest first.
    pub(crate) fn unanswered(&self, index: usize) -> Option<&[u8]> {
        self.unanswered.get(index).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn send(answers: &mut Answers, now: Instant, packet: &[u8]) {
        answers.on_sent(now, std::iter::once(packet), true);
    }

    #[test]
    fn an_answer_is_overdue_after_two_of_the_usual_times_and_not_before_250_ms() {
        let start = Instant::now();
        let mut answers = Answers::default();
        assert_eq!(answers.overdue_at(Carrier::Udp), None);
        send(&mut answers, start, b"first");
        assert_eq!(answers.overdue_at(Carrier::Udp), Some(start + 250 * MS));
        answers.on_accepted(start + 300 * MS);
        assert_eq!(answers.overdue_at(Carrier::Udp), None);
        let later = start + 1000 * MS;
        send(&mut answers, later, b"second");
        send(&mut answers, later + 10 * MS, b"third");
        assert_eq!(answers.overdue_at(Carrier::Udp), Some(later + 600 * MS));
        assert_eq!(answers.overdue_at(Carrier::Tcp), None);
    }

    #[test]
    fn what_is_sent_right_after_something_came_may_be_an_acknowledgement() {
        let start = Instant::now();
        let mut answers = Answers::default();
        answers.on_accepted(start);
        send(&mut answers, start + 25 * MS, b"an acknowledgement");
        assert_eq!(answers.overdue_at(Carrier::Udp), None);
        // But nobody acknowledges the same twice.
        send(&mut answers, start + 30 * MS, b"a keystroke");
        assert_eq!(answers.overdue_at(Carrier::Udp), Some(start + 280 * MS));

        answers.on_accepted(start + 100 * MS);
        send(&mut answers, start + 150 * MS, b"a keystroke after a lull");
        assert_eq!(answers.overdue_at(Carrier::Udp), Some(start + 400 * MS));
    }

    #[test]
    fn one_late_acknowledgement_is_no_silence_and_what_follows_it_is() {
        let start = Instant::now();
        let mut answers = Answers::default();
        answers.on_accepted(start);
        send(&mut answers, start + 400 * MS, b"an acknowledgement, held up");
        assert_eq!(answers.silent_since(), None);
        send(&mut answers, start + 500 * MS, b"a repetition of a keystroke");
        assert_eq!(answers.silent_since(), Some(start + 500 * MS));
    }

    #[test]
    fn only_a_few_small_packets_are_kept_and_only_until_the_answer() {
        let start = Instant::now();
        let mut answers = Answers::default();
        send(&mut answers, start, &[0; 1400]);
        for n in 0..20 {
            send(&mut answers, start, &[n; 40]);
        }
        assert_eq!(answers.unanswered(0), Some(&[0; 40][..]));
        assert_eq!(answers.unanswered(7), Some(&[7; 40][..]));
        assert_eq!(answers.unanswered(8), None);
        answers.on_accepted(start + MS);
        assert_eq!(answers.unanswered(0), None);
    }
}
