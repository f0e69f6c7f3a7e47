//! [`Copies`] alone, and two of them with a lossy link between them.

use super::*;

/// A side that counts, at a time of its own.
fn enabled() -> (Copies, Instant) {
    let mut copies = Copies::default();
    copies.enable();
    (copies, Instant::now())
}

fn send(copies: &mut Copies, now: Instant, len: usize) {
    copies.on_sent(now, std::iter::once(&vec![7; len][..]));
}

/// Returns the times at which copies go, in ms after `from`.
fn drain(copies: &mut Copies, from: Instant) -> Vec<u128> {
    let mut times = Vec::new();
    let mut buf = Vec::new();
    while let Some(at) = copies.poll_timeout() {
        assert!(copies.poll_copy(at, &mut buf), "what is due is there");
        times.push((at - from).as_millis());
    }
    times
}

/// Tells `copies` that `lost` of every hundred packets are lost, for a good while.
fn learn(copies: &mut Copies, lost: u64) {
    let (mut echo, mut received) = (copies.sent, copies.sent);
    for _ in 0..20 {
        copies.on_report(Report { sent: 0, echo, received }, None);
        echo += 100;
        received += 100 - lost;
        copies.sent = echo;
    }
}

#[test]
fn nothing_goes_twice_to_a_peer_that_has_not_promised_to_count() {
    let mut copies = Copies::default();
    let now = Instant::now();
    send(&mut copies, now, 80);
    assert_eq!(copies.poll_timeout(), None);
    assert!(!copies.on_received(now, 1_000), "and nothing is reported");
}

#[test]
fn the_more_is_lost_the_more_copies_go_and_the_first_of_many_back_to_back() {
    for (lost, expected) in [
        (0, vec![]),
        (2, vec![2]),
        (5, vec![2]),
        (10, vec![0, 5]),
        (20, vec![0, 3, 8]),
        (60, vec![0, 3, 8]),
    ] {
        let (mut copies, now) = enabled();
        learn(&mut copies, lost);
        send(&mut copies, now, 80);
        assert_eq!(drain(&mut copies, now), expected, "{lost} % lost");
    }
}

#[test]
fn a_new_session_sends_one_copy_until_loss_is_known_and_soon_none_on_a_clean_link() {
    let (mut copies, now) = enabled();
    assert_eq!(copies.transmissions(), 2);
    send(&mut copies, now, 80);
    assert_eq!(drain(&mut copies, now), [2]);
    let mut packets = 0;
    while copies.transmissions() > 1 {
        packets += 24;
        copies.sent = packets;
        copies.on_report(Report { sent: 0, echo: packets, received: packets }, None);
    }
    assert!(packets < 250, "{packets} packets");
}

#[test]
fn long_packets_and_a_flood_of_any_size_are_sent_once() {
    for len in [100, 1_200] {
        let (mut copies, now) = enabled();
        learn(&mut copies, 20);
        send(&mut copies, now, SMALL + 1);
        assert_eq!(copies.poll_timeout(), None, "too long");
        let mut at = now;
        let mut sent = 0;
        for _ in 0..3_000 {
            at += Duration::from_millis(1);
            send(&mut copies, at, len);
            sent += drain(&mut copies, at).len() * len;
        }
        let bound = usize::try_from(BURST).unwrap() + 3 * usize::try_from(REFILL).unwrap();
        assert!(sent < bound, "{sent} bytes of copies within {len}-byte packets");
        assert!(len == 100 || sent == 0, "bulk data goes once");
        at += Duration::from_secs(1);
        send(&mut copies, at, 80);
        assert_eq!(drain(&mut copies, at).len(), 3, "a key after the flood goes again");
    }
}

