//! After an outage data flows at once.

use super::*;

const OUTAGES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(600),
    Duration::from_secs(3 * 3600),
    // Past the wrap of the wire's clock, and past half of it.
    Duration::from_secs(60 * 24 * 3600),
];

/// Both ends have said something that the outage swallowed.
fn pair_in_outage() -> Pair {
    let mut pair = Pair::perfect();
    pair.say(A, 50_000);
    pair.say(B, 50_000);
    pair.run_until_idle();
    pair.set_blackout(true);
    pair.say(A, 3_000);
    pair.say(B, 3_000);
    pair
}

/// The driver's report that the path is back.
fn path_is_back(pair: &mut Pair) {
    pair.set_blackout(false);
    let now = pair.clock.now();
    pair.ends.iter_mut().for_each(|end| end.kcp.reset_rto(now));
    pair.settle();
}

#[test]
fn after_any_outage_what_it_swallowed_arrives_within_half_a_round_trip() {
    for outage in OUTAGES {
        let mut pair = pair_in_outage();
        pair.run_for(outage);
        path_is_back(&mut pair);
        pair.run_for(DELAY);
        pair.assert_all_delivered();
        pair.run_until_idle();
        let (rto, most) = (pair.ends[A].kcp.rto(), Duration::from_millis(400));
        assert!(rto < most, "the outage of {outage:?} is in the estimate: {rto:?}");
    }
}

#[test]
fn data_said_after_the_outage_does_not_wait_either() {
    let mut pair = pair_in_outage();
    pair.run_for(Duration::from_secs(7200));
    path_is_back(&mut pair);
    pair.say(A, 100);
    pair.run_for(DELAY);
    pair.assert_all_delivered();
}

#[test]
fn the_timeout_alone_recovers_too_but_backs_off() {
    let mut pair = pair_in_outage();
    let packets = pair.packets;
    pair.run_for(Duration::from_secs(3600));
    let sent = pair.packets - packets;
    // Six segments, each after waits that grow by half the timeout.
    assert!((100..3_000).contains(&sent), "{sent} packets into an hour of nothing");
    pair.set_blackout(false);
    pair.run_for(Duration::from_secs(61));
    pair.assert_all_delivered();
}

#[test]
fn a_window_that_opened_unheard_is_asked_for_at_once() {
    let mut pair = Pair::perfect();
    pair.ends[B].reads = false;
    pair.say(A, 2_000_000);
    pair.run_for(Duration::from_secs(10));
    pair.set_blackout(true);
    pair.ends[B].reads = true;
    pair.run_for(Duration::from_secs(3600));
    let before = pair.ends[B].received.len();
    path_is_back(&mut pair);
    pair.run_for(4 * DELAY);
    assert!(pair.ends[B].received.len() > before, "nothing new in two round trips");
    pair.run_until_idle();
    pair.assert_all_delivered();
}

#[test]
fn an_outage_is_not_reported_as_loss() {
    #[derive(Debug)]
    struct NoLoss;
    impl Control for NoLoss {
        fn window_bytes(&self) -> usize {
            usize::MAX
        }
        fn release_at(&self) -> Option<Instant> {
            None
        }
        fn on_sent(&mut self, _: Instant, _: Sent) {}
        fn on_other_network(&mut self, _: Instant) {}

        fn on_acked(&mut self, _: Instant, _: Acked) {}
        fn on_lost(&mut self, _: Instant, lost: Lost) {
            panic!("{lost:?}");
        }
    }
    let mut pair = Pair::perfect();
    pair.ends[A].kcp = Kcp::new(pair.clock.now(), CONV, config(), Box::new(NoLoss));
    pair.say(A, 50_000);
    pair.run_until_idle();
    // The driver's clock stands still while there is no path.
    pair.set_blackout(true);
    pair.say(A, 50_000);
    path_is_back(&mut pair);
    pair.run_until_idle();
    pair.assert_all_delivered();
}
