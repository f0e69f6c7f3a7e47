//! X11 forwarding, the server's half (PROTOCOL §6.8, §10.1).
//!
//! A session that asks for it gets a display of its own: ports in the place where an X server
//! would have them, whose connections the client leads to its display. The cookie that the
//! client made up for it is given to the user's programs by `xauth`.
//!
//! What the client sends goes to `xauth` only if it can be nothing but a name and a cookie.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use proto::open::X11Request;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::listen::{Listener, accept_all};
use super::socket::Socket;
use crate::config::Policy;

/// The port of display 0.
const FIRST_PORT: u16 = 6000;

/// Displays end before this number, as sshd's.
const MAX_DISPLAYS: u16 = 1000;

/// The highest number of a screen.
const LAST_SCREEN: u32 = 400;

/// How long `xauth` may take (PROTOCOL §11).
const XAUTH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no display.
#[derive(Debug, thiserror::Error)]
pub(crate) enum X11Error {
    #[error("the request is malformed")]
    Malformed,
    #[error("there is no xauth program at {0}")]
    NoXauth(String),
    #[error("no display number is free")]
    NoDisplay,
    #[error("xauth: {0}")]
    Xauth(io::Error),
    #[error("xauth failed")]
    XauthFailed,
}

/// A session's display; its ports are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Display {
    /// For `DISPLAY`.
    pub(crate) name: String,
    /// Whether one connection is all that is wanted.
    pub(crate) is_for_one: bool,
    accepted: mpsc::Receiver<Socket>,
    _tasks: JoinSet<()>,
}

impl Display {
    /// Opens a display and has `xauth` remember its cookie.
    ///
    /// # Errors
    /// [`X11Error`]; nothing stays behind.
    pub(crate) async fn open(request: &X11Request, policy: &Policy) -> Result<Self, X11Error> {
        let screen = Some(request.screen_number).filter(|screen| *screen <= LAST_SCREEN);
        let screen = screen.ok_or(X11Error::Malformed)?;
        if !is_plain(&request.auth_protocol) || !is_plain(&request.auth_cookie) {
            return Err(X11Error::Malformed);
        }
        let xauth = xauth_program(policy)?;
        let is_local = policy.x11_use_localhost();
        let (number, listeners) =
            listen(policy.x11_display_offset(), is_local).ok_or(X11Error::NoDisplay)?;
        let (name, known_as) = if is_local {
            (format!("localhost:{number}.{screen}"), format!("unix:{number}.{screen}"))
        } else {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let name = format!("{host}:{number}.{screen}");
            (name.clone(), name)
        };
        let X11Request { auth_protocol, auth_cookie, .. } = request;
        let lines = format!("remove {known_as}\nadd {known_as} {auth_protocol} {auth_cookie}\n");
        match timeout(XAUTH_TIMEOUT, tell(&xauth, &lines)).await {
            Ok(told) => told?,
            Err(_) => return Err(X11Error::Xauth(io::ErrorKind::TimedOut.into())),
        }
        // One place each: every listener holds its own while it waits.
        let (sender, accepted) = mpsc::channel(listeners.len().max(1));
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept_all(listener, sender.clone()));
        }
        Ok(Self { name, is_for_one: request.single_connection, accepted, _tasks: tasks })
    }

    /// Waits for a program to connect.
    pub(crate) async fn accept(&mut self) -> Option<Socket> {
        self.accepted.recv().await
    }
}

/// Whether a word can do no harm in a line for `xauth`; sshd's rule.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 1024
        && word.chars().all(|c| c.is_ascii_alphanumeric() || ".:/-_".contains(c))
}

/// Finds `xauth` where `XAuthLocation` says, or else in the `PATH` (PROTOCOL §10.1).
fn xauth_program(policy: &Policy) -> Result<PathBuf, X11Error> {
    let configured = policy.xauth_location().map(PathBuf::from);
    let usual = PathBuf::from("/usr/bin/xauth");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let elsewhere = std::env::split_paths(&path).map(|directory| directory.join("xauth"));
    let mut candidates = match &configured {
        Some(path) => vec![path.clone()],
        None => std::iter::once(usual.clone()).chain(elsewhere).collect(),
    };
    candidates.retain(|candidate| candidate.is_absolute() && candidate.exists());
    let missing = || X11Error::NoXauth(configured.unwrap_or(usual).display().to_string());
    candidates.into_iter().next().ok_or_else(missing)
}

/// Listens at the ports of the first display that is free in every family there is.
fn listen(offset: u16, is_local: bool) -> Option<(u16, Vec<Listener>)> {
    let addresses: [IpAddr; 2] = if is_local {
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
    };
    (offset..MAX_DISPLAYS).find_map(|number| {
        let port = FIRST_PORT + number;
        let mut listeners = Vec::new();
        for address in addresses {
            match host::socket::listen(SocketAddr::new(address, port)) {
                Ok(listener) => listeners.push(Listener::Tcp(listener)),
                // Half a display would be somebody else's in the other family.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return None,
                // A host without this family.
                Err(error) => tracing::debug!(%error, %address, "no display here"),
            }
        }
        (!listeners.is_empty()).then_some((number, listeners))
    })
}

/// Runs `xauth` and gives it `lines`.
async fn tell(xauth: &Path, lines: &str) -> Result<(), X11Error> {
    let mut command = Command::new(xauth);
    command.args(["-q", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().map_err(X11Error::Xauth)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).await.map_err(X11Error::Xauth)?;
    }
    let status = child.wait().await.map_err(X11Error::Xauth)?;
    if status.success() { Ok(()) } else { Err(X11Error::XauthFailed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_cookies_reach_xauth() {
        for word in ["MIT-MAGIC-COOKIE-1", "00ff", "a.b:c/d_e"] {
            assert!(is_plain(word), "{word}");
        }
        for word in ["", "a b", "a\nadd x", "$(reboot)", "a;b", "\u{e9}", &"a".repeat(1025)] {
            assert!(!is_plain(word), "{word:?}");
        }
    }

    #[tokio::test]
    async fn a_display_that_is_taken_in_one_family_is_passed_over() {
        let taken = (500..900).find_map(|number| {
            let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), FIRST_PORT + number);
            host::socket::listen(address).ok().map(|socket| (number, socket))
        });
        let (number, _socket) = taken.expect("a free port");
        let (found, listeners) = listen(number, true).expect("another is free");
        assert!(found > number);
        let (next, _more) = listen(found, true).expect("a third one, too");
        assert!(next > found, "{listeners:?}");
    }
}
