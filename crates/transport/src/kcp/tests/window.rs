//! Windows: the peer's, ours, and the controller's.

use super::*;

fn held(pair: &Pair, end: usize) -> (usize, usize) {
    pair.ends[end].kcp.receiver.held()
}

#[test]
fn a_peer_that_never_reads_bounds_what_both_ends_hold() {
    let mut pair = Pair::perfect();
    pair.ends[B].reads = false;
    pair.say(A, 4_000_000);
    pair.run_for(Duration::from_secs(600));
    assert_eq!(held(&pair, B).0, 1024);
    let (outstanding, lost, unsent) = pair.ends[A].kcp.sender.held();
    assert_eq!((outstanding, lost, unsent), (0, 0, 128 * 1024));
    assert_eq!(pair.ends[A].kcp.send_room(), 0);

    let packets = pair.packets;
    pair.run_for(Duration::from_secs(3600));
    let asked = pair.packets - packets;
    assert!(asked <= 2 * 31, "{asked} packets in an hour of waiting");

    pair.ends[B].reads = true;
    pair.settle();
    pair.run_for(4 * DELAY);
    assert!(pair.ends[B].received.len() > 1024 * 1340, "the open window was told");
    pair.run_until_idle();
    pair.assert_all_delivered();
}

#[test]
fn a_window_whose_opening_was_lost_is_found_open_by_asking() {
    let mut pair = Pair::perfect();
    pair.ends[B].reads = false;
    pair.say(A, 2_000_000);
    pair.run_for(Duration::from_secs(2));
    pair.links[B].conditions.blackout = true;
    pair.ends[B].reads = true;
    pair.settle();
    pair.links[B].conditions.blackout = false;
    assert!(!pair.all_delivered());
    pair.run_for(Duration::from_secs(5));
    pair.run_until_idle();
    pair.assert_all_delivered();
}

#[test]
fn before_the_peer_speaks_no_more_than_32_segments_are_sent() {
    let mut pair = Pair::perfect();
    pair.set_blackout(true);
    pair.say(A, 100_000);
    assert_eq!(pair.packets, 32);
}

#[test]
fn small_writes_that_wait_share_segments() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    (0..1000).for_each(|_| assert_eq!(kcp.send(clock.now(), b"ab"), 2));
    let mut packets = 0;
    while kcp.poll_transmit(clock.now(), &mut Vec::new()) {
        packets += 1;
    }
    assert_eq!(packets, 2);
}

/// Allows two full packets in flight, and one every 20 ms.
#[derive(Debug)]
struct Slow {
    window: usize,
    release: Option<Instant>,
}

impl Control for Slow {
    fn window_bytes(&self) -> usize {
        self.window
    }

    fn release_at(&self) -> Option<Instant> {
        self.release
    }

    fn on_sent(&mut self, now: Instant, sent: Sent) {
        assert!(sent.in_flight <= self.window.max(1) + 1364, "{sent:?}");
        assert!(self.release.is_none_or(|at| at <= now), "sent ahead of its time");
        self.release = Some(now + Duration::from_millis(20));
    }

    fn on_other_network(&mut self, _: Instant) {}

    fn on_acked(&mut self, _: Instant, _: Acked) {}

    fn on_lost(&mut self, _: Instant, _: Lost) {}
}

#[test]
fn the_controller_limits_rate_and_flight_and_nothing_gets_stuck() {
    for (window, loss) in [(2 * 1364, 0.0), (2 * 1364, 0.3), (0, 0.2)] {
        let conditions = Conditions::perfect(DELAY).with_loss(loss);
        let mut pair = Pair::new(config(), conditions, 3);
        let control = Box::new(Slow { window, release: None });
        pair.ends[A].kcp = Kcp::new(pair.clock.now(), CONV, config(), control);
        pair.say(A, 100 * 1340);
        pair.run_until_idle();
        pair.assert_all_delivered();
        assert!(pair.clock.elapsed() >= Duration::from_millis(99 * 20));
    }
}

/// Lets nothing leave for an hour.
#[derive(Debug)]
struct Shut(Option<Instant>);

impl Control for Shut {
    fn window_bytes(&self) -> usize {
        0
    }

    fn release_at(&self) -> Option<Instant> {
        self.0
    }

    fn on_sent(&mut self, now: Instant, _: Sent) {
        self.0 = Some(now + Duration::from_secs(3600));
    }

    fn on_other_network(&mut self, _: Instant) {}

    fn on_acked(&mut self, _: Instant, _: Acked) {}

    fn on_lost(&mut self, _: Instant, _: Lost) {}
}

#[test]
fn a_probe_leaves_whatever_the_controller_says_and_only_one_segment_of_it() {
    let clock = Clock::new();
    let mut kcp = Kcp::new(clock.now(), CONV, config(), Box::new(Shut(None)));
    kcp.send(clock.now(), &[0; 3000]);
    let mut packet = Vec::new();
    assert!(kcp.poll_transmit(clock.now(), &mut packet), "the first may go");
    for _ in 0..2 {
        packet.clear();
        assert!(!kcp.poll_transmit(clock.now(), &mut packet));
        kcp.probe(clock.now());
        assert!(kcp.poll_transmit(clock.now(), &mut packet));
        assert_eq!(segments(&packet).count(), 1);
    }
}
