//! [`ClientProxy`]: the client machine on real sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::hub::Hub;
use super::monitor::Monitor;
use super::refusals::Refusals;
use super::state::{Action, Half, Resolver};
use super::udp::source_to;
use super::wire::Opener;
use crate::client::{Client, Config, Event, RenewReason};
use crate::copies::Report;
use crate::path::{Change, Means, Path, Route, Routes, SocketId, Verdict};
use crate::socket::{LinkChange, PacketSocket, PathId, Transmit};

/// What the client proxy has to know; see the fields.
pub type ClientConfig = Config;

/// How the link to the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The first connect is under way.
    Connecting,
    /// A proven path is in use.
    Up,
    /// There is no path; new ones are tried.
    Lost,
    /// The first connect failed. Whether anything at all was heard tells a
    /// firewall from a server that does not want us.
    Failed {
        /// Whether any packet came back.
        heard: bool,
    },
    /// [`ClientProxy::close`] was called.
    Closed,
}

/// The link as a person would want to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// How it is.
    pub state: LinkState,
    /// Since when.
    pub since: Instant,
    /// When the server was last known to be there.
    pub last_contact: Option<Instant>,
    /// The I/O error that goes with it, if any.
    pub reason: Option<String>,
    /// Since when the server's host has refused whatever we sent and has done
    /// nothing else, seen from the network of the last path: its port is
    /// closed. One refusal proves little: it can be forged, or be a strange
    /// network's (those are not counted).
    pub refused_since: Option<Instant>,
    /// How many paths were proven so far; grows with each roam.
    pub paths: u64,
    /// Our address on the path in use.
    pub local: Option<SocketAddr>,
    /// The server's address on the path in use.
    pub remote: Option<SocketAddr>,
}

/// A client proxy. Clones are handles on the same one; it ends with
/// [`ClientProxy::close`] or with the last handle and socket.
#[derive(Clone, Debug)]
pub struct ClientProxy {
    hub: Arc<Hub<ClientHalf>>,
    status: watch::Receiver<LinkStatus>,
}

