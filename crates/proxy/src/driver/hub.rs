//! The hub: one machine and its sockets under one lock, seen as a [`PacketSocket`].
//!
//! What differs between client and server is behind [`Half`]. Every way into a
//! half is followed by [`Hub::settle`], which sends what is due, carries out
//! its actions and makes sure that the timer fires in time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use quinn_udp::BATCH_SIZE;
use tokio::net::{TcpListener, TcpStream};

use super::clock::{self, SleepWatch};
use super::tcp::TcpPort;
use super::udp::{UdpPort, is_loss};
use super::wake::WakeList;
use crate::path::{Carrier, Path, Route, Routes, SocketId, Verdict};
use crate::socket::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
use crate::timers::{TCP_AUTH_TIMEOUT, TCP_UNAUTHENTICATED_MAX};

/// Packets offered in one [`Transmit`]. A kernel takes up to 64; beyond a
/// handful the gain is small, and bursts hurt on real links.
const TRANSMIT_SEGMENTS: usize = 16;

/// Reads without result (garbage, proxy packets) before others get their turn.
const READS_PER_TURN: usize = 32;

/// Finds out the server's addresses, best first, before the path is renewed
/// after an outage: names may lead elsewhere by then. An empty answer changes
/// nothing.
pub type Resolver = Arc<dyn Fn() -> Resolving + Send + Sync>;

/// What a [`Resolver`] returns.
pub type Resolving = Pin<Box<dyn Future<Output = Vec<SocketAddr>> + Send>>;

/// What a half wants done.
pub(super) enum Action {
    /// Tell the transport.
    Link(LinkChange),
    /// Find out the peer's addresses, and report them.
    Resolve(Resolver),
    /// Open a socket and report it.
    Open { path: PathId, carrier: Carrier, remote: SocketAddr },
    /// Close a socket.
    Close(SocketId),
    /// Close everything.
    End,
}

/// The client or the server machine with its face to the owner.
pub(super) trait Half: Debug + Send + 'static {
    fn handle_packet(&mut self, now: Instant, from: &Route, packet: &[u8]) -> Verdict;
    fn handle_accepted(&mut self, now: Instant, path: PathId);
    fn handle_copied(&mut self, path: PathId, bytes: u64);
    fn handle_timeout(&mut self, now: Instant);
    /// The machine slept.
    fn handle_clock_jump(&mut self, now: Instant, slept: Duration);
    /// A socket failed; it is closed already if it was a TCP connection.
    fn handle_failed(&mut self, now: Instant, route: &Route, error: &io::Error);
    /// An [`Action::Open`] was carried out.
    fn handle_opened(&mut self, now: Instant, path: PathId, opened: io::Result<Option<IpAddr>>);
    /// An [`Action::Resolve`] was carried out.
    fn handle_resolved(&mut self, candidates: Vec<SocketAddr>);
    fn poll_transmit(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut(&mut [u8]),
        buf: &mut Vec<u8>,
    ) -> Option<Path>;
    fn poll_action(&mut self) -> Option<Action>;
    fn poll_timeout(&self) -> Option<Instant>;
    fn routes(&self) -> Routes;
    /// Whether a path leads to this socket.
    fn knows(&self, route: &Route) -> bool;
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Hub<H: Half> {
    shared: Mutex<Shared<H>>,
    me: Weak<Self>,
    receive_segments: usize,
}

#[derive(Debug)]
pub(super) struct Shared<H> {
    pub(super) half: H,
    ports: BTreeMap<SocketId, Port>,
    listeners: Vec<TcpListener>,
    next_socket: u64,
    /// The socket that is read next, so that none starves.
    turn: SocketId,
    /// Nothing is read while packets wait, so there are never more than what
    /// one read of each socket brings.
    waiting: VecDeque<Waiting>,
    links: VecDeque<LinkChange>,
    closed: bool,
    /// A send found no room; cleared when there is room again.
    blocked: bool,
    /// What the background task waits for at the latest.
    armed: Option<Instant>,
    background: Option<Waker>,
    reader: WakeList,
    writers: WakeList,
    link_reader: Option<Waker>,
    scratch: Vec<u8>,
    sleep: SleepWatch,
}

