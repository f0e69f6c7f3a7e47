//! Two packet sockets joined by a link in memory, in virtual time.
//!
//! The link delays, limits the rate, drops on demand, and can be cut; each
//! end is told of it, or not, as the test says. Under a paused tokio clock a
//! link that was down for an hour takes milliseconds.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(unreachable_pub, reason = "a module of test programs")]

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proxy::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
use tokio::time::{Instant, Sleep, sleep_until};
use tssh_transport::{Connection, Listener, kcp_transport, quic};

/// One-way delay: a round-trip time of 50 ms.
pub const DELAY: Duration = Duration::from_millis(25);
/// A round trip.
pub const RTT: Duration = Duration::from_millis(50);
/// The path everything takes unless the test says otherwise.
pub const PATH: PathId = PathId(1);
/// The ends of the link.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

/// Rate of the link, each way, unless the test says otherwise: 20 Mbit/s.
const BYTES_PER_SECOND: u64 = 2_500_000;
/// Its queue, as time to drain it, unless the test says otherwise.
const QUEUE: Duration = Duration::from_millis(50);

type Filter = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// The link, as the test sees it.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

struct State {
    ends: [End; 2],
    bytes_per_second: u64,
    /// The bottleneck's queue, as time to drain it.
    queue: Duration,
}

struct End {
    inbox: VecDeque<Packet>,
    alarm: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
    changes: VecDeque<LinkChange>,
    link_waker: Option<Waker>,
    /// Whether the socket refuses packets for want of a path.
    offline: bool,
    writers: Vec<Waker>,
    accepted: Vec<PathId>,
    /// Whether packets this end sends arrive.
    cut: bool,
    drop_if: Option<Filter>,
    free_at: Instant,
    sent: Vec<usize>,
    /// Copies of what this end sent, for tests that replay.
    recording: Option<Vec<Vec<u8>>>,
    /// By which path this end's packets seem to come, and whether it is proven.
    outgoing: (PathId, bool),
    /// Packets per buffer handed to the transport (GRO), at most.
    coalesce: usize,
    polls: u64,
}

struct Packet {
    at: Instant,
    path: PathId,
    unproven: bool,
    bytes: Vec<u8>,
}

impl Net {
    pub fn new() -> Self {
        let end = || End {
            inbox: VecDeque::new(),
            alarm: None,
            reader: None,
            changes: VecDeque::new(),
            link_waker: None,
            offline: false,
            writers: Vec::new(),
            accepted: Vec::new(),
            cut: false,
            drop_if: None,
            free_at: Instant::now(),
            sent: Vec::new(),
            recording: None,
            outgoing: (PATH, false),
            coalesce: 1,
            polls: 0,
        };
        Self(Arc::new(Mutex::new(State {
            ends: [end(), end()],
            bytes_per_second: BYTES_PER_SECOND,
            queue: QUEUE,
        })))
    }

    pub fn socket(&self, end: usize) -> Arc<dyn PacketSocket> {
        Arc::new(Socket { net: self.clone(), end })
    }

