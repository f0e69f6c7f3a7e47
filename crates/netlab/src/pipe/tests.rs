//! What a pipe does against what it was asked to do, in virtual time.

use std::time::Duration;

use testkit::Clock;

use super::{Counters, Pipe};
use crate::Conditions;

const MS: Duration = Duration::from_millis(1);

/// Sends `count` numbered packets of `length` bytes, one each `gap`; returns
/// the number and the arrival, from the first sending, of what arrives.
fn run(
    conditions: Conditions,
    seed: u64,
    count: u32,
    gap: Duration,
    length: usize,
) -> (Vec<(u32, Duration)>, Counters) {
    let clock = Clock::new();
    let mut pipe = Pipe::new(conditions, seed);
    let mut arrivals = Vec::new();
    let mut drain = |pipe: &mut Pipe, until: Duration| {
        let end = clock.now() + until;
        while let Some(at) = pipe.poll_timeout().filter(|at| *at <= end) {
            clock.advance_to(at);
            while let Some(packet) = pipe.poll_transmit(clock.now()) {
                let number = packet.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                arrivals.push((number.expect("a number"), clock.elapsed()));
            }
        }
        clock.advance_to(end);
    };
    for n in 0..count {
        let mut packet = vec![0; length];
        packet[..4].copy_from_slice(&n.to_be_bytes());
        pipe.handle_packet(clock.now(), packet, length);
        drain(&mut pipe, gap);
    }
    drain(&mut pipe, Duration::from_secs(3600));
    (arrivals, *pipe.counters())
}

fn numbers(arrivals: &[(u32, Duration)]) -> Vec<u32> {
    arrivals.iter().map(|(n, _)| *n).collect()
}

#[test]
fn delay_is_exact_and_nothing_else_changes() {
    let (arrivals, counters) = run(Conditions::delayed(50 * MS), 1, 100, MS, 100);
    for (n, at) in &arrivals {
        assert_eq!(*at, MS * *n + 50 * MS);
    }
    assert_eq!((counters.offered, counters.delivered), (100, 100));
    assert_eq!(counters.delivered_bytes, 100 * 100);
}

#[test]
fn jitter_fills_its_range_and_keeps_the_order() {
    let conditions = Conditions { jitter: 20 * MS, ..Conditions::delayed(50 * MS) };
    // Far apart, so that order does not stretch anything.
    let (arrivals, _) = run(conditions, 2, 2000, 100 * MS, 100);
    let extra = |(n, at): &(u32, Duration)| at.saturating_sub(100 * MS * *n + 50 * MS);
    let mean = arrivals.iter().map(extra).sum::<Duration>() / 2000;
    assert!(arrivals.iter().all(|arrival| extra(arrival) < 20 * MS));
    assert!((9 * MS..11 * MS).contains(&mean), "mean jitter {mean:?}");
    // Close together, so that without care they would overtake.
    let (arrivals, _) = run(conditions, 2, 2000, MS, 100);
    assert_eq!(numbers(&arrivals), (0..2000).collect::<Vec<_>>());
}

#[test]
fn random_loss_takes_its_share_and_comes_in_ones() {
    for (seed, loss) in [(1, 0.01), (2, 0.05), (3, 0.2), (4, 0.5)] {
        let conditions = Conditions { loss, ..Conditions::default() };
        let (arrivals, counters) = run(conditions, seed, 100_000, MS, 4);
        let (share, mean) = losses(&numbers(&arrivals), 100_000);
        assert!((share - loss).abs() < 0.005 + loss / 50.0, "{share} lost instead of {loss}");
        // Independent losses come in runs of 1/(1-loss).
        let expected = 1.0 / (1.0 - loss);
        assert!((mean - expected).abs() < expected / 20.0, "runs of {mean} at {loss}");
        assert_eq!(counters.lost + counters.delivered, 100_000);
    }
}

#[test]
fn burst_loss_takes_its_share_in_runs_of_the_asked_length() {
    for (seed, loss, burst) in [(1, 0.1, 4.0), (2, 0.02, 10.0), (3, 0.3, 2.0)] {
        let conditions = Conditions { loss, burst, ..Conditions::default() };
        let (arrivals, _) = run(conditions, seed, 300_000, MS, 4);
        let (share, mean) = losses(&numbers(&arrivals), 300_000);
        assert!((share - loss).abs() < loss / 10.0, "{share} lost instead of {loss}");
        assert!((mean - burst).abs() < burst / 10.0, "runs of {mean} instead of {burst}");
    }
}

