//! Starts tsshd over the login and reads what it prints (PROTOCOL §1).
//!
//! Not here: the login itself, and what is done with the [`ServerInfo`].

use std::fmt::Write as _;
use std::time::Duration;

use proto::bootstrap::{BootstrapError, Finder, OUTPUT_LOG_FLAG, ServerInfo};
use proto::ext::{self, Ext, ExtSet};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout_at};

use crate::config::{AddressFamily, Settings, UdpMode, UdpProxyMode};
use crate::remote::{
    Program, PtyRequest, Remote, RemoteError, RemoteSession, SessionEnd, SessionRequest,
    TerminalSize,
};

/// A pty so wide that no terminal layer on the far side wraps the line.
const PTY_SIZE: TerminalSize = TerminalSize { cols: 800, rows: 200, width_px: 0, height_px: 0 };

/// The server's own default of `--connect-timeout`, in seconds.
const DEFAULT_CONNECT_TIMEOUT: u64 = 10;

/// Time after which the server program is given up; start-up files can be slow.
const INFO_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the server program did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The shell could not run the program: most often it is not installed.
    #[error("cannot run {path} on the server{}", Quoted(printed))]
    Missing {
        /// The program as it was called.
        path: String,
        /// What the login printed, shortened.
        printed: String,
    },
    /// The program ran and printed something other than its information.
    #[error("{path} did not start: {source}")]
    Failed {
        /// The program as it was called.
        path: String,
        /// What is wrong with its output.
        source: BootstrapError,
    },
    /// No information came within [`INFO_TIMEOUT`].
    #[error("{path} did not say where it listens within {} s", INFO_TIMEOUT.as_secs())]
    Silent {
        /// The program as it was called.
        path: String,
    },
    /// The login broke or refused.
    #[error("starting {path} on the server: {source}")]
    Login {
        /// The program as it was called.
        path: String,
        /// Why.
        source: RemoteError,
    },
}

impl StartError {
    /// Returns whether a session can still be run over the login.
    #[must_use]
    pub const fn leaves_login_usable(&self) -> bool {
        !matches!(self, Self::Login { source: RemoteError::Lost { .. }, .. })
    }
}

/// `: text` where there is a text.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// A server program that has said where it listens.
pub struct Started {
    /// How to reach it.
    pub info: ServerInfo,
    /// The session that started it. Kept until a path is proven; ending it
    /// earlier could hang up a program that has not quite detached.
    pub session: RemoteSession,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Starts the server program over `login` and returns as soon as its line is complete.
///
/// # Errors
/// [`StartError`]; the login is unharmed unless it says otherwise.
pub async fn start_server(
    login: &dyn Remote,
    settings: &Settings,
    term: &str,
    env: Vec<(String, String)>,
) -> Result<Started, StartError> {
    let path = settings.udp.tsshd_path.clone();
    let request = SessionRequest {
        program: Program::Exec(command_line(settings).into_bytes()),
        pty: Some(PtyRequest { term: term.to_owned(), size: PTY_SIZE, modes: Vec::new() }),
        env,
        agent: false,
        x11: false,
    };
    let mut session = match login.open_session(request).await {
        Ok(session) => session,
        Err(source) => return Err(StartError::Login { path, source }),
    };
    let deadline = Instant::now() + INFO_TIMEOUT;
    let mut finder = Finder::default();
    let mut buffer = zeroize::Zeroizing::new(vec![0; 16 * 1024]);
    loop {
        let read = match timeout_at(deadline, session.output.read(&mut buffer)).await {
            Ok(read) => read.unwrap_or(0),
            Err(_) => return Err(StartError::Silent { path }),
        };
        if read == 0 {
            break;
        }
        match finder.push(buffer.get(..read).unwrap_or_default()) {
            Ok(Some(info)) => return Ok(Started { info, session }),
            Ok(None) => {}
            Err(source) => return Err(StartError::Failed { path, source }),
        }
    }
    let Ok(end) = timeout_at(deadline, session.end.as_mut()).await else {
        return Err(StartError::Silent { path });
    };
    if is_missing(&end, &finder.printed()) {
        return Err(StartError::Missing { path, printed: finder.printed() });
    }
    match finder.finish() {
        Ok(info) => Ok(Started { info, session }),
        Err(source) => Err(StartError::Failed { path, source }),
    }
}

/// Returns whether the shell says that there is no such program, or none it may run.
fn is_missing(end: &SessionEnd, printed: &str) -> bool {
    match end {
        SessionEnd::Exited(126 | 127) => true,
        SessionEnd::Exited(0) => false,
        // Some shells end with 1.
        _ => ["not found", "no such file"].iter().any(|text| printed.to_lowercase().contains(text)),
    }
}

/// Returns the command to run (PROTOCOL §1.1): unquoted, so that `~` works.
#[must_use]
pub fn command_line(settings: &Settings) -> String {
    let udp = &settings.udp;
    let mut line = udp.tsshd_path.clone();
    let mut add = |text: &str| {
        line.push(' ');
        line.push_str(text);
    };
    if udp.mode == UdpMode::Kcp {
        add("--kcp");
    }
    if udp.proxy_mode == UdpProxyMode::Tcp {
        add("--tcp");
    }
    if udp.debug {
        add("--debug");
    }
    match settings.address_family {
        AddressFamily::Any => {}
        AddressFamily::Inet => add("--ipv4"),
        AddressFamily::Inet6 => add("--ipv6"),
    }
    if let Some(mtu) = udp.mtu {
        add(&format!("--mtu {mtu}"));
    }
    if let Some(ports) = &udp.tsshd_port {
        add(&format!("--port {ports}"));
    }
    let timeout = udp.connect_timeout.as_secs();
    if timeout != DEFAULT_CONNECT_TIMEOUT {
        add(&format!("--connect-timeout {timeout}"));
    }
    if let Some(bytes) = udp.output_log {
        let _ = write!(line, " {OUTPUT_LOG_FLAG} {bytes}");
    }
    let ext = match udp.proxy_mode {
        UdpProxyMode::Auto => ExtSet::all(),
        UdpProxyMode::Udp | UdpProxyMode::Tcp => ExtSet::all().without(Ext::Tcp),
    };
    let _ = write!(line, " {} {}", ext::FLAG, ext.to_argument());
    line
}
