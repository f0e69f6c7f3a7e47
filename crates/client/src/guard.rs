//! The guard: a small process that cleans up after a client that was killed (DESIGN D15).
//!
//! `kill -9`, the out-of-memory killer and crashes leave the terminal raw and
//! the server waiting. The guard holds the other end of a pipe; when it breaks
//! without a word it puts the terminal back and sends the server a farewell
//! that was sealed in advance (extension `goodbye`). It knows no key, and it
//! is told everything over the pipe, nothing by arguments or environment.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::tty::SavedTerminal;

/// `argv[0]` that makes this program the guard.
const NAME: &str = "tssh: guard";

/// The word that lets the guard go in peace.
const DISMISSED: &str = "dismissed";

/// The word that says the terminal is no longer in our use.
const TERMINAL_LEFT: &str = "terminal left";

/// How often a farewell is sent: UDP loses packets, and the network may be down just now.
const FAREWELLS: u32 = 5;

/// Time between two farewells.
const FAREWELL_SPACING: Duration = Duration::from_secs(1);

/// How the server is told that its client is gone.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// Where the server was reached last.
    pub server: SocketAddr,
    /// Whether over TCP.
    pub tcp: bool,
    /// The sealed packet.
    pub packet: Vec<u8>,
}

impl Farewell {
    /// Tells the server once, as well as can be, that nobody will come.
    pub fn send_once(&self) {
        // It may be out of reach; its own patience is what is left then.
        let _ = if self.tcp { over_tcp(self) } else { over_udp(self) };
    }
}

/// A guard at work. Dropping it without [`Guard::dismiss`] sets it off.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts a guard. Call while the terminal is still as it should be left.
    ///
    /// # Errors
    /// When the program cannot be started again; one can do without a guard.
    pub fn start() -> io::Result<Self> {
        host::inherit::only_standard_streams();
        let mut child = Command::new(std::env::current_exe()?)
            .arg0(NAME)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        *STARTING.lock().unwrap_or_else(PoisonError::into_inner) = child.stdout.take();
        Ok(Self { child })
    }

    /// Tells the guard how to take leave of the server.
    pub fn entrust(&mut self, farewell: &Farewell) {
        let carrier = if farewell.tcp { "tcp" } else { "udp" };
        let packet = hex::encode(&farewell.packet);
        self.say(&format!("{carrier} {} {packet}", farewell.server));
    }

    /// Tells the guard that the terminal is somebody else's from now on (`-f`).
    pub fn leave_terminal(&mut self) {
        self.say(TERMINAL_LEFT);
    }

    /// Ends the guard: everything was left in order.
    pub fn dismiss(mut self) {
        self.say(DISMISSED);
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }

    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.child.stdin {
            // A guard that died guards nothing; the session goes on.
            let _ = pipe.write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// The output of a guard nobody has waited for yet. Here and not in [`Guard`]:
/// whoever is first to change the terminal has to wait, and a prompt of the
/// login does not know of guards.
static STARTING: Mutex<Option<ChildStdout>> = Mutex::new(None);

/// Waits until the guard, if one was started, has looked at the terminal. Call
/// before changing it.
pub fn wait_ready() {
    let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut output) = starting {
        // The guard closes its end when it is ready, or when it could not start.
        let _ = io::copy(&mut output, &mut io::sink());
    }
}

/// Returns whether this process was started to be the guard.
#[must_use]
pub fn is_guard() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// The guard's whole life.
#[must_use]
pub fn main() -> ExitCode {
    let mut terminal = SavedTerminal::of_controlling();
    // Out of reach of the terminal's signals: ^C and hang-up are not for us.
    let _ = rustix::process::setsid();
    crate::sys::stdio::close_stdout();
    let mut farewell = None;
    for line in BufReader::new(io::stdin()).lines() {
        match line.as_deref() {
            Ok(DISMISSED) => return ExitCode::SUCCESS,
            Ok(TERMINAL_LEFT) => terminal = None,
            Ok(line) => farewell = parse(line).or(farewell),
            Err(_) => break,
        }
    }
    if let Some(terminal) = terminal {
        terminal.restore_if_raw();
    }
    if let Some(farewell) = farewell {
        deliver(&farewell);
    }
    ExitCode::SUCCESS
}

fn parse(line: &str) -> Option<Farewell> {
    let mut words = line.split(' ');
    let tcp = words.next()? == "tcp";
    let server = words.next()?.parse().ok()?;
    let packet = hex::decode(words.next()?).ok()?;
    Some(Farewell { server, tcp, packet })
}

fn deliver(farewell: &Farewell) {
    for _ in 0..FAREWELLS {
        let sent = if farewell.tcp { over_tcp(farewell) } else { over_udp(farewell) };
        if farewell.tcp && sent.is_ok() {
            return;
        }
        std::thread::sleep(FAREWELL_SPACING);
    }
}

fn over_udp(farewell: &Farewell) -> io::Result<()> {
    let any: SocketAddr = match farewell.server {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any)?.send_to(&farewell.packet, farewell.server).map(drop)
}

/// One frame of PROTOCOL §2.4.
fn over_tcp(farewell: &Farewell) -> io::Result<()> {
    let mut frame =
        u16::try_from(farewell.packet.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    frame.extend_from_slice(&farewell.packet);
    TcpStream::connect_timeout(&farewell.server, FAREWELL_SPACING)?.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_understood_and_garbage_is_not() {
        let farewell = parse("udp 127.0.0.1:61001 0aff").unwrap();
        assert_eq!(farewell.server, "127.0.0.1:61001".parse().unwrap());
        assert!(!farewell.tcp);
        assert_eq!(farewell.packet, [0x0a, 0xff]);
        for bad in ["", "udp", "udp x", "tcp 1.2.3.4:5 zz"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
