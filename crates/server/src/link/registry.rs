//! The sessions of a link, and what is kept for coming ones.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use proto::marker::InputMarkers;
use transport::{RecvStream, SendStream};

use crate::session::Session;

/// Sessions at a time; each costs a process or more.
const MAX_SESSIONS: usize = 512;

/// Stderr streams that wait for their session.
const MAX_WAITING: usize = 64;

/// Session ids remembered one by one: how far behind a later one an earlier
/// one may arrive, as streams overtake each other.
const MAX_REMEMBERED: usize = 1024;

/// The session ids that were used. Clients count up, so that the highest ones
/// are enough; of those below, all count as used.
#[derive(Debug, Default)]
struct UsedIds {
    remembered: BTreeSet<u64>,
    /// Every id up to this one counts as used; the ids remembered are above it.
    floor: Option<u64>,
}

impl UsedIds {
    fn contains(&self, id: u64) -> bool {
        self.floor.is_some_and(|floor| id <= floor) || self.remembered.contains(&id)
    }

    fn insert(&mut self, id: u64) {
        self.remembered.insert(id);
        if self.remembered.len() > MAX_REMEMBERED {
            self.floor = self.remembered.pop_first();
        }
    }

    /// Returns the highest id used, 0 before the first.
    fn highest(&self) -> u64 {
        self.remembered.last().copied().unwrap_or(0)
    }
}

/// The stream for a session's standard error.
#[derive(Debug)]
pub(super) struct Stderr {
    pub(super) send: SendStream,
    /// Kept so that the client is not told to stop; it says nothing here.
    pub(super) _recv: RecvStream,
}

/// Sessions by id.
#[derive(Debug, Default)]
pub(super) struct Registry {
    sessions: HashMap<u64, Slot>,
    used: UsedIds,
    stderrs: HashMap<u64, Stderr>,
    markers: InputMarkers,
    last_marker: Option<[u8; 8]>,
    /// The client's setting: stale input is wanted.
    pub(super) keeps_input: bool,
}

/// A session, or the place for one that is being started.
#[derive(Debug)]
enum Slot {
    Reserved,
    Running(Arc<Session>),
}

impl Registry {
    /// Takes `id` for a session that is about to start.
    ///
    /// # Errors
    /// A text for the client.
    pub(super) fn reserve(&mut self, id: u64) -> Result<(), String> {
        if self.used.contains(id) {
            return Err(format!("session id {id} was used before"));
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(format!("there are {MAX_SESSIONS} sessions already"));
        }
        self.used.insert(id);
        self.sessions.insert(id, Slot::Reserved);
        Ok(())
    }

    /// Puts a started session into its place.
    pub(super) fn fill(&mut self, session: Arc<Session>) {
        self.sessions.insert(session.id.0, Slot::Running(session));
    }

    /// Forgets a session.
    pub(super) fn remove(&mut self, id: u64) {
        self.sessions.remove(&id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Session>> {
        match self.sessions.get(&id)? {
            Slot::Running(session) => Some(session.clone()),
            Slot::Reserved => None,
        }
    }

    pub(super) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.keys().filter_map(|id| self.get(*id)).collect()
    }

    /// Returns the first id the client may use.
    pub(super) fn next_id(&self) -> u64 {
        proto::SessionId(self.used.highest()).next().0
    }

    /// Returns whether a stderr stream may be kept for the session `id`.
    ///
    /// # Errors
    /// A text for the client.
    pub(super) fn can_keep_stderr(&self, id: u64) -> Result<(), String> {
        let is_over = self.used.contains(id) && !self.is_waited_for(id);
        if is_over || self.stderrs.contains_key(&id) {
            return Err(format!("session {id} cannot take another stderr stream"));
        }
        if self.stderrs.len() >= MAX_WAITING {
            return Err("too many stderr streams wait for their session".into());
        }
        Ok(())
    }

    /// Keeps a stderr stream for the session `id`.
    pub(super) fn keep_stderr(&mut self, id: u64, stream: Stderr) {
        self.stderrs.insert(id, stream);
    }

    /// Whether the session is only being started, so that its stderr may still come.
    fn is_waited_for(&self, id: u64) -> bool {
        matches!(self.sessions.get(&id), Some(Slot::Reserved))
    }

    pub(super) fn take_stderr(&mut self, id: u64) -> Option<Stderr> {
        self.stderrs.remove(&id)
    }

    pub(super) fn last_marker(&self) -> Option<[u8; 8]> {
        self.last_marker
    }

    /// Makes a marker and arms it in every session; `None` where no session
    /// has a terminal or the client wants its input kept.
    pub(super) fn arm_input_marker(&mut self) -> Option<[u8; 8]> {
        let sessions = self.sessions();
        if self.keeps_input || !sessions.iter().any(|session| session.has_pty) {
            return None;
        }
        let marker = self.markers.next_marker();
        self.last_marker = Some(marker);
        for session in sessions {
            session.arm_input_marker(marker);
        }
        Some(marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_used_once_in_any_order_and_in_bounded_memory() {
        let mut registry = Registry::default();
        assert_eq!(registry.next_id(), 1);
        for id in (0..5_000).map(|n| (n ^ 1) + 1) {
            assert_eq!(registry.reserve(id), Ok(()), "each stream may overtake another");
            registry.remove(id);
        }
        for id in 1..=5_000 {
            assert!(registry.reserve(id).is_err(), "{id}");
        }
        assert!(registry.used.remembered.len() <= MAX_REMEMBERED);
        assert_eq!(registry.next_id(), 5_001);
    }
}
