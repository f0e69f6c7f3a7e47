//! Several means of carrying packets: UDP, TCP, and a wire that somebody else opens.

use std::time::Duration;

use testkit::Conditions;
use tssh_proxy::{Carrier, Means, client};

use crate::world::{Network, SECOND, World};

const DELAY: Duration = Duration::from_millis(25);

/// What carries the path in use.
fn carrier(world: &World) -> Option<Carrier> {
    world.client.active().map(|path| path.route.carrier)
}

/// What was opened so far.
fn opened(world: &World) -> Vec<Means> {
    let open = |(_, event): &(Duration, client::Event)| match event {
        client::Event::Open { means, .. } => Some(*means),
        _ => None,
    };
    world.client_events.iter().filter_map(open).collect()
}

/// Has both ends send a packet every 100 ms, numbered from `first`.
fn talk_for(world: &mut World, time: Duration, first: u64) {
    for n in 0..u64::try_from(time.as_millis() / 100).expect("not long") {
        world.client_sends(first + n);
        world.server_sends(first + n);
        world.run_for(Duration::from_millis(100));
    }
}

/// Starts, and lets the client greet until it is heard.
fn connect(world: &mut World) {
    world.start();
    for number in 0..95 {
        world.client_sends(number);
        world.run_for(Duration::from_millis(100));
        if !world.client_transport.received.is_empty() {
            world.bus_up();
            return;
        }
    }
    panic!("no path: {:?}", world.client_events);
}

/// That everything of a number range arrived at both ends, and nothing twice, is what the toy
/// transports and this see to.
fn assert_whole(world: &World, numbers: std::ops::Range<u64>) {
    for transport in [&world.client_transport, &world.server_transport] {
        let all = numbers.clone().filter(|number| !transport.received.contains(number));
        assert_eq!(all.collect::<Vec<_>>(), Vec::<u64>::new(), "missing");
    }
}

#[test]
fn udp_that_works_is_used_and_nothing_else_is_tried() {
    let mut world = World::with_all_means(1, Conditions::perfect(DELAY));
    connect(&mut world);
    talk_for(&mut world, 60 * SECOND, 1_000);
    assert_eq!(opened(&world), [Means::UDP]);
}

#[test]
fn a_session_comes_up_by_tcp_where_udp_is_dropped() {
    let mut world = World::with_all_means(2, Conditions::perfect(DELAY));
    world.firewall = Some(Carrier::Udp);
    connect(&mut world);
    assert_eq!(carrier(&world), Some(Carrier::Tcp));
    assert!(world.clock.elapsed() < 3 * SECOND, "{:?}", world.clock.elapsed());
    assert_eq!(opened(&world), [Means::UDP, Means::TCP]);
}

#[test]
fn the_wire_is_used_where_the_server_s_port_is_closed() {
    let mut world = World::with_all_means(3, Conditions::perfect(DELAY));
    world.firewall = Some(Carrier::Udp);
    world.start();
    world.run_for(2 * SECOND);
    // The system says so of the TCP connection.
    let path = world.client_events.iter().rev().find_map(|(_, event)| match event {
        client::Event::Open { path, means: Means::TCP, .. } => Some(*path),
        _ => None,
    });
    let now = world.now();
    world.client.handle_failed(now, path.expect("TCP comes second"), "refused".into());
    world.settle();
    assert_eq!(opened(&world)[2], Means::wire(Carrier::Tcp), "at once");
    world.client_sends(1);
    world.run_for(SECOND);
    assert_eq!(carrier(&world), Some(Carrier::Tcp));
}

#[test]
fn udp_that_dies_is_left_for_tcp_and_comes_back_without_a_loss() {
    let mut world = World::with_all_means(4, Conditions::perfect(DELAY));
    connect(&mut world);
    talk_for(&mut world, 30 * SECOND, 1_000);
    world.firewall = Some(Carrier::Udp);
    // What was sent into the void is the transport's to repeat.
    talk_for(&mut world, 10 * SECOND, 2_000);
    assert_eq!(carrier(&world), Some(Carrier::Tcp));
    talk_for(&mut world, 10 * SECOND, 3_000);
    assert_whole(&world, 3_000..3_095);
    let lost = world.client_was(|event| matches!(event, client::Event::Lost { .. }));
    assert_eq!(lost, None, "TCP was there in time");
    world.firewall = None;
    talk_for(&mut world, 60 * SECOND, 4_000);
    assert_eq!(carrier(&world), Some(Carrier::Udp));
    assert_whole(&world, 4_000..4_595);
}

#[test]
fn attempts_at_udp_while_tcp_is_in_use_grow_rare_and_disturb_nothing() {
    let mut world = World::with_all_means(5, Conditions::perfect(DELAY));
    world.firewall = Some(Carrier::Udp);
    connect(&mut world);
    let path = world.client_path();
    talk_for(&mut world, 600 * SECOND, 1_000);
    let tries = opened(&world).iter().filter(|means| **means == Means::UDP).count();
    assert!((5..=10).contains(&tries), "{tries} in ten minutes");
    assert_eq!(world.client_path(), path);
    assert_whole(&world, 1_000..6_995);
}

#[test]
fn every_means_is_asked_again_and_again_until_one_works() {
    let mut world = World::with_all_means(6, Conditions::perfect(DELAY));
    connect(&mut world);
    talk_for(&mut world, 5 * SECOND, 1_000);
    world.go_dark(Network::Wifi, true);
    talk_for(&mut world, 60 * SECOND, 2_000);
    assert!(carrier(&world).is_none());
    world.go_dark(Network::Wifi, false);
    talk_for(&mut world, 20 * SECOND, 3_000);
    assert_eq!(carrier(&world), Some(Carrier::Udp), "by whatever it came back");
    assert_whole(&world, 3_000..3_195);
}
