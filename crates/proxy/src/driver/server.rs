//! [`ServerProxy`]: the server machine on real sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::hub::Hub;
use super::state::{Action, Half};
use crate::copies::Report;
use crate::path::{Change, Path, Route, Routes, Verdict};
use crate::server::{Config, Event, Server};
use crate::socket::{LinkChange, PacketSocket, PathId, Transmit};

/// What the server proxy has to know; see the fields.
pub type ServerConfig = Config;

/// What the owner of the bus has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A path was proven. If the client was away before, the input-discard marker
    /// has to be armed (PROTOCOL §2.3).
    NewPath {
        /// Whether it is the first one of the process.
        first: bool,
        /// Whether it ends a silence: what was typed before is stale.
        after_silence: bool,
        /// The client's address on it.
        remote: SocketAddr,
    },
    /// Nothing was accepted from the client for the heartbeat timeout.
    Silent,
    /// The client is heard again.
    Back,
    /// The client was killed, as its guard says (extension `goodbye`).
    Goodbye,
}

/// A server proxy. Clones are handles on the same one; it ends with
/// [`ServerProxy::close`] or with the last handle and socket.
#[derive(Clone, Debug)]
pub struct ServerProxy {
    hub: Arc<Hub<ServerHalf>>,
}

impl ServerProxy {
    /// Serves bound UDP sockets, all of them for the whole life of the proxy.
    ///
    /// # Errors
    /// When a socket cannot be set up.
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind_udp(sockets: Vec<UdpSocket>, config: ServerConfig) -> io::Result<(Self, Events)> {
        let (proxy, events) = Self::new(config);
        sockets.into_iter().try_for_each(|socket| proxy.hub.add_udp(socket))?;
        Ok((proxy, events))
    }

    /// Serves TCP listeners.
    ///
    /// # Errors
    /// When a listener cannot be set up.
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind_tcp(
        listeners: Vec<TcpListener>,
        config: ServerConfig,
    ) -> io::Result<(Self, Events)> {
        let (proxy, events) = Self::new(config);
        listeners.into_iter().try_for_each(|listener| proxy.hub.add_listener(listener))?;
        Ok((proxy, events))
    }

    /// Serves TCP listeners as well.
    ///
    /// # Errors
    /// When a listener cannot be set up.
    /// # Panics
    /// Outside a tokio runtime.
    pub fn add_listeners(&self, listeners: Vec<TcpListener>) -> io::Result<()> {
        listeners.into_iter().try_for_each(|listener| self.hub.add_listener(listener))
    }

    fn new(config: ServerConfig) -> (Self, Events) {
        let (owner, events) = mpsc::unbounded_channel();
        let hub = Hub::new(ServerHalf { machine: Server::new(config), owner });
        (Self { hub }, Events(events))
    }

    /// Returns the socket that a transport runs over.
    #[must_use]
    pub fn socket(&self) -> Arc<dyn PacketSocket> {
        self.hub.clone()
    }

    /// Tells that the bus is up: from now on the client's silence counts, or with `quiet`
    /// (extension `silence`) its silence to what wants an answer.
    pub fn set_bus_up(&self, heartbeat_timeout: Duration, quiet: bool) {
        self.hub.with(|half, now| half.machine.set_bus_up(now, heartbeat_timeout, quiet));
    }

    /// Returns when something genuine came from the client last.
    #[must_use]
    pub fn last_contact(&self) -> Option<Instant> {
        self.hub.look(|half| half.machine.last_contact())
    }

