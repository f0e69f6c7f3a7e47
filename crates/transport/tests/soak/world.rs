//! Two packet sockets whose packets real proxy machines carry over networks that come and go.
//!
//! What the proxy's driver does with sockets is done here with networks in memory: two of them, each
//! with its own conditions, of which the client is on one. UDP packets may be lost, come twice or
//! out of order; a TCP connection keeps everything and stands still while it is cut, for ever if
//! the client has left the network it was made on. Time is tokio's, paused.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use proto::{ClientId, ServerId};
use proxy::client::{self, Client, RenewReason};
use proxy::server::{self, Server};
use proxy::{
    Carrier, Change, LinkChange, Means, PacketSocket, Path, PathId, ProxyKey, RecvMeta, Route,
    SocketId, Transmit, Verdict,
};
use testkit::{Conditions, Link, Prng};
use tokio::sync::Notify;

pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

/// What an interface of a connection takes before its sender has to wait.
const TCP_QUEUE: usize = 64;

/// Packets that the one who reads too slowly loses, as a system's receive buffer does.
const INBOX: usize = 2_000;

/// Both ends and what is between them.
#[derive(Clone)]
pub(crate) struct World(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something is due at another time than before.
    stirred: Notify,
    /// The client has a new path.
    proven: Notify,
}

struct State {
    client: Client,
    server: Server,
    ends: [End; 2],
    /// Upwards and downwards, per network.
    links: [[Link<Packet>; 2]; 2],
    dark: [bool; 2],
    /// Whether UDP is dropped.
    walled: bool,
    /// The network the client is on, if any.
    place: Option<usize>,
    sockets: BTreeMap<PathId, Socket>,
    /// Connections under way.
    opening: Vec<(Instant, PathId, SocketAddr)>,
    next_port: u16,
    has_failed: bool,
    random: Prng,
    /// What happened, for whoever has to find out why.
    story: Vec<String>,
    start: Instant,
}

#[derive(Clone)]
struct Packet {
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// A socket of the client's.
struct Socket {
    carrier: Carrier,
    network: usize,
    /// What the server takes for its address.
    seen_as: SocketAddr,
    /// A connection's packets, upwards and downwards, and when they arrive.
    queues: [VecDeque<(Instant, Vec<u8>)>; 2],
}

#[derive(Default)]
struct End {
    inbox: VecDeque<(PathId, bool, Vec<u8>)>,
    reader: Option<Waker>,
    changes: VecDeque<LinkChange>,
    link_reader: Option<Waker>,
    writers: Vec<Waker>,
    /// Transmits that were taken, and that were refused for want of room.
    sent: (u64, u64),
}

/// A server that is reached at this address, if at all.
pub(crate) fn server_addr() -> SocketAddr {
    ([203, 0, 113, 9], 61001).into()
}

fn ours(network: usize) -> IpAddr {
    [[192, 0, 2, 1], [198, 51, 100, 1]][network].into()
}

impl World {
    /// Both ends, on the first network; `quiet` is extension `silence`.
    pub(crate) fn new(seed: u64, quiet: bool) -> Self {
        let mut random = Prng::new(seed);
        let key = || ProxyKey::new([42; 32]);
        let (client_id, server_id) = (ClientId(11), ServerId(22));
        let config = client::Config {
            means: vec![Means::UDP, Means::TCP],
            tcp_pipelining: true,
            quiet,
            ..client::Config::new(client_id, server_id, key(), vec![server_addr()])
        };
        let perfect = Conditions::perfect(Duration::from_millis(20));
        let links = [(); 2].map(|()| [(); 2].map(|()| Link::new(perfect, random.next_u64())));
        let start = now();
        let mut state = State {
            client: Client::new(config),
            server: Server::new(server::Config { client_id, server_id, proxy_key: key() }),
            ends: Default::default(),
            links,
            dark: [false; 2],
            walled: false,
            place: Some(0),
            sockets: BTreeMap::new(),
            opening: Vec::new(),
            next_port: 40_000,
            has_failed: false,
            random,
            story: Vec::new(),
            start,
        };
        state.client.start(start);
        let shared =
            Shared { state: Mutex::new(state), stirred: Notify::new(), proven: Notify::new() };
        let world = Self(Arc::new(shared));
        world.with(|_| {});
        tokio::spawn(pump(world.clone()));
        world
    }

