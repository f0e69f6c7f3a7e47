//! What one machine says to given segments.

use super::*;

const MTU: usize = 1364;

fn blank(command: Command) -> Segment<'static> {
    let (ts, sn, una) = (Ts(0), Sn(0), Sn(0));
    Segment { conv: CONV, command, fragment: 0, window: 1024, ts, sn, una, data: &[] }
}

fn feed(kcp: &mut Kcp, clock: &Clock, segments: &[Segment<'_>], origin: Origin) {
    let mut packet = Vec::new();
    segments.iter().for_each(|segment| segment.encode(&mut packet));
    kcp.handle_packet(clock.now(), &packet, origin).unwrap();
}

/// Everything it sends now: command, number and time of each segment.
fn sent(kcp: &mut Kcp, clock: &Clock) -> Vec<(Command, u32, u32)> {
    let (mut all, mut packet) = (Vec::new(), Vec::new());
    while kcp.poll_transmit(clock.now(), &mut packet) {
        all.extend(segments(&packet).map(|s| s.unwrap()).map(|s| (s.command, s.sn.0, s.ts.0)));
        packet.clear();
    }
    all
}

fn sender_with(segments: usize) -> (Clock, Kcp) {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    assert_eq!(kcp.send(clock.now(), &vec![1; segments * (MTU - HEADER_LEN)]), segments * 1340);
    assert_eq!(sent(&mut kcp, &clock).len(), segments);
    (clock, kcp)
}

const fn ack(sn: u32, una: u32) -> Segment<'static> {
    let (command, ts, window) = (Command::Ack, Ts(0), 1024);
    Segment { conv: CONV, command, fragment: 0, window, ts, sn: Sn(sn), una: Sn(una), data: &[] }
}

#[test]
fn first_packet_is_the_golden_one_and_leaves_the_buffer_before_it_alone() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, Config { start: (Sn(0), Ts(100)), ..config() });
    kcp.send(clock.now(), &[2, 0, 0, 0, 3, 0, 0, 0]);
    let mut packet = b"header of FEC".to_vec();
    assert!(kcp.poll_transmit(clock.now(), &mut packet));
    let golden = [
        0x44, 0x33, 0x22, 0x11, 0x51, 0, 0, 4, 0x64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0,
        2, 0, 0, 0, 3, 0, 0, 0,
    ];
    assert_eq!(packet, [&b"header of FEC"[..], &golden].concat());
}

#[test]
fn mtu_of_the_packet_leaves_room_for_the_layers_below() {
    assert_eq!(Config::for_packets(1400).mtu, MTU);
    assert_eq!(Config::for_packets(9000).mtu, 1464);
    assert_eq!(Config::for_packets(0).mtu, 0);
}

#[test]
fn two_segments_that_overtake_one_have_it_sent_again_at_once() {
    let (clock, mut kcp) = sender_with(5);
    // New data can still be sent, so one is not enough.
    kcp.send(clock.now(), b"more");
    feed(&mut kcp, &clock, &[ack(1, 0)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), [(Command::Push, 5, 0)]);
    kcp.send(clock.now(), b"more");
    clock.advance(Duration::from_millis(1));
    feed(&mut kcp, &clock, &[ack(2, 0)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), [(Command::Push, 0, 1), (Command::Push, 6, 1)]);
    // One that was sent before the second transmission says nothing about it.
    feed(&mut kcp, &clock, &[ack(3, 0)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), []);
}

#[test]
fn one_suffices_when_nothing_new_can_be_sent() {
    let (clock, mut kcp) = sender_with(2);
    feed(&mut kcp, &clock, &[ack(1, 0)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), [(Command::Push, 0, 0)]);
    // The same ack again is no news about the second transmission.
    clock.advance(Duration::from_millis(5));
    feed(&mut kcp, &clock, &[ack(1, 0)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), []);
}

#[test]
fn retransmission_waits_grow_by_half_the_timeout() {
    let (clock, mut kcp) = sender_with(1);
    let start = clock.now();
    let mut at = Vec::new();
    for _ in 0..4 {
        clock.advance_to(kcp.poll_timeout().unwrap());
        kcp.handle_timeout(clock.now());
        assert_eq!(sent(&mut kcp, &clock).len(), 1);
        at.push((clock.now() - start).as_millis());
    }
    assert_eq!(at, [200, 500, 900, 1400]);
}

#[test]
fn una_covers_what_no_ack_names_and_one_never_reached_is_ignored() {
    let (clock, mut kcp) = sender_with(3);
    feed(&mut kcp, &clock, &[ack(77, 4)], Origin::Received);
    assert!(!kcp.is_flushed());
    feed(
        &mut kcp,
        &clock,
        &[Segment { una: Sn(3), ..blank(Command::WindowTell) }],
        Origin::Received,
    );
    assert!(kcp.is_flushed());
    assert_eq!((kcp.poll_timeout(), kcp.in_flight_bytes()), (None, 0));
}

#[test]
fn recovered_packet_delivers_and_acknowledges_but_says_nothing_of_now() {
    let (clock, mut kcp) = sender_with(1);
    clock.advance(Duration::from_millis(40));
    let push = Segment { data: b"late", ..blank(Command::Push) };
    let closed = |segment| Segment { window: 0, una: Sn(1), ..segment };
    feed(&mut kcp, &clock, &[closed(push), closed(ack(0, 1))], Origin::Recovered);
    assert_eq!(kcp.rtt(), None);
    assert!(kcp.is_flushed());
    let mut buf = [0; 9];
    assert_eq!(kcp.recv(&mut buf), 4);
    // The window it names is not believed: this goes out, ack included.
    kcp.send(clock.now(), b"x");
    assert_eq!(sent(&mut kcp, &clock), [(Command::Ack, 0, 0), (Command::Push, 1, 40)]);
}

