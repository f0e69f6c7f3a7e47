//! The congestion controller on simulated links: what it fills, what it leaves
//! to others, what it makes of changes. `docs/congestion.md` has the whole table.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]
#![allow(unreachable_pub, reason = "modules of test programs")]

#[path = "congestion/kcp.rs"]
mod kcp;
#[path = "congestion/tcp.rs"]
mod tcp;
#[path = "congestion/world.rs"]
mod world;

use std::time::Duration;

use kcp::KcpFlow;
use tcp::TcpFlow;
use testkit::with_seeds;
use tssh_transport::congestion::Paced;
use world::{Path, World};

const SECOND: Duration = Duration::from_secs(1);
/// 100 Mbit/s, 50 ms, a queue as large as what the link holds.
const PATH: Path =
    Path { rate: 100_000_000, rtt: Duration::from_millis(50), loss: 0.0, queue: 400 };
/// Bytes of the application in the bytes of a packet, headers of all layers included.
const PAYLOAD: f64 = 1340.0 / 1428.0;

fn ours(world: &World) -> Box<KcpFlow> {
    Box::new(KcpFlow::new(world.now(), Box::new(Paced::new(world.now(), 1400))))
}

fn alone(path: Path, seed: u64) -> World {
    let mut world = World::new(path, seed);
    world.add(Duration::ZERO, ours(&world));
    world
}

#[test]
fn a_link_with_one_percent_loss_is_filled_and_not_flooded() {
    with_seeds(0..3, |seed| {
        let mut world = alone(Path { loss: 0.01, ..PATH }, seed);
        world.run(2 * SECOND);
        let outcome = world.run(10 * SECOND);
        let share = outcome.goodput[0] / (100.0 * PAYLOAD * 0.99);
        assert!(share > 0.92, "{outcome:?}");
        assert!(outcome.queued.0 < 20.0, "{outcome:?}");
        assert!(outcome.dropped < 0.01, "{outcome:?}");
    });
}

#[test]
fn a_link_that_got_slower_or_faster_is_filled_again_within_seconds() {
    let mut world = alone(PATH, 1);
    world.run(5 * SECOND);
    world.set_rate(20_000_000);
    world.run(5 * SECOND);
    let slower = world.run(5 * SECOND);
    assert!(slower.goodput[0] > 16.0 && slower.queued.0 < 150.0, "{slower:?}");
    world.set_rate(100_000_000);
    world.run(5 * SECOND);
    let faster = world.run(5 * SECOND);
    assert!(faster.goodput[0] > 80.0, "{faster:?}");
}

#[test]
fn a_tcp_flow_beside_ours_gets_a_share_of_a_clean_link() {
    with_seeds(0..3, |seed| {
        let mut world = alone(PATH, seed);
        world.add(Duration::ZERO, Box::new(TcpFlow::new()));
        world.run(5 * SECOND);
        let outcome = world.run(25 * SECOND);
        let [ours, tcp] = outcome.goodput[..] else { panic!("two flows") };
        assert!(tcp > 25.0 && ours > 25.0, "{outcome:?}");
        assert!(ours + tcp > 85.0, "{outcome:?}");
    });
}

#[test]
fn two_of_ours_share_a_link() {
    let mut world = alone(PATH, 1);
    world.add(3 * SECOND, ours(&world));
    world.run(13 * SECOND);
    let outcome = world.run(10 * SECOND);
    let [first, second] = outcome.goodput[..] else { panic!("two flows") };
    assert!(first > 25.0 && second > 25.0, "{outcome:?}");
}
