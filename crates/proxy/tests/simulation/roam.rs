//! From one network to another.

use std::time::Duration;

use testkit::{Conditions, with_seeds};
use tssh_proxy::client::{self, Client, Event, RenewReason};
use tssh_proxy::{Carrier, server};

use crate::world::{MS, Network, SECOND, World, client_config};

const DELAY: Duration = Duration::from_millis(40);

fn renew(world: &mut World) {
    world.client.renew(world.now(), RenewReason::NetworkChanged);
    world.settle();
}

#[test]
fn old_path_stays_in_use_at_both_ends_until_the_new_one_is_proven() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let (wifi, first) = (world.used_addr(), world.client_path());
    world.at = Network::Cellular;
    renew(&mut world);
    world.run_for(2 * DELAY - MS);
    assert_eq!(world.used_addr(), wifi, "no ack yet");
    world.run_for(MS);
    assert_ne!(world.client_path(), first, "the ack is there");
    // Not even the dummies that the client sends now prove it to the server.
    world.run_for(SECOND);
    assert_eq!(world.served_network(), Some(Network::Wifi));

    world.client_sends(100);
    world.run_for(DELAY);
    assert_eq!(world.served_network(), Some(Network::Cellular));
}

#[test]
fn roam_between_two_good_networks_loses_no_packet() {
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let mut world = World::connected_by(1, Conditions::perfect(DELAY), carrier);
        for number in 100..600 {
            if number == 200 {
                world.at = Network::Cellular;
                renew(&mut world);
            }
            world.client_sends(number);
            world.server_sends(number);
            world.run_for(5 * MS);
        }
        world.run_for(SECOND);
        assert_eq!(world.served_network(), Some(Network::Cellular));
        let all: Vec<u64> = std::iter::once(0).chain(100..600).collect();
        assert_eq!(world.server_transport.received, all, "{carrier:?} upwards");
        assert_eq!(world.client_transport.received, all, "{carrier:?} downwards");
        let lost = |event: &Event| matches!(event, Event::Lost { .. });
        assert_eq!(world.client_was(lost), None);
    }
}

#[test]
fn roam_completes_under_loss_and_both_ends_agree_on_the_path() {
    with_seeds(0..200, |seed| {
        let mut world = World::connected(seed, Conditions::perfect(DELAY).with_loss(0.2));
        world.at = Network::Cellular;
        renew(&mut world);
        for number in 100.. {
            world.client_sends(number);
            world.server_sends(number);
            world.run_for(100 * MS);
            if world.served_network() == Some(Network::Cellular)
                && world.used_addr() == world.served_addr()
            {
                break;
            }
            assert!(number < 130, "not within three seconds");
        }
    });
}

#[test]
fn lost_network_is_left_by_a_client_that_sends_only_dummies_once_the_server_has_something_to_say() {
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let mut world = World::connected_by(1, Conditions::perfect(DELAY), carrier);
        world.client_answers = true;
        world.go_dark(Network::Wifi, true);
        world.at = Network::Cellular;
        renew(&mut world);
        world.run_for(SECOND);
        assert_eq!(world.served_network(), Some(Network::Wifi), "{carrier:?}: nothing proven yet");
        world.server_sends(7);
        world.run_for(2 * DELAY);
        assert_eq!(world.served_network(), Some(Network::Cellular), "{carrier:?}");
        assert!(world.client_transport.received.contains(&7));
    }
}

#[test]
fn server_closes_the_tcp_connection_that_was_replaced_and_only_that() {
    let mut world = World::connected_by(1, Conditions::perfect(DELAY), Carrier::Tcp);
    let old = world.server.active();
    renew(&mut world);
    world.run_for(SECOND);
    world.client_sends(100);
    world.run_for(SECOND);
    let closed: Vec<_> = world
        .server_events
        .iter()
        .filter_map(|(_, event)| match event {
            server::Event::Close { path } => Some(*path),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [old.expect("connected")]);
    assert_eq!(world.used_addr(), world.served_addr());
}

#[test]
fn every_renewal_uses_a_new_socket_and_a_new_serial() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let mut seen = vec![(world.used_addr(), world.client.serial())];
    for number in 100..120 {
        renew(&mut world);
        world.run_for(SECOND);
        world.client_sends(number);
        world.run_for(SECOND);
        assert_eq!(world.used_addr(), world.served_addr());
        seen.push((world.used_addr(), world.client.serial()));
    }
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1));
    seen.dedup_by_key(|(addr, _)| *addr);
    assert_eq!(seen.len(), 21);
}

/// A world whose server answers, as transports do.
fn answering(seed: u64, conditions: Conditions) -> World {
    let mut world = World::connected(seed, conditions);
    world.server_answers = true;
    world.client_sends(50);
    world.run_for(SECOND);
    world
}

#[test]
fn key_typed_just_before_the_network_changes_arrives_without_being_repeated() {
    let mut world = answering(1, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    world.client_sends(100);
    world.run_for(5 * MS);
    world.move_to(Network::Cellular);
    world.run_for(DELAY);
    assert_eq!(world.server_transport.received.last(), Some(&100));
    assert_eq!(world.served_network(), Some(Network::Cellular));
    let before = world.client_transport.received.len();
    world.run_for(DELAY);
    assert_eq!(world.client_transport.received.len(), before + 1, "one round trip after all");
}

#[test]
fn change_that_leaves_our_address_alone_asks_for_no_path() {
    let mut world = answering(1, Conditions::perfect(DELAY));
    let opened = |world: &World| {
        let opened = |(_, event): &&(Duration, Event)| matches!(event, Event::Open { .. });
        world.client_events.iter().filter(opened).count()
    };
    world.move_to(Network::Wifi);
    assert_eq!(opened(&world), 1);
    world.move_to(Network::Cellular);
    assert_eq!(opened(&world), 2);
    // The system says everything several times.
    world.move_to(Network::Cellular);
    world.run_for(DELAY);
    world.move_to(Network::Cellular);
    assert_eq!(opened(&world), 2);
}

#[test]
fn network_that_swallows_everything_is_left_a_quarter_second_after_a_key() {
    let mut world = answering(1, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    world.at = Network::Cellular;
    let typed = world.clock.elapsed();
    world.client_sends(100);
    world.run_until(SECOND, |world| world.server_transport.received.contains(&100));
    assert_eq!(world.clock.elapsed() - typed, 250 * MS + DELAY);
}

#[test]
fn patient_client_asks_for_no_path_because_an_answer_is_late() {
    let mut world = World::new(1, Conditions::perfect(DELAY));
    let config = client::Config { patient: true, ..client_config(Carrier::Udp) };
    world.client = Client::new(config);
    let mut world = world.connect();
    world.server_answers = true;
    world.client_sends(50);
    world.run_for(SECOND);
    let before = world.client.serial();
    world.go_dark(Network::Wifi, true);
    world.client_sends(100);
    world.run_for(SECOND);
    assert_eq!(world.client.serial(), before);
    // Silence is another matter.
    world.run_for(3 * SECOND);
    assert!(world.client.serial() > before);
}

#[test]
fn lossy_path_is_not_renewed_for_every_answer_that_is_lost() {
    with_seeds(0..20, |seed| {
        let mut world = answering(seed, Conditions::perfect(DELAY).with_loss(0.2));
        let before = world.client.serial();
        for number in 100..500 {
            world.client_sends(number);
            world.run_for(150 * MS);
        }
        // A minute: seven while the spacing grows, then one each five seconds.
        let renewals = world.client.serial().0 - before.0;
        assert!(renewals <= 20, "{renewals} renewals");
    });
}
