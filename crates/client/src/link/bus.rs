//! The bus: the one control stream of a link (PROTOCOL §7).
//!
//! Three tasks share one [`Bus`]: a writer, a reader and the heartbeat. All end
//! with the link.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::bus::{Alive, CLOSE, Discard, Exit, Loss, Rekey, ToClient, ToServer};
use proto::codec;
use proto::ext::{Ext, ExtSet};
use proto::json::Bytes;
use proto::open::{BusMessage, BusResponse, Outcome, StreamCommand, Timeouts};
use proxy::copies::Report;
use proxy::driver::{ClientProxy, LinkState};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use transport::crypt::RekeyError;
use transport::stack::KeyExchangeError;
use transport::{Connection, RecvStream, SendStream, frames};

use super::rhythm::{Due, Heard, Rhythm};
use crate::remote::{RemoteError, SessionEnd};
use crate::wire;

/// Nothing but refusals for so long means that the server is gone (DESIGN D15).
const REFUSED_LIMIT: Duration = Duration::from_secs(60);

/// How long the answer to `quit` may take to reach the server, which ends a second later.
const QUIT_GRACE: Duration = Duration::from_millis(280);

/// Heartbeats that may be under way with extension `silence`.
const HEARTBEATS: usize = 4;

/// Connections of one kind that may be announced and not yet be taken over.
const ANNOUNCED: usize = 256;

/// Stream priority of the bus, above every session and forward.
const BUS_PRIORITY: i32 = 100;

/// The marker to send in front of the next input of one session.
pub(super) type PendingMarker = Arc<Mutex<Option<Vec<u8>>>>;

/// Handle of the bus.
#[derive(Clone)]
pub(super) struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    /// Frames for the writer; closed once `close` was asked for.
    outgoing: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    sessions: Mutex<Sessions>,
    up: watch::Sender<Up>,
    connection: Connection,
    /// Why the link ended, once it has.
    ended: watch::Sender<Option<End>>,
    warnings: Mutex<mpsc::UnboundedReceiver<String>>,
    /// Who takes announced connections, by their kind.
    channels: Mutex<HashMap<&'static str, mpsc::Sender<u64>>>,
    /// The heartbeats under way, oldest first: their times on the wire and ours.
    heartbeats: Mutex<VecDeque<(i64, Instant)>>,
    /// The last heartbeat that was echoed.
    last_echo: watch::Sender<Echo>,
    proxy: ClientProxy,
}

/// A heartbeat that was echoed.
#[derive(Clone, Copy, Debug)]
struct Echo {
    sent: Instant,
    came: Instant,
}

impl Echo {
    fn now() -> Self {
        let now = Instant::now();
        Self { sent: now, came: now }
    }
}

/// What has to be there before sessions start.
#[derive(Clone, Copy, Debug)]
struct Up {
    /// BusResponse has come.
    answered: bool,
    /// Packets are sealed with a key that the login did not carry.
    keyed: bool,
}

impl Up {
    const fn is_complete(self) -> bool {
        self.answered && self.keyed
    }
}

#[derive(Default)]
struct Sessions {
    next: Option<u64>,
    running: HashMap<u64, Running>,
}

struct Running {
    end: oneshot::Sender<SessionEnd>,
    marker: PendingMarker,
}

#[derive(Clone, Debug)]
enum End {
    Lost(String),
    Closed(String),
}

