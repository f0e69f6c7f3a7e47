//! Prints the table of `docs/congestion.md`: what the congestion controller
//! makes of links of all kinds, alone and beside one TCP flow.
//!
//! `cargo run --release -p tssh-transport --example congestion`
#![expect(clippy::print_stdout, reason = "a table is what it is for")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "shared with a test program")]

#[path = "../tests/congestion/kcp.rs"]
mod kcp;
#[path = "../tests/congestion/tcp.rs"]
mod tcp;
#[path = "../tests/congestion/world.rs"]
mod world;

use std::time::Duration;

use kcp::KcpFlow;
use tcp::TcpFlow;
use tssh_transport::congestion::Paced;
use world::{Path, World};

const TIME: Duration = Duration::from_secs(20);

fn main() {
    println!(
        "Mbit/s | RTT ms | loss | queue | KCP Mbit/s | waits ms mean/p95 | dropped | TCP alone | beside TCP: KCP, TCP"
    );
    let a: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    if let [rate, rtt, loss] = a[..] {
        return row(rate, rtt, loss as f64 / 100.0);
    }
    for rate in [10, 100, 500] {
        for rtt in [10, 50, 200] {
            for loss in [0.0, 0.01, 0.05] {
                row(rate, rtt, loss);
            }
        }
    }
}

fn row(rate: u64, rtt: u64, loss: f64) {
    // What the link holds, in packets; at 100 Mbit/s and 50 ms about 400.
    let queue = usize::try_from(rate * rtt * 1000 / 8 / 1500).unwrap().max(20);
    let path = Path { rate: rate * 1_000_000, rtt: Duration::from_millis(rtt), loss, queue };
    let run = |ours: bool, tcp: bool| {
        let mut world = World::new(path, 1);
        if ours {
            let control = Paced::new(world.now(), 1400);
            world.add(Duration::ZERO, Box::new(KcpFlow::new(world.now(), Box::new(control))));
        }
        if tcp {
            world.add(Duration::ZERO, Box::new(TcpFlow::new()));
        }
        world.run(TIME)
    };
    let (alone, tcp, both) = (run(true, false), run(false, true), run(true, true));
    println!(
        "{rate} | {rtt} | {:.0} % | {queue} | {:.1} | {:.1}/{:.1} | {:.2} % | {:.1} | {:.1}, {:.1}",
        loss * 100.0,
        alone.goodput[0],
        alone.queued.0,
        alone.queued.1,
        alone.dropped * 100.0,
        tcp.goodput[0],
        both.goodput[0],
        both.goodput[1],
    );
}
