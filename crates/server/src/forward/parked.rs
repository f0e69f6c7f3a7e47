//! Connections that were accepted for the client and wait to be claimed (PROTOCOL §6.7).
//!
//! Ids count up from 0 and are shared by listeners, the agent and X11. What is
//! not claimed in time is closed; how many may wait is bounded, and whoever
//! accepts waits for room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::socket::Socket;

/// Connections that may wait at a time.
const ROOM: usize = 256;

/// Where connections wait.
#[derive(Debug)]
pub(crate) struct Parked {
    waiting: Arc<Mutex<Waiting>>,
    room: Arc<Semaphore>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    sockets: HashMap<u64, (Socket, Place)>,
}

/// A place to wait in.
pub(crate) type Place = OwnedSemaphorePermit;

impl Parked {
    /// Returns a place for connections that are claimed within `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { waiting: Arc::default(), room: Arc::new(Semaphore::new(ROOM)), patience }
    }

    /// Waits for room; ask before accepting a connection.
    pub(crate) async fn room(&self) -> Option<Place> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Keeps a connection until it is claimed, or for as long as patience lasts; returns its id.
    pub(crate) fn park(&self, socket: Socket, place: Place) -> u64 {
        let mut waiting = lock(&self.waiting);
        let id = waiting.next;
        waiting.next += 1;
        waiting.sockets.insert(id, (socket, place));
        let (kept, patience) = (Arc::clone(&self.waiting), self.patience);
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            if lock(&kept).sockets.remove(&id).is_some() {
                tracing::debug!(id, "an accepted connection was not claimed");
            }
        });
        id
    }

    /// Hands a connection over.
    pub(crate) fn claim(&self, id: u64) -> Option<Socket> {
        lock(&self.waiting).sockets.remove(&id).map(|(socket, _)| socket)
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

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
