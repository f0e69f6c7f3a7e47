//! The login by another program: the system's `ssh`, or whatever LoginCommand names.
//!
//! Whatever that program can do (GSSAPI, smart cards, a company's wrapper) is at hand this way.
//! It starts our server and prints what that says; the session then moves to UDP as ever, and the
//! program has done its part. Without UDP, that program simply takes our place.
//!
//! Not here: configuration, keys and host keys, which are all the other program's.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use tokio::process::Command;
use tokio::sync::mpsc;

use super::{
    BoxFuture, Listen, Program, Remote, RemoteError, RemoteListener, RemoteSession, RemoteStream,
    SessionControl, SessionEnd, SessionRequest, Target, TerminalSize,
};

/// Another program that logs in, and its arguments for this destination.
#[derive(Clone, Debug)]
pub struct System {
    /// The program and the words before the options.
    command: Vec<String>,
    /// What comes between them and the command to run.
    arguments: Vec<OsString>,
}

impl System {
    /// A login by `command`, with the options and the destination in `arguments`.
    #[must_use]
    pub fn new(command: Vec<String>, arguments: Vec<OsString>) -> Self {
        Self { command, arguments }
    }

    /// The program's name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        self.command.first().map_or("ssh", String::as_str)
    }

    fn invocation(&self) -> std::process::Command {
        let mut invocation = std::process::Command::new(self.name());
        invocation.args(self.command.iter().skip(1)).args(&self.arguments);
        invocation
    }

    /// Puts the program in our place.
    pub fn replace_us(&self) -> io::Error {
        crate::sys::process::replace_us(self.invocation())
    }

    /// Runs the program with our standard streams and waits for its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&self) -> io::Result<ExitStatus> {
        Command::from(self.invocation()).status().await
    }

    fn start(&self, request: &SessionRequest) -> Result<RemoteSession, RemoteError> {
        let refused = |reason: String| RemoteError::Refused { what: self.name().into(), reason };
        let Program::Exec(command) = &request.program else {
            return Err(refused("it runs commands only".into()));
        };
        let command = String::from_utf8_lossy(command).into_owned();
        let mut child = Command::from(self.invocation())
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| refused(error.to_string()))?;
        let output = child.stdout.take().ok_or_else(|| refused("no output".into()))?;
        Ok(RemoteSession {
            input: Box::new(tokio::io::sink()),
            output: Box::new(output),
            // Prompts and complaints of the other program go where ours would.
            error: None,
            control: Box::new(NoControl),
            end: Box::pin(async move {
                let code = child.wait().await.ok().and_then(|status| status.code());
                match code.and_then(|code| u32::try_from(code).ok()) {
                    Some(code) => SessionEnd::Exited(code),
                    None => SessionEnd::Unknown,
                }
            }),
        })
    }
}

/// Looks up where a host is reached, with port zero; the login does not tell.
///
/// # Errors
/// The resolver's words, or that there is no address of the family wanted.
pub async fn address_of(
    host: &str,
    wanted: impl Fn(&SocketAddr) -> bool,
) -> Result<SocketAddr, String> {
    let mut found = tokio::net::lookup_host((host, 0)).await.map_err(|error| error.to_string())?;
    found.find(|address| wanted(address)).ok_or_else(|| "it has no such address".to_owned())
}

impl Remote for System {
    fn open_session(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'_, Result<RemoteSession, RemoteError>> {
        Box::pin(async move { self.start(&request) })
    }

    fn dial(&self, _: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        Box::pin(async { Err(self.cannot("connections")) })
    }

    fn listen(&self, _: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>> {
        Box::pin(async { Err(self.cannot("listeners")) })
    }

    fn forward_agent(&self) -> mpsc::Receiver<RemoteStream> {
        // The session runs elsewhere.
        mpsc::channel(1).1
    }

    fn closed(&self) -> BoxFuture<'_, RemoteError> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn roams(&self) -> bool {
        false
    }
}

impl System {
    fn cannot(&self, what: &str) -> RemoteError {
        let reason = "it only starts the server".into();
        RemoteError::Refused { what: format!("{what} by {}", self.name()), reason }
    }
}

/// There is no terminal to resize, and no signal but the end.
struct NoControl;

impl SessionControl for NoControl {
    fn resize(&self, _: TerminalSize) {}

    fn signal(&self, _: &str) -> bool {
        false
    }
}
