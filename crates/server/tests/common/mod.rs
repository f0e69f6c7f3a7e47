//! A client in the test's own process, and a link that serves it, joined in memory.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]
#![allow(unreachable_pub, reason = "a module of test programs")]

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proto::bus::{Alive, Exit, Rekey, ToClient, ToServer};
use proto::codec;
use proto::ext::{Ext, ExtSet};
use proto::json::{Bytes, Message};
use proto::open::{
    BusMessage, BusResponse, IdMessage, Outcome, Response as _, StartMessage, Timeouts,
};
use proxy::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use transport::quic::{self, Listener, generate_credentials};
use transport::{Connection, RecvStream, SendStream, kcp_transport};
use tsshd::link::{DEFAULT_LOG_BYTES, End, Host, Link, Settings};

/// Longest wait for anything: long, because only a defect makes it pass.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `future`, and fails the test when it does not come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// A client whose bus is up, and the link that serves it.
pub struct Client {
    pub connection: Connection,
    pub link: Link,
    pub served: JoinHandle<End>,
    pub bus: SendStream,
    bus_in: RecvStream,
    buffer: Vec<ToClient>,
}

/// A session as its client sees it.
pub struct Session {
    pub id: u64,
    pub input: SendStream,
    pub output: RecvStream,
    pub errors: Option<RecvStream>,
}

/// Connects without a word on the bus.
pub async fn connect(granted: ExtSet) -> (Connection, Link, JoinHandle<End>) {
    connect_within(granted, DEADLINE).await
}

/// As [`connect`], with the server's patience.
pub async fn connect_within(
    granted: ExtSet,
    connect_timeout: Duration,
) -> (Connection, Link, JoinHandle<End>) {
    let (ours, theirs) = sockets();
    let (server, client) = generate_credentials().unwrap();
    let listener = Listener::new(theirs, server, quic::Config::default()).unwrap();
    let (connection, accepted) =
        tokio::join!(quic::connect(ours, client, quic::Config::default()), listener.accept());
    let (link, served) = serve(accepted.unwrap(), granted, connect_timeout);
    (connection.unwrap(), link, served)
}

/// As [`connect`], with KCP; the bus is open, so that the server has heard of the client.
pub async fn connect_by_kcp(
    granted: ExtSet,
) -> (Connection, Link, JoinHandle<End>, (SendStream, RecvStream)) {
    connect_by_kcp_over(sockets(), granted, DEADLINE).await
}

/// As [`connect_by_kcp`], with the sockets of both and the server's patience.
pub async fn connect_by_kcp_over(
    (ours, theirs): (Arc<dyn PacketSocket>, Arc<dyn PacketSocket>),
    granted: ExtSet,
    connect_timeout: Duration,
) -> (Connection, Link, JoinHandle<End>, (SendStream, RecvStream)) {
    let secrets = kcp_transport::generate_secrets().unwrap();
    let config = kcp_transport::Config::default();
    let listener = kcp_transport::Listener::new(theirs, &secrets, config).unwrap();
    let connection = kcp_transport::connect(ours, &secrets, config).unwrap();
    let bus = open(&connection, "bus").await;
    let accepted = soon("the client", listener.accept()).await;
    let (link, served) = serve(accepted.unwrap(), granted, connect_timeout);
    (connection, link, served, bus)
}

fn serve(
    accepted: Connection,
    granted: ExtSet,
    connect_timeout: Duration,
) -> (Link, JoinHandle<End>) {
    let settings = Settings {
        granted,
        connect_timeout,
        warnings: Vec::new(),
        debug: None,
        output_log_bytes: DEFAULT_LOG_BYTES,
        below: Box::new(Nothing),
    };
    let link = Link::new(accepted, Host::load(), settings);
    let serving = link.clone();
    let served = tokio::spawn(async move { serving.serve().await });
    (link, served)
}

impl Client {
    /// A client that uses all extensions.
    pub async fn start() -> Self {
        Self::with(ExtSet::all(), Timeouts::default()).await
    }

    /// A client like the reference's: no extension on either side.
    pub async fn reference() -> Self {
        Self::with(ExtSet::NONE, Timeouts::default()).await
    }

    pub async fn with(ext: ExtSet, timeouts: Timeouts) -> Self {
        let (connection, link, served) = connect(ext).await;
        Self::on(connection, link, served, ext, timeouts).await
    }

    /// Brings the bus up on a connection.
    pub async fn on(
        connection: Connection,
        link: Link,
        served: JoinHandle<End>,
        ext: ExtSet,
        timeouts: Timeouts,
    ) -> Self {
        let bus = open(&connection, "bus").await;
        Self::on_bus(connection, link, served, bus, ext, timeouts).await
    }

