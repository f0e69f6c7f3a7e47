//! What the client makes of a change in the system's addresses and routes.
//!
//! The system says only that something has changed, and says it often. What
//! counts is the address of ours that packets to the server would leave from
//! now: another one than the path has, one where there was none, or none.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::{Client, Search, State};
use crate::path::Route;

impl Client {
    /// Reports that the system's addresses or routes may have changed.
    ///
    /// `source` tells from which address packets to a server's address would
    /// leave now, if they could at all. The first call that finds no way to
    /// any of the server's addresses promises another call when there may be one.
    pub fn handle_network(&mut self, now: Instant, source: impl Fn(SocketAddr) -> Option<IpAddr>) {
        let was_offline = self.offline;
        self.offline = !self.config.candidates.iter().any(|server| source(*server).is_some());
        if self.offline {
            self.on_offline(now);
            return;
        }
        let route = match &self.state {
            State::Idle | State::Ended => return,
            State::Up { live } => Some(live.path.route),
            State::Connecting { .. } | State::Roaming { .. } | State::Down { .. } => {
                self.attempt().and_then(|attempt| attempt.route)
            }
        };
        // A path that is asked for from the right address already, or in use, stays.
        let is_right = |route: Route| match route.local_ip {
            Some(ours) => source(route.remote) == Some(ours),
            // A wire: whoever opened it knows.
            None => true,
        };
        if !was_offline && route.is_some_and(is_right) {
            // But another carrier may work by now.
            if route.is_some_and(|route| route.local_ip.is_none()) {
                self.tries.on_network(now);
            }
            return;
        }
        self.tries.on_network(now);
        tracing::debug!("another way to the server");
        self.errors = super::ErrorSpacing::default();
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Up { live } => {
                let search = self.ask(now);
                self.state = State::Roaming { live, search };
            }
            state => {
                self.state = state;
                self.ways.on_network(&self.config);
                self.drop_attempt(now);
                self.handle_timeout(now);
            }
        }
    }

    /// There is no way to the server: stop asking. What is in use stays so,
    /// for as long as silence allows; the way may come back at once.
    fn on_offline(&mut self, now: Instant) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Up { live } => self.state = State::Roaming { live, search: Search::Waiting },
            state => {
                self.state = state;
                self.drop_attempt(now);
                if let Some(search) = self.search_mut() {
                    *search = Search::Waiting;
                }
            }
        }
    }
}
