//! The client machine: asks for paths, proves them, notices when one is lost.
//!
//! Sans-IO. In: [`Client::handle_packet`], [`Client::handle_timeout`] and the
//! named commands and reports (`start`, `renew`, `handle_opened`, …). Out:
//! [`Client::poll_transmit`], [`Client::poll_event`], [`Client::poll_timeout`].
//! After any way in, drain the first two, then arm one timer with the third.
//!
//! ```text
//!          start              proven             renew, error
//!   Idle ────────▶ Connecting ───────▶ Up ◀─────────────────────▶ Roaming
//!                      │                │ ▲        proven           │ ▲
//!      connect timeout │   silent for H │ │ proven     silent for H │ │ accepted on
//!                      ▼                ▼ │                         ▼ │ the old path
//!                    Ended              Down ◀────────────────────────┘
//! ```
//!
//! A path is renewed when the system's routes change ([`Client::handle_network`]),
//! when a send fails or is not answered in time ([`Client::handle_sent`]), after
//! sleep, on request, and, last of all, when heartbeats are missed. Where the
//! system says that there is no way to the server, the search waits for it to
//! say otherwise, without any timer.
//!
//! "Silent for H": nothing accepted and no heartbeat answered for the heartbeat
//! timeout; with [`Config::quiet`] from the first packet on that wants an answer. A dead TCP connection leads from `Up` or `Roaming` to `Down` at
//! once. `table.txt` beside this file has every transition.
//!
//! In `Connecting`, `Roaming` and `Down` a search runs: it asks for one new
//! path at a time (never two unanswered auths from different sockets: a
//! reference server keeps one pending address, and a later serial voids an
//! earlier one), pauses, and asks again. A path is *proven* by its ack or by
//! any packet from it that the transport accepts, so the loss of every ack
//! costs nothing (DESIGN D2). The old path stays in use until then.
//!
//! Invariants: every new path has a new serial and a new socket; `now` never
//! goes backwards; at most three paths exist (in use, asked for, draining).
//! Wire and rules of the reference: `docs/protocol.md` §2.2, §2.4, §2.5.

mod event;
mod network;
mod search;
mod state;
#[cfg(test)]
mod table;
mod transitions;
mod ways;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proto::PathSerial;
use proto::path_auth::PathAuth;

pub use event::{Config, Event, RenewReason};
use search::{ErrorSpacing, Search, Tries};
use state::State;
use ways::Ways;

use crate::answers::Answers;
use crate::path::{Carrier, Change, Path, Pending, Route, Routes, SocketId, Verdict};
use crate::seal::{NONCE_LEN, Sealer};
use crate::socket::PathId;
use crate::timers::{AUTH_INTERVAL, COPY_BYTES, DUMMY_INTERVAL, DUMMY_LEN, RETRY_PAUSE};

/// The client machine; see the module's description.
#[derive(Debug)]
pub struct Client {
    config: Config,
    sealer: Sealer,
    state: State,
    serial: PathSerial,
    next_path: u64,
    /// What is asked next.
    ways: Ways,
    /// The path before the one in use, still read until the given time.
    draining: Option<(PathId, Instant)>,
    /// The network of the last proven path.
    network: Option<Route>,
    /// When the peer was last known to be alive.
    contact: Option<Instant>,
    /// Whether the bus is up, so that silence means something.
    watching: bool,
    /// Whether any packet at all was received.
    heard: bool,
    errors: ErrorSpacing,
    /// Spaces renewals for want of an answer, of which a lossy path has many.
    overdue: ErrorSpacing,
    tries: Tries,
    answers: Answers,
    /// The system has said that there is no way to the server.
    offline: bool,
    last_error: Option<String>,
    events: VecDeque<Event>,
}