    pub(crate) fn socket(&self, end: usize) -> Arc<dyn PacketSocket> {
        Arc::new(Face { world: self.clone(), end })
    }

    /// Tells both machines that the bus is up.
    pub(crate) fn bus_up(&self, quiet: bool) {
        self.with(|state| {
            state.client.handle_heartbeat(now(), now());
            state.server.set_bus_up(now(), Duration::from_secs(3), quiet);
        });
    }

    pub(crate) fn heartbeat(&self, sent_at: Instant) {
        self.with(|state| state.client.handle_heartbeat(now(), sent_at));
    }

    /// Waits until the client has a new path.
    pub(crate) async fn proven(&self) {
        self.0.proven.notified().await;
    }

    /// Sets what becomes of the packets of a network.
    pub(crate) fn set_conditions(&self, network: usize, conditions: Conditions) {
        self.tell(&format!("network {network}: {conditions:?}"), |state| {
            for link in &mut state.links[network] {
                link.conditions = Conditions { blackout: link.conditions.blackout, ..conditions };
            }
        });
    }

    /// Lets nothing pass by a network any more, or everything.
    pub(crate) fn set_dark(&self, network: usize, dark: bool) {
        self.tell(&format!("network {network} dark: {dark}"), |state| {
            state.dark[network] = dark;
            for link in &mut state.links[network] {
                link.conditions.blackout = dark;
                if dark {
                    link.drop_all();
                }
            }
        });
    }

    /// Drops UDP, or lets it pass.
    pub(crate) fn set_walled(&self, walled: bool) {
        self.tell(&format!("UDP dropped: {walled}"), |state| state.walled = walled);
    }

    /// Puts the client on a network, or on none, of which its system tells.
    pub(crate) fn move_to(&self, place: Option<usize>) {
        self.tell(&format!("on network {place:?}"), |state| {
            state.place = place;
            state.client.handle_network(now(), |_| place.map(ours));
        });
    }

    /// Gives the client's sockets other addresses on the outside, of which nobody tells.
    pub(crate) fn rebind(&self) {
        self.tell("rebound", |state| {
            for socket in state.sockets.values_mut().filter(|one| one.carrier == Carrier::Udp) {
                state.next_port += 1;
                socket.seen_as.set_port(state.next_port);
            }
        });
    }

    pub(crate) fn renew(&self) {
        self.tell("renewal", |state| state.client.renew(now(), RenewReason::Requested));
    }

    /// Tells the client that it slept.
    pub(crate) fn slept(&self, slept: Duration) {
        self.tell(&format!("slept for {slept:?}"), |state| {
            state.client.handle_clock_jump(now(), slept);
        });
    }

    /// Notes something in the story.
    pub(crate) fn note(&self, what: &str) {
        self.tell(what, |_| {});
    }

    /// Everything that happened, for a failure's message.
    pub(crate) fn story(&self) -> String {
        let state = self.lock();
        let ends = state.ends.iter().map(|end| {
            let (unread, sent) = (end.inbox.len(), end.sent);
            let waits = (end.reader.is_some(), end.writers.len(), end.changes.len());
            format!("unread {unread}, sent {sent:?}, reader, writers, changes {waits:?}")
        });
        let ends = ends.collect::<Vec<_>>().join("\n");
        let State { story, client, server, .. } = &*state;
        format!("{}\n{ends}\nclient: {client:?}\nserver: {server:?}", story.join("\n"))
    }