    /// A client that speaks KCP and has not exchanged keys.
    pub async fn by_kcp(ext: ExtSet) -> Self {
        let (connection, link, served, bus) = connect_by_kcp(ext).await;
        Self::on_bus(connection, link, served, bus, ext, Timeouts::default()).await
    }

    pub async fn on_bus(
        connection: Connection,
        link: Link,
        served: JoinHandle<End>,
        (mut bus, mut bus_in): (SendStream, RecvStream),
        ext: ExtSet,
        timeouts: Timeouts,
    ) -> Self {
        hello(&mut bus_in).await;
        write(&mut bus, &BusMessage::new(1, timeouts, ext)).await;
        let response: BusResponse = read(&mut bus_in).await;
        assert!(response.outcome().is_success(), "{response:?}");
        Self { connection, link, served, bus, bus_in, buffer: Vec::new() }
    }

    /// Starts a session in the reference's order, with a stderr stream.
    pub async fn session(&mut self, start: StartMessage) -> Session {
        self.try_session(start).await.expect("the session starts")
    }

    pub async fn try_session(&mut self, start: StartMessage) -> Result<Session, Outcome> {
        self.start_session(start, true).await
    }

    pub async fn try_session_without_stderr(
        &mut self,
        start: StartMessage,
    ) -> Result<Session, Outcome> {
        self.start_session(start, false).await
    }

    async fn start_session(
        &mut self,
        start: StartMessage,
        with_stderr: bool,
    ) -> Result<Session, Outcome> {
        let (mut input, mut output) = open(&self.connection, "session").await;
        hello(&mut output).await;
        let mut errors = None;
        if with_stderr {
            errors = Some(register_stderr(&self.connection, start.id).await);
        }
        write(&mut input, &start).await;
        let outcome: Outcome = read(&mut output).await;
        if !outcome.is_success() {
            return Err(outcome);
        }
        Ok(Session { id: start.id, input, output, errors })
    }

    pub async fn order(&mut self, order: &ToServer) {
        self.bus.write_all(&order.encode()).await.unwrap();
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.bus.write_all(bytes).await.unwrap();
    }

    /// Returns the next message of the bus that `pick` likes; others are kept for later.
    pub async fn hear<T>(&mut self, what: &str, pick: impl Fn(&ToClient) -> Option<T>) -> T {
        soon(what, async {
            let mut at = 0;
            loop {
                while let Some(message) = self.buffer.get(at) {
                    if let Some(found) = pick(message) {
                        self.buffer.remove(at);
                        return found;
                    }
                    at += 1;
                }
                let message = read_bus(&mut self.bus_in).await;
                self.buffer.push(message);
            }
        })
        .await
    }

    /// Waits until everything said on the bus so far has been obeyed.
    pub async fn settle(&mut self, time: i64) {
        self.order(&ToServer::Alive(Alive { time })).await;
        self.hear("echo", |m| (*m == ToClient::Alive(Alive { time })).then_some(())).await;
    }

    /// Exchanges keys over the bus, as the transport asks.
    pub async fn exchange_keys(&mut self) {
        let point = soon("key request", self.connection.key_request()).await;
        self.order(&ToServer::Rekey(Rekey { pub_key: Bytes(point.to_vec()) })).await;
        let answer = self
            .hear("key answer", |message| match message {
                ToClient::Rekey(answer) => Some(answer.clone()),
                _ => None,
            })
            .await;
        self.connection.handle_key_answer(&answer.pub_key.0).unwrap();
    }

    /// Waits for the end of a session.
    pub async fn exit(&mut self, id: u64) -> Exit {
        self.hear("exit", |message| match message {
            ToClient::Exit(exit) if exit.id == id => Some(exit.clone()),
            _ => None,
        })
        .await
    }
}

impl Session {
    /// Reads until the output holds `text`.
    pub async fn read_until(&mut self, text: &str) -> String {
        soon(text, async {
            let mut got = Vec::new();
            loop {
                let mut piece = [0; 4096];
                let n = self.output.read(&mut piece).await.unwrap();
                got.extend_from_slice(&piece[..n]);
                let seen = String::from_utf8_lossy(&got).into_owned();
                if seen.contains(text) {
                    return seen;
                }
                assert!(n > 0, "output ended without {text:?}: {seen:?}");
            }
        })
        .await
    }

