//! Forwards: ports and sockets that lead through the connection.
//!
//! Written once for both makes of [`Remote`]: what is listened for here is dialled there and the
//! other way round. Not here: how a far connection travels ([`Remote::dial`], [`Remote::listen`])
//! and what a specification means ([`crate::config::forward`]).
//!
//! Invariants: every connection is a task of its own and none waits for another; nothing is
//! dropped between the two ends; what is said to people is what ssh says.

mod near;
pub mod socks;
mod stdio;
mod udp;
pub mod x11;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::config::forward::{Connect, Forward, Listen};
use crate::config::{AddressFamily, ForwardSettings, Settings};
use crate::login::printable;
use crate::remote::{Remote, RemoteError, RemoteStream, Target};
use crate::report::Reporter;
use near::{Listener, Socket};
use socks::{Socks, Step, Version};

pub(crate) use stdio::conduct;
pub use stdio::stdio;
pub use x11::X11Settings;

/// How long a program may take to say, by SOCKS, where it wants to go.
const SOCKS_TIMEOUT: Duration = Duration::from_secs(60);

/// Forwards of one connection. Clones are the same ones.
#[derive(Clone)]
pub struct Forwarder(Arc<Inner>);

struct Inner {
    remote: Arc<dyn Remote>,
    settings: ForwardSettings,
    family: AddressFamily,
    reporter: Reporter,
    active: Mutex<Vec<Active>>,
    /// Connections that are being made or carried.
    open: watch::Sender<OpenList>,
    /// Whether the agent is led to.
    has_agent: AtomicBool,
}

/// The connections that are open, for people: a number and what it is.
type OpenList = BTreeMap<u64, String>;

/// A forward that is set up.
struct Active {
    side: Side,
    /// Whether it forwards datagrams, and not connections.
    datagrams: bool,
    forward: Forward,
    /// The port that the far host chose.
    chosen: Option<u16>,
    tasks: Vec<AbortHandle>,
}

/// Which end listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This machine.
    Local,
    /// The far host.
    Remote,
}

/// Why a forward is not set up. What there is to say has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSetUp;

/// A connection, for those who wait for the last one and those who ask what is open.
struct Open {
    list: watch::Sender<OpenList>,
    number: u64,
}

