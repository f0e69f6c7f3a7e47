//! Using the connection of another process: sessions on it, and `-O`.
//!
//! Whatever the other process does, a client that has not got its session yet gives up on it
//! within [`PATIENCE`] and goes its own way; later it ends with it.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use host::local::Stream;
use tokio::time::timeout;

use super::channel::Channel;
use super::message::{NewSession, Reply, Request, VERSION};
use super::socket;
use crate::background::Release;
use crate::cli::ControlCommand;
use crate::config::forward::{Connect, Forward};
use crate::config::{ForwardAgent, LogLevel, Settings};
use crate::forward::Side;
use crate::guard::{self, Guard};
use crate::remote::{Program, PtyRequest, SessionRequest};
use crate::report::{FAILURE, Reporter};
use crate::request;
use crate::session::Signals;
use crate::sys::process;
use crate::sys::signals::{SignalKind, signal};
use crate::sys::stdio::{borrow, nothing};
use crate::sys::tty;
use crate::terminal::raw::RawMode;

/// How long the other process may take to show that it is alive.
const PATIENCE: Duration = Duration::from_secs(2);

/// The other process, greeted and alive.
struct Master {
    channel: Channel,
    pid: u32,
    next_id: u32,
}

/// Why the other process is not used.
enum Unusable {
    /// It broke off, or answered in ways that make no sense.
    Io(io::Error),
    /// It refused, in these words.
    Refused(String),
    /// For a reason that is told in these words, which are complete.
    Said(String),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks the process at the control socket for what `-O` says; returns the exit status.
pub async fn control(settings: &Settings, command: ControlCommand) -> u8 {
    let reporter = Reporter::new();
    let Some(path) = &settings.control.path else {
        reporter.plain_error(&"No ControlPath specified for \"-O\" command");
        return FAILURE;
    };
    let mut master = match socket::connect(path).await {
        Ok(stream) => match Master::greet(stream).await {
            Ok(master) => master,
            Err(error) => {
                say_unusable(reporter, &error);
                return FAILURE;
            }
        },
        Err(error) => {
            report_connect(reporter, path, &error);
            return FAILURE;
        }
    };
    let done = match command {
        ControlCommand::Check => {
            let pid = master.pid;
            say(&format!("Master running (pid={pid})\r\n"));
            Ok(())
        }
        ControlCommand::Exit => match master.ask(|id| Request::Terminate { id }).await {
            // It may be too much in a hurry to answer.
            Ok(_) | Err(Unusable::Io(_)) => {
                say_unless_quiet("Exit request sent.\r\n");
                Ok(())
            }
            Err(error) => Err(error),
        },
        ControlCommand::Stop => {
            let asked = master.ask(|id| Request::StopListening { id }).await;
            asked.map(|_| say_unless_quiet("Stop listening request sent.\r\n"))
        }
        ControlCommand::Forward => match master.forward_all(settings, true).await {
            Err(Unusable::Refused(reason)) => {
                report_forward(reporter, &reason);
                reporter.plain_error(&"muxclient: master forward request failed");
                return FAILURE;
            }
            done => done,
        },
        ControlCommand::Cancel => match master.cancel_all(settings).await {
            Err(Unusable::Refused(reason)) => {
                report_forward(reporter, &reason);
                reporter.plain_error(&"muxclient: master cancel forward request failed");
                // As for ssh, that there was none is no failure.
                Ok(())
            }
            done => done,
        },
        ControlCommand::Proxy => {
            let text = "-O proxy is not supported by tssh; without it the connection is shared";
            Err(Unusable::Said(text.to_owned()))
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            say_unusable(reporter, &error);
            FAILURE
        }
    }
}

/// Runs what was asked for on the connection of another process, and returns the exit status;
/// `None` if there is no such process, or it does not want us.
pub async fn attach(
    settings: &Settings,
    command: &[u8],
    sets_up_forwards: bool,
    release: &mut Option<Release>,
) -> Option<u8> {
    let reporter = Reporter::new();
    let path = settings.control.path.as_deref()?;
    let stream = match socket::connect(path).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error)
            if error.kind() == io::ErrorKind::ConnectionRefused
                && settings.control.master.lends() =>
        {
            // Its owner is gone; ours will stand there.
            host::local::clear_dead(path).await;
            return None;
        }
        Err(error) => {
            report_connect(reporter, path, &error);
            return None;
        }
    };
    let run = async {
        let mut master = Master::greet(stream).await?;
        if sets_up_forwards {
            match master.forward_all(settings, false).await {
                Err(Unusable::Refused(reason)) => {
                    report_forward(reporter, &reason);
                    let text = "muxclient: master forward request failed".to_owned();
                    return Err(Unusable::Said(text));
                }
                done => done?,
            }
        }
        if let Some(connect) = &settings.forwards.stdio {
            return master.stdio(connect, settings, release).await;
        }
        // Where the forwards are there already, so were the remarks made.
        let command = command.to_vec();
        match request::session(settings, reporter, command, sets_up_forwards) {
            Ok(Some(request)) => master.session(settings, request, release).await,
            Ok(None) => master.hold(release).await,
            Err(text) => {
                reporter.plain_error(&text);
                Ok(FAILURE)
            }
        }
    };
    match run.await {
        Ok(status) => Some(status),
        Err(error) => {
            say_unusable(reporter, &error);
            None
        }
    }
}