impl Client {
    /// Creates a machine that waits for [`Client::start`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            sealer: Sealer::new(&config.proxy_key),
            config,
            state: State::Idle,
            serial: PathSerial(0),
            next_path: 0,
            ways: Ways::default(),
            draining: None,
            network: None,
            contact: None,
            watching: false,
            heard: false,
            errors: ErrorSpacing::default(),
            overdue: ErrorSpacing::default(),
            tries: Tries::default(),
            answers: Answers::default(),
            offline: false,
            last_error: None,
            events: VecDeque::new(),
        }
    }

    // ---- ways in -----------------------------------------------------------

    /// Begins the first connect. Does nothing the second time.
    pub fn start(&mut self, now: Instant) {
        if matches!(self.state, State::Idle) {
            let deadline = now + self.config.connect_timeout;
            let search = self.ask(now);
            self.state = State::Connecting { deadline, search };
        }
    }

    /// Takes a packet that came in by `socket`.
    pub fn handle_packet(&mut self, now: Instant, socket: SocketId, packet: &[u8]) -> Verdict {
        let path = PathId(socket.0);
        if self.attempt().is_some_and(|a| a.id == path) {
            self.heard = true;
            if self.handle_ack(now, path, packet) || packet.len() <= DUMMY_LEN {
                return Verdict::Consumed;
            }
            return Verdict::Deliver { path, unproven: true };
        }
        let known = self.live().is_some_and(|l| l.path.id == path)
            || self.draining.is_some_and(|(id, _)| id == path);
        match known {
            true if packet.len() > DUMMY_LEN => Verdict::Deliver { path, unproven: false },
            true => Verdict::Consumed,
            false => Verdict::Refused,
        }
    }

    /// Takes the transport's word that a packet from `path` was genuine.
    pub fn handle_accepted(&mut self, now: Instant, path: PathId) {
        if self.attempt().is_some_and(|a| a.id == path) {
            self.contact = Some(now);
            self.on_proven(now);
        }
        self.answers.on_accepted(now);
        let Some(live) = self.live_mut().filter(|l| l.path.id == path) else { return };
        live.next_dummy = None;
        self.contact = Some(now);
        // The old path works after all: use it, and go on asking for the new
        // one, which the server may have gone over to already.
        if let State::Down { old: Some(old), .. } = &self.state {
            let live = *old;
            let State::Down { search, .. } = std::mem::replace(&mut self.state, State::Idle) else {
                return;
            };
            self.state = State::Roaming { live, search };
            let change = Change::Restored { same_network: true };
            self.events.push_back(Event::Proven { path, change });
        }
    }

    /// Takes the bus' word that the heartbeat sent at `sent_at` was answered.
    ///
    /// The first one (the bus' own opening will do) makes silence count.
    pub fn handle_heartbeat(&mut self, now: Instant, sent_at: Instant) {
        let sent_at = sent_at.min(now);
        self.watching = true;
        self.contact = Some(self.contact.map_or(sent_at, |c| c.max(sent_at)));
        self.errors = ErrorSpacing::default();
    }

    /// Reports that the socket asked for with [`Event::Open`] is there.
    pub fn handle_opened(&mut self, now: Instant, path: PathId, local: Option<IpAddr>) {
        let Some(attempt) = self.attempt_mut().filter(|a| a.id == path) else { return };
        let (socket, remote) = (SocketId(path.0), attempt.way.remote);
        let carrier = attempt.way.means.carrier;
        attempt.route = Some(Route { carrier, socket, remote, local_ip: local });
        attempt.next_auth = Some(now);
    }

    /// Reports that the socket of `path` could not be opened, or failed.
    ///
    /// On UDP such an error may be forged or pass by, so the path in use stays
    /// in use while a new one is asked for. A TCP connection is dead.
    pub fn handle_failed(&mut self, now: Instant, path: PathId, error: String) {
        if self.attempt().is_some_and(|a| a.id == path) {
            self.last_error = Some(error);
            // What else there is to try has not failed yet.
            let has_others = self.ways.has_others(&self.config);
            let until = if has_others { now } else { self.errors.next(now) };
            self.give_up_attempt(until);
            self.handle_timeout(now);
            return;
        }
        let Some(live) = self.live().copied().filter(|l| l.path.id == path) else { return };
        self.last_error = Some(error);
        let dead = live.path.route.carrier == Carrier::Tcp;
        if dead {
            self.events.push_back(Event::Close { path });
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Up { live } => {
                let search = Search::Pausing { until: self.errors.next(now) };
                self.state = State::Roaming { live, search };
            }
            other => self.state = other,
        }
        if dead {
            self.on_lost();
            if let State::Down { old, .. } = &mut self.state {
                *old = None;
            }
        }
        self.handle_timeout(now);
    }

    /// Asks for a new path now; the old one stays in use until it is proven.
    pub fn renew(&mut self, now: Instant, reason: RenewReason) {
        tracing::debug!(?reason, "new path asked for");
        self.errors = ErrorSpacing::default();
        // Commands in quick succession are one: the attempt has hardly begun.
        if self.attempt().is_some_and(|a| now < a.began + AUTH_INTERVAL) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Up { live } => {
                let search = self.ask(now);
                self.state = State::Roaming { live, search };
            }
            state @ (State::Connecting { .. } | State::Roaming { .. } | State::Down { .. }) => {
                self.state = state;
                self.offline = false;
                self.ways.on_network(&self.config);
                self.drop_attempt(now);
                self.handle_timeout(now);
            }
            state @ (State::Idle | State::Ended) => self.state = state,
        }
    }

    /// Reports that `slept` passed that `now` does not count (sleep).
    ///
    /// The server forgets addresses after twice the heartbeat timeout, so a
    /// new path is asked for even if no address changed.
    pub fn handle_clock_jump(&mut self, now: Instant, slept: Duration) {
        self.contact = self.contact.and_then(|c| c.checked_sub(slept));
        if self.watching && slept >= self.config.heartbeat_timeout {
            match std::mem::replace(&mut self.state, State::Idle) {
                State::Up { live } => {
                    let search = Search::Pausing { until: now };
                    self.state = State::Roaming { live, search };
                }
                other => self.state = other,
            }
            self.on_lost();
        }
        self.renew(now, RenewReason::ClockJump);
    }

    /// Replaces the candidates, for instance after resolving the name anew.
    /// Takes effect with the next attempt; an empty list is ignored.
    pub fn set_candidates(&mut self, candidates: Vec<SocketAddr>) {
        if candidates.is_empty() || candidates == self.config.candidates {
            return;
        }
        // A resolver may give the same ones in another order each time.
        if candidates.iter().any(|candidate| !self.config.candidates.contains(candidate)) {
            self.ways.on_other_addresses();
        }
        self.config.candidates = candidates;
    }

    /// Ends the machine; all sockets are to be closed.
    pub fn close(&mut self) {
        let paths = [
            self.live().map(|l| l.path.id),
            self.attempt().map(|a| a.id),
            self.draining.take().map(|(id, _)| id),
        ];
        self.events.extend(paths.into_iter().flatten().map(|path| Event::Close { path }));
        self.state = State::Ended;
    }

    /// Reports what the transport has sent on the path in use.
    ///
    /// What wants an answer and gets none has a new path asked for, long
    /// before a heartbeat is missed; and the new path is sent the small ones
    /// again, so that a keystroke need not wait to be repeated.
    pub fn handle_sent<'a>(&mut self, now: Instant, packets: impl Iterator<Item = &'a [u8]>) {
        if matches!(self.state, State::Up { .. } | State::Roaming { .. }) {
            self.answers.on_sent(now, packets, true);
        }
    }

    /// Reports that `bytes` were sent to the pending path of [`Client::routes`].
    pub fn handle_copied(&mut self, path: PathId, bytes: u64) {
        if let Some(attempt) = self.attempt_mut().filter(|a| a.id == path) {
            attempt.allowance = attempt.allowance.saturating_sub(bytes);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((path, until)) = self.draining
            && now >= until
        {
            self.draining = None;
            self.events.push_back(Event::Close { path });
        }
        if let State::Connecting { deadline, .. } = &self.state
            && now >= *deadline
        {
            self.close();
            let (heard, error) = (self.heard, self.last_error.take());
            self.events.push_back(Event::ConnectFailed { heard, error });
            return;
        }
        if let State::Up { live } = &self.state
            && self.overdue_at().is_some_and(|at| now >= at)
        {
            tracing::debug!(path = %live.path.id, "no answer");
            self.answers.on_overdue();
            let until = self.overdue.next_unless_calm(now);
            self.state = State::Roaming { live: *live, search: Search::Pausing { until } };
        }
        if self.silent_at().is_some_and(|at| now >= at) {
            if let State::Up { live } = &self.state {
                self.state = State::Roaming { live: *live, search: Search::Pausing { until: now } };
            }
            self.on_lost();
        }
        if self.attempt().is_some_and(|a| now >= a.deadline) {
            // Whatever failed before, this time it was silence.
            // In the first connect the next candidate is due at once.
            let first = matches!(self.state, State::Connecting { .. });
            self.last_error = None;
            let at_once = first || self.ways.has_others(&self.config);
            self.give_up_attempt(if at_once { now } else { now + RETRY_PAUSE });
        }
        if self.try_at().is_some_and(|at| now >= at) {
            self.ask_for_better(now);
        }
        if let Some(Search::Pausing { until }) = self.search()
            && now >= *until
        {
            let search = self.ask(now);
            if let Some(slot) = self.search_mut() {
                *slot = search;
            }
        }
    }

    // ---- ways out ----------------------------------------------------------

    /// Writes the next packet that is due into `buf` (cleared first) and
    /// returns its path. `random` fills a slice with random bytes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut(&mut [u8]),
        buf: &mut Vec<u8>,
    ) -> Option<Path> {
        buf.clear();
        let (client, serial) = (self.config.client_id, self.serial);
        if let Some(attempt) = self.attempt_mut()
            && let Some(route) = attempt.route
            && attempt.next_auth.is_some_and(|at| now >= at)
        {
            // A stream carries it once and for all.
            let again = route.carrier == Carrier::Udp;
            attempt.next_auth = again.then(|| now + AUTH_INTERVAL);
            // A path that may only be better is not to replace one that works before it is
            // known to work in both directions.
            attempt.allowance = if attempt.is_try { 0 } else { COPY_BYTES };
            attempt.next_copy = 0;
            let id = attempt.id;
            let mut nonce = [0; NONCE_LEN];
            random(&mut nonce);
            buf.extend_from_slice(&self.sealer.seal(nonce, PathAuth { client, serial }.encode()));
            return Some(Path { id, route });
        }
        if let Some(path) = self.poll_copy(buf) {
            return Some(path);
        }
        let stop_after = self.config.connect_timeout;
        let (State::Up { live } | State::Roaming { live, .. }) = &mut self.state else {
            return None;
        };
        if live.next_dummy.is_some_and(|at| now >= at) {
            let at = now + DUMMY_INTERVAL;
            live.next_dummy = (at < live.proven_at + stop_after).then_some(at);
            buf.resize(DUMMY_LEN, 0);
            random(buf);
            return Some(live.path);
        }
        None
    }

    /// Returns what happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Client::handle_timeout`] (and then
    /// [`Client::poll_transmit`]) is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let search = match self.search() {
            Some(Search::Pausing { until }) => Some(*until),
            Some(Search::Asking(a)) => Some(a.next_auth.map_or(a.deadline, |t| t.min(a.deadline))),
            Some(Search::Waiting) | None => None,
        };
        let connect = match &self.state {
            State::Connecting { deadline, .. } => Some(*deadline),
            _ => None,
        };
        let dummy = match &self.state {
            State::Up { live } | State::Roaming { live, .. } => live.next_dummy,
            _ => None,
        };
        let drained = self.draining.map(|(_, until)| until);
        let looks = [self.silent_at(), self.overdue_at(), self.try_at()];
        let times = [search, connect, dummy, drained];
        let times = times.into_iter().chain(looks);
        times.flatten().min()
    }

    /// Returns where the transport's packets go.
    ///
    /// During the first connect they go to the path being asked for, right
    /// behind the auth packet; later they stay on the path in use, and the one
    /// asked for gets copies within its allowance.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let asked = self.attempt().and_then(|a| {
            // Before the auth packet has gone out there is nothing to follow.
            let path = Path { id: a.id, route: a.route.filter(|_| a.allowance > 0)? };
            self.may_follow(&path.route).then_some(Pending { path, allowance_bytes: a.allowance })
        });
        match &self.state {
            State::Connecting { .. } => Routes { active: asked.map(|p| p.path), pending: None },
            State::Up { live } => Routes { active: Some(live.path), pending: None },
            State::Roaming { live, .. } => Routes { active: Some(live.path), pending: asked },
            State::Idle | State::Down { .. } | State::Ended => Routes::default(),
        }
    }

    /// Returns the path in use, if there is one that was proven.
    #[must_use]
    pub fn active(&self) -> Option<Path> {
        match &self.state {
            State::Up { live } | State::Roaming { live, .. } => Some(live.path),
            _ => None,
        }
    }

    /// Returns whether `path` exists: in use, being asked for, or draining.
    #[must_use]
    pub fn knows(&self, path: PathId) -> bool {
        self.attempt().is_some_and(|a| a.id == path)
            || self.live().is_some_and(|l| l.path.id == path)
            || self.draining.is_some_and(|(id, _)| id == path)
    }

    /// Returns where a path that is asked for or in use leads; none for a wire, which leads where
    /// its opener wants.
    #[must_use]
    pub fn remote_of(&self, path: PathId) -> Option<SocketAddr> {
        let asked = self.attempt().filter(|a| a.id == path && !a.way.means.is_wire);
        let live = || self.live().filter(|l| l.path.id == path).map(|l| l.path.route.remote);
        asked.map(|a| a.way.remote).or_else(live)
    }

    /// Returns when the peer was last known to be alive.
    #[must_use]
    pub const fn last_contact(&self) -> Option<Instant> {
        self.contact
    }

    /// Returns the last I/O error, for display.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Returns the serial of the newest path.
    #[must_use]
    pub const fn serial(&self) -> PathSerial {
        self.serial
    }
}
