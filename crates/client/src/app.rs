//! The program from the resolved settings to the exit status.
//!
//! Log in; if UDP is wanted start tsshd and move over; run the session; leave.

mod connect;
mod failure;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::background::{self, Release};
use crate::config::forward::Connect;
use crate::config::{
    ControlPersist, ForwardAgent, IdentityAgent, LogLevel, NoticeSettings, Settings, UdpMode,
};
use crate::forward::{self, Forwarder, NotSetUp};
use crate::guard::{self, Guard};
use crate::local_command;
use crate::mux::master::Sharing;
use crate::mux::socket::ListenError;
use crate::remote::system::System;
use crate::remote::{Remote, RemoteError, SessionEnd, SessionRequest, Target};
use crate::report::{FAILURE, Reporter};
use crate::request;
use crate::session::{self, Options, Outcome, Signals, Streams};
use crate::sys::signals::SignalKind;
use crate::sys::tty;
use connect::Connected;
use failure::Failure;

/// `TERM` of the pty that tsshd is started in, where the local one has none (PROTOCOL §1.1).
const BOOTSTRAP_TERM: &str = "xterm-256color";

/// How long to wait for the reason of a connection's end, once its streams have ended.
const REASON_GRACE: Duration = Duration::from_secs(1);

/// Logs in, runs what was asked for, and returns the exit status.
///
/// `hops` are the jump hosts on the way, the nearest first; `system` logs in instead of us; `release` is what lets go of the shell when the login is
/// complete (`-f`). With `lender` the session is that of the process it lets go of: this one only
/// lends its connection.
pub async fn run(
    mut settings: Settings,
    mut hops: Vec<Settings>,
    command: Vec<u8>,
    system: Option<ViaSystem>,
    release: Option<Release>,
    lender: Option<Release>,
) -> u8 {
    let reporter = Reporter::new();
    for warning in settings.warnings.iter().chain(hops.iter().flat_map(|hop| &hop.warnings)) {
        reporter.warning(warning);
    }
    let is_interactive = request::is_interactive(&settings);
    for host in hops.iter_mut().chain([&mut settings]).filter(|host| host.marks.is_set) {
        host.udp.traffic_class = Some(host.marks.of(is_interactive).unwrap_or(0));
    }
    let run = Run {
        settings,
        hops,
        reporter,
        system,
        release: Mutex::new(release),
        lender: Mutex::new(lender),
        guard: Mutex::default(),
    };
    match run.whole(command).await {
        Ok(status) => status,
        Err(Failure::Replaced(status)) => status,
        Err(failure) => {
            failure.report(reporter);
            FAILURE
        }
    }
}

/// The system's ssh, for a login by it.
#[derive(Clone, Debug)]
pub struct ViaSystem {
    /// In our place.
    pub whole: System,
    /// Only to start the server.
    pub login: System,
    /// How it leads to the host behind a jump host, as ProxyCommand would be written.
    pub jump: Option<String>,
}

struct Run {
    settings: Settings,
    /// The jump hosts, the nearest first.
    hops: Vec<Settings>,
    reporter: Reporter,
    system: Option<ViaSystem>,
    release: Mutex<Option<Release>>,
    lender: Mutex<Option<Release>>,
    guard: Mutex<Option<Guard>>,
}

