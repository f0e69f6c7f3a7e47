//! The bus: initialisation, heartbeats, what the client orders (PROTOCOL §7).

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::bus::{self, Debug, Discard, Rekey, Resize, ToClient, ToServer};
use proto::ext::Ext;
use proto::json::{Bytes, JsonError};
use proto::open::{BusMessage, BusResponse, NO_ERROR, Outcome, Timeouts};
use proto::version;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use transport::{RecvStream, SendStream};

use super::{Bus, End, Inner};
use crate::session::winsize;
use crate::sys::process;
use transport::frames::{self, ReadError};

/// The bus goes before everything else.
const PRIORITY: i32 = 10;

/// Longest alive timeout: no server waits for ever for a client that is gone
/// (PROTOCOL §16). A client that names none, or 0 for never, gets this one.
const LONGEST_ALIVE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The other ends of what the bus has to say.
pub(super) struct Outbox {
    pub(super) messages: mpsc::Receiver<Vec<u8>>,
    /// The newest discard marker.
    pub(super) marker: watch::Receiver<Option<[u8; 8]>>,
}

impl Inner {
    /// Serves the bus stream from its hello on.
    pub(super) async fn serve_bus(
        self: Arc<Self>,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), ReadError> {
        let outbox =
            self.outbox_end.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(outbox) = outbox else {
            let refusal = Outcome::failure("there is a bus already");
            return Ok(frames::write_message(&mut send, &refusal).await?);
        };
        send.set_priority(PRIORITY);
        self.bus.send_replace(Bus::Claimed);
        frames::write_message(&mut send, &Outcome::success()).await?;
        let hello: BusMessage = frames::read_message(&mut recv).await?;
        if let Err(error) = version::check(hello.proto_ver, &hello.client_ver) {
            let msg = format!("client {error}, please upgrade");
            let refusal = BusResponse { msg, ..BusResponse::default() };
            return Ok(frames::write_message(&mut send, &refusal).await?);
        }
        let used = hello.ext_set().and(self.granted);
        if used.has(Ext::Stop) {
            self.connection.tell_stops();
        }
        self.below.on_bus_up(heartbeat_timeout(&hello), used);
        let next_session_id = self.registry().next_id();
        let response = BusResponse { code: 0, msg: NO_ERROR.into(), next_session_id };
        frames::write_message(&mut send, &response).await?;
        self.bus.send_replace(Bus::Up(used));
        tracing::info!(?used, "bus is up");
        let reader = async {
            for warning in &self.warnings {
                self.warn(warning).await;
            }
            self.read_bus(recv, hello.alive_timeout).await
        };
        let writer = self.write_bus(send, outbox);
        tokio::select! {
            (result, ()) = async { tokio::join!(reader, writer) } => result,
            never = self.hand_on_diagnostics() => never,
            never = self.end_if_unheard() => never,
        }
    }