#[test]
fn an_old_packet_does_not_close_the_window_again() {
    let (clock, mut kcp) = sender_with(2);
    feed(&mut kcp, &clock, &[ack(1, 2)], Origin::Received);
    feed(&mut kcp, &clock, &[Segment { window: 0, ..ack(0, 1) }], Origin::Received);
    kcp.send(clock.now(), b"x");
    assert_eq!(sent(&mut kcp, &clock), [(Command::Push, 2, 0)]);
}

#[test]
fn round_trip_comes_from_the_echoed_time_even_of_an_earlier_transmission() {
    let (clock, mut kcp) = sender_with(1);
    clock.advance(Duration::from_millis(200));
    kcp.handle_timeout(clock.now());
    assert_eq!(sent(&mut kcp, &clock), [(Command::Push, 0, 200)]);
    clock.advance(Duration::from_millis(50));
    feed(&mut kcp, &clock, &[ack(0, 1)], Origin::Received);
    assert_eq!(kcp.rtt(), Some(Duration::from_millis(250)));
}

#[test]
fn a_time_at_which_nothing_was_under_way_is_no_sample() {
    for ts in [1, 0x7fff_0000, 0x8000_0000, u32::MAX - 5] {
        let (clock, mut kcp) = sender_with(1);
        feed(&mut kcp, &clock, &[Segment { ts: Ts(ts), ..ack(0, 1) }], Origin::Received);
        assert_eq!((kcp.rtt(), kcp.is_flushed()), (None, true), "{ts}");
    }
}

#[test]
fn acks_wait_ten_milliseconds_unless_a_segment_is_missing() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let push = |sn, ts| Segment { sn: Sn(sn), ts: Ts(ts), data: b"d", ..blank(Command::Push) };
    feed(&mut kcp, &clock, &[push(0, 7), push(1, 8)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), []);
    assert_eq!(kcp.poll_timeout(), Some(clock.now() + Duration::from_millis(10)));
    clock.advance(Duration::from_millis(10));
    // Only the last one: `una` says the rest.
    assert_eq!(sent(&mut kcp, &clock), [(Command::Ack, 1, 8)]);
    feed(&mut kcp, &clock, &[push(4, 9), push(3, 10), push(1, 11)], Origin::Received);
    let acks = [(Command::Ack, 4, 9), (Command::Ack, 3, 10), (Command::Ack, 1, 11)];
    assert_eq!(sent(&mut kcp, &clock), acks);
    assert_eq!(kcp.poll_timeout(), None);
}

#[test]
fn a_segment_beyond_the_window_is_neither_kept_nor_acknowledged() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let beyond = Segment { sn: Sn(1024), data: b"d", ..blank(Command::Push) };
    feed(&mut kcp, &clock, &[beyond], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), []);
    feed(&mut kcp, &clock, &[Segment { sn: Sn(1023), ..beyond }], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), [(Command::Ack, 1023, 0)]);
}

#[test]
fn messages_in_fragments_read_as_the_bytes_they_are() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let push = |sn, fragment, data| Segment { sn: Sn(sn), fragment, data, ..blank(Command::Push) };
    feed(
        &mut kcp,
        &clock,
        &[push(0, 2, b"ab"), push(1, 1, b""), push(2, 0, b"c")],
        Origin::Received,
    );
    let mut buf = [0; 9];
    assert_eq!((kcp.recv(&mut buf[..1]), kcp.recv(&mut buf[1..])), (1, 2));
    assert_eq!(&buf[..3], b"abc");
    assert!(!kcp.is_readable());
}

#[test]
fn a_question_for_the_window_is_answered_at_once() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    feed(&mut kcp, &clock, &[blank(Command::WindowAsk)], Origin::Received);
    assert_eq!(sent(&mut kcp, &clock), [(Command::WindowTell, 0, 0)]);
    assert_eq!(sent(&mut kcp, &clock), []);
}

#[test]
fn after_a_reset_back_off_is_forgotten_and_what_is_owed_leaves_at_once() {
    let (clock, mut kcp) = sender_with(1);
    for _ in 0..20 {
        clock.advance_to(kcp.poll_timeout().unwrap());
        kcp.handle_timeout(clock.now());
        sent(&mut kcp, &clock);
    }
    assert!(kcp.poll_timeout().unwrap() - clock.now() > Duration::from_secs(2));
    // Older than what it has sent: no sample, and the wait for the rest stays.
    let push = Segment { sn: Sn(0), ts: Ts(9), data: b"d", ..blank(Command::Push) };
    feed(&mut kcp, &clock, &[push], Origin::Received);
    kcp.reset_rto(clock.now());
    let now = sent(&mut kcp, &clock);
    assert_eq!(
        now.iter().map(|s| s.0).collect::<Vec<_>>(),
        [Command::Ack, Command::WindowTell, Command::Push]
    );
    assert_eq!(kcp.poll_timeout(), Some(clock.now() + kcp.rto()));

    let mut idle = new_kcp(&clock, config());
    feed(&mut idle, &clock, &[push], Origin::Received);
    idle.reset_rto(clock.now());
    assert_eq!(
        sent(&mut idle, &clock),
        [(Command::Ack, 0, 9), (Command::WindowTell, 0, 0)],
        "and says what it has received"
    );
}

#[test]
fn bulk_fills_the_packet_that_takes_the_acks_along() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let push = Segment { data: b"d", ..blank(Command::Push) };
    feed(&mut kcp, &clock, &[push], Origin::Received);
    kcp.send(clock.now(), &[1; 5000]);
    let mut packet = Vec::new();
    assert!(kcp.poll_transmit(clock.now(), &mut packet));
    assert_eq!((packet.len(), segments(&packet).count()), (MTU, 2));
}