impl Run {
    async fn whole(&self, command: Vec<u8>) -> Result<u8, Failure> {
        let request = request::session(&self.settings, self.reporter, command, true);
        let request = request.map_err(Failure::Usage)?;
        let raw =
            request.as_ref().is_some_and(|request| request.pty.is_some()) && tty::stdin_is_tty();
        let asks = !self.settings.batch_mode && tty::has_controlling();
        let mut hosts = self.hops.iter().chain([&self.settings]);
        let guarded = raw || asks || hosts.any(|host| host.udp.mode != UdpMode::No);
        // One can do without a guard: its absence shows only if we are killed.
        *self.guard() = guarded.then(|| Guard::start().ok()).flatten();
        let status = self.guarded(request).await;
        if let Some(guard) = self.guard().take() {
            guard.dismiss();
        }
        status
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn guarded(&self, request: Option<SessionRequest>) -> Result<u8, Failure> {
        let Some(request) = request else { return self.hold().await };
        let connected = self.connect_guarded().await?;
        let remote = &connected.remote;
        let forwarder = self.forwarder(remote);
        forwarder.forward_x11().await;
        let status = match forwarder.set_up().await {
            Ok(()) if !self.ready().await => Ok(FAILURE),
            Ok(()) => self.with_guests(remote, request, &forwarder).await,
            Err(NotSetUp) => Ok(FAILURE),
        };
        drop(forwarder);
        connected.close().await;
        status
    }

    /// Does what comes between the login and the session; `false` if whoever waited is gone.
    async fn ready(&self) -> bool {
        if let Some(command) = &self.settings.local_command
            && let Err(error) = local_command::run(command).await
        {
            self.reporter.error(&format_args!("LocalCommand cannot be run: {error}"), None);
        }
        self.let_go()
    }

    /// Goes to the background, if that is wanted; `false` if whoever waited for us is gone.
    fn let_go(&self) -> bool {
        let release = self.release.lock().unwrap_or_else(PoisonError::into_inner).take();
        release.is_none_or(|release| release.release().is_ok())
    }

    /// Runs the session, or none if we only lend the connection, with others on it if they may.
    async fn with_guests(
        &self,
        remote: &Arc<dyn Remote>,
        request: SessionRequest,
        forwarder: &Forwarder,
    ) -> Result<u8, Failure> {
        let Ok(sharing) = self.share(remote, forwarder) else { return Ok(FAILURE) };
        let lender = self.lender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(lender), Some(sharing)) = (lender, &sharing) {
            return Ok(self.lend(lender, remote.as_ref(), sharing).await);
        }
        self.session(remote.as_ref(), request, forwarder, sharing.as_ref()).await
    }

    /// Starts to lend the connection, if that is wanted and nobody else does at the same place.
    fn share(
        &self,
        remote: &Arc<dyn Remote>,
        forwarder: &Forwarder,
    ) -> Result<Option<Sharing>, NotSetUp> {
        let settings = &self.settings;
        let Some(path) = settings.control.path.as_deref() else { return Ok(None) };
        if !settings.control.master.lends() {
            return Ok(None);
        }
        let agent = self.agent_socket();
        match Sharing::start(path, remote.clone(), forwarder.clone(), settings, agent) {
            Ok(sharing) => Ok(Some(sharing)),
            Err(error @ ListenError::Taken(_)) => {
                self.reporter.plain_error(&error);
                Ok(None)
            }
            Err(error) => {
                self.reporter.plain_error(&error);
                Err(NotSetUp)
            }
        }
    }

    /// Lends the connection until nobody has used it for long enough, or somebody says so.
    async fn lend(&self, lender: Release, remote: &dyn Remote, sharing: &Sharing) -> u8 {
        let Ok(mut signals) = Signals::new() else { return FAILURE };
        if let Some(guard) = &mut *self.guard() {
            guard.leave_terminal();
        }
        let debugging = self.settings.log_level >= LogLevel::Debug1;
        if lender.release_silent(debugging).is_err() {
            return FAILURE;
        }
        let patience = match self.settings.control.persist {
            ControlPersist::For(time) => Some(time),
            ControlPersist::Forever | ControlPersist::No => None,
        };
        tokio::select! {
            () = sharing.unused_for(patience) => 0,
            () = sharing.quit() => 0,
            reason = remote.closed() => {
                self.reporter.error(&reason, None);
                FAILURE
            }
            kind = signals.leave() => status_of_leaving(kind),
        }
    }

    /// Connects, and has the guard look after what that leaves on the far host.
    async fn connect_guarded(&self) -> Result<Connected, Failure> {
        let mut connected = self.connect().await?;
        if let Some(guard) = &mut *self.guard() {
            guard::wait_ready();
            if self.settings.background {
                guard.leave_terminal();
            }
            if let Some(farewell) = connected.farewell.take() {
                guard.entrust(&farewell);
            }
        }
        Ok(connected)
    }

