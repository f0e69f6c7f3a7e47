//! Several means of carrying packets: UDP, TCP, and a wire that somebody else opens.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::Conditions;
use tssh_proxy::client::Client;
use tssh_proxy::{Carrier, Means, client};

use crate::world::{Network, SECOND, World, client_config, server_addr};

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

#[test]
fn a_slow_link_is_reached_in_the_first_connect_though_there_is_more_to_try() {
    // 2.4 s there and back: longer than any means has in the first round.
    let mut world = World::with_all_means(7, Conditions::perfect(Duration::from_millis(1_200)));
    connect(&mut world);
    assert_eq!(carrier(&world), Some(Carrier::Udp));
    assert!(world.clock.elapsed() < 10 * SECOND, "{:?}", world.clock.elapsed());
}

#[test]
fn a_link_known_to_be_slow_is_given_its_time_at_once() {
    let mut world = World::with_all_means(8, Conditions::perfect(Duration::from_millis(1_200)));
    let round_trip = Some(Duration::from_millis(2_400));
    world.client = Client::new(client::Config { round_trip, ..all_means() });
    connect(&mut world);
    assert_eq!(opened(&world), [Means::UDP]);
}

#[test]
fn a_network_that_is_slow_when_it_comes_back_is_found_in_the_end() {
    let mut world = World::with_all_means(9, Conditions::perfect(DELAY));
    connect(&mut world);
    talk_for(&mut world, 5 * SECOND, 1_000);
    world.go_dark(Network::Wifi, true);
    talk_for(&mut world, 20 * SECOND, 2_000);
    assert!(carrier(&world).is_none());
    for link in world.links.get_mut(&Network::Wifi).into_iter().flatten() {
        link.conditions = Conditions::perfect(Duration::from_millis(1_400));
    }
    talk_for(&mut world, 40 * SECOND, 3_000);
    assert!(carrier(&world).is_some(), "{:?}", world.client_events);
    talk_for(&mut world, 10 * SECOND, 4_000);
    assert_whole(&world, 4_000..4_060);
}

#[test]
fn the_server_s_other_addresses_are_tried_when_one_is_out_of_reach() {
    let mut world = World::with_all_means(10, Conditions::perfect(DELAY));
    let second = SocketAddr::new([203, 0, 113, 10].into(), 61001);
    let candidates = vec![server_addr(), second];
    world.client = Client::new(client::Config { candidates, ..all_means() });
    connect(&mut world);
    let reached = |world: &World| world.client.active().map(|path| path.route.remote);
    assert_eq!(reached(&world), Some(server_addr()), "the login's is the first");
    talk_for(&mut world, 5 * SECOND, 1_000);
    world.out_of_reach = Some(server_addr());
    talk_for(&mut world, 10 * SECOND, 2_000);
    assert_eq!(reached(&world), Some(second));
    assert_eq!(carrier(&world), Some(Carrier::Udp));
    let lost = world.client_was(|event| matches!(event, client::Event::Lost { .. }));
    assert_eq!(lost, None, "it was there in time");
    talk_for(&mut world, 60 * SECOND, 3_000);
    assert_whole(&world, 3_000..3_595);
    assert_eq!(reached(&world), Some(second), "what works stays");
}

#[test]
fn candidates_that_change_during_an_attempt_confuse_nobody() {
    let mut world = World::with_all_means(11, Conditions::perfect(DELAY));
    world.firewall = Some(Carrier::Udp);
    connect(&mut world);
    // While the best means is not in use it is tried, however many addresses there are by now.
    let more = (9..14).map(|last| SocketAddr::new([203, 0, 113, last].into(), 61001)).collect();
    world.client.set_candidates(more);
    talk_for(&mut world, 5 * SECOND, 1_000);
    assert_eq!(carrier(&world), Some(Carrier::Tcp));
    world.firewall = None;
    talk_for(&mut world, 30 * SECOND, 2_000);
    assert_eq!(carrier(&world), Some(Carrier::Udp), "{:?}", opened(&world));
}

fn all_means() -> client::Config {
    let means = vec![Means::UDP, Means::TCP, Means::wire(Carrier::Tcp)];
    client::Config { means, ..client_config(Carrier::Udp) }
}
