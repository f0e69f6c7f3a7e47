//! Sessions in which nothing happens (extension `silence`).

use std::time::Duration;

use testkit::Conditions;
use tssh_proxy::timers::QUIET;
use tssh_proxy::{Carrier, client, server};

use crate::world::{MS, Network, SECOND, World};

const DELAY: Duration = Duration::from_millis(25);

fn server_saw(world: &World, wanted: server::Event) -> Option<Duration> {
    world.server_events.iter().find(|(_, event)| *event == wanted).map(|(at, _)| *at)
}

/// Idles as the bus does it: an exchange whenever nothing was heard for [`QUIET`].
fn idle_for(world: &mut World, time: Duration, first: u64) {
    for n in 0..time.as_secs() / QUIET.as_secs() {
        world.run_for(QUIET);
        world.client_sends(first + n);
    }
    world.run_for(SECOND);
}

#[test]
fn an_idle_hour_costs_one_exchange_every_25_s_and_no_timer_runs() {
    let mut world = World::quiet(1, Conditions::perfect(DELAY));
    world.run_for(10 * SECOND);
    let (events, sent) = (world.client_events.len(), world.trace.len());
    idle_for(&mut world, 3_600 * SECOND, 100);
    assert_eq!(world.client_events.len(), events, "{:?}", world.client_events);
    assert_eq!(server_saw(&world, server::Event::Silent), None);
    assert_eq!(world.client_transport.received.len(), 2 + 144, "each is answered");
    assert_eq!(world.trace.len() - sent, 144);
    assert_eq!(world.client.poll_timeout(), None);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn output_after_five_idle_minutes_shows_at_once_through_a_nat_that_forgets_after_30_s() {
    let mut world = World::quiet(2, Conditions::perfect(DELAY));
    let before = world.trace.len();
    idle_for(&mut world, 300 * SECOND, 100);
    let ours = world.trace[before..].iter().filter(|(_, who, _)| *who == "client");
    let times: Vec<_> = ours.map(|(at, ..)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] < 30 * SECOND), "the NAT remembers");
    world.server_sends(7);
    world.run_for(DELAY);
    assert!(world.client_transport.received.contains(&7));
}

#[test]
fn what_is_printed_into_an_outage_that_an_idle_client_did_not_see_arrives_by_the_same_path() {
    let mut world = World::quiet(3, Conditions::perfect(DELAY));
    world.run_for(10 * SECOND);
    let path = world.client_path();
    world.go_dark(Network::Wifi, true);
    let began = world.clock.elapsed();
    world.server_sends(5);
    world.run_for(10 * SECOND);
    assert_eq!(server_saw(&world, server::Event::Silent), Some(began + 3 * SECOND));
    assert!(world.server.routes().active.is_some(), "the transport may try again");
    world.go_dark(Network::Wifi, false);
    // Which it does.
    world.server_sends(6);
    world.run_for(2 * DELAY);
    assert!(world.client_transport.received.contains(&6));
    assert!(server_saw(&world, server::Event::Back).is_some());
    assert_eq!(world.client_path(), path);
}

#[test]
fn a_server_that_is_not_answered_rests_once_the_client_must_have_noticed_too() {
    let mut world = World::quiet(4, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    let began = world.clock.elapsed();
    world.server_sends(5);
    world.run_for(60 * SECOND);
    assert_eq!(server_saw(&world, server::Event::Lost), Some(began + QUIET + 6 * SECOND));
    assert_eq!(world.server.routes(), Default::default());
    assert_eq!(world.server.poll_timeout(), None);
    world.go_dark(Network::Wifi, false);
    // The client's next heartbeat is not answered, and a new path is asked for at once.
    world.client_sends(8);
    world.run_for(SECOND);
    world.server_sends(9);
    world.run_for(DELAY);
    assert!(world.client_transport.received.contains(&9));
}

#[test]
fn a_client_counts_from_its_first_packet_that_is_not_answered() {
    let mut world = World::quiet(5, Conditions::perfect(DELAY));
    world.run_for(20 * SECOND);
    world.go_dark(Network::Wifi, true);
    world.run_for(60 * SECOND);
    assert!(world.client.active().is_some(), "nobody asked anything");
    let began = world.clock.elapsed();
    world.client_sends(8);
    world.run_for(10 * SECOND);
    let lost = world.client_was(|event| matches!(event, client::Event::Lost { .. }));
    let lost = lost.expect("the silence counts now");
    assert!(lost >= began + 3 * SECOND && lost < began + 3 * SECOND + MS, "{lost:?}");
}

#[test]
fn a_client_whose_path_ends_is_away_even_if_nobody_has_anything_to_say() {
    let mut world = World::quiet(9, Conditions::perfect(DELAY));
    world.run_for(10 * SECOND);
    let path = world.server.routes().active.expect("a path in use");
    world.server.handle_failed(&path.route);
    world.run_for(4 * SECOND);
    assert!(server_saw(&world, server::Event::Silent).is_some(), "{:?}", world.server_events);
}

#[test]
fn an_acknowledgement_that_is_late_is_no_outage() {
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let mut world = World::quiet_by(6, Conditions::perfect(DELAY), carrier);
        // Something held the process up before it could say that it has come.
        (world.client_answers, world.server_answers) = (false, true);
        world.run_for(10 * SECOND);
        world.server_sends(5);
        world.run_for(DELAY + 80 * MS);
        assert!(world.client_transport.received.contains(&5));
        world.client_acknowledges();
        world.run_for(20 * SECOND);
        let lost = world.client_was(|event| matches!(event, client::Event::Lost { .. }));
        assert_eq!(lost, None, "{carrier:?}");
        // A real one is noticed as before.
        world.go_dark(Network::Wifi, true);
        world.client_sends(8);
        world.run_for(4 * SECOND);
        let lost = world.client_was(|event| matches!(event, client::Event::Lost { .. }));
        assert!(lost.is_some(), "{carrier:?}");
    }
}

#[test]
fn a_late_acknowledgement_of_the_server_s_is_no_absence_of_the_client() {
    let mut world = World::quiet_by(7, Conditions::perfect(DELAY), Carrier::Tcp);
    (world.client_answers, world.server_answers) = (true, false);
    world.run_for(10 * SECOND);
    world.client_sends(5);
    world.run_for(DELAY + 80 * MS);
    world.server_acknowledges();
    world.run_for(20 * SECOND);
    assert_eq!(server_saw(&world, server::Event::Silent), None);
}
