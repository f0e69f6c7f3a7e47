//! What the task, the connection and its streams share: the stack and who waits for what.
//!
//! ```text
//! alive ──close, dropped, socket closed, peer broke the rules──▶ ended ──task──▶ flushed
//! ```
//! Invariants: once `end` is set nobody waits any more, and only the task still
//! uses the stack; the packet socket is not called with the lock held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::super::ConnectionError;
use super::{random, real_now};
use crate::crypt::PublicPoint;
use crate::smux::{self, OpenError, StreamId};
use crate::stack::{DATAGRAM_QUEUE, Event, KeyExchangeError, Stack};

/// Datagrams that may wait to be sent, as in QUIC (PROTOCOL §3.6); who has more waits with them.
const DATAGRAMS_WAITING: usize = 32;

/// How a stream's sending half ended: it all arrived or is not wanted, or the
/// connection ended first.
pub(super) type Outcome = Option<Result<(), ConnectionError>>;

/// See the module's description.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Streams of the peer that nobody has taken.
    accepted: tokio::sync::Mutex<mpsc::UnboundedReceiver<StreamId>>,
    datagrams: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
    /// A stream can be opened again.
    available: Notify,
    /// Another datagram can be queued.
    datagram_room: Notify,
    /// It may be time to ask for new keys.
    keys: Notify,
    ended: watch::Sender<Option<ConnectionError>>,
    flushed: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) stack: Stack,
    pub(super) streams: HashMap<StreamId, Stream>,
    /// The task's.
    pub(super) task: Option<Waker>,
    pub(super) end: Option<ConnectionError>,
    /// Ends with the connection, as does the next.
    accepted: Option<mpsc::UnboundedSender<StreamId>>,
    datagrams: Option<mpsc::Sender<Bytes>>,
    established: Option<oneshot::Sender<()>>,
}

/// Who waits for a stream.
pub(super) struct Stream {
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) outcome: watch::Sender<Outcome>,
    /// Halves that are held by somebody.
    pub(super) halves: u8,
}

impl Stream {
    fn new() -> Self {
        Self { reader: None, writer: None, outcome: watch::Sender::new(None), halves: 2 }
    }

    fn is_over(&self) -> bool {
        self.halves == 0 && self.outcome.borrow().is_some()
    }
}

/// Closes the connection when its last user is gone.
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.end(ConnectionError::ClosedLocally);
    }
}

impl Shared {
    pub(super) fn new(stack: Stack, established: Option<oneshot::Sender<()>>) -> Self {
        // As many streams as may be open, at most: smux refuses the others.
        let (accepted, to_accept) = mpsc::unbounded_channel();
        let (datagrams, to_read) = mpsc::channel(DATAGRAM_QUEUE);
        Self {
            state: Mutex::new(State {
                stack,
                streams: HashMap::new(),
                task: None,
                end: None,
                accepted: Some(accepted),
                datagrams: Some(datagrams),
                established,
            }),
            accepted: tokio::sync::Mutex::new(to_accept),
            datagrams: tokio::sync::Mutex::new(to_read),
            available: Notify::new(),
            datagram_room: Notify::new(),
            keys: Notify::new(),
            ended: watch::Sender::new(None),
            flushed: watch::Sender::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look for what is to be sent.
    pub(super) fn wake_task(&self, mut state: MutexGuard<'_, State>) {
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Ends the connection; nothing happens if it has ended before.
    pub(super) fn end(&self, why: ConnectionError) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(why.clone());
        state.accepted = None;
        state.datagrams = None;
        state.established = None;
        let mut wakers = Vec::new();
        for stream in state.streams.values_mut() {
            wakers.extend(stream.reader.take());
            wakers.extend(stream.writer.take());
            stream.settle(Err(why.clone()));
        }
        self.ended.send_replace(Some(why));
        self.wake_task(state);
        self.available.notify_waiters();
        self.datagram_room.notify_waiters();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells everybody what has happened.
    pub(super) fn hand_out_events(&self) {
        let mut wakers = Vec::new();
        let mut is_available = false;
        let mut state = self.lock();
        while let Some(event) = state.stack.poll_event() {
            is_available |= event == Event::Stream(smux::Event::Available);
            wakers.extend(state.hand_out(event));
        }
        let keys_due = state.stack.are_keys_due(real_now());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if is_available {
            self.available.notify_waiters();
        }
        if keys_due {
            self.keys.notify_one();
        }
    }

    pub(super) async fn closed(&self) -> ConnectionError {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(why)) => why.clone(),
            // Not to be had: the sender is `self`'s.
            _ => ConnectionError::ClosedLocally,
        }
    }

    /// The task has sent what it could and is over.
    pub(super) fn set_flushed(&self) {
        self.flushed.send_replace(true);
    }

    pub(super) async fn flushed(&self) {
        let _ = self.flushed.subscribe().wait_for(|flushed| *flushed).await;
    }

    // ---- streams and datagrams ---------------------------------------------

    pub(super) async fn open(&self) -> Result<StreamId, ConnectionError> {
        loop {
            let available = self.available.notified();
            tokio::pin!(available);
            available.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(why) = &state.end {
                    return Err(why.clone());
                }
                match state.stack.open() {
                    Ok(id) => {
                        state.streams.insert(id, Stream::new());
                        return Ok(id);
                    }
                    Err(OpenError::TooMany) => {}
                    Err(error) => {
                        return Err(ConnectionError::Transport { reason: error.to_string() });
                    }
                }
            }
            available.await;
        }
    }

