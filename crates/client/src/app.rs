//! The program from the resolved settings to the exit status.
//!
//! Log in; if UDP is wanted start tsshd and move over; run the session; leave.

mod connect;
mod failure;

use std::env::VarError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::time::timeout;

use crate::background::Release;
use crate::config::forward::Connect;
use crate::config::{
    ForwardAgent, IdentityAgent, LogLevel, NoticeSettings, RequestTty, SessionType, Settings,
    UdpMode,
};
use crate::forward::{self, Forwarder, NotSetUp};
use crate::guard::{self, Guard};
use crate::remote::system::System;
use crate::remote::{Program, PtyRequest, Remote, RemoteError, SessionEnd, SessionRequest, Target};
use crate::report::{FAILURE, Reporter};
use crate::session::{self, Options, Outcome, Signals};
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
/// complete (`-f`).
pub async fn run(
    settings: Settings,
    hops: Vec<Settings>,
    command: Vec<u8>,
    system: Option<ViaSystem>,
    release: Option<Release>,
) -> u8 {
    let reporter = Reporter::new(settings.log_level);
    for warning in settings.warnings.iter().chain(hops.iter().flat_map(|hop| &hop.warnings)) {
        reporter.warning(warning);
    }
    let run = Run { settings, hops, reporter, system, release: Mutex::new(release) };
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
}

struct Run {
    settings: Settings,
    /// The jump hosts, the nearest first.
    hops: Vec<Settings>,
    reporter: Reporter,
    system: Option<ViaSystem>,
    release: Mutex<Option<Release>>,
}

impl Run {
    async fn whole(&self, command: Vec<u8>) -> Result<u8, Failure> {
        let request = self.request(command)?;
        let raw =
            request.as_ref().is_some_and(|request| request.pty.is_some()) && tty::stdin_is_tty();
        let asks = !self.settings.batch_mode && tty::has_controlling();
        let mut hosts = self.hops.iter().chain([&self.settings]);
        let guarded = raw || asks || hosts.any(|host| host.udp.mode != UdpMode::No);
        // One can do without a guard: its absence shows only if we are killed.
        let mut guard = guarded.then(|| Guard::start().ok()).flatten();
        let status = self.guarded(request, guard.as_mut()).await;
        if let Some(guard) = guard {
            guard.dismiss();
        }
        status
    }

    async fn guarded(
        &self,
        request: Option<SessionRequest>,
        guard: Option<&mut Guard>,
    ) -> Result<u8, Failure> {
        let Some(request) = request else { return self.hold(guard).await };
        let connected = self.connect_guarded(guard).await?;
        let remote = &connected.remote;
        let forwarder = self.forwarder(remote);
        forwarder.forward_x11().await;
        let status = match forwarder.set_up().await {
            Ok(()) if !self.let_go() => Ok(FAILURE),
            Ok(()) => self.session(remote.as_ref(), request, &forwarder).await,
            Err(NotSetUp) => Ok(FAILURE),
        };
        drop(forwarder);
        connected.close().await;
        status
    }

    /// Goes to the background, if that is wanted; `false` if whoever waited for us is gone.
    fn let_go(&self) -> bool {
        let release = self.release.lock().unwrap_or_else(PoisonError::into_inner).take();
        release.is_none_or(|release| release.release().is_ok())
    }