    /// Returns the client's address on the path in use.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        self.hub.look(|half| half.machine.active()).map(|path| path.route.remote)
    }

    /// Returns our address on the path in use.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let path = self.hub.look(|half| half.machine.active())?;
        self.hub.local_addr(&path)
    }

    /// Sends small packets more than once from now on, as the loss that the peer
    /// reports calls for: it has promised to count (extension `loss`).
    pub fn enable_copies(&self) {
        self.hub.enable_copies();
    }

    /// Takes the peer's count, message `loss` of the bus, and how long the transport thinks a
    /// round trip takes.
    pub fn loss_reported(&self, report: Report, round_trip: Option<Duration>) {
        self.hub.on_report(report, round_trip);
    }

    /// Waits until the peer should be told what has come. Never ready before
    /// [`Self::enable_copies`].
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped. One task at a time may wait.
    pub async fn next_loss_report(&self) -> Report {
        self.hub.next_report().await
    }

    /// Closes all sockets. The transport's next call fails.
    pub fn close(&self) {
        self.hub.close();
    }
}

/// The events of a [`ServerProxy`], in order.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<ServerEvent>);

impl Events {
    /// Waits for the next event; `None` once the proxy is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        self.0.recv().await
    }
}

#[derive(Debug)]
struct ServerHalf {
    machine: Server,
    /// Unbounded, but each event takes a packet only the client can make, or H
    /// of silence.
    owner: mpsc::UnboundedSender<ServerEvent>,
}

impl ServerHalf {
    fn tell(&self, event: ServerEvent) {
        if self.owner.send(event).is_err() {
            tracing::trace!(?event, "nobody listens to the events");
        }
    }
}

impl Half for ServerHalf {
    fn handle_packet(&mut self, now: Instant, from: &Route, packet: &[u8]) -> Verdict {
        self.machine.handle_packet(now, from, packet)
    }

    fn handle_accepted(&mut self, now: Instant, path: PathId) {
        self.machine.handle_accepted(now, path);
    }

    fn handle_copied(&mut self, path: PathId, bytes: u64) {
        self.machine.handle_copied(path, bytes);
    }

    fn handle_sent(&mut self, now: Instant, transmit: &Transmit<'_>) {
        self.machine.handle_sent(now, transmit.packets());
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
    }

    fn handle_failed(&mut self, _now: Instant, route: &Route, _error: &io::Error) {
        // An unconnected UDP socket is not at fault when one address is.
        if route.carrier == crate::Carrier::Tcp {
            self.machine.handle_failed(route);
        }
    }

    fn handle_opened(&mut self, _: Instant, _: PathId, _: Option<IpAddr>, _: io::Result<()>) {
        // The server opens nothing.
    }

    fn handle_clock_jump(&mut self, _: Instant, _: Duration) {
        // The client knows best when it is time to come back.
    }

    fn handle_resolved(&mut self, _: Vec<SocketAddr>) {
        // The server resolves nothing.
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut(&mut [u8]),
        buf: &mut Vec<u8>,
    ) -> Option<Path> {
        self.machine.poll_transmit(now, random, buf)
    }

    fn poll_action(&mut self) -> Option<Action> {
        loop {
            match self.machine.poll_event()? {
                Event::Proven { path, change, after_silence } => {
                    let first = change == Change::First;
                    let remote = path.route.remote;
                    self.tell(ServerEvent::NewPath { first, after_silence, remote });
                    match change {
                        Change::First => {}
                        Change::Moved { same_network } => {
                            return Some(Action::Link(LinkChange::Moved { same_network }));
                        }
                        Change::Restored { same_network } => {
                            return Some(Action::Link(LinkChange::Restored { same_network }));
                        }
                    }
                }
                Event::Silent => self.tell(ServerEvent::Silent),
                Event::Back => self.tell(ServerEvent::Back),
                Event::Goodbye => self.tell(ServerEvent::Goodbye),
                Event::Recovered => {
                    return Some(Action::Link(LinkChange::Restored { same_network: true }));
                }
                Event::Lost => return Some(Action::Link(LinkChange::Lost)),
                Event::Knock => {
                    return Some(Action::Link(LinkChange::Restored { same_network: false }));
                }
                Event::Close { path } => return Some(Action::Close(path.route.socket)),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn routes(&self) -> Routes {
        self.machine.routes()
    }

    fn knows(&self, _route: &Route) -> bool {
        true
    }
}