impl Master {
    /// Greets whoever is at the other end, and finds out who that is.
    async fn greet(stream: Stream) -> Result<Self, Unusable> {
        let mut master = Self { channel: Channel::new(stream)?, pid: 0, next_id: 0 };
        let greeting = async {
            master.channel.send(&Request::Hello { version: VERSION }.encode()).await?;
            match master.reply().await? {
                Reply::Hello { version: VERSION } => {}
                Reply::Hello { version } => {
                    let text = format!("it speaks version {version}");
                    return Err(Unusable::Io(io::Error::other(text)));
                }
                other => return Err(unexpected(&other)),
            }
            match master.ask(|id| Request::AliveCheck { id }).await? {
                Reply::Alive { pid, .. } => Ok(pid),
                other => Err(unexpected(&other)),
            }
        };
        let pid = match timeout(PATIENCE, greeting).await {
            Ok(pid) => pid?,
            Err(_) => {
                let text = format!("no answer within {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text).into());
            }
        };
        master.pid = pid;
        Ok(master)
    }

    async fn reply(&self) -> Result<Reply, Unusable> {
        let Some(message) = self.channel.receive().await? else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        Ok(Reply::decode(&message).map_err(invalid)?)
    }

    fn id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Makes a request and returns its answer, unless that is a refusal.
    async fn ask(&mut self, request: impl FnOnce(u32) -> Request) -> Result<Reply, Unusable> {
        let id = self.id();
        self.channel.send(&request(id).encode()).await?;
        self.granted().await
    }

    /// Returns the next answer, unless it is a refusal.
    async fn granted(&self) -> Result<Reply, Unusable> {
        match self.reply().await? {
            Reply::PermissionDenied { reason, .. } | Reply::Failure { reason, .. } => {
                Err(Unusable::Refused(reason))
            }
            reply => Ok(reply),
        }
    }

    /// Has all forwards of the settings set up; prints the ports chosen, if asked for as such.
    async fn forward_all(&mut self, settings: &Settings, prints: bool) -> Result<(), Unusable> {
        for (side, forward) in forwards(settings) {
            let (listen, connect) = (forward.listen.clone(), forward.connect.clone());
            let reply = self.ask(|id| Request::OpenForward { id, side, forward }).await?;
            if let Reply::RemotePort { port, .. } = reply {
                if prints {
                    // As for ssh, a script's business.
                    let _ = writeln!(io::stdout(), "{port}");
                } else {
                    Reporter::new().remark(&format_args!(
                        "Allocated port {port} for remote forward to {connect}"
                    ));
                }
            }
            tracing::debug!(%listen, "forwarded by the master");
        }
        Ok(())
    }

    async fn cancel_all(&mut self, settings: &Settings) -> Result<(), Unusable> {
        for (side, forward) in forwards(settings) {
            self.ask(|id| Request::CloseForward { id, side, forward }).await?;
        }
        Ok(())
    }

    /// Runs a session on the other process' connection.
    async fn session(
        &mut self,
        settings: &Settings,
        request: SessionRequest,
        release: &mut Option<Release>,
    ) -> Result<u8, Unusable> {
        let has_tty = request.pty.is_some();
        let interactive = has_tty && tty::stdin_is_tty();
        let guard = interactive.then(|| Guard::start().ok()).flatten();
        let status = self.guarded_session(settings, request, release, interactive).await;
        if let Some(guard) = guard {
            guard.dismiss();
        }
        if has_tty && status.is_ok() {
            let host = &settings.host_name;
            Reporter::new().info(&format_args!("Shared connection to {host} closed."));
        }
        status
    }

    async fn guarded_session(
        &mut self,
        settings: &Settings,
        request: SessionRequest,
        release: &mut Option<Release>,
        interactive: bool,
    ) -> Result<u8, Unusable> {
        let mut signals = Signals::new()?;
        let mut resized = signal(SignalKind::window_change())?;
        // Now, so that nothing is shown between the session's opening and raw mode that can be
        // helped.
        guard::wait_ready();
        let session = Box::new(new_session(settings, request));
        let id = self.id();
        self.channel.send(&Request::NewSession { id, session }.encode()).await?;
        self.lend(settings.stdin_null, true).await?;
        let granted = tokio::select! {
            granted = self.granted() => granted?,
            _ = signals.leave() => return Ok(FAILURE),
        };
        if !matches!(granted, Reply::SessionOpened { .. }) {
            return Err(unexpected(&granted));
        }
        let raw = interactive.then(RawMode::enter).transpose()?;
        let_go(release)?;
        let pid = self.pid;
        let resizing = async {
            while resized.recv().await.is_some() {
                // It asks our terminal for the size.
                process::tell_resized(pid);
            }
            std::future::pending().await
        };
        tokio::select! {
            status = self.until_exit(raw.as_ref()) => status,
            _ = signals.leave() => Ok(FAILURE),
            never = resizing => never,
        }
    }

    /// Waits for the end of our session and returns its status.
    async fn until_exit(&self, raw: Option<&RawMode>) -> Result<u8, Unusable> {
        let mut status = FAILURE;
        loop {
            match self.reply().await {
                Ok(Reply::ExitMessage { status: exited, .. }) => {
                    status = exited.to_le_bytes()[0];
                }
                Ok(Reply::TtyAllocFail { .. }) => {
                    if let Some(raw) = raw {
                        raw.suspend()?;
                    }
                }
                Ok(_) => {}
                // The end, in order or not: the status tells.
                Err(_) => return Ok(status),
            }
        }
    }

    /// Lends our standard streams.
    async fn lend(&self, stdin_null: bool, with_error: bool) -> io::Result<()> {
        let nothing = nothing()?;
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let input = if stdin_null { borrow(&nothing) } else { borrow(&input) };
        self.channel.send_descriptor(input).await?;
        self.channel.send_descriptor(borrow(&output)).await?;
        if with_error {
            self.channel.send_descriptor(borrow(&error)).await?;
        }
        Ok(())
    }

    /// Leads our standard streams beyond the far host (`-W`).
    async fn stdio(
        &mut self,
        connect: &Connect,
        settings: &Settings,
        release: &mut Option<Release>,
    ) -> Result<u8, Unusable> {
        let id = self.id();
        let connect = connect.clone();
        self.channel.send(&Request::StdioForward { id, connect }.encode()).await?;
        self.lend(settings.stdin_null, false).await?;
        match self.granted().await {
            Ok(_) => {}
            Err(Unusable::Refused(reason)) => {
                Reporter::new()
                    .plain_error(&format_args!("Stdio forwarding request failed: {reason}"));
                return Ok(FAILURE);
            }
            Err(error) => return Err(error),
        }
        let_go(release)?;
        Ok(self.until_end().await)
    }

    /// Waits as long as the other process holds the connection (`-N`).
    async fn hold(&mut self, release: &mut Option<Release>) -> Result<u8, Unusable> {
        let_go(release)?;
        self.until_end().await;
        Ok(FAILURE)
    }

    /// Waits for the end: ours, or that of the other process.
    async fn until_end(&self) -> u8 {
        let Ok(mut signals) = Signals::new() else { return FAILURE };
        let ended = async { while self.reply().await.is_ok() {} };
        tokio::select! {
            () = ended => 0,
            _ = signals.leave() => FAILURE,
        }
    }
}

/// Lets the shell go on, if it waits for that (`-f`).
fn let_go(release: &mut Option<Release>) -> io::Result<()> {
    match release.take() {
        Some(release) => release.release(),
        None => Ok(()),
    }
}

fn forwards(settings: &Settings) -> impl Iterator<Item = (Side, Forward)> + use<'_> {
    let local = settings.forwards.local.iter().map(|forward| (Side::Local, forward.clone()));
    local.chain(settings.forwards.remote.iter().map(|forward| (Side::Remote, forward.clone())))
}