#[test]
fn what_waits_goes_with_its_path_and_counts_across_a_change_are_not_used() {
    let (mut copies, now) = enabled();
    learn(&mut copies, 10);
    send(&mut copies, now, 80);
    copies.on_path_change();
    assert_eq!(copies.poll_timeout(), None);
    // The old path swallowed everything; the new one loses nothing.
    copies.sent += 1_000;
    let base = copies.sent;
    copies.on_path_change();
    copies.on_report(Report { sent: 0, echo: base, received: 100 }, None);
    for n in 1..12 {
        copies.sent = base + n * 100;
        copies.on_report(Report { sent: 0, echo: base + n * 100, received: 100 + n * 100 }, None);
    }
    assert_eq!(copies.transmissions(), 1);
}

#[test]
fn a_report_is_due_after_enough_packets_and_time_and_never_by_a_timer() {
    let (mut copies, now) = enabled();
    assert!(!copies.on_received(now, REPORT_PACKETS - 1));
    assert!(copies.on_received(now, 1));
    assert_eq!(copies.poll_timeout(), None);
    assert_eq!(copies.poll_report(now), Some(Report::default()));
    assert!(!copies.on_received(now + REPORT_PAUSE / 2, 100), "too soon");
    copies.on_report(Report { sent: 40, echo: 0, received: 0 }, None);
    assert!(copies.on_received(now + REPORT_PAUSE, 1));
    let report = copies.poll_report(now + REPORT_PAUSE);
    assert_eq!(report, Some(Report { sent: 0, echo: 40, received: 124 }));
}

#[test]
fn absurd_reports_change_nothing_worse_than_the_number_of_copies() {
    let (mut copies, now) = enabled();
    for (echo, received) in [(u64::MAX, 0), (0, u64::MAX), (5, u64::MAX), (u64::MAX, 1), (0, 0)] {
        copies.on_report(Report { sent: u64::MAX, echo, received }, None);
        send(&mut copies, now, 80);
        assert!((1..=MOST).contains(&copies.transmissions()));
        drain(&mut copies, now);
    }
}

#[test]
fn a_round_trip_later_up_to_eight_more_follow_unless_all_is_answered_by_then() {
    for (lost, early, late) in [
        (2, vec![2], vec![190, 192, 194, 198]),
        (20, vec![0, 3, 8], vec![190, 192, 194, 198, 203, 210, 220, 232]),
    ] {
        let (mut copies, now) = enabled();
        learn(&mut copies, lost);
        let (echo, received) = copies.loss.base.unwrap();
        let known = Report { sent: 0, echo, received };
        copies.on_report(known, Some(Duration::from_millis(160)));
        send(&mut copies, now, 80);
        let all = [&early[..], &late].concat();
        assert_eq!(drain(&mut copies, now), all, "{lost} % lost");
        send(&mut copies, now, 80);
        copies.on_all_answered();
        assert_eq!(drain(&mut copies, now), early, "{lost} % lost, and answered");
    }
}

/// One side with its copies, and a link from it that loses.
struct Side {
    copies: Copies,
    link: testkit::Link<Vec<u8>>,
    prng: testkit::Prng,
    in_burst: bool,
    /// What the other side has not acknowledged.
    unanswered: std::collections::HashSet<u64>,
}

impl Side {
    fn new(seed: u64) -> Self {
        let conditions = testkit::Conditions::perfect(Duration::from_millis(50));
        Self {
            copies: enabled().0,
            link: testkit::Link::new(conditions, seed),
            prng: testkit::Prng::new(seed),
            in_burst: false,
            unanswered: std::collections::HashSet::new(),
        }
    }

    /// Loses this share of packets, in bursts of this many on average.
    fn carry(&mut self, now: Instant, packet: Vec<u8>, (loss, burst): (f64, f64)) {
        let change = if self.in_burst { 1.0 / burst } else { loss / (1.0 - loss) / burst };
        self.in_burst ^= self.prng.chance(change);
        if !self.in_burst {
            self.link.send(now, packet);
        }
    }

    fn send(&mut self, now: Instant, packet: Vec<u8>, loss: (f64, f64)) {
        self.copies.on_sent(now, std::iter::once(&*packet));
        self.carry(now, packet, loss);
    }