    fn tell(&self, what: &str, act: impl FnOnce(&mut State)) {
        self.with(|state| {
            state.note(what);
            act(state);
        });
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        if state.settle() {
            self.0.proven.notify_one();
        }
        drop(state);
        self.0.stirred.notify_one();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

/// Lets time pass: moves packets and fires the machines' timers.
async fn pump(world: World) {
    loop {
        let next = {
            let mut state = world.lock();
            if state.step() {
                world.0.proven.notify_one();
            }
            state.next_event()
        };
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = world.0.stirred.notified() => {}
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl State {
    fn note(&mut self, what: &str) {
        let at = now() - self.start;
        self.story.push(format!("{at:10.3?} {what}"));
    }

    fn is_reachable(&self, network: usize) -> bool {
        !self.dark[network] && self.place == Some(network)
    }

    /// Moves what has arrived and fires timers; returns whether the client has a new path.
    fn step(&mut self) -> bool {
        let now = now();
        for network in 0..2 {
            while let Some(packet) = self.links[network][CLIENT].receive(now) {
                let route = Route::udp(SocketId(0), packet.from, None);
                self.server_receives(&route, packet.bytes);
            }
            while let Some(packet) = self.links[network][SERVER].receive(now) {
                let to = self
                    .sockets
                    .iter()
                    .find(|(_, one)| one.seen_as == packet.from && self.place == Some(one.network));
                if let Some(path) = to.map(|(path, _)| *path) {
                    self.client_receives(path, packet.bytes);
                }
            }
        }
        self.step_connections(now);
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        self.settle()
    }

    fn step_connections(&mut self, now: Instant) {
        let due: Vec<_> = self.opening.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, path, remote) in due {
            if !self.client.knows(path) {
                continue;
            }
            match self.place.filter(|network| self.is_reachable(*network)) {
                Some(network) => {
                    self.open(path, Carrier::Tcp, network);
                    self.client.handle_opened(now, path, Some(ours(network)));
                }
                // As a SYN is sent again.
                None => self.opening.push((now + Duration::from_secs(1), path, remote)),
            }
        }
        let paths: Vec<_> = self.sockets.keys().copied().collect();
        for path in paths {
            for end in [CLIENT, SERVER] {
                while let Some(bytes) = self.next_of_connection(path, end, now) {
                    if end == CLIENT {
                        let Some(route) = self.route_of(path) else { break };
                        self.server_receives(&route, bytes);
                    } else {
                        self.client_receives(path, bytes);
                    }
                }
            }
        }
    }

    fn next_of_connection(&mut self, path: PathId, end: usize, now: Instant) -> Option<Vec<u8>> {
        let network = self.sockets.get(&path)?.network;
        if !self.is_reachable(network) {
            return None;
        }
        let queue = &mut self.sockets.get_mut(&path)?.queues[end];
        queue.front().filter(|(at, _)| *at <= now)?;
        queue.pop_front().map(|(_, bytes)| bytes)
    }

    fn next_event(&self) -> Option<Instant> {
        let arrivals = self.links.iter().flatten().filter_map(Link::next_arrival);
        let reachable = self.sockets.values().filter(|one| self.is_reachable(one.network));
        let queued = reachable.flat_map(|one| &one.queues).filter_map(|queue| queue.front());
        let opening = self.opening.iter().map(|(at, ..)| *at);
        let timers = [self.client.poll_timeout(), self.server.poll_timeout()];
        let queued = queued.map(|(at, _)| *at);
        arrivals.chain(queued).chain(opening).chain(timers.into_iter().flatten()).min()
    }

    fn open(&mut self, path: PathId, carrier: Carrier, network: usize) {
        self.next_port += 1;
        let seen_as = SocketAddr::new(ours(network), self.next_port);
        let queues = Default::default();
        self.sockets.insert(path, Socket { carrier, network, seen_as, queues });
    }

    /// The server's side of a connection.
    fn route_of(&self, path: PathId) -> Option<Route> {
        let socket = self.sockets.get(&path)?;
        Some(Route::tcp(SocketId(path.0 + 1), socket.seen_as, None))
    }

    fn server_receives(&mut self, route: &Route, bytes: Vec<u8>) {
        if let Verdict::Deliver { path, unproven } = self.server.handle_packet(now(), route, &bytes)
        {
            self.ends[SERVER].put(path, unproven, bytes);
        }
        self.settle();
    }

    fn client_receives(&mut self, path: PathId, bytes: Vec<u8>) {
        let verdict = self.client.handle_packet(now(), SocketId(path.0), &bytes);
        if let Verdict::Deliver { path, unproven } = verdict {
            self.ends[CLIENT].put(path, unproven, bytes);
        }
        self.settle();
    }

    /// Does what the drivers do after each way in; returns whether the client has a new path.
    fn settle(&mut self) -> bool {
        let mut proven = false;
        loop {
            let mut busy = false;
            while let Some(event) = self.client.poll_event() {
                busy = true;
                proven |= matches!(event, client::Event::Proven { .. });
                self.on_client_event(event);
            }
            while let Some(event) = self.server.poll_event() {
                busy = true;
                self.on_server_event(event);
            }
            busy |= self.transmit_due();
            if !busy {
                break;
            }
        }
        for end in [CLIENT, SERVER] {
            if self.is_writable(end) {
                self.ends[end].writers.drain(..).for_each(Waker::wake);
            }
        }
        proven
    }

    fn transmit_due(&mut self) -> bool {
        let (now, mut buf, mut busy) = (now(), Vec::new(), false);
        let random = &mut self.random;
        let mut due = Vec::new();
        while let Some(path) = self.client.poll_transmit(now, &mut |b| random.fill(b), &mut buf) {
            due.push((CLIENT, path, buf.clone()));
        }
        while let Some(path) = self.server.poll_transmit(now, &mut |b| random.fill(b), &mut buf) {
            due.push((SERVER, path, buf.clone()));
        }
        for (end, path, bytes) in due {
            busy = true;
            self.transmit(end, &path, bytes);
        }
        busy
    }

    fn on_client_event(&mut self, event: client::Event) {
        self.note(&format!("client: {event:?}"));
        match event {
            client::Event::Open { path, means, remote } => match (means.carrier, self.place) {
                (_, None) => self.client.handle_failed(now(), path, "unreachable".into()),
                (Carrier::Udp, Some(network)) => {
                    self.open(path, Carrier::Udp, network);
                    self.client.handle_opened(now(), path, Some(ours(network)));
                }
                (Carrier::Tcp, Some(network)) => {
                    let trip = 2 * self.links[network][CLIENT].conditions.delay;
                    self.opening.push((now() + trip, path, remote));
                }
            },
            client::Event::Close { path } => {
                let route = self.route_of(path);
                self.opening.retain(|(_, opening, _)| *opening != path);
                let Some(socket) = self.sockets.remove(&path) else { return };
                if socket.carrier == Carrier::Tcp && self.is_reachable(socket.network) {
                    route.iter().for_each(|route| self.server.handle_failed(route));
                }
            }
            client::Event::Proven { change, .. } => self.on_change(CLIENT, change),
            client::Event::AttemptFailed { .. } => self.has_failed = true,
            client::Event::Lost { .. } => self.push(CLIENT, LinkChange::Lost),
            client::Event::ConnectFailed { .. } => panic!("no first path"),
        }
    }

    fn on_server_event(&mut self, event: server::Event) {
        self.note(&format!("server: {event:?}"));
        let restored = |same_network| LinkChange::Restored { same_network };
        match event {
            server::Event::Proven { change, .. } => self.on_change(SERVER, change),
            server::Event::Recovered => self.push(SERVER, restored(true)),
            server::Event::Knock => self.push(SERVER, restored(false)),
            server::Event::Lost => self.push(SERVER, LinkChange::Lost),
            server::Event::Close { path } => {
                let path = PathId(path.route.socket.0.wrapping_sub(1));
                let network = self.sockets.get(&path).map(|one| one.network);
                if network.is_some_and(|network| self.is_reachable(network)) {
                    self.sockets.remove(&path);
                    self.client.handle_failed(now(), path, "closed by the server".into());
                }
            }
            server::Event::Silent | server::Event::Back | server::Event::Goodbye => {}
        }
    }

    fn on_change(&mut self, end: usize, change: Change) {
        match change {
            Change::First if end == CLIENT && self.has_failed => {
                self.push(end, LinkChange::Moved { same_network: false });
            }
            Change::First => {}
            Change::Moved { same_network } => self.push(end, LinkChange::Moved { same_network }),
            Change::Restored { same_network } => {
                self.push(end, LinkChange::Restored { same_network });
            }
        }
    }

    fn push(&mut self, end: usize, change: LinkChange) {
        let end = &mut self.ends[end];
        if change == LinkChange::Lost {
            end.changes.clear();
        }
        end.changes.push_back(change);
        end.link_reader.take().into_iter().for_each(Waker::wake);
    }

    /// Puts a packet on its way, wherever that leads.
    fn transmit(&mut self, end: usize, path: &Path, bytes: Vec<u8>) {
        let now = now();
        let Route { carrier, remote, .. } = path.route;
        let found = match end {
            CLIENT => self.sockets.iter().find(|(id, _)| id.0 == path.route.socket.0),
            _ => self.sockets.iter().find(|(_, one)| one.seen_as == remote),
        };
        let Some((id, socket)) = found.map(|(id, socket)| (*id, socket)) else { return };
        let (network, from) = (socket.network, socket.seen_as);
        match carrier {
            Carrier::Udp if self.walled || self.place != Some(network) => {}
            Carrier::Udp => self.links[network][end].send(now, Packet { from, bytes }),
            Carrier::Tcp => {
                let conditions = self.links[network][end].conditions;
                // What is lost is sent again, and what follows waits for it.
                let lost = self.random.chance(conditions.loss);
                let late = if lost { Duration::from_millis(200) } else { Duration::ZERO };
                let Some(socket) = self.sockets.get_mut(&id) else { return };
                let queue = &mut socket.queues[end];
                let at = now + conditions.delay + late;
                let at = queue.back().map_or(at, |(last, _)| at.max(*last));
                queue.push_back((at, bytes));
            }
        }
    }

    /// Whether a connection's queue has room.
    fn has_room(&self, end: usize, path: &Path) -> bool {
        let id = match end {
            CLIENT => path.route.socket.0,
            _ => path.route.socket.0.wrapping_sub(1),
        };
        let socket = self.sockets.get(&PathId(id)).filter(|_| path.route.carrier == Carrier::Tcp);
        socket.is_none_or(|socket| socket.queues[end].len() < TCP_QUEUE)
    }

    fn is_writable(&self, end: usize) -> bool {
        let routes = if end == CLIENT { self.client.routes() } else { self.server.routes() };
        match (routes.active, routes.pending) {
            (Some(active), _) => self.has_room(end, &active),
            (None, Some(pending)) => {
                pending.allowance_bytes >= 1500 && self.has_room(end, &pending.path)
            }
            (None, None) => false,
        }
    }

    fn send(&mut self, end: usize, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = now();
        let routes = if end == CLIENT { self.client.routes() } else { self.server.routes() };
        if !self.is_writable(end) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some(path) = routes.active {
            for packet in transmit.packets() {
                self.transmit(end, &path, packet.to_vec());
            }
            match end {
                CLIENT => self.client.handle_sent(now, transmit.packets()),
                _ => self.server.handle_sent(now, transmit.packets()),
            }
        }
        let Some(pending) = routes.pending else { return Ok(()) };
        let mut allowance = pending.allowance_bytes;
        for packet in transmit.packets() {
            let bytes = packet.len() as u64;
            if bytes > allowance || !self.has_room(end, &pending.path) {
                continue;
            }
            allowance -= bytes;
            self.transmit(end, &pending.path, packet.to_vec());
            match end {
                CLIENT => self.client.handle_copied(pending.path.id, bytes),
                _ => self.server.handle_copied(pending.path.id, bytes),
            }
        }
        Ok(())
    }
}

impl End {
    fn put(&mut self, path: PathId, unproven: bool, bytes: Vec<u8>) {
        if self.inbox.len() < INBOX {
            self.inbox.push_back((path, unproven, bytes));
        }
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

/// One end, as its transport sees it.
struct Face {
    world: World,
    end: usize,
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Face")
    }
}

impl PacketSocket for Face {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.world.with(|state| {
            let sent = state.send(self.end, transmit);
            let count = &mut state.ends[self.end].sent;
            if sent.is_ok() {
                count.0 += 1
            } else {
                count.1 += 1
            }
            sent
        })
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.world.lock();
        if state.is_writable(self.end) {
            return Poll::Ready(Ok(()));
        }
        state.ends[self.end].writers.push(cx.waker().clone());
        Poll::Pending
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.world.lock();
        let end = &mut state.ends[self.end];
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            // One that is not proven comes alone.
            if end.inbox.front().is_some_and(|(_, unproven, _)| *unproven && filled > 0) {
                break;
            }
            let Some((path, unproven, bytes)) = end.inbox.pop_front() else { break };
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            *meta = RecvMeta { len, stride: len, path, unproven };
            filled += 1;
            if unproven {
                break;
            }
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        end.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_link(&self, cx: &mut Context<'_>) -> Poll<LinkChange> {
        let end = &mut self.world.lock().ends[self.end];
        match end.changes.pop_front() {
            Some(change) => Poll::Ready(change),
            None => {
                end.link_reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn packet_accepted(&self, path: PathId) {
        self.world.with(|state| match self.end {
            CLIENT => state.client.handle_accepted(now(), path),
            _ => state.server.handle_accepted(now(), path),
        });
    }

    fn max_transmit_segments(&self) -> usize {
        10
    }
}
