//! What is sent arrives, whatever the link does to packets.

use super::*;

/// A link that is bad in a way that `seed` decides: up to 30 % loss.
fn bad_link(seed: u64) -> Conditions {
    let mut prng = Prng::new(seed);
    let mut percent = |most: u64| prng.below(most + 1) as f64 / 100.0;
    let (loss, duplication, reordering) = (percent(30), percent(20), percent(30));
    let (delay, jitter) = (prng.below(80), prng.below(40));
    Conditions {
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        loss,
        duplication,
        reordering,
        blackout: false,
    }
}

fn talk(config: Config, seed: u64) -> Pair {
    let mut pair = Pair::new(config, bad_link(seed), seed);
    let mut prng = Prng::new(!seed);
    for _ in 0..20 {
        let (a, b) = (prng.below(8_000) as usize, prng.below(400) as usize);
        pair.say(A, a);
        pair.say(B, b);
        pair.run_for(Duration::from_millis(prng.below(100)));
    }
    pair.run_until_idle();
    pair.assert_all_delivered();
    pair
}

#[test]
fn all_that_is_sent_arrives_in_order_over_any_link() {
    with_seeds(0..100, |seed| {
        talk(config(), seed);
    });
}

#[test]
fn numbers_and_clock_wrap_without_anybody_noticing() {
    with_seeds(100..130, |seed| {
        let start = (Sn(0_u32.wrapping_sub(40)), Ts(0_u32.wrapping_sub(500)));
        let pair = talk(Config { start, ..config() }, seed);
        assert!(pair.clock.elapsed() > Duration::from_millis(500));
        assert!(pair.ends[A].kcp.rto() < Duration::from_secs(2), "seed {seed}: a wrong sample");
    });
}

#[test]
fn small_windows_and_tiny_packets_work_too() {
    with_seeds(200..220, |seed| {
        let (mtu, send_window, receive_window, unsent_bytes) = (0, 7, 3, 100);
        talk(Config { mtu, send_window, receive_window, unsent_bytes, ..config() }, seed);
    });
}

#[test]
fn bulk_fills_the_window_and_arrives_at_thirty_percent_loss() {
    let conditions = Conditions::perfect(DELAY).with_loss(0.3);
    let mut pair = Pair::new(config(), conditions, 7);
    pair.say(A, 3_000_000);
    pair.run_until_idle();
    pair.assert_all_delivered();
}

#[test]
fn idle_conversation_has_no_timer_and_sends_nothing() {
    let mut pair = Pair::perfect();
    assert_eq!(pair.ends[A].kcp.poll_timeout(), None, "before the first byte");
    pair.say(A, 5_000);
    pair.run_until_idle();
    pair.assert_all_delivered();
    assert!(pair.ends.iter().all(|end| end.kcp.is_flushed() && end.kcp.in_flight_bytes() == 0));
    let packets = pair.packets;
    pair.run_for(Duration::from_secs(3600));
    assert_eq!((pair.packets, pair.ends[A].kcp.poll_timeout()), (packets, None));
}

#[test]
fn a_keystroke_and_its_echo_cost_three_packets_and_one_round_trip() {
    let mut pair = Pair::perfect();
    let started = pair.clock.now();
    pair.say(A, 1);
    while pair.ends[B].received.is_empty() {
        assert!(pair.step());
    }
    pair.say(B, 1);
    while pair.ends[A].received.is_empty() {
        assert!(pair.step());
    }
    assert_eq!(pair.clock.now() - started, 2 * DELAY);
    pair.run_until_idle();
    // The key, the echo with the key's ack, the echo's ack.
    assert_eq!(pair.packets, 3);
}

#[test]
fn round_trip_estimate_settles_at_the_link_and_the_wait_for_acks() {
    let mut pair = Pair::perfect();
    for _ in 0..50 {
        pair.say(A, 10);
        pair.run_for(Duration::from_secs(1));
    }
    let rtt = pair.ends[A].kcp.rtt().unwrap();
    assert!((2 * DELAY..=2 * DELAY + INTERVAL).contains(&rtt), "{rtt:?}");
    assert!(pair.ends[A].kcp.rto() <= 2 * DELAY + 3 * INTERVAL);
    assert_eq!(pair.ends[B].kcp.rtt(), None, "it has sent no data");
}
