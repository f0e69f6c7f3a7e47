//! [`Remote`]: the far host, however it is reached.
//!
//! Two makes: [`login`](crate::remote::login) runs everything over the ssh
//! login itself, [`link`](crate::remote::link) over a UDP link to tsshd.
//! Everything a person sees is written once, on top of this trait, so that
//! the two differ in nothing but resilience.

pub(crate) mod idle;
pub mod login;
pub mod renewed;
pub mod system;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use transport::channels::{Receiver, Sender};
use transport::relay::{FarRead, FarWrite};

use crate::config::forward::Listen;

/// A future on the heap, as object-safe traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The far host: somewhere to run programs and to open connections from.
pub trait Remote: Send + Sync {
    /// Starts a shell, a command or a subsystem.
    fn open_session(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'_, Result<RemoteSession, RemoteError>>;

    /// Connects, on the far host, to a port or socket.
    fn dial(&self, target: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>>;

    /// As [`Remote::dial`]; should we be killed, the far host writes `farewell` to another
    /// connection to that place, if it can (extension `farewell`).
    fn dial_with_farewell(
        &self,
        target: Target,
        _farewell: Vec<u8>,
    ) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        self.dial(target)
    }

    /// Listens on the far host. An address given as `None` is its loopback, in both families;
    /// an empty one or `*` is every address it has.
    fn listen(&self, at: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>>;

    /// Returns whether the two calls below can succeed at all.
    fn carries_datagrams(&self) -> bool {
        false
    }

    /// Opens a flow of datagrams, on the far host, to a port of UDP.
    ///
    /// Only a link carries datagrams; where there is none this is refused.
    fn dial_udp(&self, _target: Target) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
        Box::pin(std::future::ready(Err(no_datagrams())))
    }

    /// As [`Remote::dial_udp`]; should we be killed, the far host sends `farewell` there, if it can
    /// (extension `farewell`).
    fn dial_udp_with_farewell(
        &self,
        target: Target,
        _farewell: Vec<u8>,
    ) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
        self.dial_udp(target)
    }

    /// Listens on the far host for datagrams. Addresses mean what they mean to
    /// [`Remote::listen`]; refused as [`Remote::dial_udp`] is.
    fn listen_udp(&self, _at: Listen) -> BoxFuture<'_, Result<RemoteUdpListener, RemoteError>> {
        Box::pin(std::future::ready(Err(no_datagrams())))
    }

    /// Has the sessions opened from now on reach the agent of this side, if they are to, whose
    /// connections come out of the queue. Call it once at most.
    fn forward_agent(&self) -> mpsc::Receiver<RemoteStream>;

    /// Has the sessions opened from now on reach a display of this side, whose connections come
    /// out of the queue. Call it once at most, before the first session.
    ///
    /// Where no sessions are opened, as on the way to another host, nobody ever comes.
    fn forward_x11(&self, _x11: X11Request) -> mpsc::Receiver<RemoteStream> {
        mpsc::channel(1).1
    }

    /// Waits until the connection is gone for good and says why.
    fn closed(&self) -> BoxFuture<'_, RemoteError>;

    /// Ends the connection in good order: nothing of ours is left on the far host.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Has the keys of the connection renewed soon.
    fn renew_keys(&self) {}

    /// Returns whether a lost network path is survived (escape help and notices differ).
    fn roams(&self) -> bool;

    /// Returns how large the payload of a datagram through this host may be, in bytes; `None`
    /// where it carries none.
    fn datagram_size(&self) -> Option<usize> {
        None
    }

    /// Returns how the network path is, where its loss is survived.
    fn health(&self) -> Option<Box<dyn HealthWatch>> {
        None
    }
}

/// Says why a login has no datagrams.
fn no_datagrams() -> RemoteError {
    RemoteError::Refused {
        what: "UDP forwarding".into(),
        reason: "an ssh login carries no datagrams; use UDP mode (--udp)".into(),
    }
}

/// Follows the network path to the far host.
pub trait HealthWatch: Send {
    /// Returns the outage there is, if there is one.
    fn outage(&self) -> Option<Outage>;

    /// Waits until that may have changed; for ever, once the connection is gone.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}

/// A time without a network path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the far host was last known to be there.
    pub last_contact: Instant,
    /// Since when it has been silent although it should not: where nothing happens nothing has to
    /// come.
    pub since: Instant,
    /// Whether its port is closed, as far as anybody can tell.
    pub is_refused: bool,
    /// The system's last error on the way there.
    pub error: Option<String>,
}

/// Something to connect to, as the far host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port of TCP, or of UDP for [`Remote::dial_udp`]; the name is looked up over there.
    Tcp {
        /// A name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(String),
}

/// A connection that the far host made or accepted for us. Dropping both halves closes it.
pub struct RemoteStream {
    /// What comes from there.
    pub read: Box<dyn FarRead>,
    /// What goes there; shutting it down ends that direction only.
    pub write: Box<dyn FarWrite>,
}

