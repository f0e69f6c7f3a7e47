//! Serves one client's connection: its streams, its bus, its sessions.
//!
//! ```text
//! accept ─▶ stream ─▶ bus      the one control stream; ends the connection
//!                  └▶ others   wait for the bus (extension `early`) or are refused,
//!                              then session, stderr, dial
//! ```
//!
//! Knows nothing of paths or packets: what the bus has to do with them goes through
//! [`Below`] and [`Link::on_new_path`]. Invariants: nothing is served before the bus is up; session ids are
//! used once; everything a peer can make us hold is bounded.

mod bus;
mod registry;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::bus::{Loss, Quit, ToClient, Warning};
use proto::ext::ExtSet;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use transport::Connection;

use crate::forward::farewell::Farewells;
use crate::forward::parked::Parked;
use crate::forward::socket::Socket;
use crate::forward::udp::Datagrams;
use crate::session::Presence;
pub use crate::session::{DEFAULT_LOG_BYTES, Host};
use bus::Outbox;
use registry::Registry;

/// How a link is to be served.
pub struct Settings {
    /// The extensions granted in ServerInfo.
    pub granted: ExtSet,
    /// How long the bus may take to come up, and a stream to say what it is for.
    pub connect_timeout: Duration,
    /// Told the client once the bus is up.
    pub warnings: Vec<String>,
    /// Diagnostics to hand to the client, with `--debug`.
    pub debug: Option<mpsc::Receiver<String>>,
    /// Bytes of a terminal's output to keep while the client is away.
    pub output_log_bytes: usize,
    /// Who has to know what the bus says of the way to the client.
    pub below: Box<dyn Below>,
}

/// What carries the connection, as far as the bus concerns it.
pub trait Below: Send + Sync {
    /// The bus is up: this long the client may be silent, and these extensions are used.
    fn on_bus_up(&self, heartbeat_timeout: Duration, used: ExtSet);

    /// The client has told how many packets came (extension `loss`), on a connection with this
    /// round trip.
    fn on_loss(&self, loss: &Loss, round_trip: Duration);

    /// When something genuine came from the client last.
    fn last_contact(&self) -> Option<std::time::Instant>;
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("granted", &self.granted).finish_non_exhaustive()
    }
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client said `close`.
    Closed,
    /// The connection ended, by the client or a failure.
    Gone,
    /// The bus did not come up in time, or nobody heard that it did.
    NoBus,
    /// No heartbeat for the alive timeout.
    Silent,
}

/// How long messages have to get out after `close` (PROTOCOL §7.7).
const LINGER: Duration = Duration::from_secs(1);

/// Streams that may wait for the bus (extension `early`).
const MAX_PARKED: usize = 64;

/// Bus messages that may wait for room in the bus stream; who has more to say waits.
const OUTBOX: usize = 64;

/// One client's connection being served. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

struct Inner {
    connection: Connection,
    host: Host,
    granted: ExtSet,
    connect_timeout: Duration,
    warnings: Vec<String>,
    below: Box<dyn Below>,
    debug: Mutex<Option<mpsc::Receiver<String>>>,
    bus: watch::Sender<Bus>,
    end: watch::Sender<Option<End>>,
    outbox: mpsc::Sender<Vec<u8>>,
    /// The other end of `outbox`, until the bus stream is there.
    outbox_end: Mutex<Option<Outbox>>,
    /// The newest discard marker: of several that wait to be sent only the
    /// last one matters, so that a roam never waits for room.
    marker: watch::Sender<Option<[u8; 8]>>,
    registry: Mutex<Registry>,
    /// Counts changes of the registry, for those who wait for one.
    registered: watch::Sender<u64>,
    parking: Semaphore,
    /// Connections that were accepted for the client.
    parked: Parked<Socket>,
    /// Its datagram channels.
    datagrams: Datagrams,
    /// What is said for it if it is killed.
    farewells: Farewells,
    presence: watch::Sender<Presence>,
    output_log_bytes: usize,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("bus", &*self.bus.borrow()).finish_non_exhaustive()
    }
}

/// The state of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bus {
    /// No bus stream yet.
    Down,
    /// Its stream is there, its first message is not.
    Claimed,
    /// It is up; these extensions are used.
    Up(ExtSet),
    /// All its messages were sent, and its end.
    Finished,
}

impl Link {
    /// Returns a link over `connection`; [`Link::serve`] serves it.
    #[must_use]
    pub fn new(connection: Connection, host: Host, settings: Settings) -> Self {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let (marker, newest_marker) = watch::channel(None);
        let datagrams = Datagrams::new(connection.clone(), settings.connect_timeout);
        let outbox_end = Outbox { messages, marker: newest_marker };
        Self(Arc::new(Inner {
            connection,
            host,
            granted: settings.granted,
            connect_timeout: settings.connect_timeout,
            warnings: settings.warnings,
            below: settings.below,
            debug: Mutex::new(settings.debug),
            bus: watch::Sender::new(Bus::Down),
            end: watch::Sender::new(None),
            outbox,
            outbox_end: Mutex::new(Some(outbox_end)),
            marker,
            registry: Mutex::new(Registry::default()),
            registered: watch::Sender::new(0),
            parking: Semaphore::new(MAX_PARKED),
            parked: Parked::new(settings.connect_timeout),
            datagrams,
            farewells: Farewells::default(),
            presence: watch::Sender::new(Presence::default()),
            output_log_bytes: settings.output_log_bytes,
        }))
    }