#[derive(Debug)]
enum Port {
    Udp { port: UdpPort, route: Option<Route> },
    Tcp { port: TcpPort, route: Route, expires: Option<Instant> },
}

/// A packet that could not be handed over where it was read.
#[derive(Debug)]
struct Waiting {
    path: PathId,
    unproven: bool,
    packet: Vec<u8>,
}

impl<H: Half> Hub<H> {
    /// Creates a hub without sockets. Must be called within a tokio runtime.
    pub(super) fn new(half: H) -> Arc<Self> {
        // What the system can do is the same for all sockets of the process;
        // a throw-away one tells, before there is any path.
        let receive_segments = UdpPort::connect((std::net::Ipv4Addr::LOCALHOST, 9).into())
            .map_or(64, |port| port.receive_segments());
        let hub = Arc::new_cyclic(|me| Self {
            shared: Mutex::new(Shared {
                half,
                ports: BTreeMap::new(),
                listeners: Vec::new(),
                next_socket: 0,
                turn: SocketId(0),
                waiting: VecDeque::new(),
                links: VecDeque::new(),
                closed: false,
                blocked: false,
                armed: None,
                background: None,
                reader: WakeList::default(),
                writers: WakeList::default(),
                link_reader: None,
                scratch: Vec::new(),
                sleep: SleepWatch::default(),
            }),
            me: me.clone(),
            receive_segments,
        });
        tokio::spawn(background(hub.me.clone()));
        hub
    }