impl Open {
    fn new(inner: &Inner, text: &str) -> Self {
        let mut number = 1;
        inner.open.send_modify(|open| {
            // The session has the first number; like a descriptor's, the lowest free one is taken.
            while open.contains_key(&number) {
                number += 1;
            }
            open.insert(number, text.to_owned());
        });
        Self { list: inner.open.clone(), number }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.list.send_modify(|open| {
            open.remove(&self.number);
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for active in self.lock().drain(..) {
            active.end();
        }
    }
}

impl Active {
    /// Returns whether this is what is meant: by what was asked for, or by the port that came
    /// of it.
    fn listens_at(&self, listen: &Listen) -> bool {
        let chosen = match (&self.forward.listen, self.chosen) {
            (Listen::Tcp { host, .. }, Some(port)) => {
                Some(Listen::Tcp { host: host.clone(), port })
            }
            _ => None,
        };
        self.forward.listen == *listen || chosen.as_ref() == Some(listen)
    }

    fn end(self) {
        for task in self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder {
    /// Returns a forwarder over `remote` without any forward.
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>, settings: &Settings, reporter: Reporter) -> Self {
        Self(Arc::new(Inner {
            remote,
            settings: settings.forwards.clone(),
            family: settings.address_family,
            reporter,
            active: Mutex::default(),
            open: watch::Sender::default(),
            has_agent: AtomicBool::new(false),
        }))
    }

    /// Sets up the forwards of the settings.
    ///
    /// Local ones are there on return; remote ones too under ExitOnForwardFailure, and follow
    /// otherwise, so that a session need not wait for them.
    ///
    /// # Errors
    /// [`NotSetUp`] when one fails under ExitOnForwardFailure.
    pub async fn set_up(&self) -> Result<(), NotSetUp> {
        let ForwardSettings { local, remote, exit_on_failure, .. } = &self.0.settings;
        let mut failed = 0;
        for forward in local {
            failed += usize::from(self.add_local(forward.clone()).await.is_err());
        }
        failed += self.set_up_local_udp().await;
        let wanted = local.len() + self.0.settings.udp_local.len();
        if failed > 0 && (*exit_on_failure || failed == wanted) {
            self.0.reporter.plain_error(&"Could not request local forwarding.");
        }
        if failed > 0 && *exit_on_failure {
            return Err(NotSetUp);
        }
        for forward in remote.iter().cloned() {
            if *exit_on_failure {
                self.set_up_remote(forward).await?;
            } else {
                let this = self.clone();
                tokio::spawn(async move { this.set_up_remote(forward).await });
            }
        }
        self.set_up_remotes_udp().await
    }

    /// Sets up a remote forward of the settings, with ssh's words for every outcome.
    async fn set_up_remote(&self, forward: Forward) -> Result<(), NotSetUp> {
        let Inner { reporter, .. } = &*self.0;
        match self.add_remote(forward.clone()).await {
            Ok(None) => Ok(()),
            Ok(Some(port)) => {
                let to = described(&forward.connect);
                reporter.info(&format_args!("Allocated port {port} for remote forward to {to}"));
                Ok(())
            }
            Err(error) => {
                tracing::info!(%error, "no remote forward");
                let place = match &forward.listen {
                    Listen::Tcp { port, .. } => format!("port {port}"),
                    Listen::Unix(path) => format!("path {path}"),
                };
                let text = format!("remote port forwarding failed for listen {place}");
                self.remote_failed(&text)
            }
        }
    }

    /// Says that a remote forward is not there, and whether that is the end.
    fn remote_failed(&self, text: &str) -> Result<(), NotSetUp> {
        if self.0.settings.exit_on_failure {
            self.0.reporter.plain_error(&format_args!("Error: {text}"));
            return Err(NotSetUp);
        }
        self.0.reporter.info(&format_args!("Warning: {text}"));
        Ok(())
    }

    /// Leads programs on the far host to the agent at `socket`.
    ///
    /// Such connections hold nothing up: they are not counted by [`Forwarder::idle`].
    /// Once is enough: of several agents, the first one is led to.
    pub fn forward_agent(&self, socket: PathBuf) {
        if self.0.has_agent.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut incoming = self.0.remote.forward_agent();
        let task = tokio::spawn(async move {
            while let Some(mut far) = incoming.recv().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    match host::local::connect(&socket).await {
                        Ok(agent) => Socket::Unix(agent).conduct(far).await,
                        Err(error) => {
                            tracing::debug!(%error, "no agent to forward to");
                            far.read.abort();
                        }
                    }
                });
            }
        });
        // Ends with the connection.
        drop(task);
    }

    /// Returns what is open, for people: a number and a description of each connection.
    #[must_use]
    pub fn connections(&self) -> Vec<(u64, String)> {
        self.0.open.borrow().iter().map(|(number, text)| (*number, text.clone())).collect()
    }

    /// Waits until a connection is open.
    pub async fn busy(&self) {
        let mut open = self.0.open.subscribe();
        // Its sender lives as long as we do.
        let _ = open.wait_for(|open| !open.is_empty()).await;
    }

    /// Returns whether a forward is there already. One whose port the far host is to choose never
    /// is.
    #[must_use]
    pub fn has(&self, side: Side, forward: &Forward) -> bool {
        let chooses = matches!(forward.listen, Listen::Tcp { port: 0, .. });
        !chooses && self.0.lock().iter().any(|a| a.side == side && a.forward == *forward)
    }

    /// Ends all listeners; connections go on.
    pub fn stop_listening(&self) {
        for active in self.0.lock().drain(..) {
            active.end();
        }
    }

    /// Waits until no connection is open.
    ///
    /// As ssh does at the end of a session: `ssh -f -L ... sleep 10` lends its tunnel to a
    /// program that may need longer.
    pub async fn idle(&self) {
        let mut open = self.0.open.subscribe();
        // Its sender lives as long as we do.
        let _ = open.wait_for(BTreeMap::is_empty).await;
    }

    /// Listens here and connects there.
    ///
    /// # Errors
    /// [`NotSetUp`]; the reason has been told.
    pub async fn add_local(&self, forward: Forward) -> Result<(), NotSetUp> {
        let listeners = self.listen_here(&forward.listen).await?;
        let connect = Arc::new(forward.connect.clone());
        let serve = |listener: Listener| {
            // Weak: the listener ends with the forwarder, not the other way round.
            let (inner, connect) = (Arc::downgrade(&self.0), Arc::clone(&connect));
            let text = format!("direct-tcpip: listening at {} for {}", forward.listen, connect);
            tokio::spawn(async move {
                loop {
                    let socket = listener.accept().await;
                    let Some(inner) = inner.upgrade() else { return };
                    let connect = Arc::clone(&connect);
                    let open = Open::new(&inner, &text);
                    tokio::spawn(async move {
                        inner.outwards(socket, &connect).await;
                        drop(open);
                    });
                }
            })
            .abort_handle()
        };
        let tasks = listeners.into_iter().map(serve).collect();
        let active = Active { side: Side::Local, datagrams: false, forward, chosen: None, tasks };
        self.0.lock().push(active);
        Ok(())
    }

