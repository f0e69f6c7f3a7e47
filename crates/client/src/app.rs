//! The program from the resolved settings to the exit status.
//!
//! Log in; if UDP is wanted start tsshd and move over; run the session; leave.

use std::env::VarError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::time::timeout;

use crate::background::Release;
use crate::bootstrap::{self, StartError, Started};
use crate::config::forward::Connect;
use crate::config::{
    ForwardAgent, IdentityAgent, LogLevel, NoticeSettings, RequestTty, SessionType, Settings,
    UdpMode,
};
use crate::forward::{self, Forwarder, NotSetUp};
use crate::guard::{self, Farewell, Guard};
use crate::link::{Link, LinkError};
use crate::login::{self, Login, LoginError};
use crate::remote::system::{self, System};
use crate::remote::{Program, PtyRequest, Remote, RemoteError, SessionEnd, SessionRequest, Target};
use crate::report::{FAILURE, Reporter};
use crate::session::{self, Options, Outcome, Signals};
use crate::sys::tty;
use crate::terminal::prompt::TtyUi;

/// `TERM` of the pty that tsshd is started in, where the local one has none (PROTOCOL §1.1).
const BOOTSTRAP_TERM: &str = "xterm-256color";

/// How long to wait for the reason of a connection's end, once its streams have ended.
const REASON_GRACE: Duration = Duration::from_secs(1);

/// Logs in, runs what was asked for, and returns the exit status.
///
/// `system` logs in instead of us; `release` is what lets go of the shell when the login is
/// complete (`-f`).
pub async fn run(
    settings: Settings,
    command: Vec<u8>,
    system: Option<ViaSystem>,
    release: Option<Release>,
) -> u8 {
    let reporter = Reporter::new(settings.log_level);
    for warning in &settings.warnings {
        reporter.warning(warning);
    }
    let run = Run { settings, reporter, system, release: Mutex::new(release) };
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
    reporter: Reporter,
    system: Option<ViaSystem>,
    release: Mutex<Option<Release>>,
}

/// The far host, and how a guard ends what we leave there.
type Connected = (Arc<dyn Remote>, Option<Farewell>);

/// Why nothing could be run.
enum Failure {
    Login(LoginError),
    Start(StartError),
    Link(LinkError),
    Remote {
        error: RemoteError,
        linked: bool,
    },
    Usage(&'static str),
    /// Another program did the work, and ended so.
    Replaced(u8),
}

impl Failure {
    fn report(&self, reporter: Reporter) {
        match self {
            // In ssh's own words, which are complete.
            Self::Login(error) => reporter.plain_error(error),
            // The refusals of a login come in ssh's own words, too.
            Self::Remote { error: RemoteError::Refused { reason, .. }, linked: false } => {
                reporter.plain_error(reason);
            }
            Self::Remote { error, .. } => reporter.error(error, None),
            Self::Usage(text) => reporter.plain_error(text),
            Self::Replaced(_) => {}
            Self::Start(error) => reporter.error(error, Some(start_hint(error))),
            Self::Link(error) => reporter.error(error, link_hint(error).as_deref()),
        }
    }
}

/// The next step after the server program did not come up.
fn start_hint(error: &StartError) -> &'static str {
    match error {
        StartError::Missing { .. } => {
            "Install tsshd there, name it with --tsshd-path, or use plain ssh with --tcp."
        }
        _ => "Use plain ssh with --tcp, or see what the server program says with --debug.",
    }
}

/// The next step after the link did not come up.
fn link_hint(error: &LinkError) -> Option<String> {
    match error {
        LinkError::Silent { carrier, port, .. } => Some(format!(
            "A firewall may block {carrier} port {port}: open it, choose other ports with \
             --tsshd-port{}, or use plain ssh with --tcp.",
            if *carrier == "UDP" { ", use TCP with -o UdpProxyMode=TCP" } else { "" },
        )),
        LinkError::NoKeys(_) | LinkError::Info(_) => {
            Some("Install the same version of tssh and tsshd on both hosts.".into())
        }
        _ => None,
    }
}

impl Run {
    async fn whole(&self, command: Vec<u8>) -> Result<u8, Failure> {
        let request = self.request(command)?;
        let raw =
            request.as_ref().is_some_and(|request| request.pty.is_some()) && tty::stdin_is_tty();
        let asks = !self.settings.batch_mode && tty::has_controlling();
        let guarded = raw || asks || self.settings.udp.mode != UdpMode::No;
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
        let remote = self.connect_guarded(guard).await?;
        let forwarder = self.forwarder(&remote);
        let status = match forwarder.set_up().await {
            Ok(()) if !self.let_go() => Ok(FAILURE),
            Ok(()) => self.session(remote.as_ref(), request, &forwarder).await,
            Err(NotSetUp) => Ok(FAILURE),
        };
        drop(forwarder);
        remote.close().await;
        status
    }

    /// Goes to the background, if that is wanted; `false` if whoever waited for us is gone.
    fn let_go(&self) -> bool {
        let release = self.release.lock().unwrap_or_else(PoisonError::into_inner).take();
        release.is_none_or(|release| release.release().is_ok())
    }

