//! Our client against a server that follows the reference to the letter
//! (PROTOCOL §2.3, §12), and the serial rules of §2.2.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proto::path_auth::{PathAck, PathAuth};
use proto::{PathSerial, ServerId};
use testkit::{Clock, Prng};
use tssh_proxy::client::{Client, Event, RenewReason};
use tssh_proxy::seal::Sealer;
use tssh_proxy::{Carrier, PathId, SocketId, Verdict};

use crate::world::{MS, SECOND, client_config, genuine, key};

/// The server's table, without hardening. Addresses are the client's sockets.
#[derive(Default)]
struct Reference {
    active: Option<SocketId>,
    authed: Option<SocketId>,
    serial: u64,
    /// With several sockets the first valid auth packet is not answered.
    several_sockets: bool,
    delivered: Vec<Vec<u8>>,
}

impl Reference {
    fn handle(&mut self, from: SocketId, packet: &[u8]) -> Option<Vec<u8>> {
        let sealer = Sealer::new(&key());
        let auth = sealer.open(packet).and_then(|plain| PathAuth::decode(&plain));
        if self.active == Some(from) {
            if packet.len() > 16 {
                self.delivered.push(packet.to_vec());
            }
            return None;
        }
        match auth {
            Some(auth) if self.authed == Some(from) && auth.serial.0 >= self.serial => {
                self.serial = auth.serial.0;
            }
            Some(auth) if self.authed != Some(from) && auth.serial.0 > self.serial => {
                self.serial = auth.serial.0;
                self.authed = Some(from);
                if std::mem::take(&mut self.several_sockets) {
                    return None;
                }
            }
            None if self.authed == Some(from) => {
                self.active = self.authed.take();
                if packet.len() > 16 {
                    self.delivered.push(packet.to_vec());
                }
                return None;
            }
            _ => return None,
        }
        let ack = PathAck { server: ServerId(22), serial: PathSerial(self.serial) };
        Some(sealer.seal([5; 12], ack.encode()).to_vec())
    }
}

/// A client and a reference server with nothing but time between them.
struct Pair {
    clock: Clock,
    client: Client,
    server: Reference,
    events: BTreeMap<Duration, Vec<Event>>,
    random: Prng,
}

impl Pair {
    fn new(server: Reference) -> Self {
        let clock = Clock::new();
        let client = Client::new(client_config(Carrier::Udp));
        Self { clock, client, server, events: BTreeMap::new(), random: Prng::new(1) }
    }