/// Returns the share of lost packets and the mean length of a run of them.
fn losses(arrived: &[u32], count: u32) -> (f64, f64) {
    let lost = f64::from(count) - arrived.len() as f64;
    let gaps = arrived.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
    (lost / f64::from(count), lost / gaps as f64)
}

#[test]
fn rate_spaces_packets_by_their_length() {
    // 1000 bytes at 8 Mbit/s are one millisecond each.
    let conditions =
        Conditions { rate: Some(8_000_000), queue: 1000, ..Conditions::delayed(5 * MS) };
    let (arrivals, _) = run(conditions, 1, 500, Duration::ZERO, 1000);
    for (n, at) in &arrivals {
        assert_eq!(*at, MS * (*n + 1) + 5 * MS);
    }
    assert_eq!(arrivals.len(), 500);
}

#[test]
fn a_full_queue_drops_the_newest_and_no_more() {
    let conditions = Conditions { rate: Some(8_000_000), queue: 10, ..Conditions::default() };
    let (arrivals, counters) = run(conditions, 1, 500, Duration::ZERO, 1000);
    assert_eq!(numbers(&arrivals), (0..10).collect::<Vec<_>>());
    assert_eq!(counters.overflowed, 490);
    // Twice the rate for long: half of it gets through, at the asked rate.
    let (arrivals, _) = run(conditions, 1, 2000, MS / 2, 1000);
    let (_, last) = *arrivals.last().expect("arrivals");
    let rate = arrivals.len() as f64 * 8000.0 / last.as_secs_f64();
    assert!((rate - 8e6).abs() < 8e4, "{rate} bit/s");
}

#[test]
fn what_is_lost_on_the_wire_has_used_the_transmitter() {
    let conditions = Conditions { rate: Some(8_000_000), loss: 0.5, ..Conditions::default() };
    let (arrivals, _) = run(conditions, 1, 500, Duration::ZERO, 1000);
    assert!(arrivals.iter().all(|(n, at)| *at == MS * (*n + 1)));
}

#[test]
fn reordering_holds_its_share_back_by_the_asked_time() {
    let conditions =
        Conditions { reorder: 0.1, reorder_by: 3 * MS, ..Conditions::delayed(50 * MS) };
    let (arrivals, _) = run(conditions, 1, 10_000, MS, 4);
    assert_eq!(arrivals.len(), 10_000);
    let late = arrivals.iter().filter(|(n, at)| *at == MS * *n + 53 * MS).count();
    let in_time = arrivals.iter().filter(|(n, at)| *at == MS * *n + 50 * MS).count();
    assert_eq!(late + in_time, 10_000);
    assert!((900..1100).contains(&late), "{late} of 10000 were late");
    assert!(!numbers(&arrivals).is_sorted());
}

#[test]
fn duplication_repeats_its_share() {
    let conditions = Conditions { duplicate: 0.25, ..Conditions::default() };
    let (arrivals, _) = run(conditions, 1, 10_000, MS, 4);
    assert!((12_300..12_700).contains(&arrivals.len()), "{} arrived", arrivals.len());
    let mut numbers = numbers(&arrivals);
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers.len(), 10_000);
}

#[test]
fn a_link_that_is_down_swallows_what_is_sent_but_not_what_is_under_way() {
    let clock = Clock::new();
    let mut pipe = Pipe::new(Conditions::delayed(5 * MS), 1);
    pipe.handle_packet(clock.now(), vec![1], 1);
    pipe.set_conditions(Conditions { down: true, ..Conditions::delayed(5 * MS) });
    pipe.handle_packet(clock.now(), vec![2], 1);
    pipe.set_conditions(Conditions::delayed(MS));
    pipe.handle_packet(clock.now(), vec![3], 1);
    clock.advance(5 * MS);
    assert_eq!(pipe.poll_transmit(clock.now()), Some(vec![1]));
    // Order is kept although the link has become shorter.
    assert_eq!(pipe.poll_transmit(clock.now()), Some(vec![3]));
    assert_eq!(pipe.poll_transmit(clock.now()), None);
}

#[test]
fn a_seed_repeats_its_luck_and_another_has_its_own() {
    let bad = Conditions { loss: 0.2, burst: 3.0, jitter: MS, duplicate: 0.1, ..<_>::default() };
    assert_eq!(run(bad, 7, 1000, MS, 4), run(bad, 7, 1000, MS, 4));
    assert_ne!(run(bad, 7, 1000, MS, 4).0, run(bad, 8, 1000, MS, 4).0);
}
