//! What a session runs, and in which surroundings.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pty_process::{Pts, Pty, Size};
use rustix::process::{Pid, Signal};
use rustix::termios::Termios;
use tokio::process::{Child, Command};

use crate::{Config, modes};

/// What the client asked to run.
pub(crate) enum Action {
    /// The user's shell as a login shell.
    Shell,
    /// One string for the user's shell.
    Command(Vec<u8>),
    /// A program by its path.
    Program(PathBuf),
}

impl Action {
    /// Returns what a subsystem runs, if this system has it.
    pub(crate) fn subsystem(name: &str) -> Option<Self> {
        let found = SFTP_SERVERS.iter().map(Path::new).find(|path| path.exists());
        (name == "sftp").then_some(Self::Program(found?.to_owned()))
    }
}

/// A terminal as the client described it.
pub(crate) struct PtyRequest {
    pub(crate) term: String,
    pub(crate) size: Size,
    pub(crate) modes: Vec<(russh::Pty, u32)>,
}

/// What a client asked for before it started anything.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) pty: Option<PtyRequest>,
    pub(crate) env: Vec<(String, String)>,
}

/// A started program, its process group, and its terminal if it has one.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) group: Group,
    pub(crate) pty: Option<Pty>,
}

impl Program {
    fn new(child: Child, pty: Option<Pty>) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, group: Group(group), pty }
    }
}

/// The process group of a program; dropping it hangs the group up.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// Sends a signal to the program and everything it started in its group.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // The group may have ended in the meantime: nothing to tell then.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Lets what is left of the group live on: the program ended by itself.
    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::HUP);
    }
}

impl Setup {
    /// Starts the program.
    pub(crate) fn start(
        self,
        config: &Config,
        action: Action,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> io::Result<Program> {
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| env.push((name.into(), value));
        set("PATH", std::env::var_os("PATH").unwrap_or_default());
        set("HOME", config.home.clone().into());
        set("TMPDIR", config.home.clone().into());
        set("USER", config.user.clone().into());
        set("LOGNAME", config.user.clone().into());
        set("SHELL", shell.clone());
        let (from, to) = (peer, local);
        set("SSH_CLIENT", format!("{} {} {}", from.ip(), from.port(), to.port()).into());
        set(
            "SSH_CONNECTION",
            format!("{} {} {} {}", from.ip(), from.port(), to.ip(), to.port()).into(),
        );
        for (name, value) in config.set_env.iter().chain(&self.env) {
            set(name, value.into());
        }

        let name = Path::new(&shell).file_name().unwrap_or(&shell);
        let mut arg0 = OsString::from("-");
        arg0.push(name);
        let (program, arg0, args) = match action {
            Action::Shell => (shell.clone(), arg0, Vec::new()),
            Action::Command(command) => {
                let args = vec![OsString::from("-c"), OsString::from_vec(command)];
                (shell.clone(), name.to_owned(), args)
            }
            Action::Program(path) => (path.clone().into(), path.into(), Vec::new()),
        };
        let mut command = Command::new(program);
        command.arg0(arg0).args(args).env_clear().envs(env).current_dir(&config.home);
        match self.pty {
            Some(request) => request.start(command),
            None => start_on_pipes(command),
        }
    }
}

fn start_on_pipes(mut command: Command) -> io::Result<Program> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that a signal reaches what it started as well.
    let child = command.process_group(0).spawn()?;
    Ok(Program::new(child, None))
}

impl PtyRequest {
    fn start(self, mut command: Command) -> io::Result<Program> {
        let (pty, pts) = pty_process::open().map_err(io::Error::other)?;
        pty.resize(self.size).map_err(io::Error::other)?;
        let mut termios = rustix::termios::tcgetattr(&pts)?;
        self.set_modes(&mut termios);
        rustix::termios::tcsetattr(&pts, rustix::termios::OptionalActions::Now, &termios)?;
        if let Some(name) = tty_name(&pts) {
            command.env("SSH_TTY", name);
        }
        command.env("TERM", &self.term);
        let child = pty_process::Command::from(command).spawn(pts).map_err(io::Error::other)?;
        Ok(Program::new(child, Some(pty)))
    }

    fn set_modes(&self, termios: &mut Termios) {
        for &(mode, value) in &self.modes {
            modes::set(termios, mode, value);
        }
    }
}

fn tty_name(pts: &Pts) -> Option<OsString> {
    let name = rustix::termios::ttyname(pts, Vec::new()).ok()?;
    Some(OsString::from_vec(name.into_bytes()))
}

/// Where systems keep OpenSSH's sftp-server.
const SFTP_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
];