    fn settle(&mut self) {
        let now = self.clock.now();
        let mut buf = Vec::new();
        loop {
            if let Some(event) = self.client.poll_event() {
                if let Event::Open { path, .. } = event {
                    self.client.handle_opened(now, path, None);
                }
                self.events.entry(self.clock.elapsed()).or_default().push(event);
            } else if let Some(path) =
                self.client.poll_transmit(now, &mut |b| self.random.fill(b), &mut buf)
            {
                if let Some(reply) = self.server.handle(path.route.socket, &buf) {
                    self.client.handle_packet(now, path.route.socket, &reply);
                }
            } else {
                return;
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        self.settle();
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            self.clock.advance_to(at);
            self.client.handle_timeout(self.clock.now());
            self.settle();
        }
        self.clock.advance_to(end);
    }

    fn client_sends(&mut self, packet: &[u8]) {
        let routes = self.client.routes();
        let pending = routes.pending.map(|pending| pending.path);
        for path in routes.active.into_iter().chain(pending) {
            self.server.handle(path.route.socket, packet);
        }
    }
}

#[test]
fn first_auth_packet_that_several_sockets_leave_unanswered_is_repeated() {
    let mut pair = Pair::new(Reference { several_sockets: true, ..Reference::default() });
    pair.client.start(pair.clock.now());
    pair.run_for(99 * MS);
    assert!(pair.client.active().is_none());
    pair.run_for(MS);
    assert!(pair.client.active().is_some(), "acknowledged at the second try");
}

#[test]
fn server_that_never_acks_because_data_came_first_is_proven_by_its_data() {
    let mut pair = Pair::new(Reference { several_sockets: true, ..Reference::default() });
    pair.client.start(pair.clock.now());
    pair.settle();
    pair.client_sends(&genuine(1));
    assert_eq!(pair.server.active, Some(SocketId(0)), "promoted by the data");
    pair.run_for(SECOND);
    assert!(pair.client.active().is_none(), "no ack comes from the active address");

    let verdict = pair.client.handle_packet(pair.clock.now(), SocketId(0), &genuine(2));
    assert_eq!(verdict, Verdict::Deliver { path: PathId(0), unproven: true });
    pair.client.handle_accepted(pair.clock.now(), PathId(0));
    assert!(pair.client.active().is_some());
}

#[test]
fn renewal_by_a_client_with_nothing_to_send_is_completed_by_its_dummies() {
    let mut pair = Pair::new(Reference::default());
    pair.client.start(pair.clock.now());
    pair.run_for(SECOND);
    pair.client.renew(pair.clock.now(), RenewReason::Requested);
    pair.run_for(SECOND);
    assert_eq!(pair.server.active, Some(SocketId(1)));
    let dummies_before = pair.server.delivered.len();
    assert_eq!(dummies_before, 0, "dummies are not delivered");
}

#[test]
fn stray_ack_after_the_exchange_changes_nothing() {
    let mut pair = Pair::new(Reference::default());
    pair.client.start(pair.clock.now());
    pair.run_for(SECOND);
    let (active, events) = (pair.client.active(), pair.events.len());
    let ack = PathAck { server: ServerId(22), serial: PathSerial(1) };
    let stray = Sealer::new(&key()).seal([6; 12], ack.encode());
    let verdict = pair.client.handle_packet(pair.clock.now(), SocketId(0), &stray);
    assert_eq!(verdict, Verdict::Deliver { path: PathId(0), unproven: false });
    pair.settle();
    assert_eq!((pair.client.active(), pair.events.len()), (active, events));
}

#[test]
fn ack_with_a_larger_serial_is_adopted_and_one_of_another_server_is_not() {
    let clock = Clock::new();
    let mut client = Client::new(client_config(Carrier::Udp));
    client.start(clock.now());
    client.handle_opened(clock.now(), PathId(0), None);
    let sealer = Sealer::new(&key());
    let ack = |server: u64, serial: u64| {
        sealer.seal(
            [8; 12],
            PathAck { server: ServerId(server), serial: PathSerial(serial) }.encode(),
        )
    };
    client.handle_packet(clock.now(), SocketId(0), &ack(23, 9));
    assert_eq!(client.serial(), PathSerial(1), "another server's");
    client.handle_packet(clock.now(), SocketId(0), &ack(22, 9));
    assert_eq!(client.serial(), PathSerial(9));
    assert!(client.active().is_none(), "but that proves nothing");

    let mut buf = Vec::new();
    client.poll_transmit(clock.now(), &mut |b| b.fill(4), &mut buf).expect("an auth packet");
    let auth = sealer.open(&buf).and_then(|plain| PathAuth::decode(&plain)).expect("sealed");
    assert_eq!(auth.serial, PathSerial(9));
    client.handle_packet(clock.now(), SocketId(0), &ack(22, 8));
    assert!(client.active().is_none(), "a smaller one proves nothing either");
    client.handle_packet(clock.now(), SocketId(0), &ack(22, 9));
    assert!(client.active().is_some());
}

#[test]
fn candidates_take_turns_within_the_connect_timeout() {
    let addrs: Vec<SocketAddr> =
        (1..=2).map(|n| SocketAddr::new([10, 0, 0, n].into(), 61001)).collect();
    let clock = Clock::new();
    let mut config = client_config(Carrier::Udp);
    config.candidates = addrs.clone();
    let mut client = Client::new(config);
    client.start(clock.now());
    let mut asked = Vec::new();
    while let Some(at) = client.poll_timeout() {
        while let Some(event) = client.poll_event() {
            if let Event::Open { remote, .. } = event {
                asked.push((clock.elapsed(), remote));
            }
        }
        clock.advance_to(at);
        client.handle_timeout(clock.now());
    }
    // Not much each at first, and more in the second round.
    let turns = [(0, 0), (2, 1), (4, 0), (8, 1)];
    assert_eq!(asked, turns.map(|(at, which)| (at * SECOND, addrs[which])));
}