    /// Sets the rate of the link, each way.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.lock().bytes_per_second = bytes_per_second;
    }

    /// Sets the bottleneck's queue, as time to drain it.
    pub fn set_queue(&self, queue: Duration) {
        self.lock().queue = queue;
    }

    /// Cuts the link in both directions, or mends it; nobody is told.
    pub fn set_cut(&self, cut: bool) {
        for end in &mut self.lock().ends {
            end.cut = cut;
        }
    }

    /// Tells one end that there is no path.
    pub fn tell_lost(&self, end: usize) {
        self.lock().ends[end].offline = true;
        self.tell(end, LinkChange::Lost);
    }

    /// Tells one end that there is a path again.
    pub fn tell_restored(&self, end: usize) {
        let writers = {
            let end = &mut self.lock().ends[end];
            end.offline = false;
            std::mem::take(&mut end.writers)
        };
        self.tell(end, LinkChange::Restored { same_network: true });
        writers.into_iter().for_each(Waker::wake);
    }

    /// Tells one end something of the link.
    pub fn tell(&self, end: usize, change: LinkChange) {
        let mut state = self.lock();
        state.ends[end].changes.push_back(change);
        wake(state.ends[end].link_waker.take());
    }

    /// Drops packets that `end` sends and the filter picks.
    pub fn drop_if(&self, end: usize, filter: impl FnMut(&[u8]) -> bool + Send + 'static) {
        self.lock().ends[end].drop_if = Some(Box::new(filter));
    }

    pub fn drop_nothing(&self, end: usize) {
        self.lock().ends[end].drop_if = None;
    }

    /// Lets what `end` sends come by another path from now on.
    pub fn send_by(&self, end: usize, path: PathId, unproven: bool) {
        self.lock().ends[end].outgoing = (path, unproven);
    }

    /// Hands a packet to `end` that its peer did not send.
    pub fn inject(&self, end: usize, path: PathId, unproven: bool, bytes: Vec<u8>) {
        let at = Instant::now();
        let mut state = self.lock();
        state.ends[end].inbox.push_front(Packet { at, path, unproven, bytes });
        wake(state.ends[end].reader.take());
    }

    /// Lets up to so many packets arrive at `end` in one buffer.
    pub fn coalesce(&self, end: usize, packets: usize) {
        self.lock().ends[end].coalesce = packets;
    }

    pub fn record(&self, end: usize) {
        self.lock().ends[end].recording = Some(Vec::new());
    }

    pub fn recorded(&self, end: usize) -> Vec<Vec<u8>> {
        self.lock().ends[end].recording.clone().expect("recording was started")
    }

    /// Sizes of all packets `end` has sent.
    pub fn sent(&self, end: usize) -> Vec<usize> {
        self.lock().ends[end].sent.clone()
    }

    /// The paths by which `end` accepted packets, in order of report; empties the list.
    pub fn take_accepted(&self, end: usize) -> Vec<PathId> {
        std::mem::take(&mut self.lock().ends[end].accepted)
    }

    /// How often the transport of `end` looked at its socket.
    pub fn polls(&self, end: usize) -> u64 {
        self.lock().ends[end].polls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

struct Socket {
    net: Net,
    end: usize,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

impl PacketSocket for Socket {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = Instant::now();
        let mut state = self.net.lock();
        let (rate, queue) = (state.bytes_per_second, state.queue);
        let end = &mut state.ends[self.end];
        if end.offline {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut arriving = Vec::new();
        for packet in transmit.packets() {
            end.sent.push(packet.len());
            if let Some(recording) = &mut end.recording {
                recording.push(packet.to_vec());
            }
            let dropped = end.drop_if.as_mut().is_some_and(|filter| filter(packet));
            if end.cut || dropped {
                continue;
            }
            let start = end.free_at.max(now);
            if start - now > queue {
                continue;
            }
            let on_wire = Duration::from_nanos(packet.len() as u64 * 1_000_000_000 / rate);
            end.free_at = start + on_wire;
            let (path, unproven) = end.outgoing;
            let at = start + on_wire + DELAY;
            arriving.push(Packet { at, path, unproven, bytes: packet.to_vec() });
        }
        let peer = &mut state.ends[1 - self.end];
        peer.inbox.extend(arriving);
        wake(peer.reader.take());
        Ok(())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = &mut self.net.lock().ends[self.end];
        if end.offline {
            end.writers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let end = &mut self.net.lock().ends[self.end];
        end.polls += 1;
        let mut filled = 0;
        while filled < bufs.len() {
            let Some(first) = end.inbox.front() else { break };
            if first.at > now || (filled > 0 && first.unproven) {
                break;
            }
            let (path, unproven, stride) = (first.path, first.unproven, first.bytes.len());
            let buf = &mut bufs[filled];
            let mut len = 0;
            for _ in 0..if unproven { 1 } else { end.coalesce } {
                let fits = end.inbox.front().is_some_and(|packet| {
                    packet.at <= now
                        && packet.path == path
                        && packet.bytes.len() <= stride
                        && len % stride == 0
                        && len + packet.bytes.len() <= buf.len()
                });
                if !fits {
                    break;
                }
                let packet = end.inbox.pop_front().unwrap();
                buf[len..len + packet.bytes.len()].copy_from_slice(&packet.bytes);
                len += packet.bytes.len();
            }
            meta[filled] = RecvMeta { len, stride, path, unproven };
            filled += 1;
            if unproven {
                break;
            }
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        end.reader = Some(cx.waker().clone());
        if let Some(at) = end.inbox.front().map(|packet| packet.at) {
            let alarm = end.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
            alarm.as_mut().reset(at);
            if alarm.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn poll_link(&self, cx: &mut Context<'_>) -> Poll<LinkChange> {
        let end = &mut self.net.lock().ends[self.end];
        match end.changes.pop_front() {
            Some(change) => Poll::Ready(change),
            None => {
                end.link_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn packet_accepted(&self, path: PathId) {
        self.net.lock().ends[self.end].accepted.push(path);
    }

    fn max_transmit_segments(&self) -> usize {
        10
    }

    fn max_receive_segments(&self) -> usize {
        self.net.lock().ends[self.end].coalesce
    }
}

/// Which transport a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Quic,
    Kcp,
}

/// Runs a test with both transports: `NAME::quic` and `NAME::kcp`.
#[macro_export]
macro_rules! with_both {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            use super::common::Kind;

            #[tokio::test(start_paused = true)]
            async fn quic() {
                super::$test(Kind::Quic).await;
            }

            #[tokio::test(start_paused = true)]
            async fn kcp() {
                super::$test(Kind::Kcp).await;
            }
        }
    )+ };
}

/// A client and a server over a link.
pub struct Pair {
    pub net: Net,
    pub client: Connection,
    pub server: Connection,
    pub listener: Listener,
}

impl Pair {
    /// Connects both with the usual settings, as two programs of ours.
    pub async fn connected(kind: Kind) -> Self {
        let pair = Self::over(kind, Net::new()).await;
        pair.client.tell_stops();
        pair.server.tell_stops();
        pair
    }

    pub async fn over(kind: Kind, net: Net) -> Self {
        match kind {
            Kind::Quic => Self::over_quic(net).await,
            Kind::Kcp => Self::over_kcp(net).await,
        }
    }

    async fn over_quic(net: Net) -> Self {
        let (server, client) = quic::generate_credentials().unwrap();
        let config = quic::Config::default;
        let listener = quic::Listener::new(net.socket(SERVER), server, config()).unwrap();
        let (client, server) =
            tokio::join!(quic::connect(net.socket(CLIENT), client, config()), listener.accept());
        let listener = Listener::Quic(listener);
        Self { net, client: client.unwrap(), server: server.unwrap(), listener }
    }

    /// Without a handshake the client has to say something to be heard.
    async fn over_kcp(net: Net) -> Self {
        let secrets = kcp_transport::generate_secrets().unwrap();
        let config = kcp_transport::Config { max_streams: 1000, ..Default::default() };
        let listener = kcp_transport::Listener::new(net.socket(SERVER), &secrets, config).unwrap();
        let client = kcp_transport::connect(net.socket(CLIENT), &secrets, config).unwrap();
        drop(client.open_stream().await.unwrap());
        let server = listener.accept().await.unwrap();
        drop(server.accept_stream().await.unwrap());
        tokio::time::sleep(4 * DELAY).await;
        Self { net, client, server, listener: Listener::Kcp(listener) }
    }
}