    async fn listen_here(&self, at: &Listen) -> Result<Vec<Listener>, NotSetUp> {
        let Inner { settings, family, reporter, .. } = &*self.0;
        match at {
            Listen::Tcp { host, port } => {
                let gateway = settings.gateway_ports;
                let bound = near::listen_tcp(host.as_deref(), *port, gateway, *family).await;
                bound.map_err(|(address, error)| {
                    let (ip, words) = (address.ip(), words(&error));
                    reporter.plain_error(&format_args!("bind [{ip}]:{port}: {words}"));
                    reporter.plain_error(&format_args!(
                        "channel_setup_fwd_listener_tcpip: cannot listen to port: {port}"
                    ));
                    NotSetUp
                })
            }
            Listen::Unix(path) => {
                let bound = near::listen_unix(path, settings.socket_mask, settings.socket_unlink);
                bound.map(|listener| vec![listener]).map_err(|error| {
                    let words = words(&error);
                    reporter.plain_error(&format_args!(
                        "unix_listener: cannot bind to path {path}: {words}"
                    ));
                    NotSetUp
                })
            }
        }
    }

    /// Listens there and connects here; returns the port that the far host chose, if it did.
    ///
    /// # Errors
    /// Why the far host does not listen.
    pub async fn add_remote(&self, forward: Forward) -> Result<Option<u16>, RemoteError> {
        let listener = self.0.remote.listen(forward.listen.clone()).await?;
        let port = listener.port;
        let (inner, connect) = (Arc::downgrade(&self.0), Arc::new(forward.connect.clone()));
        let text = format!("forwarded-tcpip: listening at {} for {}", forward.listen, connect);
        let task = tokio::spawn(async move {
            // All of it, or what keeps it alive would be left outside and dropped.
            let mut listener = listener;
            while let Some(stream) = listener.incoming.recv().await {
                let Some(inner) = inner.upgrade() else { return };
                let connect = Arc::clone(&connect);
                let open = Open::new(&inner, &text);
                tokio::spawn(async move {
                    inner.inwards(stream, &connect).await;
                    drop(open);
                });
            }
        });
        let tasks = vec![task.abort_handle()];
        let active = Active { side: Side::Remote, datagrams: false, forward, chosen: port, tasks };
        self.0.lock().push(active);
        Ok(port)
    }

    /// Ends the listener of a forward; its connections go on. Returns whether there was one.
    #[must_use]
    pub fn cancel(&self, side: Side, listen: &Listen) -> bool {
        let mut all = self.0.lock();
        let is_it = |a: &Active| !a.datagrams && a.side == side && a.listens_at(listen);
        let found = all.iter().position(is_it);
        let active = found.map(|at| all.remove(at));
        drop(all);
        active.map(Active::end).is_some()
    }
}

impl Inner {
    /// Leads a connection accepted here to the far host.
    async fn outwards(&self, mut socket: Socket, connect: &Connect) {
        let target = match connect {
            Connect::Tcp { host, port } => Target::Tcp { host: host.clone(), port: *port },
            Connect::Unix(path) => Target::Unix(path.clone()),
            Connect::Socks => return self.proxy(socket).await,
        };
        match self.remote.dial(target).await {
            Ok(far) => socket.conduct(far).await,
            Err(error) => {
                self.report_open(&error);
                // The program sees an end of data, as from ssh, and not a reset.
                let _ = socket.shutdown().await;
            }
        }
    }

    /// Leads a connection accepted here to wherever it asks for.
    async fn proxy(&self, mut socket: Socket) {
        let asked = timeout(SOCKS_TIMEOUT, negotiate(&mut socket)).await;
        let Ok(Ok(Some((target, version, early)))) = asked else {
            tracing::debug!("no sound SOCKS request");
            return;
        };
        let dialled = self.remote.dial(target).await;
        if socket.write_all(&version.outcome(dialled.is_ok())).await.is_err() {
            return;
        }
        match dialled {
            Ok(mut far) => {
                if !early.is_empty() && far.write.write_all(&early).await.is_err() {
                    return;
                }
                socket.conduct(far).await;
            }
            Err(error) => self.report_open(&error),
        }
    }

