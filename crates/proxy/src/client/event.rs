//! What the client machine is told at the start, and what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use proto::{ClientId, ServerId};

use crate::path::{Change, Means};
use crate::seal::ProxyKey;
use crate::socket::PathId;
use crate::timers::{CONNECT_TIMEOUT, HEARTBEAT_TIMEOUT};

/// What the client machine has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our id, from the server info.
    pub client_id: ClientId,
    /// The id that acks must carry, from the server info.
    pub server_id: ServerId,
    /// The key that auth packets are sealed with.
    pub proxy_key: ProxyKey,
    /// How paths are opened, best first; never empty. Every one is tried at every address
    /// before any is tried again (a wire only once, as it leads where its opener wants), and while
    /// another one than the first is in use, the first is tried at times (DESIGN D4). Default UDP
    /// alone.
    pub means: Vec<Means>,
    /// Addresses of the server, best first; tried one at a time.
    pub candidates: Vec<SocketAddr>,
    /// How long the first connect, and each later attempt, may take. Where there are several
    /// ways, each gets a little of it first, and more from round to round. Default
    /// [`CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// How long a round trip to the server takes, if something is known: on a slow link every
    /// way is waited for longer. Default unknown.
    pub round_trip: Option<Duration>,
    /// Whether packets may follow the auth frame of a TCP connection at once. A
    /// reference server reads the first frame with a single call, so it has to
    /// be alone until its ack has come; ours takes it apart. Default no.
    pub tcp_pipelining: bool,
    /// Whether a path is asked for only when the link is lost or somebody says so, and not
    /// already when an answer is late: where paths are costly, or another connection's, which
    /// sees to its own. Default no.
    pub patient: bool,
    /// How long nothing may be heard before the link is lost; checked once the
    /// first heartbeat was confirmed. Default [`HEARTBEAT_TIMEOUT`].
    pub heartbeat_timeout: Duration,
    /// Whether silence is no sign of anything as long as nothing was sent that wants an answer
    /// (extension `silence`). Default no.
    pub quiet: bool,
}

impl Config {
    /// Returns a configuration for UDP with the default timeouts.
    #[must_use]
    pub fn new(
        client_id: ClientId,
        server_id: ServerId,
        proxy_key: ProxyKey,
        candidates: Vec<SocketAddr>,
    ) -> Self {
        Self {
            client_id,
            server_id,
            proxy_key,
            means: vec![Means::UDP],
            candidates,
            connect_timeout: CONNECT_TIMEOUT,
            round_trip: None,
            tcp_pipelining: false,
            patient: false,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            quiet: false,
        }
    }
}

/// Why a new path is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewReason {
    /// The system reports a change of route or address.
    NetworkChanged,
    /// The machine was asleep or the process was stopped.
    ClockJump,
    /// The user, or something that was sent and not answered in time.
    Requested,
}

/// What happened to the path, for the driver and the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Open a socket for this path and report [`super::Client::handle_opened`] or
    /// [`super::Client::handle_failed`].
    Open {
        /// The path to be.
        path: PathId,
        /// By what means.
        means: Means,
        /// Where to.
        remote: SocketAddr,
    },
    /// Close the socket of this path.
    Close {
        /// The path that was.
        path: PathId,
    },
    /// A path was proven and is in use from now on.
    Proven {
        /// The path.
        path: PathId,
        /// What that changes.
        change: Change,
    },
    /// An attempt to get a new path failed; another one follows.
    AttemptFailed {
        /// Where it led; none for a wire, which leads where its opener wants.
        remote: Option<SocketAddr>,
        /// The I/O error, for display; none if there was simply no answer.
        error: Option<String>,
    },
    /// Nothing is heard any more and no path is in use; a new one is searched.
    Lost {
        /// The I/O error that goes with it, if any, for display.
        error: Option<String>,
    },
    /// The very first connect failed; the machine has ended.
    ConnectFailed {
        /// Whether anything at all came back from the server. If not, a
        /// firewall is the likely reason.
        heard: bool,
        /// The last I/O error, if any, for display.
        error: Option<String>,
    },
}
