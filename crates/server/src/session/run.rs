//! Starts a session's program and sees it through to its end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use proto::SessionId;
use proto::open::{StartMessage, decode_modes};
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, watch};
use transport::{RecvStream, SendStream};

use super::input::Input;
use super::output::{Gap, OutputLog, Presence};
use super::program::{Program, ProgramError};
use super::{environment, motd, relay};
use crate::config::{Policy, Refusal};
use crate::sys::account::Account;
use crate::sys::limits::Limits;
use crate::sys::process::{self, Ending};
use crate::sys::pty::{self, Master, Slave};

/// How long a killed program has to end by itself.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// How long a terminal keeps a false size, so that its program sees two changes (PROTOCOL §7.8).
const WIGGLE: Duration = Duration::from_millis(10);

/// The account, the rules and the limits that sessions run under.
#[derive(Debug)]
pub struct Host {
    pub(crate) account: Account,
    pub(crate) policy: Policy,
    /// For the programs; the server changes its own.
    pub(crate) limits: Limits,
}

impl Host {
    /// Returns this process' account, under the rules of this host's sshd_config.
    #[must_use]
    pub fn load() -> Self {
        let account = Account::current();
        let policy = Policy::load(&account);
        Self { account, policy, limits: Limits::current() }
    }

    /// Returns what the user should be told once.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        self.policy.notes()
    }
}

/// Why a session did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// There is nothing to run, or it is forbidden.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A terminal is forbidden.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The message is malformed.
    #[error(transparent)]
    Message(#[from] proto::open::StartError),
    /// The system did not start it.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        error: io::Error,
    },
}

impl StartError {
    /// Returns whether the configuration is why.
    pub(crate) fn is_prohibited(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Program(ProgramError::Refused(_)))
    }

    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what: what.into(), error }
    }
}

/// What a terminal's session has dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Stale input.
    Input(Vec<u8>),
    /// Output that the log had no room for.
    Output(Gap),
}

/// Whom a session talks to, apart from its streams.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Whether the client is there.
    pub(crate) presence: watch::Receiver<Presence>,
    /// Size of a terminal's output log in bytes.
    pub(crate) log_bytes: usize,
    /// Told what is dropped.
    pub(crate) dropped: mpsc::Sender<Dropped>,
}

/// One of a session's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// A running session, as the bus sees it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) has_pty: bool,
    /// The program, leader of its own session and process group.
    leader: Option<Pid>,
    state: Mutex<State>,
    hang_up: watch::Sender<bool>,
    exited: watch::Sender<bool>,
    interrupt: Notify,
}

#[derive(Debug)]
struct State {
    /// `None` without a pty, and once it is hung up.
    master: Option<Arc<Master>>,
    input: Input,
    redraw: [Option<Vec<u8>>; 2],
    /// There while the terminal has a false size.
    repaint: Option<Repaint>,
}

/// The second half of a repaint.
#[derive(Debug)]
struct Repaint {
    /// The newest size the client has asked for.
    size: Winsize,
    /// For the first output behind the change to it; may be empty.
    marker: Vec<u8>,
}

/// What a session's program is connected to.
#[derive(Debug)]
enum Ends {
    Pty(Arc<Master>),
    Pipes,
}

/// A session that was started; [`Running::run`] sees it through.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) session: Arc<Session>,
    child: Child,
    ends: Ends,
    motd: Vec<u8>,
}

/// What a session's program may reach of the client's side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach<'a> {
    /// Its agent, by this socket.
    pub(crate) agent: Option<&'a Path>,
    /// Its display, by this name.
    pub(crate) display: Option<&'a str>,
}

