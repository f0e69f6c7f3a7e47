//! What strangers, replays and nonsense can do: nothing.

use std::net::SocketAddr;
use std::time::Duration;

use proto::path_auth::PathAuth;
use proto::{ClientId, PathSerial, ServerId};
use testkit::{Clock, Conditions, Prng, with_seeds};
use tssh_proxy::client::{Client, RenewReason};
use tssh_proxy::seal::Sealer;
use tssh_proxy::server::{self, Server};
use tssh_proxy::{Carrier, PathId, ProxyKey, Route, SocketId, Verdict};

use crate::world::{MS, Network, SECOND, World, client_config, key, server_config};

const DELAY: Duration = Duration::from_millis(25);

fn stranger() -> SocketAddr {
    SocketAddr::new([6, 6, 6, 6].into(), 666)
}

fn auth(key: &ProxyKey, client: u64, serial: u64) -> Vec<u8> {
    let auth = PathAuth { client: ClientId(client), serial: PathSerial(serial) };
    Sealer::new(key).seal([9; 12], auth.encode()).to_vec()
}

#[test]
fn captured_auth_packet_from_another_address_diverts_nothing_and_draws_little() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let home = world.served_addr();
    // Never arrived from the client itself, so its serial is fresh.
    world.inject(stranger(), &auth(&key(), 11, 50));
    for number in 100..200 {
        world.server_sends(number);
        world.client_sends(number);
        world.run_for(10 * MS);
    }
    world.run_for(SECOND);
    assert_eq!(world.served_addr(), home, "the old path stays active");
    assert_eq!(world.client_transport.received.len(), 101, "and gets everything");
    let drawn = world.server_sent.get(&stranger()).copied().unwrap_or_default();
    assert!((45..=3 * 44).contains(&drawn), "{drawn} bytes for 44");
    // More from there, genuine but old or not genuine at all, promotes nothing.
    world.inject(stranger(), &crate::world::genuine(150));
    world.inject(stranger(), &[0; 1400]);
    assert_eq!(world.served_addr(), home);
}

#[test]
fn goodbye_of_the_client_s_guard_is_believed_from_anywhere_and_never_answered() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let home = world.served_addr();
    world.inject(stranger(), &auth(&ProxyKey::new([1; 32]), 11, PathSerial::GOODBYE.0));
    world.inject(stranger(), &auth(&key(), 12, PathSerial::GOODBYE.0));
    assert!(!world.server_events.iter().any(|(_, event)| *event == server::Event::Goodbye));
    world.inject(stranger(), &auth(&key(), 11, PathSerial::GOODBYE.0));
    assert!(world.server_events.iter().any(|(_, event)| *event == server::Event::Goodbye));
    assert_eq!(world.server_sent.get(&stranger()), None);
    assert_eq!(world.served_addr(), home, "it makes no path");
}

#[test]
fn auth_packet_that_a_stranger_delivers_first_does_not_keep_the_client_out() {
    let now = std::time::Instant::now();
    let mut server = Server::new(server_config());
    let route = |n: u8| Route::udp(SocketId(0), SocketAddr::new([n, 0, 0, 1].into(), 1), None);
    let packet = auth(&key(), 11, 1);
    assert_eq!(server.handle_packet(now, &route(6), &packet), Verdict::Consumed);
    assert_eq!(server.handle_packet(now, &route(1), &packet), Verdict::Consumed);
    let verdict = server.handle_packet(now, &route(1), &crate::world::genuine(100));
    let Verdict::Deliver { path, unproven: true } = verdict else { panic!("{verdict:?}") };
    server.handle_accepted(now, path);
    assert_eq!(server.active().map(|path| path.route), Some(route(1)));
    // Once the path is proven, its auth packet is worth nothing from elsewhere.
    assert_eq!(server.handle_packet(now, &route(6), &packet), Verdict::Refused);
}

#[test]
fn replayed_auth_packet_draws_no_answer() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    for serial in [0, 1] {
        world.inject(stranger(), &auth(&key(), 11, serial));
    }
    assert_eq!(world.server_sent.get(&stranger()), None);
    world.server_sends(100);
    assert_eq!(world.server_sent.get(&stranger()), None);
}

#[test]
fn serial_is_remembered_when_the_addresses_are_forgotten() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    world.go_dark(Network::Wifi, true);
    world.run_for(60 * SECOND);
    assert!(world.server.active().is_none());
    world.inject(stranger(), &auth(&key(), 11, 1));
    assert_eq!(world.server_sent.get(&stranger()), None);
}

#[test]
fn nothing_unauthenticated_is_answered() {
    let clock = Clock::new();
    let mut server = Server::new(server_config());
    let from = Route::udp(SocketId(0), stranger(), None);
    let mut random = Prng::new(1);
    let mut strangers = vec![
        auth(&ProxyKey::new([1; 32]), 11, 1),
        auth(&key(), 12, 1),
        auth(&key(), 11, 0),
        auth(&key(), 11, 1)[..43].to_vec(),
        [auth(&key(), 11, 1), vec![0]].concat(),
    ];
    strangers.extend((0..1500).map(|len| {
        let mut bytes = vec![0; len];
        random.fill(&mut bytes);
        bytes
    }));
    for packet in strangers {
        assert_eq!(server.handle_packet(clock.now(), &from, &packet), Verdict::Refused);
        let sent = server.poll_transmit(clock.now(), &mut |_| {}, &mut Vec::new());
        assert_eq!((sent, server.poll_event()), (None, None));
        assert_eq!(server.routes(), tssh_proxy::path::Routes::default());
    }
}