    /// Serves the client until the end, then ends all its sessions.
    pub async fn serve(&self) -> End {
        let inner = &self.0;
        let no_bus = inner.no_bus_by(Instant::now() + inner.connect_timeout);
        tokio::pin!(no_bus);
        let mut end = inner.end.subscribe();
        let mut streams = JoinSet::new();
        let why = loop {
            tokio::select! {
                stream = inner.connection.accept_stream() => match stream {
                    Ok((send, recv)) => {
                        streams.spawn(inner.clone().serve_stream(send, recv));
                    }
                    Err(error) => {
                        tracing::info!(%error, "connection ended");
                        break End::Gone;
                    }
                },
                _ = end.changed() => break (*end.borrow_and_update()).unwrap_or(End::Gone),
                Some(_) = streams.join_next() => {}
                () = &mut no_bus => break End::NoBus,
            }
        };
        self.end_sessions();
        // While the streams that they belong to are still there. Whoever was told by the client
        // itself closed its own before.
        inner.farewells.say().await;
        if why == End::Closed {
            self.linger().await;
        }
        inner.connection.close();
        inner.connection.closing_sent().await;
        why
    }

    /// Hangs up all sessions.
    pub fn end_sessions(&self) {
        for session in self.0.registry().sessions() {
            session.end();
        }
    }

    /// Lets the last messages get out: until all sessions have reported their
    /// end and the client has everything, or its patience is over.
    async fn linger(&self) {
        let deadline = Instant::now() + LINGER;
        let mut changes = self.0.registered.subscribe();
        while !self.0.registry().is_empty() {
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return;
            }
        }
        // An empty message is the writer's sign to finish the stream.
        let finish = async {
            self.0.say(Vec::new()).await;
            let mut bus = self.0.bus.subscribe();
            let _ = bus.wait_for(|bus| *bus == Bus::Finished).await;
        };
        let gone = self.0.connection.closed();
        let _ = timeout_at(deadline, async {
            tokio::select! {
                () = finish => {}
                _ = gone => {}
            }
        })
        .await;
    }

    /// Tells the link that the client will not come back: it was killed.
    pub fn client_gone(&self) {
        self.0.finish(End::Gone);
    }

    /// Tells the link whether the client has not been heard for its heartbeat
    /// timeout: meanwhile terminals' programs run on, and their output is kept.
    pub fn set_away(&self, is_away: bool) {
        self.0.set_presence(|presence| presence.is_away = is_away);
    }

    /// Tells the link that the client has come back by a new path: what it typed
    /// before is stale (PROTOCOL §7.6).
    pub fn on_new_path(&self) {
        let is_up = matches!(*self.0.bus.borrow(), Bus::Up(_));
        if !is_up {
            return;
        }
        let marker = self.0.registry().arm_input_marker();
        if marker.is_some() {
            self.0.marker.send_replace(marker);
        }
    }

    /// Tells the client how many packets came, where it wants to know (extension `loss`).
    pub async fn report_loss(&self, loss: Loss) {
        self.0.tell(ToClient::Loss(loss)).await;
    }

    /// Asks the client to leave.
    pub async fn quit(&self, reason: &str) {
        self.0.tell(ToClient::Quit(Quit { msg: reason.to_owned() })).await;
    }
}

impl Inner {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_presence(&self, change: impl FnOnce(&mut Presence)) {
        self.presence.send_if_modified(|presence| {
            let before = *presence;
            change(presence);
            *presence != before
        });
    }

    /// Becomes ready at `deadline` unless the bus is up by then.
    async fn no_bus_by(&self, deadline: Instant) {
        let mut bus = self.bus.subscribe();
        let up = bus.wait_for(|bus| matches!(bus, Bus::Up(_)));
        if matches!(timeout_at(deadline, up).await, Ok(Ok(_))) {
            std::future::pending().await
        }
    }

    /// Tells those who wait that the registry has changed.
    fn registry_changed(&self) {
        self.registered.send_modify(|count| *count += 1);
    }

    /// Puts a message on the bus; waits while there is no room.
    async fn tell(&self, message: ToClient) {
        self.say(message.encode()).await;
    }

    async fn warn(&self, text: impl Into<String>) {
        self.tell(ToClient::Warning(Warning { code: 0, msg: text.into() })).await;
    }

    async fn say(&self, bytes: Vec<u8>) {
        // The other end is gone with the bus, and everything ends then.
        let _ = self.outbox.send(bytes).await;
    }

    /// Returns the extensions in use; none before the bus is up.
    fn used(&self) -> ExtSet {
        match *self.bus.borrow() {
            Bus::Up(used) => used,
            _ => ExtSet::NONE,
        }
    }

    fn finish(&self, why: End) {
        self.end.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(why);
            is_first
        });
    }
}