    async fn session(
        &self,
        remote: &dyn Remote,
        request: SessionRequest,
        forwarder: &Forwarder,
        sharing: Option<&Sharing>,
    ) -> Result<u8, Failure> {
        let interactive = request.pty.is_some();
        let options = Options {
            escape: self.settings.escape_char,
            stdin_null: self.settings.stdin_null,
            notice: self.notice(),
            host: &self.settings.host_name,
            tell: &|text| self.reporter.info(&text),
            streams: Streams::Own,
            forwarder,
            command_line: self.settings.escape_command_line,
            local_commands: self.settings.permit_local_command,
            background: &|| {
                if let Some(guard) = &mut *self.guard() {
                    guard.leave_terminal();
                }
                Box::pin(background::leave_terminal())
            },
        };
        let outcome = tokio::select! {
            outcome = session::run(remote, request, options) => outcome,
            () = quit(sharing) => Ok(Outcome::Left),
        };
        let outcome = outcome.map_err(|error| Failure::Remote { error, linked: remote.roams() })?;
        if matches!(outcome, Outcome::Ended(SessionEnd::Exited(_) | SessionEnd::Signaled(_))) {
            self.let_others_end(forwarder, remote, sharing).await;
        }
        let status = match outcome {
            Outcome::Ended(SessionEnd::Exited(status)) => low_byte(status),
            Outcome::Killed(kind) => {
                // As ssh, without a word about the connection.
                tracing::info!(signal = kind.as_raw_value(), "killed by a signal");
                return Ok(FAILURE);
            }
            Outcome::Ended(SessionEnd::Signaled(signal)) => {
                tracing::info!(signal, "the program was killed by a signal");
                FAILURE
            }
            Outcome::Left | Outcome::OutputClosed => FAILURE,
            Outcome::Ended(SessionEnd::Unknown) => {
                self.report_loss(remote).await;
                FAILURE
            }
            Outcome::Failed(error) => {
                self.reporter.error(&error, None);
                FAILURE
            }
        };
        if interactive {
            let host = &self.settings.host_name;
            self.reporter.info(&format_args!("Connection to {host} closed."));
        }
        Ok(status)
    }

    /// Waits, after the session, for connections and sessions of others that are still open, as
    /// ssh does.
    async fn let_others_end(
        &self,
        forwarder: &Forwarder,
        remote: &dyn Remote,
        sharing: Option<&Sharing>,
    ) {
        // Without signals there is nobody to interrupt the wait.
        let Ok(mut signals) = Signals::new() else { return };
        let idle = async {
            match sharing {
                Some(sharing) => sharing.unused_for(Some(Duration::ZERO)).await,
                None => forwarder.idle().await,
            }
        };
        tokio::select! {
            () = idle => {}
            () = quit(sharing) => {}
            _ = remote.closed() => {}
            _ = signals.leave() => {}
        }
    }

    /// Returns how to tell that the link is away, where the terminal can be told anything.
    fn notice(&self) -> Option<(NoticeSettings, Duration)> {
        let can_address_rows =
            request::term(&self.settings).is_some_and(|term| !matches!(&*term, "" | "dumb"));
        // Diagnostics come at any time, and nobody knows what is below them.
        let is_quiet = self.settings.log_level < LogLevel::Debug1 || !tty::stderr_is_tty();
        let udp = &self.settings.udp;
        (can_address_rows && is_quiet).then_some((udp.notice, udp.reconnect_timeout))
    }

    /// Says why the connection is gone, if it is.
    async fn report_loss(&self, remote: &dyn Remote) {
        if let Ok(reason) = timeout(REASON_GRACE, remote.closed()).await {
            let host = &self.settings.host_name;
            self.reporter.error(&format_args!("connection to {host} lost: {reason}"), None);
        }
    }