/// Starts what `start` asks for.
///
/// `has_stderr` says whether somebody listens to standard error; `last_marker`
/// is the newest input marker made so far.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub(crate) fn start(
    start: &StartMessage,
    host: &Host,
    has_stderr: bool,
    last_marker: Option<[u8; 8]>,
    reach: Reach<'_>,
) -> Result<Running, StartError> {
    let program = Program::of(start, &host.account, &host.policy)?;
    let (child, ends) = if start.pty {
        host.policy.permits_tty()?;
        let (master, slave) = open_pty(start)?;
        let command = command(&program, start, host, Some(slave.path()), reach);
        (spawn(&program, |command| slave.spawn(command), command)?, Ends::Pty(Arc::new(master)))
    } else {
        let mut command = command(&program, start, host, None, reach);
        let stderr = if has_stderr { Stdio::piped() } else { Stdio::null() };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        process::lead_session(command.as_std_mut());
        (spawn(&program, |mut command| command.spawn(), command)?, Ends::Pipes)
    };
    let shows_motd = program.is_login_shell && start.pty;
    let motd = if shows_motd { motd::read(&host.account) } else { Vec::new() };
    let master = match &ends {
        Ends::Pty(master) => Some(master.clone()),
        Ends::Pipes => None,
    };
    let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let session = Arc::new(Session {
        id: SessionId(start.id),
        has_pty: start.pty,
        leader,
        state: Mutex::new(State {
            master,
            input: Input::new(start.pty, last_marker),
            redraw: [None, None],
            repaint: None,
        }),
        hang_up: watch::Sender::new(false),
        exited: watch::Sender::new(false),
        interrupt: Notify::new(),
    });
    Ok(Running { session, child, ends, motd })
}

fn open_pty(start: &StartMessage) -> Result<(Master, Slave), StartError> {
    let modes = decode_modes(&start.modes.0)?;
    let opened = pty::open().and_then(|(master, slave)| {
        let size = winsize(start.cols, start.rows, start.width_px, start.height_px);
        if size.ws_col > 0 || size.ws_row > 0 {
            master.resize(size)?;
        }
        if !modes.is_empty() {
            slave.change_modes(|termios| tty::sys::modes::apply(&modes, termios))?;
        }
        Ok((master, slave))
    });
    opened.map_err(StartError::system("open a terminal"))
}

fn spawn(
    program: &Program,
    spawn: impl FnOnce(Command) -> io::Result<Child>,
    command: Command,
) -> Result<Child, StartError> {
    spawn(command).map_err(StartError::system(format!("run {}", program.path.display())))
}

fn command(
    program: &Program,
    start: &StartMessage,
    host: &Host,
    tty: Option<&OsString>,
    reach: Reach<'_>,
) -> Command {
    let tty = tty.map(OsString::as_os_str);
    let inherited = std::env::vars_os();
    let mut env = environment::of_session(inherited, &start.envs, tty, &host.account, &host.policy);
    if let Some(replaced) = &program.replaced {
        env.insert("SSH_ORIGINAL_COMMAND".into(), replaced.clone());
    }
    if let Some(socket) = reach.agent {
        env.insert("SSH_AUTH_SOCK".into(), socket.into());
    }
    if let Some(display) = reach.display {
        env.insert("DISPLAY".into(), display.into());
    }
    let mut command = Command::new(&program.path);
    host.limits.restore_in(command.as_std_mut());
    command.arg0(&program.name).args(&program.arguments).env_clear().envs(env);
    // As sshd: a home that is gone does not prevent the login.
    let home = &host.account.home;
    command.current_dir(if home.is_dir() { home } else { Path::new("/") });
    command
}

impl Running {
    /// Connects the program to its streams, waits for its end, and ends the
    /// streams.
    pub(crate) async fn run(
        self,
        mut send: SendStream,
        recv: RecvStream,
        stderr: Option<SendStream>,
        around: Surroundings,
    ) -> Ending {
        use tokio::io::AsyncWriteExt as _;
        if !self.motd.is_empty() && send.write_all(&self.motd).await.is_err() {
            self.session.hang_up();
        }
        let status = match self.ends {
            Ends::Pty(master) => {
                drop(stderr); // a terminal has one output (PROTOCOL §6.4)
                run_pty(&self.session, self.child, master, &mut send, recv, around).await
            }
            Ends::Pipes => {
                let dropped = around.dropped;
                run_pipes(&self.session, self.child, &mut send, recv, stderr, dropped).await
            }
        };
        // Ends the stream if the program did not, and whatever still waits for it.
        self.session.hang_up();
        let _ = send.shutdown().await;
        match status {
            Ok(status) => Ending::from(status),
            Err(error) => {
                tracing::error!(%error, "lost track of a session's program");
                Ending::Exited(255)
            }
        }
    }
}