fn new_session(settings: &Settings, request: SessionRequest) -> NewSession {
    let SessionRequest { program, pty, env, .. } = request;
    let (is_subsystem, command) = match program {
        Program::Shell => (false, Vec::new()),
        Program::Exec(command) => (false, command),
        Program::Subsystem(name) => (true, name.into_bytes()),
    };
    let term = pty.as_ref().map(|PtyRequest { term, .. }| term.clone()).unwrap_or_default();
    NewSession {
        wants_tty: pty.is_some(),
        wants_x11: settings.forwards.x11.enabled,
        wants_agent: settings.forwards.agent != ForwardAgent::No,
        is_subsystem,
        escape: settings.escape_char,
        term: term.into_bytes(),
        command,
        environment: env
            .into_iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect(),
    }
}

fn unexpected(reply: &Reply) -> Unusable {
    tracing::debug!(?reply, "not the answer");
    io::Error::new(io::ErrorKind::InvalidData, "its answer makes no sense").into()
}

/// Says why a socket cannot be connected to, in ssh's words.
fn report_connect(reporter: Reporter, path: &Path, error: &io::Error) {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let path = path.display();
    reporter.plain_error(&format_args!("Control socket connect({path}): {words}"));
}

fn say_unusable(reporter: Reporter, error: &Unusable) {
    match error {
        Unusable::Io(error) => {
            reporter.plain_error(&format_args!("the shared connection's master failed: {error}"));
        }
        Unusable::Refused(reason) => {
            reporter.plain_error(&format_args!("Master refused session request: {reason}"));
        }
        Unusable::Said(text) => reporter.plain_error(text),
    }
}

/// Says why there is no forward, in ssh's words.
fn report_forward(reporter: Reporter, reason: &str) {
    reporter.plain_error(&format_args!("mux_client_forward: forwarding request failed: {reason}"));
}

fn say_unless_quiet(text: &str) {
    if crate::logging::level() > LogLevel::Quiet {
        say(text);
    }
}

/// What is asked for by `-O` is answered on standard error, as by ssh.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
