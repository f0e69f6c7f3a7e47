//! The first connect.

use std::time::Duration;

use testkit::{Conditions, with_seeds};
use tssh_proxy::client::Event;
use tssh_proxy::{Carrier, Change};

use crate::world::{MS, Network, SECOND, World};

const DELAY: Duration = Duration::from_millis(25);

fn first_path(event: &Event) -> bool {
    matches!(event, Event::Proven { change: Change::First, .. })
}

#[test]
fn first_packet_follows_the_auth_packet_without_waiting_for_the_ack() {
    let mut world = World::new(1, Conditions::perfect(DELAY));
    world.client_sends(1);
    world.start();
    let sent: Vec<_> = world.trace.iter().map(|(at, _, len)| (*at, *len)).collect();
    assert_eq!(sent, [(Duration::ZERO, 44), (Duration::ZERO, 33)]);
    world.run_until(DELAY, |w| w.server_transport.received == [1]);
    assert!(world.server.active().is_some(), "the packet proved the path");
}

#[test]
fn loss_of_every_ack_costs_no_time() {
    let proven_at = |lose_acks: bool| {
        let mut world = World::new(1, Conditions::perfect(DELAY));
        (world.lose_acks, world.server_answers) = (lose_acks, true);
        world.start();
        world.client_sends(1);
        world.run_until(SECOND, |w| w.client_was(first_path).is_some());
        world.client_was(first_path)
    };
    assert_eq!(proven_at(true), proven_at(false));
    assert_eq!(proven_at(true), Some(2 * DELAY));
}

#[test]
fn connects_at_thirty_percent_loss_with_duplicates_and_reordering() {
    let bad = Conditions {
        jitter: DELAY,
        duplication: 0.1,
        reordering: 0.1,
        ..Conditions::perfect(DELAY).with_loss(0.3)
    };
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        // A TCP connection repairs loss itself.
        let conditions = if carrier == Carrier::Udp { bad } else { Conditions::perfect(DELAY) };
        with_seeds(0..300, |seed| {
            let mut world = World::with_carrier(seed, conditions, carrier);
            (world.client_answers, world.server_answers) = (false, true);
            world.start();
            for number in 0.. {
                world.client_sends(number);
                world.run_for(100 * MS);
                if world.client.active().is_some() && world.server.active().is_some() {
                    break;
                }
                assert!(number < 30, "not within three seconds: {:?}", world.client_events);
            }
            assert_eq!(world.used_addr(), world.served_addr());
        });
    }
}

#[test]
fn silence_fails_at_the_connect_timeout_and_says_that_nothing_was_heard() {
    let mut world = World::new(1, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    world.start();
    world.run_for(60 * SECOND);
    let failed = Event::ConnectFailed { heard: false, error: None };
    assert_eq!(world.client_was(|event| *event == failed), Some(10 * SECOND));
    assert_eq!(world.client.poll_timeout(), None, "it has ended");
    let auths = world.trace.iter().filter(|(.., len)| *len == 44).count();
    assert_eq!(auths, 100, "one every 100 ms");
}

#[test]
fn a_server_that_answers_nonsense_was_heard() {
    let mut world = World::new(1, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    world.start();
    world.client.handle_packet(world.now(), tssh_proxy::SocketId(0), b"HTTP/1.1 400 Bad Request");
    world.run_for(60 * SECOND);
    let failed = Event::ConnectFailed { heard: true, error: None };
    assert!(world.client_was(|event| *event == failed).is_some());
}
