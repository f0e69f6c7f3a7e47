//! Leaving the login: the process that serves is not the one sshd started.
//!
//! ```text
//! sshd ── shell ── tsshd (first)  ──stdout──▶ the login, until the server closes it
//!                    └─ tsshd (background): own session, no terminal, serves
//! ```
//!
//! The first process starts itself again with [`MARK`] in the environment and
//! relays what the server prints; once the server closes its standard output,
//! the first process ends and sshd lets go of the login (PROTOCOL §1.3).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::{process, scope};

/// Environment variable that tells the background process what it is.
pub(crate) const MARK: &str = "TRZSZ-SSHD-BACKGROUND";

/// Why the server could not be put into the background.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// It could not be started.
    #[error("cannot start the server in the background: {0}")]
    Start(#[source] io::Error),
    /// Its output could not be handed on.
    #[error("cannot hand on the server's output: {0}")]
    Relay(#[source] io::Error),
}

/// Returns whether this is the background process.
pub(crate) fn is_background() -> bool {
    std::env::var_os(MARK).is_some_and(|value| value == "TRUE")
}

/// Starts this program again in the background and relays what it prints
/// until it closes its standard output.
///
/// # Errors
/// [`DaemonError`]. How the background process fares later is no error here.
pub(crate) fn start(arguments: &[OsString]) -> Result<(), DaemonError> {
    // The login would wait for any other file to be closed.
    host::inherit::only_standard_streams();
    let program = std::env::current_exe().map_err(DaemonError::Start)?;
    if let Some(mut wrapper) = scope::wrapper() {
        // Told again by its arguments: behind a wrapper that drops the variable we would go into
        // the background for ever.
        wrapper.arg("env").arg(format!("{MARK}=TRUE")).arg(&program).args(arguments);
        // Without a user manager to talk to the wrapper fails and prints nothing.
        if matches!(run(wrapper), Ok(bytes) if bytes > 0) {
            return Ok(());
        }
    }
    let mut command = Command::new(program);
    command.args(arguments);
    run(command).map(|_| ())
}

/// Runs `command` in the background and returns how many bytes it printed.
fn run(mut command: Command) -> Result<usize, DaemonError> {
    command.env(MARK, "TRUE").stdin(Stdio::null()).stdout(Stdio::piped());
    process::lead_session(&mut command);
    let mut child = command.spawn().map_err(DaemonError::Start)?;
    let mut output = child.stdout.take().expect("asked for above");
    let mut relayed = 0;
    let mut buffer = Zeroizing::new([0; 16 * 1024]);
    loop {
        let n = match output.read(&mut *buffer) {
            Ok(0) => return Ok(relayed),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(DaemonError::Relay(error)),
        };
        relayed += n;
        print(buffer.get(..n).unwrap_or_default()).map_err(DaemonError::Relay)?;
    }
}

/// Writes `line` to standard output and closes it, which ends the login's
/// wait; closes standard error as well, so that nothing holds the login.
///
/// # Errors
/// The system's; the login is gone then.
pub(crate) fn print_and_detach(line: &[u8]) -> io::Result<()> {
    print(line)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    Ok(())
}

/// Writes to standard output; not through `std::io::stdout`, whose buffer
/// would keep a copy of the keys.
fn print(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