    fn lock(&self) -> MutexGuard<'_, Shared<H>> {
        // A panic elsewhere does not make the state wrong: all changes are
        // complete before foreign code (wakers) runs.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on the half and then does what it asks for.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut H, Instant) -> R) -> R {
        let mut shared = self.lock();
        let now = shared.now();
        let result = f(&mut shared.half, now);
        self.settle(&mut shared, now);
        result
    }

    /// Looks at the half.
    pub(super) fn look<R>(&self, f: impl FnOnce(&H) -> R) -> R {
        f(&self.lock().half)
    }

    /// Serves a bound UDP socket.
    pub(super) fn add_udp(&self, socket: std::net::UdpSocket) -> io::Result<()> {
        let port = UdpPort::bound(socket)?;
        let mut shared = self.lock();
        let id = shared.new_socket();
        shared.add(id, Port::Udp { port, route: None });
        Ok(())
    }

    /// Serves a TCP listener.
    pub(super) fn add_listener(&self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut shared = self.lock();
        shared.listeners.push(listener);
        shared.reader.wake();
        Ok(())
    }

    /// Returns the local address of the socket a path uses.
    pub(super) fn local_addr(&self, path: &Path) -> Option<SocketAddr> {
        match self.lock().ports.get(&path.route.socket)? {
            Port::Udp { port, .. } => port.local_addr().ok(),
            Port::Tcp { port, .. } => port.local_addr().ok(),
        }
    }

    /// Closes all sockets; everybody who waits is told.
    pub(super) fn close(&self) {
        self.lock().close();
    }

    /// Sends what is due, carries out actions, sees to the timer.
    fn settle(&self, shared: &mut Shared<H>, now: Instant) {
        loop {
            if let Some(action) = shared.half.poll_action() {
                self.act(shared, now, action);
                continue;
            }
            let mut packet = std::mem::take(&mut shared.scratch);
            let path = shared.half.poll_transmit(now, &mut random, &mut packet);
            if let Some(path) = path {
                let transmit = Transmit { contents: &packet, segment_size: None };
                // No room or a transient error: it is lost, and repeated soon.
                if let Err(error) = shared.send_on(now, &path, &transmit) {
                    tracing::trace!(path = %path.id, %error, "proxy packet not sent");
                }
            }
            shared.scratch = packet;
            if path.is_none() {
                break;
            }
        }
        if shared.is_writable() {
            shared.writers.wake();
        }
        let due = shared.next_timeout();
        if due.is_some_and(|due| shared.armed.is_none_or(|armed| due < armed))
            && let Some(task) = shared.background.take()
        {
            task.wake();
        }
    }

    fn act(&self, shared: &mut Shared<H>, now: Instant, action: Action) {
        match action {
            Action::Link(change) => shared.push_link(change),
            Action::Close(socket) => shared.remove(socket),
            Action::End => shared.close(),
            Action::Resolve(resolver) => {
                let me = self.me.clone();
                tokio::spawn(async move {
                    let found = resolver().await;
                    if let Some(hub) = me.upgrade() {
                        hub.with(|half, _| half.handle_resolved(found));
                    }
                });
            }
            Action::Open { path, carrier: Carrier::Udp, remote } => {
                let opened = UdpPort::connect(remote).map(|port| {
                    let local = port.local_addr().ok().map(|addr| addr.ip());
                    let route =
                        Route { local_ip: local, ..Route::udp(SocketId(path.0), remote, None) };
                    shared.add(SocketId(path.0), Port::Udp { port, route: Some(route) });
                    local
                });
                shared.half.handle_opened(now, path, opened);
            }
            Action::Open { path, carrier: Carrier::Tcp, remote } => {
                let me = self.me.clone();
                // Ends with the attempt: the hub gives up on it by its own
                // timer and then finds no attempt to add the socket to.
                tokio::spawn(async move {
                    let stream = TcpStream::connect(remote).await.and_then(TcpPort::new);
                    if let Some(hub) = me.upgrade() {
                        hub.on_connected(path, remote, stream);
                    }
                });
            }
        }
    }

    fn on_connected(&self, path: PathId, remote: SocketAddr, port: io::Result<TcpPort>) {
        let mut shared = self.lock();
        let now = shared.now();
        let socket = SocketId(path.0);
        let opened = port.map(|port| {
            let local = port.local_addr().ok().map(|addr| addr.ip());
            let route = Route::tcp(socket, remote, local);
            shared.add(socket, Port::Tcp { port, route, expires: None });
            local
        });
        shared.half.handle_opened(now, path, opened);
        let stale = match shared.ports.get(&socket) {
            Some(Port::Tcp { route, .. }) => !shared.half.knows(&route.clone()),
            _ => false,
        };
        if stale {
            shared.remove(socket);
        }
        self.settle(&mut shared, now);
    }

    fn accept(&self, shared: &mut Shared<H>, cx: &mut Context<'_>) {
        let now = shared.now();
        let mut accepted = Vec::new();
        for listener in &shared.listeners {
            while let Poll::Ready(next) = listener.poll_accept(cx) {
                match next {
                    Ok(connection) => accepted.push(connection),
                    // Out of descriptors, most likely: the next packet or
                    // timer comes by here again.
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept");
                        break;
                    }
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        for (stream, remote) in accepted {
            shared.admit(now, stream, remote);
        }
        self.settle(shared, now);
    }

    /// Reads one socket into `bufs`. Ready with the number of buffers that can
    /// be handed on as they are; zero if packets wait instead, or none came.
    fn read(
        &self,
        shared: &mut Shared<H>,
        socket: SocketId,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<usize> {
        let now = shared.now();
        let Shared { ports, half, waiting, .. } = shared;
        let (filled, failed) = match ports.get_mut(&socket) {
            None => return Poll::Pending,
            Some(Port::Udp { port, route }) => {
                let mut raw = [quinn_udp::RecvMeta::default(); BATCH_SIZE];
                let count = bufs.len().min(meta.len());
                match std::task::ready!(port.poll_recv(cx, &mut bufs[..count], &mut raw)) {
                    Ok(n) => {
                        let batch: Vec<_> = bufs
                            .iter()
                            .zip(&raw[..n])
                            .map(|(buf, raw)| {
                                let contents = buf.get(..raw.len).unwrap_or_default();
                                let route = route
                                    .unwrap_or_else(|| Route::udp(socket, raw.addr, raw.dst_ip));
                                (contents, raw.stride.max(1), route)
                            })
                            .collect();
                        (sort(half, &batch, now, meta, waiting), None)
                    }
                    Err(error) => (0, route.map(|route| (route, error))),
                }
            }
            Some(Port::Tcp { port, route, expires }) => {
                let route = *route;
                let mut refused = false;
                let read = std::task::ready!(port.poll_recv(cx, |packet| {
                    match half.handle_packet(now, &route, packet) {
                        Verdict::Deliver { path, unproven } => {
                            waiting.push_back(Waiting::new(path, unproven, packet));
                        }
                        Verdict::Consumed => *expires = None,
                        Verdict::Refused => refused = true,
                    }
                }));
                let error = match read {
                    Ok(()) if refused => Some(io::ErrorKind::ConnectionRefused.into()),
                    read => read.err(),
                };
                (0, error.map(|error| (route, error)))
            }
        };
        if let Some((route, error)) = failed {
            shared.on_failed(now, &route, &error);
        }
        self.settle(shared, now);
        Poll::Ready(filled)
    }
}

impl<H: Half> PacketSocket for Hub<H> {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut shared = self.lock();
        if shared.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let now = shared.now();
        let routes = shared.half.routes();
        let sent = match routes.active {
            Some(path) => shared.send_on(now, &path, transmit),
            None if routes.pending.is_none() => Err(io::ErrorKind::WouldBlock.into()),
            None => Ok(()),
        };
        if sent.is_ok()
            && let Some(pending) = routes.pending
        {
            let sent = shared.copy_to(now, &pending.path, pending.allowance_bytes, transmit);
            if sent == 0 && routes.active.is_none() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.settle(&mut shared, now);
        sent
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.lock();
        if shared.closed {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if shared.is_writable() {
            return Poll::Ready(Ok(()));
        }
        shared.writers.add(cx);
        Poll::Pending
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.lock();
        for _ in 0..READS_PER_TURN {
            if shared.closed {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            let n = shared.hand_over(bufs, meta);
            if n > 0 {
                return Poll::Ready(Ok(n));
            }
            self.accept(&mut shared, cx);
            let mut progress = false;
            for _ in 0..shared.ports.len() {
                let Some(socket) = shared.take_turn() else { break };
                match self.read(&mut shared, socket, cx, bufs, meta) {
                    Poll::Ready(0) => progress = true,
                    Poll::Ready(n) => return Poll::Ready(Ok(n)),
                    Poll::Pending => {}
                }
            }
            if !progress && shared.waiting.is_empty() {
                shared.reader.add(cx);
                return Poll::Pending;
            }
        }
        // Others first; there is more to read.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_link(&self, cx: &mut Context<'_>) -> Poll<LinkChange> {
        let mut shared = self.lock();
        match shared.links.pop_front() {
            Some(change) => Poll::Ready(change),
            None => {
                shared.link_reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn packet_accepted(&self, path: PathId) {
        self.with(|half, now| half.handle_accepted(now, path));
    }

    fn max_transmit_segments(&self) -> usize {
        TRANSMIT_SEGMENTS
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments
    }
}

/// Shows a batch to the half. If every packet is for the transport and from a
/// proven path, the buffers are handed on as they are; otherwise what is for
/// the transport waits, packet by packet.
fn sort<H: Half>(
    half: &mut H,
    batch: &[(&[u8], usize, Route)],
    now: Instant,
    meta: &mut [RecvMeta],
    waiting: &mut VecDeque<Waiting>,
) -> usize {
    let mut verdicts = Vec::with_capacity(batch.len());
    for (contents, stride, route) in batch {
        verdicts.extend(contents.chunks(*stride).map(|packet| {
            match half.handle_packet(now, route, packet) {
                Verdict::Deliver { path, unproven } => Some((path, unproven)),
                Verdict::Consumed | Verdict::Refused => None,
            }
        }));
    }
    // An empty datagram has no packet to judge, and no place in a batch.
    if batch.iter().all(|(contents, ..)| !contents.is_empty())
        && verdicts.iter().all(|verdict| matches!(verdict, Some((_, false))))
    {
        let mut first = 0;
        for ((contents, stride, _), meta) in batch.iter().zip(meta) {
            // One buffer has one sender, so its first packet speaks for all.
            let path = verdicts[first].expect("all of them are deliveries").0;
            first += contents.len().div_ceil(*stride);
            *meta = RecvMeta { len: contents.len(), stride: *stride, path, unproven: false };
        }
        return batch.len();
    }
    let packets = batch.iter().flat_map(|(contents, stride, _)| contents.chunks(*stride));
    for (packet, verdict) in packets.zip(verdicts) {
        if let Some((path, unproven)) = verdict {
            waiting.push_back(Waiting::new(path, unproven, packet));
        }
    }
    0
}

impl Port {
    /// When the peer must have authenticated.
    const fn expires(&self) -> Option<Instant> {
        match self {
            Self::Tcp { expires, .. } => *expires,
            Self::Udp { .. } => None,
        }
    }
}

impl Waiting {
    fn new(path: PathId, unproven: bool, packet: &[u8]) -> Self {
        Self { path, unproven, packet: packet.to_vec() }
    }
}

impl<H: Half> Shared<H> {
    /// Returns the time, and tells the half if the machine slept since it was
    /// last asked.
    fn now(&mut self) -> Instant {
        let now = tokio::time::Instant::now().into_std();
        if let Some(slept) = self.sleep.slept(Instant::now(), clock::boot_time()) {
            tracing::debug!(?slept, "the machine slept");
            self.half.handle_clock_jump(now, slept);
        }
        now
    }

    fn new_socket(&mut self) -> SocketId {
        let id = SocketId(self.next_socket);
        self.next_socket += 1;
        id
    }

    fn add(&mut self, id: SocketId, port: Port) {
        if !self.closed {
            self.ports.insert(id, port);
            self.reader.wake();
        }
    }

    /// Takes in a connection that has to authenticate soon, if there is room.
    fn admit(&mut self, now: Instant, stream: TcpStream, remote: SocketAddr) {
        let strangers = self.ports.values().filter(|port| port.expires().is_some()).count();
        if strangers >= TCP_UNAUTHENTICATED_MAX {
            return;
        }
        let Ok(port) = TcpPort::new(stream) else { return };
        let socket = self.new_socket();
        let local = port.local_addr().ok().map(|addr| addr.ip());
        let route = Route::tcp(socket, remote, local);
        self.add(socket, Port::Tcp { port, route, expires: Some(now + TCP_AUTH_TIMEOUT) });
    }

    fn remove(&mut self, id: SocketId) {
        self.ports.remove(&id);
        self.blocked = false;
    }

    fn close(&mut self) {
        self.closed = true;
        self.ports.clear();
        self.listeners.clear();
        self.waiting.clear();
        self.reader.wake();
        self.writers.wake();
        self.link_reader.take().into_iter().for_each(Waker::wake);
        self.background.take().into_iter().for_each(Waker::wake);
    }

    fn push_link(&mut self, change: LinkChange) {
        // "Lost" makes what came before it history that nobody asked for.
        if change == LinkChange::Lost {
            self.links.clear();
        }
        self.links.push_back(change);
        self.link_reader.take().into_iter().for_each(Waker::wake);
    }

    fn take_turn(&mut self) -> Option<SocketId> {
        let mut from_turn = self.ports.range(self.turn..).chain(self.ports.range(..self.turn));
        let socket = *from_turn.next()?.0;
        self.turn = SocketId(socket.0.wrapping_add(1));
        Some(socket)
    }

    /// Fills buffers from the waiting packets, an unproven one alone.
    fn hand_over(&mut self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(next) = self.waiting.front() else { break };
            if next.unproven && filled > 0 {
                break;
            }
            let Some(Waiting { path, unproven, packet }) = self.waiting.pop_front() else { break };
            let len = packet.len().min(buf.len());
            buf[..len].copy_from_slice(&packet[..len]);
            *meta = RecvMeta { len, stride: len, path, unproven };
            filled += 1;
            if unproven {
                break;
            }
        }
        filled
    }

    fn send_on(&mut self, now: Instant, path: &Path, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = match self.ports.get_mut(&path.route.socket) {
            None => return Ok(()),
            Some(Port::Udp { port, .. }) => port.send(&path.route, transmit),
            Some(Port::Tcp { port, .. }) => {
                let sent = port.send(transmit);
                if port.is_blocked() {
                    self.block();
                }
                sent
            }
        };
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.block();
                Err(error)
            }
            Err(error) if is_loss(&error) => Ok(()),
            Err(error) => {
                self.on_failed(now, &path.route, &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Sends the packets that fit into the allowance; returns how many.
    fn copy_to(
        &mut self,
        now: Instant,
        path: &Path,
        mut allowance: u64,
        transmit: &Transmit<'_>,
    ) -> usize {
        let mut sent = 0;
        for packet in transmit.packets().filter(|packet| !packet.is_empty()) {
            let bytes = packet.len() as u64;
            if bytes > allowance {
                continue;
            }
            let one = Transmit { contents: packet, segment_size: None };
            if self.send_on(now, path, &one).is_err() {
                break;
            }
            allowance -= bytes;
            self.half.handle_copied(path.id, bytes);
            sent += 1;
        }
        sent
    }

    fn on_failed(&mut self, now: Instant, route: &Route, error: &io::Error) {
        tracing::debug!(socket = route.socket.0, %error, "path failed");
        if route.carrier == Carrier::Tcp {
            self.remove(route.socket);
        }
        self.half.handle_failed(now, route, error);
    }

    /// A send found no room: the background task waits for it.
    fn block(&mut self) {
        self.blocked = true;
        self.background.take().into_iter().for_each(Waker::wake);
    }

    fn is_writable(&self) -> bool {
        let routes = self.half.routes();
        !self.blocked
            && (routes.active.is_some() || routes.pending.is_some_and(|p| p.allowance_bytes > 0))
    }

    fn next_timeout(&self) -> Option<Instant> {
        let expiry = self.ports.values().filter_map(Port::expires);
        expiry.chain(self.half.poll_timeout()).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.ports
            .retain(|_, port| !matches!(port, Port::Tcp { expires: Some(at), .. } if now >= *at));
        self.half.handle_timeout(now);
    }

    /// Waits for room in all send buffers that lacked it.
    fn poll_room(&mut self, now: Instant, cx: &mut Context<'_>) {
        if !self.blocked {
            return;
        }
        let mut failed = Vec::new();
        let mut pending = false;
        for port in self.ports.values_mut() {
            let (route, room) = match port {
                Port::Udp { port, route } => (*route, port.poll_writable(cx)),
                Port::Tcp { port, route, .. } => (Some(*route), port.poll_flush(cx)),
            };
            match room {
                Poll::Pending => pending = true,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => failed.extend(route.map(|route| (route, error))),
            }
        }
        self.blocked = pending;
        for (route, error) in failed {
            self.on_failed(now, &route, &error);
        }
    }
}

/// Arms the one timer and waits for room; ends with the hub.
async fn background<H: Half>(hub: Weak<Hub<H>>) {
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    std::future::poll_fn(|cx| {
        let Some(hub) = hub.upgrade() else { return Poll::Ready(()) };
        let mut shared = hub.lock();
        turn(&hub, &mut shared, timer.as_mut(), cx)
    })
    .await;
}

fn turn<H: Half>(
    hub: &Hub<H>,
    shared: &mut Shared<H>,
    mut timer: Pin<&mut tokio::time::Sleep>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    // Not kept while we run: nobody has to wake us then.
    shared.background = None;
    loop {
        if shared.closed {
            return Poll::Ready(());
        }
        let now = shared.now();
        shared.handle_timeout(now);
        shared.poll_room(now, cx);
        hub.settle(shared, now);
        shared.armed = shared.next_timeout();
        let Some(at) = shared.armed else { break };
        timer.as_mut().reset(at.into());
        if timer.as_mut().poll(cx).is_pending() {
            break;
        }
    }
    shared.background = Some(cx.waker().clone());
    Poll::Pending
}

/// Fills a slice with random bytes from the system.
fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has a source of randomness");
}
