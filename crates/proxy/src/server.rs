//! The server machine: learns which paths lead to its one client.
//!
//! Sans-IO, the same five verbs as [`crate::client`]. It serves any number of
//! sockets of both carriers at once; a path remembers the socket it came by.
//!
//! ```text
//!              auth, new serial                accepted packet
//!   Unclaimed ──────────────────▶ Pending ───────────────────▶ Active ◀─────┐
//!       ▲                            ▲  │ auth, newer serial,  │   │        │ accepted packet
//!       │                            └──┘ other address        │   │ auth   │ from pending
//!       │                                                      │   ▼        │
//!       └──────────────── silent for 2 H ──────────────────────┘  Roaming ──┘
//! ```
//!
//! Departures from the reference, all invisible to an honest peer (DESIGN D10):
//! * An address becomes active only when the transport accepted a packet from
//!   it, never on the mere arrival of bytes, and that holds for TCP as well.
//!   Until then packets go to the old path, and to the pending one as well, up
//!   to three times what was received from it: so a client that has nothing to
//!   send but dummies still gets something to answer, and is promoted by the
//!   answer. On TCP, whose remote address cannot be forged, there is no limit.
//! * Only accepted packets count as a sign of life.
//! * An auth packet repeated from the active address is acked too.
//!
//! Invariants: the serial never decreases, whatever happens to the paths;
//! nothing unauthenticated is ever answered. Wire and the reference's rules:
//! `docs/protocol.md` §2.2–§2.5.

#[cfg(test)]
mod table;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proto::path_auth::{PathAck, PathAuth};
use proto::{ClientId, PathSerial, ServerId};

use crate::answers::Answers;
use crate::path::{Carrier, Change, Path, Pending, Route, Routes, Verdict};
use crate::seal::{NONCE_LEN, ProxyKey, SEALED_LEN, Sealer};
use crate::socket::PathId;
use crate::timers::{AMPLIFICATION, DUMMY_LEN, HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MIN, QUIET};

/// What the server machine has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The only client that is served.
    pub client_id: ClientId,
    /// Our id, which acks carry.
    pub server_id: ServerId,
    /// The key that auth packets are sealed with.
    pub proxy_key: ProxyKey,
}

/// What happened, for the driver and the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A path was proven and is in use from now on. If the client was away
    /// before, the owner of the bus arms the input-discard marker (PROTOCOL §2.3).
    Proven {
        /// The path.
        path: Path,
        /// What that changes.
        change: Change,
        /// Whether [`Event::Silent`] came before, and no [`Event::Back`].
        after_silence: bool,
    },
    /// Nothing was accepted for the heartbeat timeout: the client is away.
    Silent,
    /// A packet was accepted again after [`Event::Silent`].
    Back,
    /// The client's guard says that the client is gone (extension `goodbye`).
    Goodbye,
    /// There is no use in sending for now.
    Lost,
    /// The path in use, lost a moment ago, works again.
    Recovered,
    /// A silent client knocks: there is something to send to again, as yet
    /// unproven.
    Knock,
    /// This path is over: close the TCP connection behind it.
    Close {
        /// The path that was.
        path: Path,
    },
}

/// The server machine; see the module's description.
#[derive(Debug)]
pub struct Server {
    config: Config,
    sealer: Sealer,
    paths: Paths,
    liveness: Liveness,
    /// Whether silence is no sign of anything while no answer is wanted.
    is_quiet: bool,
    answers: Answers,
    /// When a packet was accepted last.
    contact: Option<Instant>,
    /// The highest serial ever accepted; never lowered (replay protection).
    serial: PathSerial,
    next_path: u64,
    /// The route of the last proven path, also after it was forgotten.
    network: Option<Route>,
    /// Whether the transport was told that there is no path.
    lost: bool,
    /// The ack that is due. One is enough: a newer one voids it.
    ack: Option<Path>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug)]
enum Paths {
    Unclaimed,
    Pending(Candidate),
    Active(Path),
    Roaming { active: Path, pending: Candidate },
}

/// An address that authenticated and still has to be proven.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    path: Path,
    /// When it last sent an auth packet.
    asked: Instant,
    received_bytes: u64,
    sent_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Liveness {
    /// The bus is not up: silence means nothing yet.
    Unwatched,
    /// A packet was accepted at `at`.
    Fresh { timeout: Duration, at: Instant },
    /// Nothing was accepted for the timeout, which began at `last`. While `knocked` is
    /// recent, packets are sent to the pending path all the same.
    Silent { timeout: Duration, last: Instant, knocked: Option<Instant> },
}

