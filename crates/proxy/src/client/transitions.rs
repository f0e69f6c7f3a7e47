//! What the client does when something has happened to a path.
//!
//! Private steps of the ways in; each leaves the state whole.

use std::time::{Duration, Instant};

use proto::path_auth::PathAck;

use super::search::{Attempt, Live, Search};
use super::state::State;
use super::ways::Way;
use super::{Client, Event};
use crate::path::{Carrier, Change, Path, Route};
use crate::seal::SEALED_LEN;
use crate::socket::PathId;
use crate::timers::{DRAIN, DUMMY_INTERVAL, RETRY_PAUSE};

impl Client {
    /// Writes the next packet into `buf` that the path in use was given but
    /// nobody has answered, and returns the path that is asked for.
    pub(super) fn poll_copy(&mut self, buf: &mut Vec<u8>) -> Option<Path> {
        let State::Roaming { search: Search::Asking(attempt), .. } = &self.state else {
            return None;
        };
        let (id, route) = (attempt.id, attempt.route?);
        let packet = self.answers.unanswered(attempt.next_copy)?;
        let bytes = packet.len() as u64;
        // No allowance before the auth packet, which goes first.
        if bytes > attempt.allowance || !self.may_follow(&route) {
            return None;
        }
        buf.extend_from_slice(packet);
        let attempt = self.attempt_mut()?;
        attempt.next_copy += 1;
        attempt.allowance -= bytes;
        Some(Path { id, route })
    }

    /// Whether packets may follow an auth packet at once.
    pub(super) fn may_follow(&self, route: &Route) -> bool {
        route.carrier == Carrier::Udp || self.config.tcp_pipelining
    }

    /// Returns whether the packet was an ack of ours.
    pub(super) fn handle_ack(&mut self, now: Instant, path: PathId, packet: &[u8]) -> bool {
        if packet.len() != SEALED_LEN {
            return false;
        }
        let Some(ack) = self.sealer.open(packet).and_then(|plain| PathAck::decode(&plain)) else {
            return false;
        };
        if ack.server != self.config.server_id {
            return false;
        }
        if ack.serial == self.serial {
            tracing::debug!(%path, serial = %ack.serial, "path acknowledged");
            self.on_proven(now);
        } else if ack.serial > self.serial {
            // Somebody with our id was there before us; catch up (PROTOCOL §2.2).
            self.serial = ack.serial;
            if let Some(attempt) = self.attempt_mut().filter(|a| a.route.is_some()) {
                attempt.next_auth = Some(now);
            }
        }
        true
    }

    /// The path being asked for is proven: use it.
    pub(super) fn on_proven(&mut self, now: Instant) {
        let found = self.attempt().and_then(|a| Some((a.id, a.way, a.route?)));
        let Some((id, way, route)) = found else { return };
        let (old, was_down) = match &self.state {
            State::Roaming { live, .. } => (Some(*live), false),
            State::Down { old, .. } => (*old, true),
            State::Idle | State::Connecting { .. } | State::Up { .. } | State::Ended => {
                (None, false)
            }
        };
        if let Some(old) = old {
            self.drain(old.path.id, now);
        }
        let same_network = self.network.is_some_and(|n| n.same_network(&route));
        let change = match self.network.replace(route) {
            None => Change::First,
            Some(_) if was_down => Change::Restored { same_network },
            Some(_) => Change::Moved { same_network },
        };
        self.ways.on_proven(way);
        let is_best = self.config.means.first() == Some(&way.means);
        self.tries.on_proven(now, is_best, same_network);
        let path = Path { id, route };
        let next_dummy = (route.carrier == Carrier::Udp).then_some(now + DUMMY_INTERVAL);
        self.state = State::Up { live: Live { path, proven_at: now, next_dummy } };
        self.answers.on_path_change();
        self.last_error = None;
        self.events.push_back(Event::Proven { path: id, change });
    }

    /// Keeps reading the old path for a while.
    pub(super) fn drain(&mut self, path: PathId, now: Instant) {
        if let Some((older, _)) = self.draining.replace((path, now + DRAIN)) {
            self.events.push_back(Event::Close { path: older });
        }
    }