    /// Puts diagnostics on the bus as they come.
    async fn hand_on_diagnostics<T>(&self) -> T {
        let source = self.debug.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut source) = source {
            while let Some(msg) = source.recv().await {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let time = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
                // A client that does not keep up misses some; what is waited
                // for must find room.
                let _ = self.outbox.try_send(ToClient::Debug(Debug { msg, time }).encode());
            }
        }
        std::future::pending().await
    }

    /// Writes messages as they come; an empty one ends the stream.
    async fn write_bus(&self, mut send: SendStream, mut outbox: Outbox) {
        let written: io::Result<()> = async {
            while let Some(message) = outbox.next().await {
                send.write_all(&message).await?;
            }
            send.shutdown().await
        }
        .await;
        match written {
            Ok(()) => drop(send.finished().await),
            Err(error) => tracing::debug!(%error, "the client reads the bus no more"),
        }
        self.bus.send_replace(Bus::Finished);
    }

    /// Ends a server that nobody has heard within the connect timeout.
    ///
    /// That the bus is up says that packets come from the client, not that ours
    /// reach it; such a server would stay for the whole alive timeout. One that
    /// was heard stays, however soon the client falls silent.
    async fn end_if_unheard<T>(&self) -> T {
        tokio::time::sleep(self.connect_timeout).await;
        if !self.connection.was_heard() {
            self.finish(End::NoBus);
        }
        std::future::pending().await
    }

    /// Obeys the client until the bus ends.
    async fn read_bus(&self, mut recv: RecvStream, alive: Duration) -> Result<(), ReadError> {
        let alive = patience(alive);
        let mut last_alive = Instant::now();
        loop {
            let Some(order) = self.order(&mut recv, &mut last_alive, alive).await else {
                self.finish(End::Silent);
                return Ok(());
            };
            match order {
                Ok(Order::Close) => {
                    self.finish(End::Closed);
                    return Ok(());
                }
                Ok(Order::Message(message)) => {
                    if matches!(message, ToServer::Alive(_)) || self.used().has(Ext::Silence) {
                        last_alive = Instant::now();
                    }
                    // Within the same time: to answer takes a client that reads.
                    let obeyed = timeout_at(last_alive + alive, self.obey(message));
                    if obeyed.await.is_err() {
                        self.finish(End::Silent);
                        return Ok(());
                    }
                }
                Ok(Order::Unknown(name)) => tracing::warn!(name, "unknown bus command"),
                // One bad order is no reason to end every session: the next
                // frame begins where this one ends.
                Ok(Order::Bad(name, error)) => {
                    tracing::warn!(name, %error, "bus message that cannot be read is skipped");
                }
                // The bus cannot be read any further; without it nothing can be ended well.
                Err(error) => {
                    self.finish(End::Gone);
                    return Err(error);
                }
            }
        }
    }

    /// Reads the next order; `None` if the client is silent for too long before.
    async fn order(
        &self,
        recv: &mut RecvStream,
        last_alive: &mut Instant,
        alive: Duration,
    ) -> Option<Result<Order, ReadError>> {
        // One future all the time: what it has read of an order must not be lost.
        let mut order = std::pin::pin!(read_order(recv));
        loop {
            if let Ok(order) = timeout_at(*last_alive + alive, &mut order).await {
                return Some(order);
            }
            // A client that has nothing to say on the bus may have much to say elsewhere.
            if !self.was_heard_since(last_alive) {
                return None;
            }
        }
    }

    /// Whether something genuine came after `last`, which is then moved on. Only with extension
    /// `silence`: without it a client that sends no heartbeats is gone.
    fn was_heard_since(&self, last: &mut Instant) -> bool {
        let contact = self.below.last_contact().filter(|_| self.used().has(Ext::Silence));
        let Some(at) = contact.map(Instant::from_std).filter(|at| *at > *last) else {
            return false;
        };
        *last = at;
        true
    }

    async fn obey(&self, message: ToServer) {
        match message {
            // Exactly one echo each (PROTOCOL §12.19).
            ToServer::Alive(alive) => self.tell(ToClient::Alive(alive)).await,
            ToServer::Exit(exit) => {
                if let Some(session) = self.registry().get(exit.id) {
                    tokio::spawn(async move { session.kill().await });
                }
            }
            ToServer::Resize(resize) => self.resize(resize),
            ToServer::Setting(setting) => {
                if let Some(keep) = setting.keep_pending_input {
                    self.registry().keeps_input = keep;
                }
                if let Some(keep) = setting.keep_pending_output {
                    self.set_presence(|presence| presence.keeps_output = keep);
                }
            }
            ToServer::Rekey(request) => {
                match self.connection.answer_key_request(&request.pub_key.0) {
                    Ok(point) => {
                        let pub_key = Bytes(point.to_vec());
                        self.tell(ToClient::Rekey(Rekey { pub_key })).await;
                    }
                    // The old keys stay, and a client that insists will leave.
                    Err(error) => tracing::warn!(%error, "key request refused"),
                }
            }
            ToServer::Signal(signal) if self.used().has(Ext::Signal) => {
                let session = self.registry().get(signal.id);
                match (session, process::signal_by_name(&signal.signal)) {
                    (Some(session), Some(signal)) => session.signal(signal),
                    _ => tracing::debug!("signal for no session, or an unknown one"),
                }
            }
            ToServer::Loss(loss) if self.used().has(Ext::Loss) => {
                self.below.on_loss(&loss, self.connection.rtt());
            }
            other => tracing::warn!(?other, "bus command without a meaning here"),
        }
    }

    fn resize(&self, resize: Resize) {
        if resize.cols == 0 || resize.rows == 0 {
            tracing::warn!("a terminal of no size is refused");
            return;
        }
        let Some(session) = self.registry().get(resize.id) else { return };
        let size = winsize(resize.cols, resize.rows, resize.width_px, resize.height_px);
        if resize.redraw {
            session.redraw(size, resize.marker.0);
        } else {
            session.resize(size);
        }
    }
}

