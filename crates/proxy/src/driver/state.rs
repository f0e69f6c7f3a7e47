//! What a hub guards: the half, its sockets, the packets and wakers that wait.
//!
//! Nothing here blocks or wakes anybody but through the lists; the order of
//! things (first the machine, then what it asks for) is the hub's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use super::clock::{self, SleepWatch};
use super::tcp::TcpPort;
use super::udp::{UdpPort, is_loss};
use super::wake::WakeList;
use super::wire::{Opener, Task, Wire};
use crate::copies::Copies;
use crate::path::{Carrier, Path, Route, Routes, SocketId, Verdict};
use crate::socket::{LinkChange, PathId, RecvMeta, Transmit};
use crate::timers::{TCP_AUTH_TIMEOUT, TCP_UNAUTHENTICATED_MAX};

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
    /// Have a wire opened and report it.
    OpenWire { path: PathId, carrier: Carrier, remote: SocketAddr, opener: Opener },
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
    /// The transport has sent something on the path in use.
    fn handle_sent(&mut self, now: Instant, transmit: &Transmit<'_>);
    fn handle_timeout(&mut self, now: Instant);
    /// The machine slept.
    fn handle_clock_jump(&mut self, now: Instant, slept: Duration);
    /// A socket failed; it is closed already if it was a TCP connection.
    fn handle_failed(&mut self, now: Instant, route: &Route, error: &io::Error);
    /// An [`Action::Open`] was carried out, from this address of ours as far as is known.
    fn handle_opened(
        &mut self,
        now: Instant,
        path: PathId,
        local: Option<IpAddr>,
        opened: io::Result<()>,
    );
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

#[derive(Debug)]
pub(super) struct Shared<H> {
    pub(super) half: H,
    pub(super) ports: BTreeMap<SocketId, Port>,
    /// Wires that are being opened.
    pub(super) opening: BTreeMap<SocketId, Task>,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) next_socket: u64,
    /// The socket that is read next, so that none starves.
    pub(super) turn: SocketId,
    /// Nothing is read while packets wait, so there are never more than what
    /// one read of each socket brings.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) links: VecDeque<LinkChange>,
    pub(super) closed: bool,
    /// The sockets at which a send found no room, until there is room again.
    pub(super) blocked: BTreeSet<SocketId>,
    /// When to try again to accept connections, after that failed.
    pub(super) accept_again: Option<Instant>,
    /// The smallest packet that a pending path had no allowance for.
    pub(super) refused_bytes: u64,
    /// What the background task waits for at the latest.
    pub(super) armed: Option<Instant>,
    pub(super) background: Option<Waker>,
    pub(super) reader: WakeList,
    pub(super) writers: WakeList,
    pub(super) link_reader: Option<Waker>,
    pub(super) scratch: Vec<u8>,
    /// How packets are marked, if not as the protocol says.
    pub(super) mark: Option<u8>,
    /// What goes more than once.
    pub(super) copies: Copies,
    pub(super) sleep: SleepWatch,
}

#[derive(Debug)]
pub(super) enum Port {
    Udp { port: UdpPort, route: Option<Route> },
    Tcp { port: TcpPort, route: Route, expires: Option<Instant> },
    Wire { wire: Wire, route: Route },
}

impl Port {
    /// Marks what is sent from now on; on a wire, that is the affair of whoever carries it.
    pub(super) fn mark(&self, class: u8) {
        match self {
            Self::Udp { port, .. } => port.mark(class),
            Self::Tcp { port, .. } => port.mark(class),
            Self::Wire { .. } => {}
        }
    }
}

/// A packet that could not be handed over where it was read.
#[derive(Debug)]
pub(super) struct Waiting {
    path: PathId,
    unproven: bool,
    packet: Vec<u8>,
}

/// Shows a batch to the half. If every packet is for the transport and from a
/// proven path, the buffers are handed on as they are; otherwise what is for
/// the transport waits, packet by packet.
pub(super) fn sort<H: Half>(
    half: &mut H,
    batch: &[(&[u8], usize, Route)],
    now: Instant,
    meta: &mut [RecvMeta],
    waiting: &mut VecDeque<Waiting>,
) -> Sorted {
    let mut verdicts = Vec::with_capacity(batch.len());
    for (contents, stride, route) in batch {
        verdicts.extend(contents.chunks(*stride).map(|packet| {
            match half.handle_packet(now, route, packet) {
                Verdict::Deliver { path, unproven } => Some((path, unproven)),
                Verdict::Consumed | Verdict::Refused => None,
            }
        }));
    }
    let packets = verdicts.iter().flatten().count() as u64;
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
        return Sorted { filled: batch.len(), packets };
    }
    let contents = batch.iter().flat_map(|(contents, stride, _)| contents.chunks(*stride));
    for (packet, verdict) in contents.zip(verdicts) {
        if let Some((path, unproven)) = verdict {
            waiting.push_back(Waiting::new(path, unproven, packet));
        }
    }
    Sorted { filled: 0, packets }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sorted {
    /// Buffers that can be handed on as they are.
    pub(super) filled: usize,
    /// Packets for the transport.
    pub(super) packets: u64,
}