impl From<End> for RemoteError {
    fn from(end: End) -> Self {
        match end {
            End::Lost(reason) => Self::Lost { reason },
            End::Closed(reason) => Self::Closed { reason },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// Opens the bus stream and starts its tasks. Nothing is waited for.
    pub(super) fn start(
        connection: &Connection,
        proxy: &ClientProxy,
        server_proto: u64,
        timeouts: Timeouts,
        ext: ExtSet,
    ) -> Self {
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (warn, warnings) = mpsc::unbounded_channel();
        let first = BusMessage::new(server_proto, timeouts, ext);
        let _ = outgoing.send(codec::command_and_message(StreamCommand::Bus.name(), &first));
        let sessions = Sessions {
            // With `early` nobody tells the first id in time; it is agreed to be 1.
            next: ext.has(Ext::Early).then_some(1),
            ..Sessions::default()
        };
        let bus = Self {
            shared: Arc::new(Shared {
                outgoing: Mutex::new(Some(outgoing)),
                sessions: Mutex::new(sessions),
                up: watch::Sender::new(Up {
                    answered: false,
                    keyed: connection.has_forward_secrecy(),
                }),
                connection: connection.clone(),
                ended: watch::Sender::new(None),
                warnings: Mutex::new(warnings),
                channels: Mutex::default(),
                heartbeats: Mutex::default(),
                last_echo: watch::Sender::new(Echo::now()),
                proxy: proxy.clone(),
            }),
        };
        if ext.has(Ext::Early) && connection.has_forward_secrecy() {
            // Sessions do not wait for the bus. The handshake was an exchange with the server: from
            // now on its silence counts, or a path that ends before the bus is up would be waited
            // for without end.
            proxy.heartbeat_confirmed(Instant::now());
        }
        tokio::spawn(bus.clone().run(connection.clone(), queue, warn, timeouts, ext));
        bus
    }

    /// Queues a message. Messages to a bus that has ended are dropped.
    pub(super) fn send(&self, message: &ToServer) {
        if let Some(outgoing) = &*lock(&self.shared.outgoing) {
            let _ = outgoing.send(message.encode());
        }
    }

    /// Sends `close` and ends our side; returns whether there was still a bus to end.
    pub(super) fn close(&self) -> bool {
        let Some(outgoing) = lock(&self.shared.outgoing).take() else { return false };
        outgoing.send(codec::command(CLOSE)).is_ok() && self.shared.ended.borrow().is_none()
    }

    /// Waits for BusResponse and, where the transport needs one, the first key exchange.
    ///
    /// # Errors
    /// Why the link ended instead.
    pub(super) async fn wait_up(&self) -> Result<(), RemoteError> {
        let mut up = self.shared.up.subscribe();
        tokio::select! {
            _ = up.wait_for(|up| up.is_complete()) => Ok(()),
            end = self.ended() => Err(end),
        }
    }

    /// Returns whether BusResponse has come.
    pub(super) fn is_answered(&self) -> bool {
        self.shared.up.borrow().answered
    }

    /// Waits for the end of the link.
    pub(super) async fn ended(&self) -> RemoteError {
        let mut ended = self.shared.ended.subscribe();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or_else(|| End::Lost("the link was dropped".into())).into()
    }

    /// Returns the next warning of the server for the user.
    pub(super) async fn next_warning(&self) -> Option<String> {
        std::future::poll_fn(|cx| lock(&self.shared.warnings).poll_recv(cx)).await
    }

    /// Registers a new session: its id, its marker slot and how it will end.
    ///
    /// Call after [`Bus::wait_up`] unless extension `early` is in use.
    pub(super) fn register(&self) -> (u64, PendingMarker, oneshot::Receiver<SessionEnd>) {
        let (end, ended) = oneshot::channel();
        let marker = PendingMarker::default();
        let mut sessions = lock(&self.shared.sessions);
        let id = sessions.next.unwrap_or(1);
        sessions.next = Some(id.checked_add(1).unwrap_or(1));
        sessions.running.insert(id, Running { end, marker: marker.clone() });
        (id, marker, ended)
    }

    /// Takes the connections of one kind that the server announces, by their ids. Those that
    /// come while [`ANNOUNCED`] wait are forgotten: the server closes what is not claimed.
    pub(super) fn take_channels(&self, kind: &'static str) -> mpsc::Receiver<u64> {
        let (taker, ids) = mpsc::channel(ANNOUNCED);
        lock(&self.shared.channels).insert(kind, taker);
        ids
    }

    /// Returns whether connections of that kind are taken.
    pub(super) fn takes_channels(&self, kind: &str) -> bool {
        lock(&self.shared.channels).contains_key(kind)
    }

    /// Kills a session if it still runs.
    pub(super) fn kill(&self, id: u64) {
        if lock(&self.shared.sessions).running.remove(&id).is_some() {
            self.send(&ToServer::Exit(Exit { id, ..Exit::default() }));
        }
    }

    /// Ends everything: there will be no path any more, for this reason.
    pub(super) fn give_up(&self, reason: String) {
        self.end(End::Lost(reason));
        self.shared.connection.close();
    }

    fn end(&self, end: End) {
        lock(&self.shared.outgoing).take();
        self.shared.ended.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                tracing::debug!(?end, "link ended");
                *now = Some(end);
            }
            first
        });
        // Dropping the senders tells every session that its end will not be heard of.
        lock(&self.shared.sessions).running.clear();
    }

    async fn run(
        self,
        connection: Connection,
        queue: mpsc::UnboundedReceiver<Vec<u8>>,
        warn: mpsc::UnboundedSender<String>,
        timeouts: Timeouts,
        ext: ExtSet,
    ) {
        let end = tokio::select! {
            end = self.converse(&connection, queue, warn) => end,
            error = connection.closed() => End::Lost(error.to_string()),
            end = self.beat(timeouts, ext.has(Ext::Silence)) => end,
            end = server_gone(&self.shared.proxy) => end,
            never = self.renew_keys(ext) => never,
            never = self.report_losses() => never,
        };
        self.end(end);
        // Streams of sessions end with the connection, and so do the sessions.
        connection.close();
    }

    /// Asks for new keys whenever the transport wants them; the first time in
    /// the flight of the bus message, or once a reference server has answered
    /// that (PROTOCOL §4.7, §7.2).
    async fn renew_keys(&self, ext: ExtSet) -> End {
        if !ext.has(Ext::Early) {
            let _ = self.shared.up.subscribe().wait_for(|up| up.answered).await;
        }
        loop {
            let point = self.shared.connection.key_request().await;
            self.send(&ToServer::Rekey(Rekey { pub_key: Bytes(point.to_vec()) }));
        }
    }

    /// Tells the server how many of its packets have come (extension `loss`).
    async fn report_losses(&self) -> End {
        loop {
            let Report { sent, echo, received } = self.shared.proxy.next_loss_report().await;
            self.send(&ToServer::Loss(Loss { sent, echo, received }));
        }
    }

    /// Sends heartbeats, at most one unanswered at a time (PROTOCOL §7.4), and one
    /// more after every new path, which proves it to the server (DESIGN D10).
    ///
    /// With extension `silence` they are for when nothing else happens: the alive timeout then
    /// begins with whatever came last, there is none while the link is lost, and one whose echo
    /// does not come is followed by others.
    async fn beat(&self, timeouts: Timeouts, quiet: bool) -> End {
        if self.wait_up().await.is_err() {
            return std::future::pending().await;
        }
        // The opening exchange was an echo in all but name.
        self.shared.proxy.heartbeat_confirmed(Instant::now());
        self.shared.last_echo.send_replace(Echo::now());
        let mut status = self.shared.proxy.watch();
        let mut rhythm = Rhythm::new(timeouts, quiet);
        let mut paths = status.borrow_and_update().paths;
        loop {
            let is_lost = status.borrow().state == LinkState::Lost;
            let heard = self.heard(quiet);
            let next = rhythm.next(heard, is_lost);
            let wake = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wake => {}
                // While something goes on the timer is enough; its beginning is news.
                () = self.shared.proxy.stirred(), if quiet && !Rhythm::is_active(heard) => continue,
                changed = status.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    let now = status.borrow_and_update().paths;
                    if std::mem::replace(&mut paths, now) != now {
                        self.send_heartbeat(quiet);
                    }
                }
            }
            match rhythm.due(Instant::now(), self.heard(quiet), is_lost) {
                Due::Heartbeat => self.send_heartbeat(quiet),
                Due::Giving(silence) => {
                    return End::Lost(format!("no answer from the server for {silence:.0?}"));
                }
                Due::Nothing => {}
            }
        }
    }

    /// When the server was heard last: by its echo of a heartbeat, or by anything it sent.
    fn heard(&self, anything: bool) -> Heard {
        let Echo { sent, came: echo } = *self.shared.last_echo.borrow();
        let contact = self.shared.proxy.status().last_contact.filter(|_| anything);
        let contact = contact.map_or(sent, |contact| contact.max(sent));
        Heard { contact, echo, is_asked: !lock(&self.shared.heartbeats).is_empty() }
    }

    fn send_heartbeat(&self, quiet: bool) {
        let mut under_way = lock(&self.shared.heartbeats);
        if under_way.len() < if quiet { HEARTBEATS } else { 1 } {
            let time = unix_ms();
            under_way.push_back((time, Instant::now()));
            self.send(&ToServer::Alive(Alive { time }));
        }
    }

    async fn converse(
        &self,
        connection: &Connection,
        queue: mpsc::UnboundedReceiver<Vec<u8>>,
        warn: mpsc::UnboundedSender<String>,
    ) -> End {
        let (send, mut recv) = match connection.open_stream().await {
            Ok(streams) => streams,
            Err(error) => return End::Lost(error.to_string()),
        };
        send.set_priority(BUS_PRIORITY);
        let writer = tokio::spawn(write(send, queue));
        match self.initialise(&mut recv).await {
            Ok(()) => {}
            Err(RemoteError::Refused { reason, .. }) => return End::Closed(reason),
            Err(error) => return End::Lost(error.to_string()),
        }
        loop {
            let Ok(Some((name, body))) = read(&mut recv).await else {
                return End::Lost("the server ended the connection".into());
            };
            let Some(body) = body else {
                tracing::warn!(name, "bus message over the limit skipped");
                continue;
            };
            match ToClient::decode(&name, &body) {
                Ok(Some(ToClient::Quit(quit))) => {
                    // The answer to a quit is a close (PROTOCOL §7.7); let it get out.
                    self.close();
                    let _ = tokio::time::timeout(QUIT_GRACE, writer).await;
                    return End::Closed(quit.msg);
                }
                Ok(Some(ToClient::Rekey(answer))) => {
                    match connection.handle_key_answer(&answer.pub_key.0) {
                        Ok(()) => self.shared.up.send_modify(|up| up.keyed = true),
                        Err(
                            KeyExchangeError::Unexpected
                            | KeyExchangeError::Rekey(RekeyError::Unasked),
                        ) => {
                            tracing::warn!("a new key that nobody asked for is ignored");
                        }
                        // A server whose answers make no key is not to be trusted with more.
                        Err(error) => {
                            return End::Lost(format!("the key exchange failed: {error}"));
                        }
                    }
                }
                Ok(Some(message)) => self.on_message(message, &warn),
                Ok(None) => tracing::warn!(name, "unknown bus command skipped"),
                Err(error) => tracing::warn!(name, %error, "malformed bus message skipped"),
            }
        }
    }

    async fn initialise(&self, recv: &mut RecvStream) -> Result<(), RemoteError> {
        wire::read_response::<Outcome>(recv, "the control stream").await?;
        let response: BusResponse = wire::read_response(recv, "the connection").await?;
        {
            let mut sessions = lock(&self.shared.sessions);
            let next = sessions.next.unwrap_or(1).max(response.next_session_id);
            sessions.next = Some(next);
        }
        self.shared.up.send_modify(|up| up.answered = true);
        Ok(())
    }

    fn on_message(&self, message: ToClient, warn: &mpsc::UnboundedSender<String>) {
        match message {
            ToClient::Alive(Alive { time }) => {
                let mut under_way = lock(&self.shared.heartbeats);
                let echoed = under_way.iter().position(|(wire, _)| *wire == time);
                let sent = echoed.and_then(|last| under_way.drain(..=last).next_back());
                drop(under_way);
                if let Some((_, at)) = sent {
                    self.shared.proxy.heartbeat_confirmed(at);
                    self.shared.last_echo.send_replace(Echo { sent: at, ..Echo::now() });
                }
            }
            ToClient::Exit(exit) => {
                if let Some(running) = lock(&self.shared.sessions).running.remove(&exit.id) {
                    let _ = running.end.send(session_end(exit));
                }
            }
            ToClient::Discard(discard) => self.on_discard(discard),
            ToClient::Loss(Loss { sent, echo, received }) => {
                let rtt = self.shared.connection.rtt();
                self.shared.proxy.loss_reported(Report { sent, echo, received }, Some(rtt));
            }
            ToClient::Warning(warning) => {
                let _ = warn.send(warning.msg);
            }
            ToClient::Debug(text) => tracing::debug!(target: "tsshd", "{}", text.msg),
            ToClient::Channel(channel) => {
                let taker = lock(&self.shared.channels).get(&*channel.channel_type).cloned();
                match taker {
                    // Nobody there any more, or too many: the server closes what is not claimed.
                    Some(taker) => drop(taker.try_send(channel.id)),
                    None => {
                        tracing::warn!(
                            kind = channel.channel_type,
                            "channel that was not asked for"
                        );
                    }
                }
            }
            _ => {}
        }
    }

    fn on_discard(&self, discard: Discard) {
        if !discard.marker.0.is_empty() {
            for running in lock(&self.shared.sessions).running.values() {
                *lock(&running.marker) = Some(discard.marker.0.clone());
            }
        }
        if !discard.input.0.is_empty() || discard.output_bytes > 0 {
            tracing::debug!(
                input_bytes = discard.input.0.len(),
                output_lines = discard.output_lines,
                output_bytes = discard.output_bytes,
                "discarded after an outage"
            );
        }
    }
}

