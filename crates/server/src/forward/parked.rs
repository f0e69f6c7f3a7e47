//! Connections that were accepted for the client and wait to be claimed (PROTOCOL §6.7, §6.9).
//!
//! Ids of connections count up from 0 and are shared by listeners, the agent and
//! X11; those of datagram channels are given out elsewhere. What is
//! not claimed in time is closed; how many may wait is bounded, and whoever
//! accepts waits for room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that may wait at a time.
const ROOM: usize = 256;

/// Where connections wait.
#[derive(Debug)]
pub(crate) struct Parked<T> {
    waiting: Arc<Mutex<Waiting<T>>>,
    room: Arc<Semaphore>,
    patience: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    next: u64,
    items: HashMap<u64, (T, Place)>,
}

/// A place to wait in.
pub(crate) type Place = OwnedSemaphorePermit;

impl<T: Send + 'static> Parked<T> {
    /// Returns a place for connections that are claimed within `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        let waiting = Waiting { next: 0, items: HashMap::new() };
        let waiting = Arc::new(Mutex::new(waiting));
        Self { waiting, room: Arc::new(Semaphore::new(ROOM)), patience }
    }

    /// Waits for room; ask before accepting a connection.
    pub(crate) async fn room(&self) -> Option<Place> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Returns a place if there is one.
    pub(crate) fn try_room(&self) -> Option<Place> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    /// Keeps a connection until it is claimed, or for as long as patience lasts; returns its id.
    pub(crate) fn park(&self, item: T, place: Place) -> u64 {
        let id = {
            let mut waiting = lock(&self.waiting);
            waiting.next += 1;
            waiting.next - 1
        };
        self.park_as(id, item, place);
        id
    }

    /// Keeps something under an id given out elsewhere.
    pub(crate) fn park_as(&self, id: u64, item: T, place: Place) {
        lock(&self.waiting).items.insert(id, (item, place));
        let (kept, patience) = (Arc::clone(&self.waiting), self.patience);
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if lock(&kept).items.remove(&id).is_some() {
                tracing::debug!(id, "an accepted connection was not claimed");
            }
        });
    }

    /// Hands a connection over.
    pub(crate) fn claim(&self, id: u64) -> Option<T> {
        lock(&self.waiting).items.remove(&id).map(|(item, _)| item)
    }
}

fn lock<T>(waiting: &Mutex<Waiting<T>>) -> MutexGuard<'_, Waiting<T>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::socket::Socket;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_claimed_once_and_in_time() {
        let parked = Parked::new(Duration::from_secs(10));
        let mut ids = Vec::new();
        let mut others = Vec::new();
        for _ in 0..2 {
            let (near, far) = tokio::net::UnixStream::pair().unwrap();
            others.push(far);
            ids.push(parked.park(Socket::Unix(near), parked.room().await.unwrap()));
        }
        assert_eq!(ids, [0, 1]);
        assert!(parked.claim(0).is_some());
        assert!(parked.claim(0).is_none());
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(parked.claim(1).is_none());
        assert_eq!(parked.room.available_permits(), ROOM);
    }
}