    pub(super) async fn accept(&self) -> Result<StreamId, ConnectionError> {
        let next = self.accepted.lock().await.recv().await;
        match next {
            Some(id) => Ok(id),
            None => Err(self.closed().await),
        }
    }

    pub(super) async fn send_datagram(&self, payload: Vec<u8>) -> Result<(), ConnectionError> {
        loop {
            let room = self.datagram_room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(why) = &state.end {
                    return Err(why.clone());
                }
                if state.stack.queued_datagrams() < DATAGRAMS_WAITING {
                    state.stack.send_datagram(payload);
                    self.wake_task(state);
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Tells those who wait with a datagram that there may be room.
    pub(super) fn datagrams_sent(&self) {
        self.datagram_room.notify_waiters();
    }

    pub(super) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        let next = self.datagrams.lock().await.recv().await;
        match next {
            Some(payload) => Ok(payload),
            None => Err(self.closed().await),
        }
    }

    // ---- keys --------------------------------------------------------------

    /// Has [`Shared::key_request`] return a request now.
    pub(super) fn update_keys(&self) {
        self.lock().stack.hurry_keys(real_now());
        self.keys.notify_one();
    }

    /// Waits until the client has to ask for new keys, and returns its request.
    pub(super) async fn key_request(&self) -> PublicPoint {
        loop {
            let due_at = {
                let mut state = self.lock();
                if state.end.is_none()
                    && state.stack.are_keys_due(real_now())
                    // Without random numbers the old keys stay, and volume or time ask again.
                    && let Ok(random) = random()
                    && let Some(request) = state.stack.request_keys(real_now(), random)
                {
                    return request;
                }
                state.stack.keys_due_at().filter(|at| *at > real_now())
            };
            let sleep = async {
                match due_at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.keys.notified() => {}
            }
        }
    }

    pub(super) fn handle_key_answer(&self, answer: &[u8]) -> Result<(), KeyExchangeError> {
        let result = self.lock().stack.handle_key_answer(real_now(), answer);
        self.keys.notify_one(); // There is another time to wait for.
        result
    }

    pub(super) fn answer_keys(&self, request: &[u8]) -> Result<PublicPoint, KeyExchangeError> {
        let random = random().map_err(|_| KeyExchangeError::NoEntropy)?;
        self.lock().stack.answer_keys(request, random)
    }
}

impl State {
    /// Tells whom an event concerns; returns who is to be woken.
    fn hand_out(&mut self, event: Event) -> Option<Waker> {
        match event {
            Event::Established => {
                if let Some(established) = self.established.take() {
                    // Nobody waits any more: then nobody will use it either.
                    let _ = established.send(());
                }
            }
            Event::Datagram(payload) => {
                if let Some(datagrams) = &self.datagrams {
                    // Where nobody reads, the rest is dropped (PROTOCOL §4.6).
                    let _ = datagrams.try_send(payload.into());
                }
            }
            Event::Delivered(id) => self.settle(id),
            Event::Stream(smux::Event::Opened(id)) => {
                if let Some(accepted) = &self.accepted {
                    self.streams.insert(id, Stream::new());
                    let _ = accepted.send(id);
                }
            }
            Event::Stream(smux::Event::Readable(id)) => {
                return self.streams.get_mut(&id)?.reader.take();
            }
            Event::Stream(smux::Event::Writable(id)) => {
                return self.streams.get_mut(&id)?.writer.take();
            }
            Event::Stream(smux::Event::Stopped(id)) => {
                let writer = self.streams.get_mut(&id)?.writer.take();
                self.settle(id);
                return writer;
            }
            Event::Stream(_) => {}
        }
        None
    }

    /// The peer has everything of a stream, or wants no more of it.
    fn settle(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.settle(Ok(()));
        }
        self.forget(id);
    }

    /// Forgets a stream that nobody asks about any more.
    pub(super) fn forget(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }
}

impl Stream {
    fn settle(&self, outcome: Result<(), ConnectionError>) {
        self.outcome.send_if_modified(|now| {
            let is_first = now.is_none();
            now.get_or_insert(outcome);
            is_first
        });
    }
}
