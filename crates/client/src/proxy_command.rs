//! ProxyCommand: a program whose standard streams lead to the ssh server.
//!
//! Run as OpenSSH runs it: by the user's shell, which `exec`s it; standard
//! error stays ours; SIGHUP ends it with the connection. With ProxyUseFdpass
//! it hands a connected socket over its standard output instead, and ends.

use std::ffi::OsString;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::sys::account::{COMMAND_SHELL, IN_PLACE};
use crate::sys::{fdpass, process};

/// The running command, as a connection.
pub(crate) struct ProxyCommand {
    input: ChildStdin,
    output: ChildStdout,
    child: Child,
}

impl ProxyCommand {
    /// Starts the command, tokens expanded.
    ///
    /// # Errors
    /// The shell cannot be started; what the shell cannot start it says itself.
    pub(crate) fn start(command: &str) -> io::Result<Self> {
        let mut child = shell(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        Ok(Self { input, output, child })
    }
}

/// Has a command connect, and takes the socket it hands over.
///
/// # Errors
/// It cannot be started, or hands nothing over.
pub(crate) async fn receive_socket(command: &str) -> io::Result<tokio::net::TcpStream> {
    fdpass::take_socket_of(shell(command)).await
}

/// Returns the user's shell, to run a command in its own place.
fn shell(command: &str) -> Command {
    let (usual, option) = COMMAND_SHELL;
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let mut shell = Command::new(shell.unwrap_or_else(|| OsString::from(usual)));
    shell.arg(option).arg(format!("{IN_PLACE}{command}"));
    shell
}

impl Drop for ProxyCommand {
    fn drop(&mut self) {
        process::hang_up(&mut self.child);
    }
}

impl AsyncRead for ProxyCommand {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for ProxyCommand {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}
