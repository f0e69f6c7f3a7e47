//! The state of the client, and questions about it.
//!
//! The diagram is in the parent module; what changes the state is there and in
//! `transitions`.

use std::time::Instant;

use super::Client;
use super::search::{Attempt, Live, Search};

#[derive(Debug)]
pub(super) enum State {
    /// Not started.
    Idle,
    /// The first connect.
    Connecting { deadline: Instant, search: Search },
    /// One path, in use.
    Up { live: Live },
    /// One path in use while another one is asked for.
    Roaming { live: Live, search: Search },
    /// No path in use. The old one, if it still exists, is read.
    Down { old: Option<Live>, search: Search },
    /// The first connect failed, or the owner closed.
    Ended,
}

impl Client {
    pub(super) fn search(&self) -> Option<&Search> {
        match &self.state {
            State::Connecting { search, .. }
            | State::Roaming { search, .. }
            | State::Down { search, .. } => Some(search),
            State::Idle | State::Up { .. } | State::Ended => None,
        }
    }

    pub(super) fn search_mut(&mut self) -> Option<&mut Search> {
        match &mut self.state {
            State::Connecting { search, .. }
            | State::Roaming { search, .. }
            | State::Down { search, .. } => Some(search),
            State::Idle | State::Up { .. } | State::Ended => None,
        }
    }

    pub(super) fn attempt(&self) -> Option<&Attempt> {
        match self.search()? {
            Search::Asking(attempt) => Some(attempt),
            Search::Pausing { .. } | Search::Waiting => None,
        }
    }

    pub(super) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match self.search_mut()? {
            Search::Asking(attempt) => Some(attempt),
            Search::Pausing { .. } | Search::Waiting => None,
        }
    }

    pub(super) fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Up { live } | State::Roaming { live, .. } => Some(live),
            State::Down { old, .. } => old.as_ref(),
            State::Idle | State::Connecting { .. } | State::Ended => None,
        }
    }

    pub(super) fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Up { live } | State::Roaming { live, .. } => Some(live),
            State::Down { old, .. } => old.as_mut(),
            State::Idle | State::Connecting { .. } | State::Ended => None,
        }
    }
}