async fn run_pty(
    session: &Arc<Session>,
    mut child: Child,
    master: Arc<Master>,
    send: &mut SendStream,
    recv: RecvStream,
    around: Surroundings,
) -> io::Result<std::process::ExitStatus> {
    let wait = async {
        let status = child.wait().await;
        session.exited.send_replace(true);
        status
    };
    let output_end = master.clone();
    let output = async {
        let output = relay::PtyOutput {
            session,
            master: &output_end,
            presence: around.presence,
            log: OutputLog::new(around.log_bytes),
            dropped: &around.dropped,
        };
        if let Err(error) = output.run(send, session.exited()).await {
            // Nobody reads any more, and the program must not block for ever.
            tracing::debug!(%error, "output of a terminal is cut off");
            session.hang_up();
        }
        drop(output_end);
    };
    let input = async {
        relay::pty_input(session, recv, &master, &around.dropped).await;
        drop(master);
        // The client's end of input hangs up the terminal (PROTOCOL §6.4).
        session.hang_up();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (status, ()) = async { tokio::join!(wait, output) } => status,
        () = input => Err(io::Error::other("input never returns")),
    }
}

async fn run_pipes(
    session: &Session,
    mut child: Child,
    send: &mut SendStream,
    recv: RecvStream,
    stderr: Option<SendStream>,
    dropped: mpsc::Sender<Dropped>,
) -> io::Result<std::process::ExitStatus> {
    let (stdin, stdout, error_pipe) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let wait = async {
        let status = child.wait().await;
        session.exited.send_replace(true);
        status
    };
    let output = async {
        if let Some(stdout) = stdout {
            let _ = relay::pipe_output(session, Output::Stdout, stdout, send).await;
        }
        use tokio::io::AsyncWriteExt as _;
        let _ = send.shutdown().await;
    };
    let errors = async {
        if let (Some(pipe), Some(mut stream)) = (error_pipe, stderr) {
            let _ = relay::pipe_output(session, Output::Stderr, pipe, &mut stream).await;
        }
    };
    let input = async {
        if let Some(stdin) = stdin {
            relay::pipe_input(session, recv, stdin, &dropped).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (status, (), ()) = async { tokio::join!(wait, output, errors) } => status,
        () = input => Err(io::Error::other("input never returns")),
    }
}

impl Session {
    /// A session whose program was never there.
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let input = Input::new(true, None);
        let state = State { master: None, input, redraw: [None, None], repaint: None };
        Self {
            id: SessionId(1),
            has_pty: true,
            leader: None,
            state: Mutex::new(state),
            hang_up: watch::Sender::new(false),
            exited: watch::Sender::new(false),
            interrupt: Notify::new(),
        }
    }

    /// Sets the terminal's size.
    pub(crate) fn resize(&self, size: Winsize) {
        let mut state = self.lock();
        if let Some(repaint) = &mut state.repaint {
            // Not now: the change has to come behind the marker.
            repaint.size = size;
        } else if let Some(master) = state.master.as_ref().filter(|master| !has_size(master, size))
        {
            log_error(master.resize(size));
        }
    }

    /// Sets the terminal's size and makes the program paint anew even if it is
    /// the same; `marker` goes in front of the first output from there on
    /// (PROTOCOL §7.8). A size that is the same takes a pause, after which the
    /// newest size counts that the client has asked for by then.
    pub(crate) fn redraw(self: &Arc<Self>, size: Winsize, marker: Vec<u8>) {
        let mut state = self.lock();
        let is_under_way = state.repaint.is_some();
        state.repaint = Some(Repaint { size, marker });
        if is_under_way {
            return; // This one takes its place.
        }
        if let Some(master) = state.master.as_ref().filter(|master| has_size(master, size)) {
            let false_size = Winsize { ws_col: size.ws_col.saturating_add(1), ..size };
            log_error(master.resize(false_size));
            let session = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WIGGLE).await;
                session.lock().finish_repaint();
            });
        } else {
            state.finish_repaint();
        }
    }

    /// Makes the program paint anew: something of its output is missing.
    pub(super) fn repaint(self: &Arc<Self>) {
        let size = {
            let state = self.lock();
            // One that the client has asked for does the same.
            if state.repaint.is_some() {
                return;
            }
            state.master.as_ref().and_then(|master| master.size().ok())
        };
        if let Some(size) = size {
            self.redraw(size, Vec::new());
        }
    }

    /// Tells that the interrupt key has made the terminal drop its output.
    pub(super) fn interrupt(&self) {
        self.interrupt.notify_one();
    }

    /// Becomes ready, once each, after the interrupt key.
    pub(super) async fn interrupted(&self) {
        self.interrupt.notified().await;
    }

    /// Delivers a signal: to the terminal's foreground, or else to the program's group.
    pub(crate) fn signal(&self, signal: Signal) {
        let foreground = self.lock().master.as_ref().and_then(|master| master.foreground());
        if let Some(group) = foreground.or(self.living_leader()) {
            log_error(process::signal_group(group, signal));
        }
    }

    /// Hangs the session up: its terminal or pipes are closed, and its program told.
    pub(crate) fn end(&self) {
        if let Some(leader) = self.living_leader() {
            log_error(process::signal_group(leader, Signal::HUP));
        }
        self.hang_up();
    }

    /// Ends the session, by force if its program does not go.
    pub(crate) async fn kill(&self) {
        self.end();
        // In time or not: one that has ended has no living leader.
        let _ = tokio::time::timeout(KILL_GRACE, self.exited()).await;
        if let Some(leader) = self.living_leader() {
            log_error(process::signal_group(leader, Signal::KILL));
        }
    }

    /// Looks for `marker` in the input from now on (PROTOCOL §7.6).
    pub(crate) fn arm_input_marker(&self, marker: [u8; 8]) {
        self.lock().input.arm(marker);
    }

    /// Closes our end of the terminal or pipes.
    fn hang_up(&self) {
        self.lock().master = None;
        self.hang_up.send_replace(true);
    }

    /// Becomes ready once the session is hung up.
    pub(super) async fn hung_up(&self) {
        // The sender is ours, so it is there.
        let _ = self.hang_up.subscribe().wait_for(|done| *done).await;
    }

    async fn exited(&self) {
        let _ = self.exited.subscribe().wait_for(|done| *done).await;
    }

    /// Takes input through the marker filter; no bytes are the end of input.
    pub(super) fn filter_input(&self, bytes: &[u8], clean: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if bytes.is_empty() {
            state.input.finish(clean);
            return None;
        }
        state.input.feed(bytes, clean)
    }

    /// Returns the redraw marker to put in front of the next output.
    pub(super) fn take_redraw_marker(&self, which: Output) -> Option<Vec<u8>> {
        let [stdout, stderr] = &mut self.lock().redraw;
        match which {
            Output::Stdout => stdout.take(),
            Output::Stderr => stderr.take(),
        }
    }

    /// Its process group, until the program was waited for: later the number
    /// may be somebody else's.
    fn living_leader(&self) -> Option<Pid> {
        self.leader.filter(|_| !*self.exited.borrow())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn finish_repaint(&mut self) {
        let Some(Repaint { size, marker }) = self.repaint.take() else { return };
        if !marker.is_empty() {
            self.redraw = [Some(marker.clone()), Some(marker)];
        }
        if let Some(master) = &self.master {
            log_error(master.resize(size));
        }
    }
}