impl Server {
    /// Creates a machine that waits for its client.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            sealer: Sealer::new(&config.proxy_key),
            config,
            paths: Paths::Unclaimed,
            liveness: Liveness::Unwatched,
            is_quiet: false,
            answers: Answers::default(),
            contact: None,
            serial: PathSerial(0),
            next_path: 0,
            network: None,
            lost: false,
            ack: None,
            events: VecDeque::new(),
        }
    }

    // ---- ways in -----------------------------------------------------------

    /// Takes a packet.
    pub fn handle_packet(&mut self, now: Instant, from: &Route, packet: &[u8]) -> Verdict {
        if self.auth(packet) == Some(PathSerial::GOODBYE) {
            self.events.push_back(Event::Goodbye);
            return Verdict::Refused;
        }
        match self.paths {
            Paths::Active(active) | Paths::Roaming { active, .. } if active.route == *from => {
                self.on_active(active, packet)
            }
            Paths::Pending(pending) | Paths::Roaming { pending, .. }
                if pending.path.route == *from =>
            {
                self.on_pending(now, pending.path, packet)
            }
            _ => self.on_unknown(now, from, packet),
        }
    }

    /// Takes the transport's word that a packet from `path` was genuine.
    pub fn handle_accepted(&mut self, now: Instant, path: PathId) {
        match self.paths {
            Paths::Pending(pending) if pending.path.id == path => self.promote(None, pending),
            Paths::Roaming { active, pending } if pending.path.id == path => {
                self.promote(Some(active), pending);
            }
            Paths::Active(active) | Paths::Roaming { active, .. } if active.id == path => {
                if std::mem::take(&mut self.lost) {
                    self.events.push_back(Event::Recovered);
                }
            }
            _ => return,
        }
        self.contact = Some(now);
        self.answers.on_accepted(now);
        match self.liveness {
            Liveness::Unwatched => {}
            Liveness::Fresh { timeout, .. } => self.liveness = Liveness::Fresh { timeout, at: now },
            Liveness::Silent { timeout, .. } => {
                self.liveness = Liveness::Fresh { timeout, at: now };
                self.events.push_back(Event::Back);
            }
        }
    }

    /// Tells that the bus is up with this heartbeat timeout: from now on
    /// silence counts. A client that names none, or one too short to mean
    /// anything, gets the default. With `quiet` (extension `silence`) the timeout
    /// begins with the first packet of ours that wants an answer, and the path is
    /// kept until the client must have noticed as well.
    pub fn set_bus_up(&mut self, now: Instant, timeout: Duration, quiet: bool) {
        self.is_quiet = quiet;
        let timeout = if timeout < HEARTBEAT_TIMEOUT_MIN { HEARTBEAT_TIMEOUT } else { timeout };
        self.liveness = Liveness::Fresh { timeout, at: now };
    }

    /// Reports what the transport has sent on the path in use.
    pub fn handle_sent<'a>(&mut self, now: Instant, packets: impl Iterator<Item = &'a [u8]>) {
        if self.is_quiet {
            self.answers.on_sent(now, packets, false);
        }
    }

    /// Reports that a TCP connection ended. The client's state stays.
    pub fn handle_failed(&mut self, route: &Route) {
        self.paths = match self.paths {
            Paths::Active(active) if active.route == *route => Paths::Unclaimed,
            Paths::Pending(pending) if pending.path.route == *route => Paths::Unclaimed,
            Paths::Roaming { active, pending } if active.route == *route => Paths::Pending(pending),
            Paths::Roaming { active, pending } if pending.path.route == *route => {
                Paths::Active(active)
            }
            paths => paths,
        };
        self.ack = self.ack.filter(|path| path.route != *route);
        if matches!(self.paths, Paths::Unclaimed) {
            self.on_lost();
        }
    }

    /// Reports that `bytes` were sent to the pending path of [`Server::routes`].
    pub fn handle_copied(&mut self, path: PathId, bytes: u64) {
        if let Paths::Pending(pending) | Paths::Roaming { pending, .. } = &mut self.paths
            && pending.path.id == path
        {
            pending.sent_bytes = pending.sent_bytes.saturating_add(bytes);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.liveness {
            Liveness::Fresh { timeout, .. }
                if self.silent_since().is_some_and(|since| now >= since + timeout) =>
            {
                let last = self.silent_since().unwrap_or(now);
                self.liveness = Liveness::Silent { timeout, last, knocked: None };
                self.events.push_back(Event::Silent);
                // An idle client does not know that we have something to say: the transport goes
                // on trying, rarely.
                if !self.is_quiet {
                    self.on_lost();
                }
            }
            Liveness::Silent { timeout, last, knocked: Some(knocked) }
                if now >= knocked + timeout =>
            {
                self.liveness = Liveness::Silent { timeout, last, knocked: None };
                self.on_lost();
            }
            _ => {}
        }
        if self.forget_at().is_some_and(|at| now >= at) {
            self.forget(now);
        }
    }

    // ---- ways out ----------------------------------------------------------

    /// Writes the next packet that is due into `buf` (cleared first) and
    /// returns its path. `random` fills a slice with random bytes.
    pub fn poll_transmit(
        &mut self,
        _now: Instant,
        random: &mut dyn FnMut(&mut [u8]),
        buf: &mut Vec<u8>,
    ) -> Option<Path> {
        buf.clear();
        let path = self.ack.take()?;
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce);
        let ack = PathAck { server: self.config.server_id, serial: self.serial };
        buf.extend_from_slice(&self.sealer.seal(nonce, ack.encode()));
        self.handle_copied(path.id, SEALED_LEN as u64);
        Some(path)
    }

    /// Returns what happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Server::handle_timeout`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.liveness {
            Liveness::Unwatched => None,
            Liveness::Fresh { timeout, .. } => self.silent_since().map(|since| since + timeout),
            Liveness::Silent { timeout, knocked, .. } => {
                knocked.map(|k| k + timeout).into_iter().chain(self.forget_at()).min()
            }
        }
    }

    /// Returns where the transport's packets go.
    #[must_use]
    pub fn routes(&self) -> Routes {
        if self.lost {
            return Routes::default();
        }
        let pending = |c: Candidate| Pending { path: c.path, allowance_bytes: c.allowance() };
        match self.paths {
            Paths::Unclaimed => Routes::default(),
            Paths::Pending(c) => Routes { active: None, pending: Some(pending(c)) },
            Paths::Active(path) => Routes { active: Some(path), pending: None },
            Paths::Roaming { active, pending: c } => {
                Routes { active: Some(active), pending: Some(pending(c)) }
            }
        }
    }

    /// Returns the path in use, if there is one that was proven.
    #[must_use]
    pub const fn active(&self) -> Option<Path> {
        match self.paths {
            Paths::Active(path) | Paths::Roaming { active: path, .. } => Some(path),
            Paths::Unclaimed | Paths::Pending(_) => None,
        }
    }

    /// Returns when a packet was accepted last.
    #[must_use]
    pub const fn last_contact(&self) -> Option<Instant> {
        self.contact
    }

    /// Returns the highest serial accepted so far.
    #[must_use]
    pub const fn serial(&self) -> PathSerial {
        self.serial
    }

    // ---- transitions -------------------------------------------------------

    fn on_active(&mut self, active: Path, packet: &[u8]) -> Verdict {
        if let Some(serial) = self.auth(packet).filter(|&serial| serial >= self.serial) {
            return self.on_auth(active, serial);
        }
        if packet.len() <= DUMMY_LEN {
            return Verdict::Consumed;
        }
        Verdict::Deliver { path: active.id, unproven: false }
    }

    fn on_pending(&mut self, now: Instant, path: Path, packet: &[u8]) -> Verdict {
        let auth = self.auth(packet);
        if let Paths::Pending(pending) | Paths::Roaming { pending, .. } = &mut self.paths {
            pending.received_bytes = pending.received_bytes.saturating_add(packet.len() as u64);
            if auth.is_some_and(|serial| serial >= self.serial) {
                // Still asking: forgotten now, it could not come back with this serial.
                pending.asked = now;
            }
        }
        match auth {
            Some(serial) if serial >= self.serial => self.on_auth(path, serial),
            Some(_) => Verdict::Consumed,
            None if packet.len() <= DUMMY_LEN => Verdict::Consumed,
            None => Verdict::Deliver { path: path.id, unproven: true },
        }
    }

    /// A valid auth packet from an address we know: ack it.
    const fn on_auth(&mut self, path: Path, serial: PathSerial) -> Verdict {
        self.serial = serial;
        self.ack = Some(path);
        Verdict::Consumed
    }

    fn on_unknown(&mut self, now: Instant, from: &Route, packet: &[u8]) -> Verdict {
        // While a path waits for its proof its serial may come from elsewhere
        // again: whoever copied the auth packet and was faster must not keep the
        // client itself out (PROTOCOL §16). Only proof decides between them.
        let unproven = matches!(self.paths, Paths::Pending(_) | Paths::Roaming { .. });
        let is_fresh =
            |&serial: &PathSerial| serial > self.serial || (unproven && serial == self.serial);
        let Some(serial) = self.auth(packet).filter(is_fresh) else {
            return Verdict::Refused;
        };
        self.serial = serial;
        let path = Path { id: PathId(self.next_path), route: *from };
        self.next_path += 1;
        self.ack = Some(path);
        tracing::debug!(path = %path.id, %serial, "path asked for");
        let received_bytes = packet.len() as u64;
        let pending = Candidate { path, asked: now, received_bytes, sent_bytes: 0 };
        let voided = match self.paths {
            Paths::Unclaimed => None,
            Paths::Pending(voided) | Paths::Roaming { pending: voided, .. } => Some(voided.path),
            Paths::Active(_) => None,
        };
        self.paths = match self.paths {
            Paths::Unclaimed | Paths::Pending(_) => Paths::Pending(pending),
            Paths::Active(active) | Paths::Roaming { active, .. } => {
                Paths::Roaming { active, pending }
            }
        };
        voided.into_iter().for_each(|path| self.close(path));
        if let Liveness::Silent { knocked, .. } = &mut self.liveness {
            *knocked = Some(now);
        }
        if std::mem::take(&mut self.lost) {
            self.events.push_back(Event::Knock);
        }
        Verdict::Consumed
    }

    /// The pending path is proven: use it.
    fn promote(&mut self, old: Option<Path>, pending: Candidate) {
        let path = pending.path;
        let same_network = self.network.is_some_and(|n| n.same_network(&path.route));
        let change = match self.network.replace(path.route) {
            None => Change::First,
            Some(_) if std::mem::take(&mut self.lost) => Change::Restored { same_network },
            Some(_) => Change::Moved { same_network },
        };
        self.paths = Paths::Active(path);
        old.into_iter().for_each(|path| self.close(path));
        // What was typed while another path worked is not stale, whatever the client moves for.
        let after_silence = matches!(self.liveness, Liveness::Silent { .. });
        self.events.push_back(Event::Proven { path, change, after_silence });
    }

    fn on_lost(&mut self) {
        // Before the first path the transport was never told of one.
        if self.network.is_some() && !std::mem::replace(&mut self.lost, true) {
            self.events.push_back(Event::Lost);
        }
    }

    /// Since when the client is silent. Without a path nothing goes out that could want an answer.
    const fn silent_since(&self) -> Option<Instant> {
        let has_path = matches!(self.paths, Paths::Active(_) | Paths::Roaming { .. });
        match self.liveness {
            Liveness::Fresh { .. } if self.is_quiet && has_path => self.answers.silent_since(),
            Liveness::Fresh { at, .. } => Some(at),
            Liveness::Unwatched | Liveness::Silent { .. } => None,
        }
    }

    /// Two timeouts of silence: whoever comes back has to authenticate. What
    /// authenticated within the last timeout stays.
    fn forget(&mut self, now: Instant) {
        let fresh = |c: &Candidate| match self.liveness {
            Liveness::Silent { timeout, .. } => now < c.asked + timeout,
            Liveness::Unwatched | Liveness::Fresh { .. } => true,
        };
        let (kept, gone) = match self.paths {
            Paths::Unclaimed => return,
            Paths::Active(active) => (Paths::Unclaimed, [Some(active), None]),
            Paths::Pending(c) => (Paths::Unclaimed, [Some(c.path), None]),
            Paths::Roaming { active, pending } if fresh(&pending) => {
                (Paths::Pending(pending), [Some(active), None])
            }
            Paths::Roaming { active, pending } => {
                (Paths::Unclaimed, [Some(active), Some(pending.path)])
            }
        };
        self.paths = kept;
        if self.is_quiet && matches!(kept, Paths::Unclaimed) {
            self.on_lost();
        }
        gone.into_iter().flatten().for_each(|path| self.close(path));
    }

    /// When [`Server::forget`] is due.
    fn forget_at(&self) -> Option<Instant> {
        let Liveness::Silent { timeout, last, .. } = self.liveness else { return None };
        let last = if self.is_quiet { last + QUIET } else { last };
        match self.paths {
            Paths::Unclaimed => None,
            Paths::Pending(c) => Some((last + 2 * timeout).max(c.asked + timeout)),
            Paths::Active(_) | Paths::Roaming { .. } => Some(last + 2 * timeout),
        }
    }

    fn close(&mut self, path: Path) {
        if self.ack.is_some_and(|ack| ack.id == path.id) {
            self.ack = None;
        }
        if path.route.carrier == Carrier::Tcp {
            self.events.push_back(Event::Close { path });
        }
    }

    // ---- looking into the state --------------------------------------------

    /// Opens an auth packet of our client.
    fn auth(&self, packet: &[u8]) -> Option<PathSerial> {
        if packet.len() != SEALED_LEN {
            return None;
        }
        let auth = PathAuth::decode(&self.sealer.open(packet)?)?;
        (auth.client == self.config.client_id).then_some(auth.serial)
    }
}

impl Candidate {
    fn allowance(&self) -> u64 {
        match self.path.route.carrier {
            Carrier::Udp => {
                self.received_bytes.saturating_mul(AMPLIFICATION).saturating_sub(self.sent_bytes)
            }
            Carrier::Tcp => u64::MAX,
        }
    }
}