    /// Connects, and has the guard look after what that leaves on the far host.
    async fn connect_guarded(&self, guard: Option<&mut Guard>) -> Result<Connected, Failure> {
        let mut connected = self.connect().await?;
        if let Some(guard) = guard {
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

    /// Returns what to run, by ssh's rules; `None` for `-N`.
    fn request(&self, command: Vec<u8>) -> Result<Option<SessionRequest>, Failure> {
        let settings = &self.settings;
        let command = match (&settings.remote_command, command.is_empty()) {
            (Some(_), false) => {
                return Err(Failure::Usage("Cannot execute command-line and remote command."));
            }
            (Some(configured), true) => configured.clone().into_bytes(),
            (None, _) => command,
        };
        let program = match settings.session_type {
            SessionType::None => return Ok(None),
            SessionType::Subsystem => {
                Program::Subsystem(String::from_utf8_lossy(&command).into_owned())
            }
            SessionType::Default if command.is_empty() => Program::Shell,
            SessionType::Default => Program::Exec(command),
        };
        let pty = self.wants_pty(&program).then(|| PtyRequest {
            term: term(settings).unwrap_or_default(),
            size: tty::size(),
            modes: tty::modes(),
        });
        for name in &settings.send_env {
            if matches!(std::env::var(name), Err(VarError::NotUnicode(_))) {
                self.reporter.warning(&format_args!("{name} is not UTF-8 and is not sent"));
            }
        }
        Ok(Some(SessionRequest { program, pty, env: env(settings) }))
    }

    /// Decides about the pty as ssh does.
    fn wants_pty(&self, program: &Program) -> bool {
        let wanted = match self.settings.request_tty {
            RequestTty::No => false,
            RequestTty::Force => return true,
            RequestTty::Yes => true,
            RequestTty::Auto => *program == Program::Shell,
        };
        if wanted && (self.settings.stdin_null || !tty::stdin_is_tty()) {
            self.reporter
                .remark(&"Pseudo-terminal will not be allocated because stdin is not a terminal.");
            return false;
        }
        wanted
    }

    async fn session(
        &self,
        remote: &dyn Remote,
        request: SessionRequest,
        forwarder: &Forwarder,
    ) -> Result<u8, Failure> {
        let interactive = request.pty.is_some();
        let options = Options {
            escape: self.settings.escape_char,
            stdin_null: self.settings.stdin_null,
            notice: self.notice(),
            host: &self.settings.host_name,
            tell: &|text| self.reporter.info(&text),
        };
        let outcome = session::run(remote, request, options)
            .await
            .map_err(|error| Failure::Remote { error, linked: remote.roams() })?;
        if matches!(outcome, Outcome::Ended(SessionEnd::Exited(_) | SessionEnd::Signaled(_))) {
            self.let_forwards_end(forwarder, remote).await;
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

    /// Waits, after the session, for connections that are still open, as ssh does.
    async fn let_forwards_end(&self, forwarder: &Forwarder, remote: &dyn Remote) {
        // Without signals there is nobody to interrupt the wait.
        let Ok(mut signals) = Signals::new() else { return };
        tokio::select! {
            () = forwarder.idle() => {}
            _ = remote.closed() => {}
            _ = signals.leave() => {}
        }
    }

    /// Returns how to tell that the link is away, where the terminal can be told anything.
    fn notice(&self) -> Option<(NoticeSettings, Duration)> {
        let can_address_rows =
            term(&self.settings).is_some_and(|term| !matches!(&*term, "" | "dumb"));
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
    async fn hold(&self, guard: Option<&mut Guard>) -> Result<u8, Failure> {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                self.reporter.error(&error, None);
                return Ok(FAILURE);
            }
        };
        let connected = tokio::select! {
            connected = self.connect_guarded(guard) => connected?,
            kind = signals.leave() => return Ok(status_of_leaving(kind)),
        };
        let remote = &connected.remote;
        let forwarder = self.forwarder(remote);
        let held = async {
            forwarder.set_up().await?;
            if !self.let_go() {
                return Err(NotSetUp);
            }
            let Some(target) = self.stdio_target() else { return std::future::pending().await };
            Ok(forward::stdio(remote.as_ref(), target, self.settings.stdin_null).await)
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
        drop(forwarder);
        connected.close().await;
        Ok(status)
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
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        match &self.settings.forwards.agent {
            ForwardAgent::No => None,
            ForwardAgent::Path(path) => Some(path.clone()),
            ForwardAgent::Variable(name) => variable(name),
            ForwardAgent::Yes => match &self.settings.identity_agent {
                IdentityAgent::None => None,
                IdentityAgent::Path(path) => Some(path.clone()),
                IdentityAgent::Environment => variable("SSH_AUTH_SOCK"),
            },
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

/// Returns the value of `TERM` for the far side.
fn term(settings: &Settings) -> Option<String> {
    let set = settings.set_env.iter().find(|(name, _)| name == "TERM");
    set.map(|(_, value)| value.clone()).or_else(|| std::env::var("TERM").ok())
}

/// Returns the variables to send, SetEnv's after (and above) SendEnv's.
fn env(settings: &Settings) -> Vec<(String, String)> {
    let sent = settings.send_env.iter();
    sent.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
        .chain(settings.set_env.iter().cloned())
        .collect()
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
