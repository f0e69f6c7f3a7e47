//! Two sessions, or one and a peer made of bytes.

mod hostile;
mod property;
mod recorded;
mod streams;
mod windows;

use super::frame;
use super::{Config, Event, Session, StreamError, StreamId};

/// Two sessions and the pipes between them.
struct Pair {
    client: Session,
    server: Session,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self::reference();
        pair.client.tell_stops();
        pair.server.tell_stops();
        pair
    }

    /// Two ends of which neither knows what a window of zero means.
    fn reference() -> Self {
        Self {
            client: Session::client(Config::default()),
            server: Session::server(Config::default()),
        }
    }

    /// Opens a stream; returns it as both ends see it.
    fn open(&mut self) -> StreamId {
        let id = self.client.open().expect("ids and room are left");
        self.settle();
        id
    }

    /// Carries everything that both ends send, in segments' worth.
    fn settle(&mut self) {
        while carry(&mut self.client, &mut self.server) + carry(&mut self.server, &mut self.client)
            > 0
        {}
    }

    /// Writes all of `bytes`, reading at the other end whenever the window is
    /// full; returns what was read.
    fn transfer(&mut self, id: StreamId, bytes: &[u8]) -> Vec<u8> {
        let mut left = bytes;
        let mut read = Vec::new();
        while !left.is_empty() {
            if let Ok(taken) = self.client.write(id, left) {
                left = &left[taken..];
            }
            self.settle();
            read.extend(read_all(&mut self.server, id));
            self.settle();
        }
        read.extend(read_all(&mut self.server, id));
        read
    }
}

/// Carries one poll's worth of bytes; returns how many.
fn carry(from: &mut Session, to: &mut Session) -> usize {
    let mut pipe = Vec::new();
    let count = from.poll_transmit(4 * 1340, &mut pipe);
    assert_eq!(pipe.len(), count);
    assert_eq!(to.handle_bytes(&pipe), Ok(count), "the budget is not used up");
    count
}

/// Reads until nothing is left for now, or the end is reached.
fn read_all(session: &mut Session, id: StreamId) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = [0; 10_000];
    while let Ok(count @ 1..) = session.read(id, &mut part) {
        all.extend_from_slice(&part[..count]);
    }
    all
}

/// Returns all that a session wants to send.
fn sent(session: &mut Session) -> Vec<u8> {
    let mut pipe = Vec::new();
    while session.poll_transmit(100_000, &mut pipe) > 0 {}
    pipe
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn bytes(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// Returns a data frame.
fn data(id: StreamId, payload: &[u8]) -> Vec<u8> {
    bytes(|out| {
        frame::push(out, id, payload.len());
        out.extend_from_slice(payload);
    })
}

fn syn(id: StreamId) -> Vec<u8> {
    bytes(|out| frame::syn(out, id))
}

fn fin(id: StreamId) -> Vec<u8> {
    bytes(|out| frame::fin(out, id))
}

fn update(id: StreamId, consumed: u32, window: u32) -> Vec<u8> {
    bytes(|out| frame::update(out, id, consumed, window))
}

/// Hands over bytes that have room.
fn feed(session: &mut Session, pipe: &[u8]) {
    assert_eq!(session.handle_bytes(pipe), Ok(pipe.len()));
}