impl ClientProxy {
    /// Starts to ask for a path. Returns at once; the transport may send at
    /// once, too: its first packets follow the auth packet.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] without any candidate.
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: ClientConfig) -> io::Result<Self> {
        Self::start_with(config, None)
    }

    /// As [`ClientProxy::start`]; `opener` opens those of [`ClientConfig::means`](Config::means)
    /// that are wires.
    ///
    /// # Errors
    /// As [`ClientProxy::start`].
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_with(config: ClientConfig, opener: Option<Opener>) -> io::Result<Self> {
        let proxy = Self::new(config, opener)?;
        match Monitor::start() {
            Ok(monitor) => drop(tokio::spawn(watch_network(monitor, Arc::downgrade(&proxy.hub)))),
            Err(error) => tracing::debug!(%error, "changes of the network go unseen"),
        }
        proxy.hub.with(|half, now| half.machine.start(now));
        Ok(proxy)
    }

    /// As [`ClientProxy::start_with`], where every path is a wire; the candidate is
    /// only a name for it. The network of this machine is somebody else's business.
    ///
    /// # Errors
    /// As [`ClientProxy::start`].
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_over_wires(config: ClientConfig, opener: Opener) -> io::Result<Self> {
        let proxy = Self::new(config, Some(opener))?;
        proxy.hub.with(|half, now| half.machine.start(now));
        Ok(proxy)
    }

    fn new(config: ClientConfig, opener: Option<Opener>) -> io::Result<Self> {
        if config.candidates.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to"));
        }
        let (sender, status) = watch::channel(LinkStatus {
            state: LinkState::Connecting,
            since: Instant::now(),
            last_contact: None,
            reason: None,
            refused_since: None,
            paths: 0,
            local: None,
            remote: None,
        });
        let machine = Client::new(config);
        let hub = Hub::new(ClientHalf {
            machine,
            status: sender,
            resolver: Resolve::Never,
            opener,
            refusals: Refusals::default(),
            has_failed: false,
            stirred: Arc::default(),
        });
        Ok(Self { hub, status })
    }

    /// Returns the socket that a transport runs over.
    #[must_use]
    pub fn socket(&self) -> Arc<dyn PacketSocket> {
        self.hub.clone()
    }

    /// Tells that the heartbeat sent at `sent_at` was answered on the bus.
    /// Silence means nothing until the first call; the bus' opening exchange
    /// counts as one.
    pub fn heartbeat_confirmed(&self, sent_at: Instant) {
        self.hub.with(|half, now| half.machine.handle_heartbeat(now, sent_at));
    }

    /// Asks for a new path now; the old one stays in use until it is proven.
    pub fn renew(&self, reason: RenewReason) {
        self.hub.with(|half, now| half.machine.renew(now, reason));
    }

    /// Replaces the server's addresses, from the next renewal on.
    pub fn set_candidates(&self, candidates: Vec<SocketAddr>) {
        self.hub.with(|half, _| half.machine.set_candidates(candidates));
    }

    /// Has the server's addresses found anew whenever the link is lost, and
    /// again after each attempt that failed while it is.
    pub fn set_resolver(&self, resolver: Resolver) {
        self.hub.with(|half, _| half.resolver = Resolve::Idle(resolver));
    }

    /// Returns how the link is at this moment.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        let (mut status, active) = self.hub.look(|half| {
            let mut status = half.status.borrow().clone();
            status.last_contact = half.machine.last_contact();
            if status.state == LinkState::Lost {
                status.reason = half.machine.last_error().map(str::to_owned);
            }
            (status, half.machine.active())
        });
        status.local = active.and_then(|path| self.hub.local_addr(&path));
        status.remote = active.map(|path| path.route.remote);
        status
    }

    /// Waits until something genuine has come since the last call was ready.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped. One task at a time may wait.
    pub async fn stirred(&self) {
        let stirred = self.hub.look(|half| half.stirred.clone());
        stirred.notified().await;
    }

    /// Returns by what means the path in use was opened.
    #[must_use]
    pub fn means(&self) -> Option<Means> {
        let path = self.hub.look(|half| half.machine.active())?;
        Some(Means { carrier: path.route.carrier, is_wire: self.hub.is_wire(&path) })
    }

    /// Returns a watch that changes with each transition of [`LinkStatus::state`],
    /// each new path and each failed attempt at one. What else the status says may have moved on:
    /// [`ClientProxy::status`] tells.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Sends small packets more than once from now on, as the loss that the peer
    /// reports calls for: it has promised to count (extension `loss`).
    pub fn enable_copies(&self) {
        self.hub.enable_copies();
    }

    /// Marks packets with this traffic class (the TOS byte of IPv4) from now on, instead of with
    /// DSCP 46 (PROTOCOL §2.6): the user wants another one.
    pub fn set_traffic_class(&self, class: u8) {
        self.hub.set_mark(class);
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

    /// Opens no wire from now on: the end is near, and what opens them may be costly, or heard.
    pub fn open_no_more(&self) {
        self.hub.with(|half, _| {
            if let Some(opener) = &mut half.opener {
                *opener = Arc::new(|| Box::pin(std::future::pending()));
            }
        });
    }

    /// Closes all sockets. The transport's next call fails.
    pub fn close(&self) {
        self.hub.with(|half, now| {
            half.machine.close();
            half.tell(now, LinkState::Closed, None);
        });
        self.hub.close();
    }
}

/// Tells the machine of changes of the network until the proxy is closed.
async fn watch_network(monitor: Monitor, hub: Weak<Hub<ClientHalf>>) {
    let Some(mut status) = hub.upgrade().map(|hub| hub.look(|half| half.status.subscribe())) else {
        return;
    };
    loop {
        let over = status.wait_for(|status| {
            matches!(status.state, LinkState::Failed { .. } | LinkState::Closed)
        });
        tokio::select! {
            // The last handle is gone, or there is nothing more to find.
            _ = over => return,
            changed = monitor.changed() => {
                let Some(hub) = hub.upgrade() else { return };
                match changed {
                    Ok(()) => hub.with(|half, now| half.machine.handle_network(now, source_to)),
                    Err(error) => return tracing::debug!(%error, "no news of the network any more"),
                }
            }
        }
    }
}

struct ClientHalf {
    machine: Client,
    status: watch::Sender<LinkStatus>,
    resolver: Resolve,
    opener: Option<Opener>,
    refusals: Refusals,
    /// An attempt has failed.
    has_failed: bool,
    /// Something was accepted.
    stirred: Arc<Notify>,
}

/// One question at a time is put to the resolver.
enum Resolve {
    Never,
    Idle(Resolver),
    Due(Resolver),
    UnderWay(Resolver),
}

impl Resolve {
    /// Something went wrong with the addresses there are.
    fn ask(&mut self) {
        *self = match std::mem::replace(self, Self::Never) {
            Self::Idle(resolver) => Self::Due(resolver),
            other => other,
        };
    }

    fn take_due(&mut self) -> Option<Resolver> {
        let Self::Due(resolver) = self else { return None };
        let resolver = resolver.clone();
        *self = Self::UnderWay(resolver.clone());
        Some(resolver)
    }

