//! [`Replay`]: packets sent lately, to be sent once more when the path is back.
//!
//! After an outage quinn learns what was swallowed from the answer to its probe:
//! what it then sends again arrives one and a half round trips after the path is
//! back, and data behind it waits as long. The packets themselves, sent once more
//! as they are, take half a round trip. To the peer they are merely late; those
//! it has already are dropped by their numbers.
//!
//! Of many packets only those go that the reader probably waits for; a guess that
//! is wrong costs nothing but time, for quinn's own recovery goes on beside this.
//!
//! Pure. Invariant: at most [`MOST_KEPT`] bytes are kept, none that was sent before
//! something that is acknowledged, and nothing old while the peer is heard all the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes kept. What does not fit is not kept: the oldest are those the reader
/// on the other side waits for.
const MOST_KEPT: usize = 512 * 1024;
/// So many packets, the newest, go behind quinn's probe, which tells quinn the
/// round trip and what was lost: a peer with quinn takes what is further behind
/// the newest for something it has had (its window is 128 packets).
const NEAR: usize = 110;
/// With more packets than this, those are too far behind that matter.
const MANY: usize = 2 * NEAR;
/// Packets that may go in front of the probe, at least.
const LEAST: usize = 16;
/// Packets that are so much older than three round trips are not kept while the
/// peer is heard.
const OLD: Duration = Duration::from_millis(100);
/// On a network that nobody knows, what a connection begins with.
const FEW_ELSEWHERE: usize = 10;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Replay {
    sent: VecDeque<Sent>,
    bytes: usize,
    /// When the newest packet was sent that is acknowledged, in transport time.
    acked: Option<Instant>,
    rtt: RoundTrip,
    /// So many packets are to go behind quinn's probe.
    behind_probe: Option<usize>,
    heard: Option<Heard>,
}

/// When the peer was heard, in real time, noted from time to time.
#[derive(Clone, Copy, Debug)]
struct Heard {
    latest: Instant,
    before: Instant,
}

/// Packets that went together.
#[derive(Debug)]
struct Sent {
    /// In real time.
    at: Instant,
    /// The same in transport time, by which quinn names packets.
    transport_at: Instant,
    contents: Box<[u8]>,
    /// Bytes of each, but perhaps the last.
    size: usize,
}

impl Sent {
    fn packets(&self) -> usize {
        self.contents.len().div_ceil(self.size)
    }
}

/// The round trip as quinn has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    pub(super) smoothed: Duration,
    pub(super) lowest: Duration,
}

impl Replay {
    /// Notes what was sent, in real time and in transport time.
    pub(super) fn on_sent(
        &mut self,
        at: Instant,
        transport_at: Instant,
        contents: &[u8],
        segment_size: Option<usize>,
    ) {
        if self.bytes + contents.len() <= MOST_KEPT {
            self.bytes += contents.len();
            let size = segment_size.unwrap_or(contents.len()).max(1);
            self.sent.push_back(Sent { at, transport_at, contents: contents.into(), size });
        }
    }

    /// Notes that the peer was heard: what is much older than a round trip is
    /// acknowledged, or nothing that ever will be, as mere acknowledgements.
    ///
    /// After an outage nobody was there to acknowledge anything, and the first packets
    /// may come before it is known that there is a path. So what counts is how old
    /// it was when the peer was heard some time before, and nothing is
    /// forgotten before what is due has been sent.
    pub(super) fn on_received(&mut self, now: Instant) {
        let time = self.rtt.smoothed * 3 + OLD;
        let heard = self.heard.get_or_insert(Heard { latest: now, before: now });
        if heard.latest + time <= now {
            *heard = Heard { latest: now, before: heard.latest };
        }
        let before = heard.before;
        if self.acked.is_some() && self.behind_probe.is_none() {
            self.forget(|sent| sent.at + time < before);
        }
    }

    /// Notes that a packet is acknowledged, by the transport time at which it was sent.
    pub(super) fn on_acked(&mut self, transport_at: Instant, rtt: RoundTrip) {
        self.rtt = rtt;
        let newest = *self.acked.insert(self.acked.map_or(transport_at, |at| at.max(transport_at)));
        self.forget(|sent| sent.transport_at <= newest);
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
    }

    /// Takes note that there is a path again. Returns packets to send at once,
    /// ahead of quinn's probe; [`Replay::take_behind_probe`] has the others.
    ///
    /// Due is what the peer should have answered by now.
    pub(super) fn on_path(&mut self, now: Instant, same_network: bool) -> Vec<Box<[u8]>> {
        let overdue = |sent: &&Sent| sent.at + self.rtt.smoothed < now;
        let count = self.sent.iter().take_while(overdue).map(Sent::packets).sum::<usize>();
        if !same_network || count <= MANY {
            self.behind_probe = Some(count.min(if same_network { NEAR } else { FEW_ELSEWHERE }));
            let mut beyond = count.saturating_sub(NEAR);
            self.forget(|sent| {
                let is_beyond = beyond > 0;
                beyond = beyond.saturating_sub(sent.packets());
                is_beyond
            });
            return Vec::new();
        }
        // Of many, those around the first that the reader misses: when the path
        // was lost, the acks of what had arrived in the last half of a round trip
        // were under way. No more, for the probe waits behind them.
        let Some(acked) = self.acked else { return Vec::new() };
        let (from, to) = (acked + self.rtt.lowest / 8 * 3, acked + self.rtt.lowest / 8 * 5);
        self.forget(|sent| sent.transport_at <= from);
        let due = self.sent.iter().enumerate();
        let due = due.take_while(|(at, sent)| *at < LEAST || sent.transport_at <= to);
        self.take(due.count())
    }