impl Outbox {
    /// Waits for the next message; `None` when the stream is to be finished.
    async fn next(&mut self) -> Option<Vec<u8>> {
        tokio::select! {
            biased;
            Ok(()) = self.marker.changed() => {
                let marker = (*self.marker.borrow_and_update()).unwrap_or_default();
                let marker = Bytes(marker.to_vec());
                Some(ToClient::Discard(Discard { marker, ..Discard::default() }).encode())
            }
            message = self.messages.recv() => message.filter(|message| !message.is_empty()),
        }
    }
}

/// How long the client may be silent.
fn patience(alive_timeout: Duration) -> Duration {
    if alive_timeout.is_zero() { LONGEST_ALIVE } else { alive_timeout.min(LONGEST_ALIVE) }
}

/// The client's heartbeat timeout; one it does not name, or names as 0, is the
/// default, because after no time at all every path would count as lost.
fn heartbeat_timeout(hello: &BusMessage) -> Duration {
    let named = Some(hello.heartbeat_timeout).filter(|timeout| !timeout.is_zero());
    named.unwrap_or(Timeouts::default().heartbeat)
}

/// What the client says on the bus.
enum Order {
    Close,
    Message(ToServer),
    Unknown(String),
    /// A whole frame whose message does not fit the command.
    Bad(String, JsonError),
}

async fn read_order(recv: &mut RecvStream) -> Result<Order, ReadError> {
    let Some(name) = frames::read_command(recv).await? else {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    };
    if name == bus::CLOSE {
        return Ok(Order::Close);
    }
    let body = frames::read_raw_message(recv).await?;
    Ok(match ToServer::decode(&name, &body) {
        Ok(Some(message)) => Order::Message(message),
        Ok(None) => Order::Unknown(name),
        Err(error) => Order::Bad(name, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::json::Message as _;

    #[tokio::test]
    async fn the_newest_marker_goes_out_ahead_of_a_full_outbox() {
        let (say, messages) = mpsc::channel(1);
        let (marker, newest) = watch::channel(None);
        let mut outbox = Outbox { messages, marker: newest };
        say.try_send(b"old".to_vec()).unwrap();
        marker.send_replace(Some([1; 8]));
        marker.send_replace(Some([2; 8]));
        let discard = Discard { marker: Bytes(vec![2; 8]), ..Discard::default() };
        assert_eq!(outbox.next().await, Some(ToClient::Discard(discard).encode()));
        assert_eq!(outbox.next().await, Some(b"old".to_vec()));
        say.try_send(Vec::new()).unwrap();
        assert_eq!(outbox.next().await, None, "an empty message is the end");
    }

    #[test]
    fn no_client_is_waited_for_longer_than_thirty_days() {
        for (asked, granted) in [(0, 30), (10, 10), (30, 30), (36_500, 30)] {
            let days = |n: u64| Duration::from_secs(n * 24 * 3600);
            assert_eq!(patience(days(asked)), days(granted), "{asked} days");
        }
    }

    #[test]
    fn a_client_that_names_no_heartbeat_timeout_gets_the_default() {
        for (json, expected) in [
            ("{}", 3_000),
            (r#"{"HeartbeatTimeout":0}"#, 3_000),
            (r#"{"HeartbeatTimeout":700000000}"#, 700),
        ] {
            let hello = BusMessage::from_json(json.as_bytes()).unwrap();
            assert_eq!(heartbeat_timeout(&hello), Duration::from_millis(expected), "{json}");
        }
    }
}