#[test]
fn forged_packets_from_the_active_address_are_no_sign_of_life() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let home = world.served_addr().expect("connected");
    for _ in 0..40 {
        world.run_for(100 * MS);
        world.inject(home, &[0xff; 64]);
    }
    let silent = |(_, event): &(Duration, server::Event)| *event == server::Event::Silent;
    assert!(world.server_events.iter().any(silent));
}

#[test]
fn small_packets_never_reach_the_transport() {
    let mut world = World::connected(1, Conditions::perfect(DELAY));
    let path = world.server.active().expect("connected");
    let now = world.now();
    for len in 0..=16 {
        let verdict = world.server.handle_packet(now, &path.route, &vec![1; len]);
        assert_eq!(verdict, Verdict::Consumed, "{len} bytes");
    }
    let verdict = world.server.handle_packet(now, &path.route, &[1; 17]);
    assert_eq!(verdict, Verdict::Deliver { path: path.id, unproven: false });
}

/// Any events in any order, with any bytes.
#[test]
fn nothing_makes_the_machines_panic_or_spin() {
    with_seeds(0..3000, |seed| {
        let mut random = Prng::new(seed);
        let clock = Clock::new();
        let carrier = if seed % 2 == 0 { Carrier::Udp } else { Carrier::Tcp };
        let mut client = Client::new(client_config(carrier));
        let mut server = Server::new(server_config());
        let mut serials = (client.serial(), server.serial());
        for _ in 0..200 {
            let magnitude = random.below(14);
            clock.advance(Duration::from_millis(random.below(1 << magnitude)));
            let now = clock.now();
            let path = PathId(random.below(client.serial().0 + 2));
            let route = Route {
                carrier,
                socket: SocketId(random.below(4)),
                remote: SocketAddr::new([1, 1, 1, 1].into(), 1),
                local_ip: None,
            };
            match random.below(16) {
                0 => client.start(now),
                1 => client.renew(now, RenewReason::Requested),
                2 => client.handle_heartbeat(now, now),
                3 | 4 => client.handle_opened(now, path, None),
                5 => client.handle_failed(now, path, "broken".into()),
                6 => client.handle_accepted(now, path),
                7 => client.handle_clock_jump(now, Duration::from_secs(random.below(20))),
                8 => client.handle_copied(path, random.next_u64()),
                9 => server.handle_accepted(now, path),
                10 => {
                    server.set_bus_up(now, Duration::from_secs(random.below(5)), random.chance(0.5))
                }
                11 => server.handle_failed(&route),
                12 => server.handle_copied(path, random.next_u64()),
                13 => client.set_candidates(Vec::new()),
                _ => {
                    let packet = any_packet(&mut random, client.serial());
                    client.handle_packet(now, SocketId(path.0), &packet);
                    server.handle_packet(now, &route, &packet);
                }
            }
            let mut buf = Vec::new();
            let (mut busy, mut rounds) = (true, 0);
            while std::mem::take(&mut busy) {
                rounds += 1;
                assert!(rounds < 20, "it does not come to rest");
                client.handle_timeout(now);
                server.handle_timeout(now);
                while client.poll_transmit(now, &mut |b| random.fill(b), &mut buf).is_some() {
                    server.handle_packet(now, &route, &buf);
                    busy = true;
                }
                while server.poll_transmit(now, &mut |b| random.fill(b), &mut buf).is_some() {
                    client.handle_packet(now, SocketId(path.0), &buf);
                    busy = true;
                }
                busy |= client.poll_event().is_some() || server.poll_event().is_some();
            }
            for timer in [client.poll_timeout(), server.poll_timeout()] {
                assert!(
                    timer.is_none_or(|at| at > now),
                    "a timer that is due stays due: {client:?}\n{server:?}"
                );
            }
            let now_serials = (client.serial(), server.serial());
            assert!(now_serials.0 >= serials.0 && now_serials.1 >= serials.1);
            serials = now_serials;
        }
    });
}

fn any_packet(random: &mut Prng, serial: PathSerial) -> Vec<u8> {
    use proto::path_auth::PathAck;
    let serial = PathSerial((serial.0 + random.below(3)).saturating_sub(1));
    let sealer = Sealer::new(&key());
    match random.below(4) {
        0 => sealer.seal([3; 12], PathAck { server: ServerId(22), serial }.encode()).to_vec(),
        1 => auth(&key(), 11, serial.0),
        _ => {
            let mut bytes = vec![0; usize::try_from(random.below(100)).expect("small")];
            random.fill(&mut bytes);
            bytes
        }
    }
}