    fn answered(&mut self, key: u64) {
        // What came before is answered too, or the transport sends it anew.
        self.unanswered.retain(|other| *other > key);
        if self.unanswered.is_empty() {
            self.copies.on_all_answered();
        }
    }
}

/// Types `keys` keys, each echoed by the far side, over links that lose this share each way, in
/// bursts of so many; an echo answers its key, and an acknowledgement the echo.
/// Returns the sorted times from key to echo, in ms (a lost one counts for ever), and how many
/// packets were sent for each key.
fn type_keys(loss: (f64, f64), keys: u64, seed: u64) -> (Vec<u64>, u64) {
    let delay = Duration::from_millis(50);
    let [mut near, mut far] = [1, 2].map(|n| Side::new(seed + n));
    let start = Instant::now();
    // The bus, which is reliable: reports arrive after three ways.
    let mut bus: VecDeque<(Instant, bool, Report)> = VecDeque::new();
    let mut times = vec![u64::MAX; usize::try_from(keys).unwrap()];
    let mut seen = std::collections::HashSet::new();
    let mut buf = Vec::new();
    for ms in 0..keys * 150 + 2_000 {
        let now = start + Duration::from_millis(ms);
        if ms % 150 == 0 && ms / 150 < keys {
            near.unanswered.insert(ms / 150);
            near.send(now, (ms / 150).to_be_bytes().to_vec(), loss);
        }
        while let Some(packet) = near.link.receive(now) {
            if far.copies.on_received(now, 1) {
                bus.push_back((now + 3 * delay, true, far.copies.poll_report(now).unwrap()));
            }
            let number = u64::from_be_bytes(packet[..8].try_into().unwrap());
            if packet.len() > 8 {
                far.answered(number);
            } else if seen.insert(number) {
                far.unanswered.insert(number);
                far.send(now, packet, loss);
            }
        }
        while let Some(key) = far.link.receive(now) {
            if near.copies.on_received(now, 1) {
                bus.push_back((now + 3 * delay, false, near.copies.poll_report(now).unwrap()));
            }
            let number = u64::from_be_bytes(key.try_into().unwrap());
            near.answered(number);
            let time = &mut times[usize::try_from(number).unwrap()];
            if *time == u64::MAX {
                *time = ms - number * 150;
                near.send(now, [&number.to_be_bytes()[..], b"a"].concat(), loss);
            }
        }
        while bus.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, to_near, report) = bus.pop_front().unwrap();
            let side = if to_near { &mut near } else { &mut far };
            side.copies.on_report(report, Some(2 * delay));
        }
        for side in [&mut near, &mut far] {
            while side.copies.poll_copy(now, &mut buf) {
                side.carry(now, buf.clone(), loss);
            }
        }
    }
    times.sort_unstable();
    (times, (near.copies.sent + far.copies.sent) / keys)
}

#[test]
fn keys_are_echoed_in_one_round_trip_however_much_is_lost_and_once_each_on_a_clean_link() {
    for (loss, p99, most) in [(0.0, 100, 4), (0.05, 104, 12), (0.1, 108, 14), (0.2, 112, 18)] {
        let (times, packets) = type_keys((loss, 1.0), 2_000, 7);
        let index = times.len() * 99 / 100;
        assert!(times[index] <= p99, "{loss}: p99 {} ms", times[index]);
        assert!(packets <= most, "{loss}: {packets} packets for each key, echo and answer");
    }
}

/// What even the late copies miss is for the transport, which is not here.
#[test]
fn nearly_all_keys_are_echoed_in_three_round_trips_when_packets_are_lost_in_bursts() {
    let (times, packets) = type_keys((0.1, 4.0), 4_000, 7);
    let late = times.iter().filter(|time| **time > 300).count();
    assert!(late * 100 <= 3 * times.len(), "{late} of {}", times.len());
    assert!(packets <= 18, "{packets} packets for each key, echo and answer");
}
