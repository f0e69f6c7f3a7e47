//! Commands that run on this machine: LocalCommand, and `!` of the escape command line.

use std::io;
use std::process::ExitStatus;

use tokio::process::Command;

use crate::sys::account::COMMAND_SHELL;

/// Runs `text` with the user's shell and our standard streams, and waits for its end.
///
/// # Errors
/// The shell cannot be started.
pub(crate) async fn run(text: &str) -> io::Result<ExitStatus> {
    let (usual, option) = COMMAND_SHELL;
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| usual.into());
    Command::new(shell).args([option, text]).status().await
}
