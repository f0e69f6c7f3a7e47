//! Blackouts, sleep, and paths that fail.

use std::time::Duration;

use testkit::{Conditions, Prng, with_seeds};
use tssh_proxy::client::{self, RenewReason};
use tssh_proxy::{Change, server};

use crate::world::{MS, Network, SECOND, World};

const DELAY: Duration = Duration::from_millis(25);

fn lost(event: &client::Event) -> bool {
    matches!(event, client::Event::Lost { .. })
}

fn restored(event: &client::Event) -> bool {
    matches!(event, client::Event::Proven { change: Change::Restored { .. }, .. })
}

fn server_saw(world: &World, wanted: server::Event) -> Option<Duration> {
    world.server_events.iter().find(|(_, event)| *event == wanted).map(|(at, _)| *at)
}

#[test]
fn blackout_of_a_minute_is_noticed_after_three_seconds_and_over_soon_after_it_ends() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.live_for(5 * SECOND, 100);
    let last = world.clock.elapsed() - SECOND + DELAY;
    world.go_dark(Network::Wifi, true);
    world.live_for(60 * SECOND, 200);
    assert_eq!(world.client_was(lost), Some(last + 3 * SECOND));
    assert_eq!(server_saw(&world, server::Event::Silent), Some(last + 3 * SECOND));
    assert!(world.server.active().is_none(), "the server forgets the address");
    assert!(world.client.routes().active.is_none(), "nothing is sent into the dark");

    world.go_dark(Network::Wifi, false);
    let light = world.clock.elapsed();
    world.run_until(5 * SECOND, |w| {
        w.client_was(restored).is_some() && w.client_transport.received.contains(&259)
    });
    // At worst the client is in the pause between two attempts.
    let took = world.clock.elapsed() - light;
    assert!(took <= SECOND + 4 * DELAY, "took {took:?}");
    assert!(server_saw(&world, server::Event::Back).is_some());
    // What was held back while there was no path arrives whole.
    assert!((203..260).all(|number| world.server_transport.received.contains(&number)));
    assert!((203..260).all(|number| world.client_transport.received.contains(&number)));
}

#[test]
fn outages_of_any_length_end_within_three_seconds_of_the_network_coming_back() {
    with_seeds(0..100, |seed| {
        let mut random = Prng::new(seed);
        let mut world = World::connected(seed, Conditions::perfect(DELAY).with_loss(0.1));
        for round in 1..4 {
            let first = round * 1000;
            world.live_for(Duration::from_secs(3 + random.below(5)), first);
            world.go_dark(Network::Wifi, true);
            world.live_for(Duration::from_secs(1 + random.below(100)), first + 200);
            world.run_for(Duration::from_millis(random.below(1000)));
            world.go_dark(Network::Wifi, false);
            let before =
                (world.server_transport.received.len(), world.client_transport.received.len());
            for number in 0.. {
                world.client_sends(first + 500 + number);
                world.server_sends(first + 500 + number);
                world.run_for(100 * MS);
                if world.server_transport.received.len() > before.0
                    && world.client_transport.received.len() > before.1
                    && world.used_addr() == world.served_addr()
                {
                    break;
                }
                assert!(number < 30, "round {round}: {:?}", world.client_events);
            }
        }
    });
}

#[test]
fn machine_that_slept_authenticates_at_once_even_at_the_same_address() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.live_for(2 * SECOND, 100);
    let serial = world.client.serial();
    world.client.handle_clock_jump(world.now(), 600 * SECOND);
    world.settle();
    assert!(world.client_was(lost).is_some(), "the server has forgotten us");
    assert!(world.client.serial() > serial, "and the auth packet is out already");
    world.run_for(2 * DELAY);
    assert!(world.client_was(restored).is_some());
}

#[test]
fn short_nap_renews_the_path_without_giving_up_the_old_one() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let (serial, path) = (world.client.serial(), world.client_path());
    world.client.handle_clock_jump(world.now(), 2 * SECOND);
    world.settle();
    assert!(world.client.serial() > serial);
    assert_eq!(world.client_path(), path);
    world.run_for(2 * DELAY);
    assert_ne!(world.client_path(), path);
    assert_eq!(world.client_was(lost), None);
}

#[test]
fn no_renewal_while_packets_arrive_even_if_heartbeats_are_not_answered() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    // The server must not mind that the client is silent.
    world.server.set_bus_up(world.now(), 600 * SECOND, false);
    let path = world.client_path();
    for number in 100..120 {
        world.server_sends(number);
        world.run_for(SECOND);
    }
    assert_eq!((world.client_path(), world.client_was(lost)), (path, None));
    world.run_for(4 * SECOND);
    assert!(world.client_was(lost).is_some(), "now there is silence");
}

#[test]
fn old_path_that_comes_back_is_used_while_the_new_one_is_not_proven() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.server.set_bus_up(world.now(), 600 * SECOND, false);
    world.lose_acks = true;
    let path = world.client_path();
    world.go_dark(Network::Wifi, true);
    world.run_for(5 * SECOND);
    assert!(world.client.routes().active.is_none());
    world.go_dark(Network::Wifi, false);
    world.server_sends(100);
    world.run_for(DELAY);
    assert_eq!(world.client_path(), path);
    assert!(world.client_was(restored).is_some());
}

#[test]
fn acknowledged_path_on_which_nothing_follows_is_given_up_again() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.client.renew(world.now(), RenewReason::Requested);
    world.run_until(SECOND, |w| w.client.serial().0 == 2 && w.used_addr() != w.served_addr());
    world.run_for(3 * SECOND + DELAY);
    assert!(world.client_was(lost).is_some());
    assert!(world.client.serial().0 > 2, "and the next one is being asked for");
}

#[test]
fn errors_of_every_new_socket_do_not_make_the_client_spin() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    let now = world.now();
    let id = world.client_path().expect("connected");
    world.client.handle_failed(now, id, "network is unreachable".into());
    let before = world.client.serial().0;
    let start = world.now();
    while world.now() < start + 60 * SECOND {
        world.run_for(MS);
        // Whatever socket is newest fails at once.
        let newest = tssh_proxy::PathId(world.client.serial().0 - 1);
        world.client.handle_failed(world.now(), newest, "network is unreachable".into());
        world.settle();
    }
    let attempts = world.client.serial().0 - before;
    assert!((10..=20).contains(&attempts), "{attempts} attempts in a minute");

    let at = world.now();
    world.client.renew(at, RenewReason::NetworkChanged);
    assert_eq!(world.client.serial().0, before + attempts + 1, "but a change is acted on at once");
}

#[test]
fn client_without_any_network_waits_without_a_timer_and_comes_back_at_once() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.live_for(5 * SECOND, 100);
    world.go_dark(Network::Wifi, true);
    world.unplug();
    world.run_for(60 * SECOND);
    assert!(world.client_was(lost).is_some());
    assert_eq!(world.client.poll_timeout(), None, "nothing to wake up for");
    let trace = world.trace.len();
    world.run_for(3600 * SECOND);
    assert_eq!(world.trace.len(), trace, "nothing is sent");

    world.move_to(Network::Cellular);
    let back = world.clock.elapsed();
    world.run_until(SECOND, |world| world.client_was(restored).is_some());
    assert_eq!(world.clock.elapsed() - back, 2 * DELAY);
}