impl Port {
    /// When the peer must have authenticated.
    pub(super) const fn expires(&self) -> Option<Instant> {
        match self {
            Self::Tcp { expires, .. } => *expires,
            Self::Udp { .. } | Self::Wire { .. } => None,
        }
    }
}

impl Waiting {
    pub(super) fn new(path: PathId, unproven: bool, packet: &[u8]) -> Self {
        Self { path, unproven, packet: packet.to_vec() }
    }
}

impl<H: Half> Shared<H> {
    /// Guards a half that has no sockets yet.
    pub(super) fn new(half: H) -> Self {
        Self {
            half,
            ports: BTreeMap::new(),
            opening: BTreeMap::new(),
            listeners: Vec::new(),
            next_socket: 0,
            turn: SocketId(0),
            waiting: VecDeque::new(),
            links: VecDeque::new(),
            closed: false,
            blocked: BTreeSet::new(),
            accept_again: None,
            refused_bytes: 0,
            armed: None,
            background: None,
            reader: WakeList::default(),
            writers: WakeList::default(),
            link_reader: None,
            scratch: Vec::new(),
            mark: None,
            copies: Copies::default(),
            sleep: SleepWatch::default(),
        }
    }

    /// Returns the time, and tells the half if the machine slept since it was
    /// last asked.
    pub(super) fn now(&mut self) -> Instant {
        let now = tokio::time::Instant::now().into_std();
        if let Some(slept) = self.sleep.slept(Instant::now(), clock::boot_time()) {
            tracing::debug!(?slept, "the machine slept");
            self.half.handle_clock_jump(now, slept);
        }
        now
    }

    pub(super) fn new_socket(&mut self) -> SocketId {
        let id = SocketId(self.next_socket);
        self.next_socket += 1;
        id
    }

    pub(super) fn add(&mut self, id: SocketId, port: Port) {
        if !self.closed {
            if let Some(mark) = self.mark {
                port.mark(mark);
            }
            self.ports.insert(id, port);
            self.reader.wake();
        }
    }

    /// Takes in a connection that has to authenticate soon, if there is room.
    pub(super) fn admit(&mut self, now: Instant, stream: TcpStream, remote: SocketAddr) {
        let strangers = || self.ports.iter().filter_map(|(id, port)| Some((port.expires()?, *id)));
        if strangers().count() >= TCP_UNAUTHENTICATED_MAX
            && let Some((_, oldest)) = strangers().min_by_key(|(expires, _)| *expires)
        {
            // An honest client authenticates at once, so it is the oldest that
            // has to go: idle strangers must not keep the client out.
            self.ports.remove(&oldest);
        }
        let Ok(port) = TcpPort::new(stream) else { return };
        let socket = self.new_socket();
        let local = port.local_addr().ok().map(|addr| addr.ip());
        let route = Route::tcp(socket, remote, local);
        self.add(socket, Port::Tcp { port, route, expires: Some(now + TCP_AUTH_TIMEOUT) });
    }