    /// Connects, and has the guard look after what that leaves on the far host.
    async fn connect_guarded(&self, guard: Option<&mut Guard>) -> Result<Arc<dyn Remote>, Failure> {
        let (remote, farewell) = self.connect().await?;
        if let Some(guard) = guard {
            guard::wait_ready();
            if self.settings.background {
                guard.leave_terminal();
            }
            if let Some(farewell) = farewell {
                guard.entrust(&farewell);
            }
        }
        Ok(remote)
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
            term: self.term().unwrap_or_default(),
            size: tty::size(),
            modes: tty::modes(),
        });
        for name in &settings.send_env {
            if matches!(std::env::var(name), Err(VarError::NotUnicode(_))) {
                self.reporter.warning(&format_args!("{name} is not UTF-8 and is not sent"));
            }
        }
        Ok(Some(SessionRequest { program, pty, env: self.env() }))
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

    fn term(&self) -> Option<String> {
        let set = self.settings.set_env.iter().find(|(name, _)| name == "TERM");
        set.map(|(_, value)| value.clone()).or_else(|| std::env::var("TERM").ok())
    }

    /// Returns the variables to send, SetEnv's after (and above) SendEnv's.
    fn env(&self) -> Vec<(String, String)> {
        let sent = self.settings.send_env.iter();
        sent.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
            .chain(self.settings.set_env.iter().cloned())
            .collect()
    }

    /// Starts the server by another program's login.
    async fn connect_by(&self, system: &ViaSystem) -> Result<Connected, Failure> {
        let term = self.term().unwrap_or_else(|| BOOTSTRAP_TERM.into());
        let settings = &self.settings;
        let started =
            match bootstrap::start_server(&system.login, settings, &term, self.env()).await {
                Ok(started) => started,
                Err(error) if settings.udp.explicit => return Err(Failure::Start(error)),
                Err(error) => {
                    if tty::stderr_is_tty() {
                        self.reporter.warning(&format_args!("{error}; going on over plain ssh"));
                    }
                    let status = system.whole.run().await.ok().and_then(|status| status.code());
                    let status = status.and_then(|status| u8::try_from(status).ok());
                    return Err(Failure::Replaced(status.unwrap_or(FAILURE)));
                }
            };
        let host = settings.host_name.as_str();
        let family = settings.address_family;
        let peer = system::address_of(host, |address| family.allows(address)).await;
        let peer = peer.map_err(|reason| {
            Failure::Login(LoginError::Resolve { host: host.to_owned(), reason })
        })?;
        self.link(peer, started, std::future::ready(())).await
    }

    async fn connect(&self) -> Result<Connected, Failure> {
        if let Some(system) = &self.system {
            return self.connect_by(system).await;
        }
        let ui = TtyUi::new(self.settings.log_level, self.settings.askpass.clone());
        let login = login::connect(&self.settings, &ui).await.map_err(Failure::Login)?;
        if self.settings.udp.mode == UdpMode::No {
            return Ok((Arc::new(login), None));
        }
        let term = self.term().unwrap_or_else(|| BOOTSTRAP_TERM.into());
        match bootstrap::start_server(&login, &self.settings, &term, self.env()).await {
            Ok(started) => self.move_over(login, started).await,
            Err(error) if !self.settings.udp.explicit && error.leaves_login_usable() => {
                // `Host *` with `UdpMode yes` must not break what ssh can do (DESIGN D8).
                if tty::stderr_is_tty() {
                    self.reporter.warning(&format_args!("{error}; going on over plain ssh"));
                }
                Ok((Arc::new(login), None))
            }
            Err(error) => Err(Failure::Start(error)),
        }
    }

    async fn move_over(&self, login: Login, started: Started) -> Result<Connected, Failure> {
        let Some(peer) = login.peer_addr() else {
            return Err(Failure::Link(LinkError::Malformed("address of the login")));
        };
        self.link(peer, started, async move { login.close().await }).await
    }

    /// Moves to the server that was started; `farewell` ends the login.
    async fn link(
        &self,
        peer: SocketAddr,
        started: Started,
        farewell: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Connected, Failure> {
        let Started { info, session } = started;
        let link = Link::connect(info, peer, &self.settings.udp).await;
        // The login has served its purpose either way; its farewell costs the session nothing.
        tokio::spawn(async move {
            drop(session);
            farewell.await;
        });
        let link = link.map_err(Failure::Link)?;
        let (source, reporter) = (link.clone(), self.reporter);
        tokio::spawn(async move {
            while let Some(warning) = source.next_warning().await {
                reporter.warning(&format_args!("server: {warning}"));
            }
        });
        let farewell = link.farewell().cloned();
        Ok((Arc::new(link), farewell))
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
        let can_address_rows = self.term().is_some_and(|term| !matches!(&*term, "" | "dumb"));
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
        let remote = tokio::select! {
            remote = self.connect_guarded(guard) => remote?,
            kind = signals.leave() => return Ok(status_of_leaving(kind)),
        };
        let forwarder = self.forwarder(&remote);
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
        remote.close().await;
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

/// Returns the status of a run without a session that a signal ended: what service managers
/// send is its orderly end, for ssh as well.
fn status_of_leaving(kind: SignalKind) -> u8 {
    if kind == SignalKind::terminate() { 0 } else { FAILURE }
}

/// Exit statuses have eight bits.
fn low_byte(status: u32) -> u8 {
    status.to_le_bytes()[0]
}
