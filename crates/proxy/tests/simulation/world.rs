//! [`World`]: a client machine, a server machine and the network between them.
//!
//! The client lives on one network at a time; each network is a pair of lossy
//! links and can go dark on its own. Every socket of the client has an address
//! of its own, as a NAT would show it. At both ends sits a toy transport that
//! accepts exactly the genuine packets, each once, as QUIC does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::{ClientId, ServerId};
use testkit::{Clock, Conditions, Link, Prng};
use tssh_proxy::client::{self, Client};
use tssh_proxy::server::{self, Server};
use tssh_proxy::{Carrier, Means, PathId, ProxyKey, Route, SocketId, Verdict};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Where the client can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Network {
    Wifi,
    Cellular,
}

impl Network {
    fn ip(self) -> IpAddr {
        match self {
            Self::Wifi => [192, 0, 2, 1].into(),
            Self::Cellular => [198, 51, 100, 1].into(),
        }
    }
}

pub(crate) fn server_addr() -> SocketAddr {
    SocketAddr::new([203, 0, 113, 9].into(), 61001)
}

pub(crate) fn key() -> ProxyKey {
    ProxyKey::new([42; 32])
}

pub(crate) fn client_config(carrier: Carrier) -> client::Config {
    let candidates = vec![server_addr()];
    client::Config {
        means: vec![Means::socket(carrier)],
        tcp_pipelining: true,
        ..client::Config::new(ClientId(11), ServerId(22), key(), candidates)
    }
}

pub(crate) fn server_config() -> server::Config {
    server::Config { client_id: ClientId(11), server_id: ServerId(22), proxy_key: key() }
}

/// A packet under way, with the client socket it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) client_addr: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// One end's toy transport.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    pub(crate) received: Vec<u64>,
    seen: BTreeSet<u64>,
    /// Sent but refused by the proxy, for want of a path.
    pub(crate) held_back: VecDeque<Vec<u8>>,
}

/// Marks the numbers of answers.
const ANSWER: u64 = 1 << 32;

const GENUINE: &[u8] = b"a genuine packet, number ";

pub(crate) fn genuine(number: u64) -> Vec<u8> {
    [GENUINE, &number.to_be_bytes()].concat()
}

impl Transport {
    /// Whether the packet verifies and is new.
    fn accepts(&mut self, bytes: &[u8]) -> bool {
        let number = bytes.strip_prefix(GENUINE).and_then(|n| n.try_into().ok());
        let Some(number) = number.map(u64::from_be_bytes) else { return false };
        let new = self.seen.insert(number);
        if new {
            self.received.push(number);
        }
        new
    }

    /// Whether what came last is no answer itself.
    fn wants_answer(&self) -> bool {
        self.received.last().is_some_and(|number| *number < ANSWER)
    }
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) client_transport: Transport,
    pub(crate) server_transport: Transport,
    pub(crate) client_events: Vec<(Duration, client::Event)>,
    pub(crate) server_events: Vec<(Duration, server::Event)>,
    /// Upwards and downwards, per network.
    pub(crate) links: BTreeMap<Network, [Link<Packet>; 2]>,
    /// Where new sockets of the client are opened.
    pub(crate) at: Network,
    /// The client's open sockets: where, from which address of ours, to which of the server's.
    sockets: BTreeMap<SocketId, (Network, SocketAddr, SocketAddr)>,
    /// Whether acks are lost.
    pub(crate) lose_acks: bool,
    /// Whether the ends' transports answer every genuine packet, as an
    /// acknowledgement would.
    pub(crate) client_answers: bool,
    pub(crate) server_answers: bool,
    /// Bytes the server sent to each address, and got from it.
    pub(crate) server_sent: BTreeMap<SocketAddr, usize>,
    pub(crate) server_got: BTreeMap<SocketAddr, usize>,
    /// What carries packets of each address of the client.
    carriers: BTreeMap<SocketAddr, Carrier>,
    /// Drops everything that this carries.
    pub(crate) firewall: Option<Carrier>,
    /// Drops everything to and from this address of the server's.
    pub(crate) out_of_reach: Option<SocketAddr>,
    random: Prng,
    answers: u64,
    /// What was sent: when, by whom, how many bytes.
    pub(crate) trace: Vec<(Duration, &'static str, usize)>,
}