    fn on_answer(&mut self) {
        *self = match std::mem::replace(self, Self::Never) {
            Self::UnderWay(resolver) => Self::Idle(resolver),
            other => other,
        };
    }
}

impl std::fmt::Debug for ClientHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientHalf").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl ClientHalf {
    fn tell(&self, now: Instant, state: LinkState, reason: Option<String>) {
        self.status.send_modify(|status| {
            if status.state != state {
                status.since = now;
            }
            status.last_contact = self.machine.last_contact();
            status.state = state;
            status.reason = reason;
            status.refused_since = self.refusals.since;
        });
    }

    fn on_proven(&mut self, change: Change) -> Option<Action> {
        self.refusals.on_proven(self.machine.active().map(|path| path.route));
        self.status.send_modify(|status| status.paths += 1);
        self.tell(Instant::now(), LinkState::Up, None);
        match change {
            // The transport's first packets went where nothing comes from.
            Change::First if self.has_failed => {
                Some(Action::Link(LinkChange::Moved { same_network: false }))
            }
            Change::First => None,
            Change::Moved { same_network } => {
                Some(Action::Link(LinkChange::Moved { same_network }))
            }
            Change::Restored { same_network } => {
                Some(Action::Link(LinkChange::Restored { same_network }))
            }
        }
    }
}

impl Half for ClientHalf {
    fn handle_packet(&mut self, now: Instant, from: &Route, packet: &[u8]) -> Verdict {
        self.machine.handle_packet(now, from.socket, packet)
    }

    fn handle_accepted(&mut self, now: Instant, path: PathId) {
        self.machine.handle_accepted(now, path);
        self.stirred.notify_one();
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

    fn handle_failed(&mut self, now: Instant, route: &Route, error: &io::Error) {
        let path = PathId(route.socket.0);
        self.refusals.on_error(now, route.local_ip, self.machine.remote_of(path), error);
        self.machine.handle_failed(now, path, error.to_string());
    }

    fn handle_opened(
        &mut self,
        now: Instant,
        path: PathId,
        local: Option<IpAddr>,
        opened: io::Result<()>,
    ) {
        match opened {
            Ok(()) => self.machine.handle_opened(now, path, local),
            Err(error) => {
                self.refusals.on_error(now, local, self.machine.remote_of(path), &error);
                self.machine.handle_failed(now, path, error.to_string());
            }
        }
    }

    fn poll_transmit(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut(&mut [u8]),
        buf: &mut Vec<u8>,
    ) -> Option<Path> {
        self.machine.poll_transmit(now, random, buf)
    }

    fn handle_clock_jump(&mut self, now: Instant, slept: Duration) {
        self.machine.handle_clock_jump(now, slept);
    }

    fn handle_resolved(&mut self, candidates: Vec<SocketAddr>) {
        self.resolver.on_answer();
        self.machine.set_candidates(candidates);
    }

    fn poll_action(&mut self) -> Option<Action> {
        if let Some(resolver) = self.resolver.take_due() {
            return Some(Action::Resolve(resolver));
        }
        loop {
            let action = match self.machine.poll_event()? {
                Event::Open { path, means: Means { carrier, is_wire }, remote } => {
                    Some(match self.opener.clone().filter(|_| is_wire) {
                        Some(opener) => Action::OpenWire { path, carrier, remote, opener },
                        None => Action::Open { path, carrier, remote },
                    })
                }
                Event::Close { path } => Some(Action::Close(SocketId(path.0))),
                Event::Proven { change, .. } => self.on_proven(change),
                Event::AttemptFailed { remote, error } => {
                    if error.is_none() {
                        self.refusals.on_silence(remote);
                    }
                    self.has_failed = true;
                    let state = self.status.borrow().state;
                    if state == LinkState::Lost {
                        self.resolver.ask();
                    }
                    self.tell(Instant::now(), state, error);
                    self.resolver.take_due().map(Action::Resolve)
                }
                Event::Lost { error } => {
                    self.resolver.ask();
                    self.tell(Instant::now(), LinkState::Lost, error);
                    Some(Action::Link(LinkChange::Lost))
                }
                Event::ConnectFailed { heard, error } => {
                    self.tell(Instant::now(), LinkState::Failed { heard }, error);
                    Some(Action::End)
                }
            };
            if action.is_some() {
                return action;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn routes(&self) -> Routes {
        self.machine.routes()
    }

    fn knows(&self, route: &Route) -> bool {
        self.machine.knows(PathId(route.socket.0))
    }
}