    fn report_open(&self, error: &RemoteError) {
        if let RemoteError::Refused { reason, .. } = error {
            self.reporter.plain_error(&format_args!("channel open failed: {reason}"));
        } else {
            // That the connection is gone is for its owner to say.
            tracing::debug!(%error, "no connection for a forward");
        }
    }

    /// Leads a connection accepted on the far host to here.
    async fn inwards(&self, mut far: RemoteStream, connect: &Connect) {
        let target = match connect {
            Connect::Tcp { host, port } => Target::Tcp { host: host.clone(), port: *port },
            Connect::Unix(path) => Target::Unix(path.clone()),
            Connect::Socks => return self.proxy_for_far(far).await,
        };
        match Socket::connect(&target).await {
            Ok(socket) => socket.conduct(far).await,
            Err(error) => {
                self.report_connect(&target, &error);
                far.read.abort();
            }
        }
    }

    /// Leads a connection accepted on the far host to wherever it asks for, if that is permitted.
    async fn proxy_for_far(&self, mut far: RemoteStream) {
        let mut both = tokio::io::join(&mut far.read, &mut far.write);
        let asked = timeout(SOCKS_TIMEOUT, negotiate(&mut both)).await;
        let Ok(Ok(Some((target, version, early)))) = asked else { return };
        let connected = match &target {
            target if !self.permits(target) => {
                let shown = shown(target);
                tracing::warn!(target = shown, "not permitted by PermitRemoteOpen");
                None
            }
            target => match Socket::connect(target).await {
                Ok(socket) => Some(socket),
                Err(error) => {
                    self.report_connect(target, &error);
                    None
                }
            },
        };
        let told = far.write.write_all(&version.outcome(connected.is_some())).await;
        if let (Ok(()), Some(mut socket)) = (told, connected)
            && socket.write_all(&early).await.is_ok()
        {
            socket.conduct(far).await;
        }
    }

    /// Judges a destination by PermitRemoteOpen.
    fn permits(&self, target: &Target) -> bool {
        let Some(list) = &self.settings.permit_remote_open else { return true };
        let Target::Tcp { host, port } = target else { return false };
        list.iter().filter_map(|rule| rule.rsplit_once(':')).any(|(rule_host, rule_port)| {
            let rule_host = rule_host.trim_start_matches('[').trim_end_matches(']');
            (rule_host == "*" || rule_host == host)
                && (rule_port == "*" || rule_port.parse() == Ok(*port))
        })
    }

    fn report_connect(&self, target: &Target, error: &io::Error) {
        let (shown, words) = (shown(target), words(error));
        self.reporter.plain_error(&format_args!("connect_to {shown}: {words}"));
    }
}

/// Asks by SOCKS where a program wants to go; `None` when it gives up or is refused.
async fn negotiate(
    program: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Option<(Target, Version, Vec<u8>)>> {
    let mut socks = Socks::default();
    let mut arrived = Vec::new();
    loop {
        match socks.advance(&arrived) {
            Step::More => {
                if program.read_buf(&mut arrived).await? == 0 {
                    return Ok(None);
                }
            }
            Step::Answer(answer, used) => {
                arrived.drain(..used.min(arrived.len()));
                program.write_all(&answer).await?;
                program.flush().await?;
            }
            Step::Connect(target, version, used) => {
                arrived.drain(..used.min(arrived.len()));
                return Ok(Some((target, version, arrived)));
            }
            Step::Refuse(answer) => {
                program.write_all(&answer).await?;
                program.shutdown().await?;
                return Ok(None);
            }
        }
    }
}

/// Where a forward leads, as ssh says it when a port was allocated.
fn described(connect: &Connect) -> String {
    match connect {
        Connect::Tcp { host, port } => format!("{host}:{port}"),
        Connect::Unix(path) => path.clone(),
        Connect::Socks => "socks:0".to_owned(),
    }
}

fn shown(target: &Target) -> String {
    match target {
        Target::Tcp { host, port } => printable(&format!("{host} port {port}")),
        Target::Unix(path) => printable(path),
    }
}

/// The system's words for an error, without Rust's "(os error N)".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
