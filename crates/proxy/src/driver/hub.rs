//! The hub: one machine and its sockets under one lock, seen as a [`PacketSocket`].
//!
//! What differs between client and server is behind [`Half`]. Every way into a
//! half is followed by [`Hub::settle`], which sends what is due, carries out
//! its actions and makes sure that the timer fires in time.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn_udp::BATCH_SIZE;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::state::{Action, Half, Port, Shared, Waiting, sort};
use super::tcp::{self, TcpPort};
use super::udp::{self, UdpPort};
use super::wire::{Task, Wire};
use crate::copies::Report;
use crate::path::{Carrier, Path, Route, SocketId, Verdict};
use crate::socket::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
use crate::timers::{ACCEPT_PAUSE, CONNECT_TIMEOUT};

/// Packets offered in one [`Transmit`]. A kernel takes up to 64; beyond a
/// handful the gain is small, and bursts hurt on real links.
const TRANSMIT_SEGMENTS: usize = 16;

/// Reads without result (garbage, proxy packets) before others get their turn.
const READS_PER_TURN: usize = 32;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Hub<H: Half> {
    shared: Mutex<Shared<H>>,
    me: Weak<Self>,
    receive_segments: usize,
    /// Enough was received to tell the peer.
    report_due: Notify,
}

impl<H: Half> Hub<H> {
    /// Creates a hub without sockets. Must be called within a tokio runtime.
    pub(super) fn new(half: H) -> Arc<Self> {
        // What the system can do is the same for all sockets of the process;
        // a throw-away one tells, before there is any path.
        let receive_segments = UdpPort::connect((std::net::Ipv4Addr::LOCALHOST, 9).into())
            .map_or(64, |port| port.receive_segments());
        let hub = Arc::new_cyclic(|me| Self {
            shared: Mutex::new(Shared::new(half)),
            me: me.clone(),
            receive_segments,
            report_due: Notify::new(),
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

    /// Sends small packets more than once from now on: the peer counts.
    pub(super) fn enable_copies(&self) {
        self.lock().copies.enable();
    }

    /// Marks packets as the user wants, on sockets that are open as on those to come.
    pub(super) fn set_mark(&self, class: u8) {
        let mut shared = self.lock();
        shared.mark = Some(class);
        shared.ports.values().for_each(|port| port.mark(class));
    }

    /// Takes the peer's count.
    pub(super) fn on_report(&self, report: Report, round_trip: Option<Duration>) {
        self.lock().copies.on_report(report, round_trip);
    }

    /// Waits until there is something to tell the peer of what has come.
    pub(super) async fn next_report(&self) -> Report {
        loop {
            {
                let mut shared = self.lock();
                let now = shared.now();
                if let Some(report) = shared.copies.poll_report(now) {
                    return report;
                }
            }
            self.report_due.notified().await;
        }
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
            Port::Wire { .. } => None,
        }
    }

    /// Whether a path is a wire.
    pub(super) fn is_wire(&self, path: &Path) -> bool {
        matches!(self.lock().ports.get(&path.route.socket), Some(Port::Wire { .. }))
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
        shared.send_copies(now);
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
            Action::Link(change) => {
                shared.copies.on_path_change();
                shared.push_link(change);
            }
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
            Action::OpenWire { path, carrier, remote, opener } => {
                let me = self.me.clone();
                let socket = SocketId(path.0);
                let route = Route { carrier, ..Route::tcp(socket, remote, None) };
                let task = tokio::spawn(async move {
                    let wire = opener().await;
                    if let Some(hub) = me.upgrade() {
                        hub.on_wire(path, route, wire);
                    }
                });
                // Ends with the attempt, however long the wire takes.
                shared.opening.insert(socket, Task(task));
            }
            Action::Open { path, carrier: Carrier::Udp, remote } => {
                let mut local = None;
                let opened = UdpPort::connect(remote).map(|port| {
                    local = port.local_addr().ok().map(|addr| addr.ip());
                    let route =
                        Route { local_ip: local, ..Route::udp(SocketId(path.0), remote, None) };
                    shared.add(SocketId(path.0), Port::Udp { port, route: Some(route) });
                });
                shared.half.handle_opened(now, path, local, opened);
            }
            Action::Open { path, carrier: Carrier::Tcp, remote } => {
                let me = self.me.clone();
                // The machine has a deadline of its own, possibly earlier; then
                // nobody knows the path any more when the connection is there.
                tokio::spawn(async move {
                    let connect = tcp::connect(remote);
                    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
                        Ok(connected) => connected.and_then(TcpPort::new),
                        Err(elapsed) => Err(elapsed.into()),
                    };
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
        let local = match &port {
            Ok(port) => port.local_addr().ok().map(|addr| addr.ip()),
            Err(_) => udp::source_to(remote),
        };
        let opened = port.map(|port| {
            let route = Route::tcp(socket, remote, local);
            shared.add(socket, Port::Tcp { port, route, expires: None });
        });
        shared.half.handle_opened(now, path, local, opened);
        let stale = match shared.ports.get(&socket) {
            Some(Port::Tcp { route, .. }) => !shared.half.knows(route),
            _ => false,
        };
        if stale {
            shared.remove(socket);
        }
        self.settle(&mut shared, now);
    }

    fn on_wire(&self, path: PathId, route: Route, wire: io::Result<Wire>) {
        let mut shared = self.lock();
        let now = shared.now();
        // The task that calls this one is at its end.
        shared.opening.remove(&route.socket);
        let opened = wire.map(|wire| {
            shared.add(route.socket, Port::Wire { wire, route });
        });
        shared.half.handle_opened(now, path, None, opened);
        // It may have been given up while it opened.
        if shared.ports.contains_key(&route.socket) && !shared.half.knows(&route) {
            shared.remove(route.socket);
        }
        self.settle(&mut shared, now);
    }

    fn accept(&self, shared: &mut Shared<H>, cx: &mut Context<'_>) {
        let now = shared.now();
        let mut accepted = Vec::new();
        let mut failed = false;
        for listener in &shared.listeners {
            while let Poll::Ready(next) = listener.poll_accept(cx) {
                match next {
                    Ok(connection) => accepted.push(connection),
                    // Out of descriptors, most likely. Nothing else may come by
                    // here again while the client is away.
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept");
                        failed = true;
                        break;
                    }
                }
            }
        }
        if failed {
            shared.accept_again.get_or_insert(now + ACCEPT_PAUSE);
        }
        if accepted.is_empty() && !failed {
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
        let Shared { ports, half, waiting, copies, .. } = shared;
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
                        let sorted = sort(half, &batch, now, meta, waiting);
                        if copies.on_received(now, sorted.packets) {
                            self.report_due.notify_one();
                        }
                        (sorted.filled, None)
                    }
                    Err(error) => (0, route.map(|route| (route, error))),
                }
            }
            Some(Port::Wire { wire, route }) => {
                let route = *route;
                let mut packets = 0;
                let read = std::task::ready!(wire.poll_recv(cx, |packet| {
                    if let Verdict::Deliver { path, unproven } =
                        half.handle_packet(now, &route, packet)
                    {
                        packets += 1;
                        waiting.push_back(Waiting::new(path, unproven, packet));
                    }
                }));
                if route.carrier == Carrier::Udp && copies.on_received(now, packets) {
                    self.report_due.notify_one();
                }
                (0, read.err().map(|error| (route, error)))
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

impl<H: Half> Drop for Hub<H> {
    fn drop(&mut self) {
        // It finds nobody and ends.
        self.lock().background.take().into_iter().for_each(std::task::Waker::wake);
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
            Some(path) => {
                let sent = shared.send_on(now, &path, transmit);
                if sent.is_ok() {
                    shared.half.handle_sent(now, transmit);
                    if path.route.carrier == Carrier::Udp {
                        shared.copies.on_sent(now, transmit.packets());
                    }
                }
                sent
            }
            None if routes.pending.is_none() => Err(io::ErrorKind::WouldBlock.into()),
            None => Ok(()),
        };
        if sent.is_ok()
            && let Some(pending) = routes.pending
        {
            let sent = shared.copy_to(now, &pending.path, pending.allowance_bytes, transmit);
            if sent == 0 && routes.active.is_none() {
                shared.refuse(transmit);
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        if sent.is_ok() {
            shared.refused_bytes = 0;
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

    fn all_answered(&self) {
        self.lock().copies.on_all_answered();
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
        let full = shared.blocked.clone();
        hub.settle(shared, now);
        if !shared.blocked.is_subset(&full) {
            // It has filled another one, whose room nobody waits for yet.
            continue;
        }
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