    /// Reads both outputs to their ends.
    pub async fn outputs(&mut self) -> (String, String) {
        soon("end of output", async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let errors = async {
                if let Some(errors) = &mut self.errors {
                    errors.read_to_end(&mut err).await.unwrap();
                }
            };
            let (result, ()) = tokio::join!(self.output.read_to_end(&mut out), errors);
            result.unwrap();
            (String::from_utf8_lossy(&out).into(), String::from_utf8_lossy(&err).into())
        })
        .await
    }
}

/// A command line for the user's shell.
pub fn command(id: u64, line: &str) -> StartMessage {
    StartMessage { id, command: Bytes(line.into()), ..StartMessage::default() }
}

/// The same with a terminal.
pub fn on_pty(id: u64, line: &str) -> StartMessage {
    let envs = [("TERM".to_owned(), "xterm".to_owned())].into();
    StartMessage { pty: true, cols: 80, rows: 24, envs, ..command(id, line) }
}

async fn register_stderr(connection: &Connection, id: u64) -> RecvStream {
    let (mut send, mut errors) = open(connection, "stderr").await;
    hello(&mut errors).await;
    write(&mut send, &IdMessage { id }).await;
    hello(&mut errors).await;
    errors
}

pub async fn open(connection: &Connection, command: &str) -> (SendStream, RecvStream) {
    let (mut send, recv) = connection.open_stream().await.unwrap();
    send.write_all(&codec::command(command)).await.unwrap();
    (send, recv)
}

pub async fn write<M: Message>(stream: &mut SendStream, message: &M) {
    stream.write_all(&codec::message(message)).await.unwrap();
}

pub async fn read<M: Message>(stream: &mut RecvStream) -> M {
    M::from_json(&read_body(stream).await).unwrap()
}

/// Reads a result and expects success.
pub async fn hello(stream: &mut RecvStream) {
    let outcome: Outcome = read(stream).await;
    assert!(outcome.is_success(), "{outcome:?}");
}

async fn read_body(stream: &mut RecvStream) -> Vec<u8> {
    soon("message", async {
        let mut header = [0; 4];
        stream.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; codec::message_len(header).unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        body
    })
    .await
}

async fn read_bus(stream: &mut RecvStream) -> ToClient {
    let mut header = [0; 1];
    stream.read_exact(&mut header).await.expect("the bus goes on");
    let mut name = vec![0; usize::from(header[0])];
    stream.read_exact(&mut name).await.unwrap();
    let body = read_body(stream).await;
    let name = String::from_utf8(name).unwrap();
    ToClient::decode(&name, &body).unwrap().expect("a known message")
}

/// Returns whether a set has an extension; spares the tests an import.
pub fn only(ext: Ext) -> ExtSet {
    [ext].into_iter().collect()
}

/// Two packet sockets joined in memory: no loss, no delay.
pub fn sockets() -> (Arc<dyn PacketSocket>, Arc<dyn PacketSocket>) {
    let (a, b) = (Arc::new(Mutex::new(Queue::default())), Arc::new(Mutex::new(Queue::default())));
    (Arc::new(Socket { to: a.clone(), from: b.clone() }), Arc::new(Socket { to: b, from: a }))
}

/// As [`sockets`]; what the second one sends goes nowhere.
pub fn sockets_one_way() -> (Arc<dyn PacketSocket>, Arc<dyn PacketSocket>) {
    let (there, back) = (Arc::<Mutex<Queue>>::default(), Arc::default());
    let ours = Socket { to: there.clone(), from: Arc::default() };
    (Arc::new(ours), Arc::new(Socket { to: back, from: there }))
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Vec<u8>>,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Socket {
    to: Arc<Mutex<Queue>>,
    from: Arc<Mutex<Queue>>,
}

impl PacketSocket for Socket {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut to = self.to.lock().unwrap();
        to.packets.extend(transmit.packets().map(<[u8]>::to_vec));
        if let Some(reader) = to.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut from = self.from.lock().unwrap();
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = from.packets.pop_front() else { break };
            let len = packet.len();
            buf[..len].copy_from_slice(&packet);
            *meta = RecvMeta { len, stride: len, path: PathId(1), unproven: false };
            filled += 1;
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        from.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_link(&self, _: &mut Context<'_>) -> Poll<LinkChange> {
        Poll::Pending
    }

    fn packet_accepted(&self, _: PathId) {}
}

/// Below the bus of a test there is nothing that has to know.
struct Nothing;

impl tsshd::link::Below for Nothing {
    fn on_bus_up(&self, _: Duration, _: ExtSet) {}

    fn on_loss(&self, _: &proto::bus::Loss, _: Duration) {}

    fn last_contact(&self) -> Option<std::time::Instant> {
        None
    }
}
