//! The task of a connection: moves packets between stack and socket, arms the one timer.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proxy::{PacketSocket, PathId, RecvMeta, Transmit};
use tokio::time::{Sleep, sleep_until};

use super::super::ConnectionError;
use super::real_now;
use super::shared::Shared;

/// Turns after which others get theirs.
const TURNS: usize = 16;
/// Packets sealed at a time, so that the packet socket can take them together.
const BATCH: usize = 32;
/// Buffers offered to the packet socket at a time.
const BUFFERS: usize = 4;
/// Bytes of the longest packet a peer sends (PROTOCOL §2.1), with room to see
/// that a longer one is none.
const PACKET: usize = 1536;

/// See the module's description; a future that is ready when the connection is over.
pub(super) struct Task {
    socket: Arc<dyn PacketSocket>,
    shared: Arc<Shared>,
    buffers: Vec<Vec<u8>>,
    outgoing: Outgoing,
    /// The packet socket takes nothing at the moment, and will wake us.
    blocked: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Packets that are sealed and not sent.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Where the first packet begins.
    start: usize,
    lens: VecDeque<usize>,
}

impl Task {
    pub(super) fn new(socket: Arc<dyn PacketSocket>, shared: Arc<Shared>) -> Self {
        let buffer = socket.max_receive_segments().max(1) * PACKET;
        Self {
            socket,
            shared,
            buffers: vec![vec![0; buffer]; BUFFERS],
            outgoing: Outgoing::default(),
            blocked: false,
            timer: None,
        }
    }

    /// Follows the link; returns whether it has changed.
    fn follow_link(&self, cx: &mut Context<'_>) -> bool {
        let mut has_changed = false;
        while let Poll::Ready(change) = self.socket.poll_link(cx) {
            tracing::debug!(?change, "link changed");
            self.shared.lock().stack.handle_link(real_now(), change);
            has_changed = true;
        }
        has_changed
    }

    /// Takes what has come; returns whether there was anything.
    ///
    /// # Errors
    /// The packet socket is closed.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut meta = [EMPTY; BUFFERS];
        let mut slices = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let filled = match self.socket.poll_recv(cx, &mut slices, &mut meta) {
            Poll::Ready(filled) => filled?,
            Poll::Pending => return Ok(false),
        };
        for (buffer, meta) in self.buffers.iter_mut().zip(meta).take(filled) {
            let len = meta.len.min(buffer.len());
            let Some(packets) = buffer.get_mut(..len) else { continue };
            if take_packets(&self.shared, packets, meta.stride) {
                self.socket.packet_accepted(meta.path);
            }
        }
        if filled > 0 && self.shared.lock().stack.is_flushed() {
            self.socket.all_answered();
        }
        Ok(filled > 0)
    }

    /// Sends what there is; returns whether there was anything.
    ///
    /// # Errors
    /// The packet socket is closed.
    fn transmit(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_sent = false;
        for _ in 0..TURNS {
            if self.outgoing.lens.is_empty() {
                self.outgoing.fill(&self.shared);
            }
            let Some(transmit) = self.outgoing.next(self.socket.max_transmit_segments()) else {
                return Ok(has_sent);
            };
            let len = transmit.contents.len();
            match self.socket.try_send(&transmit) {
                Ok(()) => {
                    self.outgoing.pop(len);
                    has_sent = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.poll_writable(cx) {
                        Poll::Ready(writable) => writable?,
                        Poll::Pending => {
                            self.blocked = true;
                            return Ok(has_sent);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Arms the timer; returns whether something is due already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let now = real_now();
        let Some(at) = self.shared.lock().stack.poll_timeout(now, self.blocked) else {
            self.timer = None;
            return false;
        };
        if at <= now {
            return true;
        }
        let at = tokio::time::Instant::from_std(at);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    /// One turn; returns whether another is needed at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.blocked = false;
        let mut is_busy = self.follow_link(cx);
        is_busy |= self.receive(cx)?;
        self.shared.lock().stack.handle_timeout(real_now());
        is_busy |= self.transmit(cx)?;
        self.shared.hand_out_events();
        let failure = self.shared.lock().stack.failure();
        if let Some(failure) = failure {
            self.shared.end(ConnectionError::Transport { reason: failure.to_string() });
        }
        Ok(is_busy | self.arm(cx))
    }

    /// Sends the last, as far as it can be sent at once.
    fn finish(&mut self, cx: &mut Context<'_>) {
        self.shared.lock().stack.close(real_now());
        // A closed packet socket takes nothing, and that is that.
        let _ = self.transmit(cx);
        self.shared.set_flushed();
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let has_ended = {
                let mut state = self.shared.lock();
                state.task = Some(cx.waker().clone());
                state.end.is_some()
            };
            if has_ended {
                self.finish(cx);
                return Poll::Ready(());
            }
            match self.turn(cx) {
                Ok(true) => {}
                Ok(false) => {
                    if self.shared.lock().end.is_none() {
                        return Poll::Pending;
                    }
                }
                Err(_) => self.shared.end(ConnectionError::SocketClosed),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Task {
    /// However the task ends, nobody waits for it in vain.
    fn drop(&mut self) {
        let reason = "the transport's task is gone".to_owned();
        self.shared.end(ConnectionError::Transport { reason });
        self.shared.set_flushed();
    }
}

/// Takes packets that came by one path; returns whether any proves it.
fn take_packets(shared: &Shared, packets: &mut [u8], stride: usize) -> bool {
    let now = real_now();
    let mut is_proven = false;
    let mut state = shared.lock();
    for packet in packets.chunks_mut(stride.max(1)) {
        match state.stack.handle_packet(now, packet) {
            Ok(proves) => is_proven |= proves,
            Err(dropped) => tracing::trace!(%dropped, "packet dropped"),
        }
    }
    is_proven
}

impl Outgoing {
    fn fill(&mut self, shared: &Shared) {
        self.bytes.clear();
        self.start = 0;
        let now = real_now();
        let mut state = shared.lock();
        while self.lens.len() < BATCH {
            let start = self.bytes.len();
            if !state.stack.poll_transmit(now, &mut self.bytes) {
                break;
            }
            self.lens.push_back(self.bytes.len() - start);
        }
        drop(state);
        shared.datagrams_sent();
    }

    /// Returns the first packets that can go together: of one size, but the last.
    fn next(&self, most: usize) -> Option<Transmit<'_>> {
        let first = *self.lens.front()?;
        let (mut end, mut count) = (self.start, 0);
        for len in self.lens.iter().take(most.max(1)) {
            if *len > first {
                break;
            }
            (end, count) = (end + len, count + 1);
            if *len < first {
                break;
            }
        }
        let contents = self.bytes.get(self.start..end)?;
        Some(Transmit { contents, segment_size: (count > 1).then_some(first) })
    }

    /// Forgets that many bytes of whole packets.
    fn pop(&mut self, mut bytes: usize) {
        self.start += bytes;
        while bytes > 0
            && let Some(len) = self.lens.pop_front()
        {
            bytes = bytes.saturating_sub(len);
        }
    }
}

const EMPTY: RecvMeta = RecvMeta { len: 0, stride: 0, path: PathId(0), unproven: false };