    /// Keeps a connection open without a session (`-N`) until it ends or we are told to leave.
    async fn hold(&self) -> Result<u8, Failure> {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                self.reporter.error(&error, None);
                return Ok(FAILURE);
            }
        };
        let connected = tokio::select! {
            connected = self.connect_guarded() => connected?,
            kind = signals.leave() => return Ok(status_of_leaving(kind)),
        };
        let remote = &connected.remote;
        let forwarder = self.forwarder(remote);
        let shared: OnceLock<Sharing> = OnceLock::new();
        let held = async {
            forwarder.set_up().await?;
            if !self.ready().await {
                return Err(NotSetUp);
            }
            if let Some(sharing) = self.share(remote, &forwarder)? {
                let lender = self.lender.lock().unwrap_or_else(PoisonError::into_inner).take();
                let sharing = shared.get_or_init(|| sharing);
                if let Some(lender) = lender {
                    self.lend(lender, remote.as_ref(), sharing).await;
                    return Ok(Ok(()));
                }
                tokio::select! {
                    held = self.hold_streams(remote.as_ref()) => return Ok(held),
                    () = sharing.quit() => return Err(NotSetUp),
                }
            }
            Ok(self.hold_streams(remote.as_ref()).await)
        };
        let status = tokio::select! {
            held = held => self.status_of_holding(&held),
            reason = remote.closed() => {
                let host = &self.settings.host_name;
                self.reporter.error(&format_args!("connection to {host} lost: {reason}"), None);
                FAILURE
            }
            kind = signals.leave() => status_of_leaving(kind),
        };
        drop((shared, forwarder));
        connected.close().await;
        Ok(status)
    }

    /// Leads the standard streams to where `-W` says, or waits for ever.
    async fn hold_streams(&self, remote: &dyn Remote) -> Result<(), RemoteError> {
        let Some(target) = self.stdio_target() else { return std::future::pending().await };
        forward::stdio(remote, target, self.settings.stdin_null).await
    }

    /// Returns what forwards over `remote`; sessions opened later reach the agent if they may.
    fn forwarder(&self, remote: &Arc<dyn Remote>) -> Forwarder {
        let forwarder = Forwarder::new(remote.clone(), &self.settings, self.reporter);
        if let Some(socket) = self.agent_socket() {
            forwarder.forward_agent(socket);
        }
        forwarder
    }

    /// Returns the socket of the agent to forward, if there is one.
    fn agent_socket(&self) -> Option<PathBuf> {
        match &self.settings.forwards.agent {
            ForwardAgent::No => None,
            ForwardAgent::Path(path) => Some(path.clone()),
            ForwardAgent::Variable(name) => std::env::var_os(name).map(PathBuf::from),
            ForwardAgent::Yes => self.own_agent(),
        }
    }

    /// Returns the socket of the agent that logs in.
    fn own_agent(&self) -> Option<PathBuf> {
        match &self.settings.identity_agent {
            IdentityAgent::None => None,
            IdentityAgent::Path(path) => Some(path.clone()),
            IdentityAgent::Environment => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        }
    }

    /// Returns where standard input and output are to lead (`-W`).
    fn stdio_target(&self) -> Option<Target> {
        match self.settings.forwards.stdio.clone()? {
            Connect::Tcp { host, port } => Some(Target::Tcp { host, port }),
            Connect::Unix(path) => Some(Target::Unix(path)),
            Connect::Socks => None,
        }
    }

    fn status_of_holding(&self, held: &Result<Result<(), RemoteError>, NotSetUp>) -> u8 {
        match held {
            Ok(Ok(())) => 0,
            Ok(Err(RemoteError::Refused { reason, .. })) => {
                self.reporter.plain_error(&format_args!("channel open failed: {reason}"));
                self.reporter.plain_error(&"stdio forwarding failed");
                FAILURE
            }
            Ok(Err(error)) => {
                self.reporter.error(error, None);
                FAILURE
            }
            Err(NotSetUp) => FAILURE,
        }
    }
}

/// Waits until somebody tells us, at the control socket, to end.
async fn quit(sharing: Option<&Sharing>) {
    match sharing {
        Some(sharing) => sharing.quit().await,
        None => std::future::pending().await,
    }
}

/// Returns the status of a run without a session that a signal ended: what service managers
/// send is its orderly end, for ssh as well.
fn status_of_leaving(kind: SignalKind) -> u8 {
    if kind == SignalKind::terminate() { 0 } else { FAILURE }
}

/// Exit statuses have eight bits.
fn low_byte(status: u32) -> u8 {
    status.to_le_bytes()[0]
}