impl World {
    /// Both ends on a network with these conditions each way; nothing started.
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        Self::with_carrier(seed, conditions, Carrier::Udp)
    }

    pub(crate) fn with_carrier(seed: u64, conditions: Conditions, carrier: Carrier) -> Self {
        let mut random = Prng::new(seed);
        let mut pair = || [(); 2].map(|()| Link::new(conditions, random.next_u64()));
        let links = [(Network::Wifi, pair()), (Network::Cellular, pair())].into();
        Self {
            clock: Clock::new(),
            client: Client::new(client_config(carrier)),
            server: Server::new(server_config()),
            client_transport: Transport::default(),
            server_transport: Transport::default(),
            client_events: Vec::new(),
            server_events: Vec::new(),
            links,
            at: Network::Wifi,
            sockets: BTreeMap::new(),
            lose_acks: false,
            client_answers: false,
            server_answers: false,
            server_sent: BTreeMap::new(),
            server_got: BTreeMap::new(),
            carriers: BTreeMap::new(),
            firewall: None,
            out_of_reach: None,
            random,
            answers: 0,
            trace: Vec::new(),
        }
    }

    /// A world in which both ends have a path and the bus is up.
    pub(crate) fn connected(seed: u64, conditions: Conditions) -> Self {
        Self::connected_by(seed, conditions, Carrier::Udp)
    }

    pub(crate) fn connected_by(seed: u64, conditions: Conditions, carrier: Carrier) -> Self {
        Self::with_carrier(seed, conditions, carrier).connect()
    }

    /// Gives both ends of a world in which nothing has happened yet a path, and the bus.
    pub(crate) fn connect(self) -> Self {
        let mut world = self;
        world.start();
        for number in 0.. {
            world.client_sends(number);
            world.server_sends(number);
            world.run_for(100 * MS);
            if world.server.active().is_some() && !world.client_transport.received.is_empty() {
                break;
            }
            assert!(number < 90, "no first path: {:?}", world.client_events);
        }
        world.bus_up();
        world
    }

    /// A world whose client has all means, best first, and which has not started. What is accepted
    /// is acknowledged.
    pub(crate) fn with_all_means(seed: u64, conditions: Conditions) -> Self {
        let mut world = Self::with_carrier(seed, conditions, Carrier::Udp);
        let means = vec![Means::UDP, Means::TCP, Means::wire(Carrier::Tcp)];
        world.client = Client::new(client::Config { means, ..client_config(Carrier::Udp) });
        (world.client_answers, world.server_answers) = (true, true);
        world
    }

    /// A connected world of two peers that are silent when they have nothing to say, and whose
    /// transports acknowledge.
    pub(crate) fn quiet(seed: u64, conditions: Conditions) -> Self {
        Self::quiet_by(seed, conditions, Carrier::Udp)
    }

    pub(crate) fn quiet_by(seed: u64, conditions: Conditions, carrier: Carrier) -> Self {
        let mut world = Self::with_carrier(seed, conditions, carrier);
        let config = client::Config { quiet: true, ..client_config(carrier) };
        world.client = Client::new(config);
        (world.client_answers, world.server_answers) = (true, true);
        world.start();
        world.client_sends(0);
        world.server_sends(0);
        world.run_for(SECOND);
        let now = world.clock.now();
        world.client.handle_heartbeat(now, now);
        world.server.set_bus_up(now, 3 * SECOND, true);
        world
    }

    pub(crate) fn start(&mut self) {
        self.client.start(self.clock.now());
        self.settle();
    }

    pub(crate) fn bus_up(&mut self) {
        let now = self.clock.now();
        self.client.handle_heartbeat(now, now);
        self.server.set_bus_up(now, 3 * SECOND, false);
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The client's address on the path that the server uses.
    pub(crate) fn served_addr(&self) -> Option<SocketAddr> {
        self.server.active().map(|path| path.route.remote)
    }

    /// The client's address on the path that the client uses.
    pub(crate) fn used_addr(&self) -> Option<SocketAddr> {
        let path = self.client.active()?;
        self.sockets.get(&path.route.socket).map(|(_, addr, _)| *addr)
    }

    /// The network behind the path that the server uses.
    pub(crate) fn served_network(&self) -> Option<Network> {
        let ip = self.served_addr()?.ip();
        [Network::Wifi, Network::Cellular].into_iter().find(|n| n.ip() == ip)
    }

    /// The client's transport sends the genuine packet with this number; held
    /// back while there is no path.
    pub(crate) fn client_sends(&mut self, number: u64) {
        self.client_transport.held_back.push_back(genuine(number));
        self.settle();
    }

    pub(crate) fn server_sends(&mut self, number: u64) {
        self.server_transport.held_back.push_back(genuine(number));
        self.settle();
    }

    /// The client's transport sends an acknowledgement, which nobody answers.
    pub(crate) fn client_acknowledges(&mut self) {
        let number = self.next_answer();
        self.client_sends(number);
    }

    pub(crate) fn server_acknowledges(&mut self) {
        let number = self.next_answer();
        self.server_sends(number);
    }

    fn next_answer(&mut self) -> u64 {
        self.answers += 1;
        ANSWER | (self.answers - 1)
    }

    /// A packet reaches the server from an address that is not the client's.
    pub(crate) fn inject(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.server_receives(Packet { client_addr: from, bytes: bytes.to_vec() });
        self.settle();
    }

    /// The client is on another network from now on, and its system says so.
    pub(crate) fn move_to(&mut self, network: Network) {
        self.at = network;
        self.client.handle_network(self.now(), |_| Some(network.ip()));
        self.settle();
    }

    /// The client has no network any more, and its system says so.
    pub(crate) fn unplug(&mut self) {
        self.client.handle_network(self.now(), |_| None);
        self.settle();
    }

    pub(crate) fn go_dark(&mut self, network: Network, dark: bool) {
        for link in self.links.get_mut(&network).into_iter().flatten() {
            link.conditions.blackout = dark;
            if dark {
                link.drop_all();
            }
        }
    }

    /// Runs until `done`; panics if that takes longer than `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now() + limit;
        self.settle();
        while !done(self) {
            let next = self.next_event();
            assert!(
                next.is_some_and(|at| at <= end),
                "not within {limit:?}; client: {:?}\nserver: {:?}",
                self.client_events,
                self.server_events
            );
            self.step(next.expect("just checked"));
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now() + time;
        self.settle();
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.step(at);
        }
        self.clock.advance_to(end);
        self.settle();
    }

    /// Lets each end send a packet every second, numbered from `first`.
    pub(crate) fn live_for(&mut self, time: Duration, first: u64) {
        for n in 0..time.as_secs() {
            self.client_sends(first + n);
            self.server_sends(first + n);
            self.run_for(SECOND);
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let arrivals = self.links.values().flatten().filter_map(Link::next_arrival);
        let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
        arrivals.chain(timers.into_iter().flatten()).min()
    }

    fn step(&mut self, at: Instant) {
        self.clock.advance_to(at);
        let now = self.now();
        for network in [Network::Wifi, Network::Cellular] {
            while let Some(packet) = self.links.get_mut(&network).and_then(|l| l[0].receive(now)) {
                self.server_receives(packet);
            }
            while let Some(packet) = self.links.get_mut(&network).and_then(|l| l[1].receive(now)) {
                self.client_receives(&packet);
            }
        }
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        self.settle();
        for timer in [self.client.poll_timeout(), self.server.poll_timeout()] {
            assert!(timer.is_none_or(|at| at > now), "a timer that is due stays due");
        }
    }

    fn server_route(&self, client_addr: SocketAddr) -> Route {
        match self.carriers.get(&client_addr).copied().unwrap_or(Carrier::Udp) {
            Carrier::Udp => Route::udp(SocketId(0), client_addr, None),
            // Every connection is a socket of its own.
            Carrier::Tcp => Route::tcp(SocketId(client_addr.port().into()), client_addr, None),
        }
    }

    fn server_receives(&mut self, packet: Packet) {
        let Packet { client_addr, bytes } = packet;
        *self.server_got.entry(client_addr).or_default() += bytes.len();
        let (now, route) = (self.now(), self.server_route(client_addr));
        if let Verdict::Deliver { path, .. } = self.server.handle_packet(now, &route, &bytes)
            && self.server_transport.accepts(&bytes)
        {
            self.server.handle_accepted(now, path);
            if self.server_answers && self.server_transport.wants_answer() {
                let answer = genuine(self.next_answer());
                self.server_transport.held_back.push_back(answer);
            }
        }
        // At once: what is sent must not be counted to what comes later.
        self.settle();
    }

    fn client_receives(&mut self, packet: &Packet) {
        let socket = self.sockets.iter().find(|(_, (_, addr, _))| *addr == packet.client_addr);
        let Some((&socket, _)) = socket else { return };
        let now = self.now();
        if let Verdict::Deliver { path, .. } = self.client.handle_packet(now, socket, &packet.bytes)
            && self.client_transport.accepts(&packet.bytes)
        {
            self.client.handle_accepted(now, path);
            if self.client_answers && self.client_transport.wants_answer() {
                let answer = genuine(self.next_answer());
                self.client_transport.held_back.push_back(answer);
            }
        }
        self.settle();
    }

    /// Does what the drivers do after each way in.
    pub(crate) fn settle(&mut self) {
        loop {
            let busy = self.settle_client() | self.settle_server();
            if !busy {
                return;
            }
        }
    }

    fn settle_client(&mut self) -> bool {
        let (now, at) = (self.now(), self.clock.elapsed());
        let mut busy = false;
        while let Some(event) = self.client.poll_event() {
            busy = true;
            match &event {
                client::Event::Open { path, means, remote } => {
                    let port = 40_000 + u16::try_from(path.0).expect("few paths");
                    let addr = SocketAddr::new(self.at.ip(), port);
                    self.carriers.insert(addr, means.carrier);
                    self.sockets.insert(SocketId(path.0), (self.at, addr, *remote));
                    self.client.handle_opened(now, *path, Some(self.at.ip()));
                }
                client::Event::Close { path } => {
                    self.sockets.remove(&SocketId(path.0));
                }
                _ => {}
            }
            self.client_events.push((at, event));
        }
        let mut buf = Vec::new();
        while let Some(path) =
            self.client.poll_transmit(now, &mut |bytes| self.random.fill(bytes), &mut buf)
        {
            busy = true;
            self.client_transmits(path.route.socket, buf.clone());
        }
        while let Some(bytes) = self.client_transport.held_back.front().cloned() {
            let routes = self.client.routes();
            let Some(path) = routes.active else { break };
            self.client_transport.held_back.pop_front();
            self.client_transmits(path.route.socket, bytes.clone());
            // Where nothing is ever answered, its lack means nothing.
            if self.server_answers {
                self.client.handle_sent(now, std::iter::once(&*bytes));
            }
            if let Some(pending) = routes.pending
                && pending.allowance_bytes >= bytes.len() as u64
            {
                self.client.handle_copied(pending.path.id, bytes.len() as u64);
                self.client_transmits(pending.path.route.socket, bytes);
            }
            busy = true;
        }
        busy
    }

    fn client_transmits(&mut self, socket: SocketId, bytes: Vec<u8>) {
        let Some(&(network, client_addr, _)) = self.sockets.get(&socket) else { return };
        self.trace.push((self.clock.elapsed(), "client", bytes.len()));
        if self.is_blocked(client_addr) {
            return;
        }
        let now = self.now();
        if let Some([up, _]) = self.links.get_mut(&network) {
            up.send(now, Packet { client_addr, bytes });
        }
    }

    /// Whether nothing passes between this address of the client's and the one it leads to.
    fn is_blocked(&self, client_addr: SocketAddr) -> bool {
        let socket = self.sockets.values().find(|(_, addr, _)| *addr == client_addr);
        let remote = socket.map(|(.., remote)| *remote);
        (self.firewall.is_some() && self.firewall == self.carriers.get(&client_addr).copied())
            || (self.out_of_reach.is_some() && self.out_of_reach == remote)
    }

    fn settle_server(&mut self) -> bool {
        let (now, at) = (self.now(), self.clock.elapsed());
        let mut busy = false;
        while let Some(event) = self.server.poll_event() {
            busy = true;
            self.server_events.push((at, event));
        }
        let mut buf = Vec::new();
        while let Some(path) =
            self.server.poll_transmit(now, &mut |bytes| self.random.fill(bytes), &mut buf)
        {
            busy = true;
            if !self.lose_acks {
                self.server_transmits(path.route.remote, buf.clone());
            }
        }
        while let Some(bytes) = self.server_transport.held_back.front().cloned() {
            let routes = self.server.routes();
            let pending = routes.pending.filter(|p| p.allowance_bytes >= bytes.len() as u64);
            if routes.active.is_none() && pending.is_none() {
                break;
            }
            self.server_transport.held_back.pop_front();
            busy = true;
            if let Some(path) = routes.active {
                self.server_transmits(path.route.remote, bytes.clone());
                if self.client_answers {
                    self.server.handle_sent(now, std::iter::once(&*bytes));
                }
            }
            if let Some(pending) = pending {
                self.server.handle_copied(pending.path.id, bytes.len() as u64);
                self.server_transmits(pending.path.route.remote, bytes);
            }
        }
        busy
    }

    fn server_transmits(&mut self, client_addr: SocketAddr, bytes: Vec<u8>) {
        *self.server_sent.entry(client_addr).or_default() += bytes.len();
        if self.is_blocked(client_addr) {
            return;
        }
        let network =
            [Network::Wifi, Network::Cellular].into_iter().find(|n| n.ip() == client_addr.ip());
        let now = self.now();
        if let Some([_, down]) = network.and_then(|network| self.links.get_mut(&network)) {
            down.send(now, Packet { client_addr, bytes });
        }
    }

    pub(crate) fn client_was(&self, wanted: impl Fn(&client::Event) -> bool) -> Option<Duration> {
        self.client_events.iter().find(|(_, event)| wanted(event)).map(|(at, _)| *at)
    }

    pub(crate) fn client_path(&self) -> Option<PathId> {
        self.client.active().map(|path| path.id)
    }
}