/// Reads a command and its message; `None` at the end of the bus.
///
/// There is no message where it was over the limit: the reference knows none, and its report of
/// discarded input is as long as that (PROTOCOL §7.6).
async fn read(
    recv: &mut RecvStream,
) -> Result<Option<(String, Option<Vec<u8>>)>, frames::ReadError> {
    let Some(name) = frames::read_command(recv).await? else { return Ok(None) };
    let body = match &*name {
        CLOSE => Some(Vec::new()),
        _ => frames::read_or_skip_message(recv).await?,
    };
    Ok(Some((name, body)))
}

/// Writes frames as they are queued; ends the stream behind the last one, and
/// returns when the server has it all.
async fn write(mut send: SendStream, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if send.write_all(&frame).await.is_err() {
            return;
        }
    }
    if send.shutdown().await.is_ok() {
        // An error means that there is nobody left to wait for.
        let _ = send.finished().await;
    }
}

/// Waits until the server's host has refused our packets, and done nothing else, for
/// [`REFUSED_LIMIT`]: its port is closed, so the server is gone (DESIGN D15).
async fn server_gone(proxy: &ClientProxy) -> End {
    let mut changes = proxy.watch();
    loop {
        let refused_since = {
            let status = changes.borrow_and_update();
            status.refused_since.filter(|_| status.state == LinkState::Lost)
        };
        let limit = async {
            match refused_since {
                Some(since) => sleep_until((since + REFUSED_LIMIT).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = limit => {
                let limit = REFUSED_LIMIT.as_secs();
                return End::Lost(format!(
                    "the server is gone: its port has been closed for {limit} s"
                ));
            }
            changed = changes.changed() => if changed.is_err() {
                // The proxy is gone: somebody else tells why.
                return std::future::pending().await;
            },
        }
    }
}

fn session_end(exit: Exit) -> SessionEnd {
    match u32::try_from(exit.exit_code) {
        Ok(status) if exit.signal.is_empty() => SessionEnd::Exited(status),
        _ => SessionEnd::Signaled(exit.signal),
    }
}

/// Returns the time as heartbeats carry it.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