    pub(super) fn remove(&mut self, id: SocketId) {
        self.ports.remove(&id);
        self.opening.remove(&id);
        self.blocked.remove(&id);
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.ports.clear();
        self.opening.clear();
        self.listeners.clear();
        self.waiting.clear();
        self.reader.wake();
        self.writers.wake();
        self.link_reader.take().into_iter().for_each(Waker::wake);
        self.background.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn push_link(&mut self, change: LinkChange) {
        // "Lost" makes what came before it history that nobody asked for.
        if change == LinkChange::Lost {
            self.links.clear();
        }
        self.links.push_back(change);
        self.link_reader.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn take_turn(&mut self) -> Option<SocketId> {
        let mut from_turn = self.ports.range(self.turn..).chain(self.ports.range(..self.turn));
        let socket = *from_turn.next()?.0;
        self.turn = SocketId(socket.0.wrapping_add(1));
        Some(socket)
    }

    /// Fills buffers from the waiting packets, an unproven one alone.
    pub(super) fn hand_over(
        &mut self,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> usize {
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

    pub(super) fn send_on(
        &mut self,
        now: Instant,
        path: &Path,
        transmit: &Transmit<'_>,
    ) -> io::Result<()> {
        let socket = path.route.socket;
        let (sent, is_full) = match self.ports.get_mut(&socket) {
            None => return Ok(()),
            Some(Port::Udp { port, .. }) => (port.send(&path.route, transmit), false),
            Some(Port::Tcp { port, .. }) => (port.send(transmit), port.is_blocked()),
            Some(Port::Wire { wire, .. }) => (wire.send(transmit), wire.is_blocked()),
        };
        if is_full {
            self.block(socket);
        }
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.block(socket);
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
    pub(super) fn copy_to(
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
        if path.route.carrier == Carrier::Udp {
            self.copies.on_sent_elsewhere(sent as u64);
        }
        sent
    }

    /// Sends the copies that are due by the path in use; without one they are
    /// dropped, and a path whose buffer is full has no need of them.
    pub(super) fn send_copies(&mut self, now: Instant) {
        let mut packet = std::mem::take(&mut self.scratch);
        while self.copies.poll_copy(now, &mut packet) {
            let active = self.half.routes().active;
            if let Some(path) = active.filter(|path| path.route.carrier == Carrier::Udp) {
                let transmit = Transmit { contents: &packet, segment_size: None };
                if let Err(error) = self.send_on(now, &path, &transmit) {
                    tracing::trace!(path = %path.id, %error, "copy not sent");
                }
            }
        }
        self.scratch = packet;
    }

    pub(super) fn on_failed(&mut self, now: Instant, route: &Route, error: &io::Error) {
        tracing::debug!(socket = route.socket.0, %error, "path failed");
        // What is no UDP socket has come to its end.
        let ended = matches!(self.ports.get(&route.socket), Some(Port::Wire { .. }));
        if ended || route.carrier == Carrier::Tcp {
            self.remove(route.socket);
        }
        self.half.handle_failed(now, route, error);
    }

    /// A send found no room there: the background task waits for it.
    fn block(&mut self, socket: SocketId) {
        self.blocked.insert(socket);
        self.background.take().into_iter().for_each(Waker::wake);
    }

    /// Nothing of this transmit fits the pending path's allowance: there is no
    /// use in trying again before the smallest of it does.
    pub(super) fn refuse(&mut self, transmit: &Transmit<'_>) {
        let smallest = transmit.packets().map(<[u8]>::len).min().unwrap_or_default();
        self.refused_bytes = smallest as u64;
    }

    pub(super) fn is_writable(&self) -> bool {
        let routes = self.half.routes();
        // Another socket's full buffer, such as that of the path before, is of no account.
        let has_room = |path: Path| !self.blocked.contains(&path.route.socket);
        match (routes.active, routes.pending) {
            (Some(active), _) => has_room(active),
            (None, Some(pending)) => {
                has_room(pending.path) && pending.allowance_bytes >= self.refused_bytes.max(1)
            }
            (None, None) => false,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let expiry = self.ports.values().filter_map(Port::expires);
        let times = expiry.chain(self.half.poll_timeout()).chain(self.accept_again);
        times.chain(self.copies.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.ports
            .retain(|_, port| !matches!(port, Port::Tcp { expires: Some(at), .. } if now >= *at));
        if self.accept_again.is_some_and(|at| now >= at) {
            self.accept_again = None;
            self.reader.wake();
        }
        self.half.handle_timeout(now);
    }

    /// Waits for room in all send buffers that lacked it.
    pub(super) fn poll_room(&mut self, now: Instant, cx: &mut Context<'_>) {
        let mut failed = Vec::new();
        self.blocked.retain(|socket| {
            let (route, room) = match self.ports.get_mut(socket) {
                None => return false,
                Some(Port::Udp { port, route }) => (*route, port.poll_writable(cx)),
                Some(Port::Tcp { port, route, .. }) => (Some(*route), port.poll_flush(cx)),
                Some(Port::Wire { wire, route }) => (Some(*route), wire.poll_flush(cx)),
            };
            if let Poll::Ready(Err(error)) = room {
                failed.extend(route.map(|route| (route, error)));
                return false;
            }
            room.is_pending()
        });
        for (route, error) in failed {
            self.on_failed(now, &route, &error);
        }
    }
}