    /// Returns what is to be sent now that quinn has sent something.
    pub(super) fn take_behind_probe(&mut self) -> Vec<Box<[u8]>> {
        let Some(mut packets) = self.behind_probe.take() else { return Vec::new() };
        let fits = |sent: &&Sent| {
            let fits = sent.packets() <= packets;
            packets = packets.saturating_sub(sent.packets());
            fits
        };
        let count = self.sent.iter().take_while(fits).count();
        self.take(count)
    }

    fn take(&mut self, count: usize) -> Vec<Box<[u8]>> {
        let taken: Vec<Sent> = self.sent.drain(..count).collect();
        self.bytes -= taken.iter().map(|sent| sent.contents.len()).sum::<usize>();
        taken.iter().flat_map(|sent| sent.contents.chunks(sent.size)).map(Into::into).collect()
    }

    fn forget(&mut self, mut which: impl FnMut(&Sent) -> bool) {
        while self.sent.front().is_some_and(&mut which) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(sent) = self.sent.pop_front() {
            self.bytes -= sent.contents.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: RoundTrip =
        RoundTrip { smoothed: Duration::from_millis(50), lowest: Duration::from_millis(50) };
    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn first_bytes(packets: &[Box<[u8]>]) -> Vec<u8> {
        packets.iter().map(|packet| packet[0]).collect()
    }

    /// Four packets each millisecond for so long, numbered by it; the one before is
    /// acknowledged.
    fn busy(start: Instant, millis: u8) -> Replay {
        let mut replay = Replay::default();
        for number in 1..=millis {
            let at = start + MILLISECOND * u32::from(number);
            replay.on_sent(at, at, &[number; 4], Some(1));
        }
        replay.on_acked(start, RTT);
        replay
    }

    #[test]
    fn of_many_packets_those_go_that_the_reader_waits_for_probably() {
        let start = Instant::now();
        let mut replay = busy(start, 60);
        let due = replay.on_path(start + SECOND, true);
        let expected: Vec<u8> = (19..35).flat_map(|number| [number; 4]).collect();
        assert_eq!(first_bytes(&due), expected);
        assert_eq!(first_bytes(&replay.take_behind_probe()), [0; 0]);
    }

    #[test]
    fn a_few_packets_go_behind_the_probe_and_once() {
        let start = Instant::now();
        let mut replay = busy(start, 3);
        assert_eq!(first_bytes(&replay.on_path(start + SECOND, true)), [0; 0]);
        let due = replay.take_behind_probe();
        assert_eq!(first_bytes(&due), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
        assert_eq!(first_bytes(&replay.take_behind_probe()), [0; 0]);
    }

    #[test]
    fn on_a_path_that_works_nothing_is_due() {
        let start = Instant::now();
        let mut replay = busy(start, 50);
        assert_eq!(first_bytes(&replay.on_path(start + MILLISECOND * 51, true)), [0; 0]);
        assert_eq!(first_bytes(&replay.take_behind_probe()), [0; 0]);
    }

    #[test]
    fn an_unknown_network_gets_a_few_packets() {
        let start = Instant::now();
        let mut replay = busy(start, 60);
        assert_eq!(first_bytes(&replay.on_path(start + SECOND, false)), [0; 0]);
        assert_eq!(replay.take_behind_probe().len(), 8);
    }

    #[test]
    fn acknowledgements_that_nobody_acknowledges_do_not_pile_up() {
        let start = Instant::now();
        let mut replay = busy(start, 1);
        for second in 1..100 {
            let at = start + SECOND * second;
            replay.on_received(at);
            replay.on_sent(at, at, &[0; 40], None);
        }
        assert!(replay.sent.len() <= 3, "{}", replay.sent.len());
    }

    #[test]
    fn the_packets_that_end_an_outage_do_not_wipe_what_it_swallowed() {
        let start = Instant::now();
        let all = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
        // They come before it is known that there is a path, or after it.
        for known_after in 0..4 {
            let mut replay = busy(start, 3);
            replay.on_received(start + MILLISECOND);
            for number in 0..4 {
                let at = start + SECOND + MILLISECOND * number;
                if number == known_after {
                    replay.on_path(at, true);
                }
                replay.on_received(at);
            }
            let due = replay.take_behind_probe();
            assert_eq!(first_bytes(&due), all, "known after {known_after}");
        }
    }

    #[test]
    fn what_is_due_waits_for_the_probe_however_long_that_takes() {
        let start = Instant::now();
        let mut replay = busy(start, 3);
        replay.on_received(start);
        replay.on_path(start + SECOND, true);
        (2..9).for_each(|second| replay.on_received(start + SECOND * second));
        assert_eq!(replay.take_behind_probe().len(), 12);
    }

    #[test]
    fn what_went_together_is_sent_packet_by_packet() {
        let start = Instant::now();
        let mut replay = Replay::default();
        replay.on_sent(start, start, b"aabbc", Some(2));
        replay.on_path(start + SECOND, true);
        let due = replay.take_behind_probe();
        assert_eq!(due, [b"aa".as_slice().into(), b"bb".as_slice().into(), b"c".as_slice().into()]);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_kept_once_all_is_acknowledged() {
        let start = Instant::now();
        let mut replay = Replay::default();
        for _ in 0..1000 {
            replay.on_sent(start, start, &[0; 14_000], Some(1400));
        }
        assert!(replay.bytes <= MOST_KEPT, "{}", replay.bytes);
        replay.on_acked(start, RTT);
        assert_eq!((replay.bytes, replay.sent.capacity()), (0, 0));
    }
}