fn has_size(master: &Master, size: Winsize) -> bool {
    master.size().is_ok_and(|now| (now.ws_col, now.ws_row) == (size.ws_col, size.ws_row))
}

/// A size as the system wants it; what does not fit is cut to the largest.
pub(crate) fn winsize(cols: u32, rows: u32, width_px: u32, height_px: u32) -> Winsize {
    let cut = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Winsize {
        ws_col: cut(cols),
        ws_row: cut(rows),
        ws_xpixel: cut(width_px),
        ws_ypixel: cut(height_px),
    }
}

fn log_error(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a session's program or terminal is gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_repaint_does_not_undo_a_size_that_came_behind_it() {
        let (master, _slave) = pty::open().unwrap();
        let (old, new) = (winsize(80, 24, 0, 0), winsize(100, 30, 0, 0));
        master.resize(old).unwrap();
        let master = Arc::new(master);
        let session = Arc::new(Session::for_test());
        session.lock().master = Some(master.clone());
        session.redraw(old, b"marker".to_vec());
        assert!(!has_size(&master, old), "the program is to see a change");
        session.resize(new);
        assert_eq!(session.take_redraw_marker(Output::Stdout), None, "not yet");
        tokio::time::sleep(2 * WIGGLE).await;
        assert!(has_size(&master, new));
        assert_eq!(session.take_redraw_marker(Output::Stdout), Some(b"marker".to_vec()));
    }
}