    /// Nothing is heard any more: stop using the path, go on searching.
    pub(super) fn on_lost(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Roaming { live, search } => {
                self.state = State::Down { old: Some(live), search };
                self.answers.on_path_change();
                self.events.push_back(Event::Lost { error: self.last_error.clone() });
            }
            other => self.state = other,
        }
    }

    /// Begins to ask for a new path, in the way whose turn it is.
    pub(super) fn ask(&mut self, now: Instant) -> Search {
        let patience = self.ways.patience(&self.config, self.round_trip());
        self.ask_by(now, self.ways.next(&self.config), patience, false)
    }

    /// Begins to ask by the best means, while another one is in use.
    pub(super) fn ask_for_better(&mut self, now: Instant) {
        let State::Up { live } = &self.state else { return };
        let live = *live;
        self.tries.on_try(now);
        let patience = self.ways.patience_of_try(&self.config, self.round_trip());
        let way = self.ways.next_better(&self.config);
        let search = self.ask_by(now, way, patience, true);
        self.state = State::Roaming { live, search };
    }

    fn ask_by(
        &mut self,
        now: Instant,
        way: Option<Way>,
        patience: Duration,
        is_try: bool,
    ) -> Search {
        let Some(way) = way else {
            self.last_error = Some("no address to connect to".into());
            return Search::Pausing { until: now + RETRY_PAUSE };
        };
        self.serial = self.serial.next();
        let id = PathId(self.next_path);
        self.next_path += 1;
        let Way { means, remote } = way;
        tracing::debug!(path = %id, ?means, %remote, ?patience, "asking for a path");
        self.events.push_back(Event::Open { path: id, means, remote });
        Search::Asking(Attempt {
            id,
            way,
            is_try,
            began: now,
            deadline: now + patience,
            route: None,
            next_auth: None,
            allowance: 0,
            next_copy: 0,
        })
    }

    /// How long a round trip takes, as far as is known.
    fn round_trip(&self) -> Option<Duration> {
        self.answers.usual().max(self.config.round_trip)
    }

    /// An attempt at something better failed: what is in use goes on.
    fn end_try(&mut self) -> bool {
        let State::Roaming { live, search: Search::Asking(attempt) } = &self.state else {
            return false;
        };
        if !attempt.is_try {
            return false;
        }
        let (live, path) = (*live, attempt.id);
        self.state = State::Up { live };
        self.events.push_back(Event::Close { path });
        true
    }

    /// The attempt under way failed; the next one begins at `until`.
    pub(super) fn give_up_attempt(&mut self, until: Instant) {
        if self.end_try() {
            return;
        }
        let way = self.attempt().map(|attempt| attempt.way);
        let remote = way.filter(|way| !way.means.is_wire).map(|way| way.remote);
        self.drop_attempt(until);
        self.ways.on_failed();
        self.events.push_back(Event::AttemptFailed { remote, error: self.last_error.clone() });
    }

    /// Ends the attempt under way, if any; the next one begins at `until`.
    pub(super) fn drop_attempt(&mut self, until: Instant) {
        // Without a way to anywhere there is no use in trying at times.
        let next = if self.offline { Search::Waiting } else { Search::Pausing { until } };
        let Some(search) = self.search_mut() else { return };
        if let Search::Asking(attempt) = std::mem::replace(search, next) {
            self.events.push_back(Event::Close { path: attempt.id });
        }
    }

    /// When the path in use has to be given up if nothing more is heard.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        let live = match &self.state {
            State::Up { live } | State::Roaming { live, .. } if self.watching => live,
            _ => return None,
        };
        let since = if self.config.quiet { self.answers.silent_since()? } else { self.contact? };
        Some(since.max(live.proven_at) + self.config.heartbeat_timeout)
    }

    /// When the best means is to be tried, while another one is in use.
    pub(super) fn try_at(&self) -> Option<Instant> {
        matches!(self.state, State::Up { .. }).then_some(self.tries.at).flatten()
    }

    /// When what was sent on the path in use should have been answered.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let State::Up { live } = &self.state else { return None };
        // Until the bus is up the handshake has timers of its own.
        if !self.watching || self.config.patient {
            return None;
        }
        self.answers.overdue_at(live.path.route.carrier)
    }
}