/// A listener on the far host. Dropping it ends it; connections go on.
pub struct RemoteListener {
    /// The port it has, where one was left to the far host and that told.
    pub port: Option<u16>,
    /// The connections it accepts; ends with the listener.
    pub incoming: mpsc::Receiver<RemoteStream>,
    /// What keeps it alive.
    pub(crate) _guard: Box<dyn Send>,
}

/// What to start, and in what surroundings.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// What to run.
    pub program: Program,
    /// The terminal to run it in, if any.
    pub pty: Option<PtyRequest>,
    /// Environment variables to ask for (SendEnv, SetEnv); the server may refuse some silently.
    pub env: Vec<(String, String)>,
    /// Whether the program may use the agent of this side, if one is forwarded.
    pub agent: bool,
    /// Whether the program may use the display of this side, if one is forwarded.
    pub x11: bool,
}

/// What a session runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The user's login shell.
    Shell,
    /// One string for the user's shell, as bytes (RFC 4254 §6.5).
    Exec(Vec<u8>),
    /// A subsystem by name, such as `sftp`.
    Subsystem(String),
}

/// A terminal to allocate on the far side (RFC 4254 §6.2).
#[derive(Clone, Debug)]
pub struct PtyRequest {
    /// The value of `TERM`.
    pub term: String,
    /// Its initial size.
    pub size: TerminalSize,
    /// Terminal modes: opcode of RFC 4254 §8 and value.
    pub modes: Vec<(u8, u32)>,
}

/// Size of a terminal; pixels are zero where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns of characters.
    pub cols: u16,
    /// Rows of characters.
    pub rows: u16,
    /// Width in pixels.
    pub width_px: u16,
    /// Height in pixels.
    pub height_px: u16,
}

/// What the far host needs to know to lead its programs to a display of this side.
#[derive(Clone)]
pub struct X11Request {
    /// The authentication protocol, such as `MIT-MAGIC-COOKIE-1`.
    pub protocol: String,
    /// The cookie that far programs show, in hex; good for nothing but this connection.
    pub cookie: String,
    /// The screen of the display.
    pub screen: u32,
    /// Called when the far host refuses; a link has the server's own words as a warning instead.
    pub on_refusal: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for X11Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X11Request").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// A flow of whole datagrams to or from the far host. Dropping it ends the flow.
///
/// Datagrams are lost, repeated and reordered as on any network, and carry up to 65535 bytes;
/// up to [`Sender::max_payload`] they never wait for one another. While the link has no path
/// sending waits.
#[derive(Debug)]
pub struct RemoteDatagrams {
    /// For datagrams to the far host.
    pub sender: Sender,
    /// For those from there.
    pub receiver: Receiver,
    /// Given back with the flow.
    pub(crate) _slot: Box<dyn std::any::Any + Send + Sync>,
}

/// A listener for datagrams on the far host; dropping it ends the listener.
pub struct RemoteUdpListener {
    /// The port the far host chose, where it was to choose and says it.
    pub port: Option<u16>,
    /// The flows, one for each address that sends to it.
    pub incoming: mpsc::Receiver<RemoteDatagrams>,
    /// What keeps it alive.
    pub(crate) _guard: Box<dyn Send + Sync>,
}

/// A running session. Dropping it kills the far program.
pub struct RemoteSession {
    /// The program's standard input; shutting it down is end of input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// The program's standard output (with a pty: everything it prints), until end of output.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// The program's standard error; `None` with a pty. So a session that asked for a pty and
    /// has this was refused one, and runs without.
    pub error: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Out-of-band control of the session.
    pub control: Box<dyn SessionControl>,
    /// How the session ended. Output may still be unread when this is ready.
    pub end: BoxFuture<'static, SessionEnd>,
}

/// Control of a running session beside its byte streams. Calls never block.
pub trait SessionControl: Send + Sync {
    /// Tells the far terminal its new size.
    fn resize(&self, size: TerminalSize);
    /// Delivers a signal to the program, by its RFC 4254 §6.10 name (`INT`, `TERM`, …).
    /// Returns whether the far side can do that at all.
    fn signal(&self, name: &str) -> bool;
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The program exited with this status.
    Exited(u32),
    /// The program was killed by a signal, named as in RFC 4254 §6.10 (`TERM`, `KILL`, …).
    Signaled(String),
    /// The connection ended first, or the far side never told.
    Unknown,
}

/// Why the far host refused something or is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The far side refused the request; the connection is unharmed.
    #[error("{what} refused by the server: {reason}")]
    Refused {
        /// What was asked for, for people ("shell request", "subsystem sftp").
        what: String,
        /// The server's own words, or ours where it gave none.
        reason: String,
    },
    /// The connection is gone.
    #[error("{reason}")]
    Lost {
        /// What happened, in words.
        reason: String,
    },
    /// The far side ended the connection and said why (`quit` on the bus, SSH disconnect).
    #[error("closed by the server: {reason}")]
    Closed {
        /// The server's own words.
        reason: String,
    },
}
