//! The guard: a small process that cleans up after a client that was killed (DESIGN D15).
//!
//! `kill -9`, the out-of-memory killer and crashes leave the terminal raw and
//! the server waiting. The guard holds the other end of a pipe; when it breaks
//! without a word it puts the terminal back and sends the server a farewell
//! that was sealed in advance (extension `goodbye`). It knows no key, and it
//! is told everything over the pipe, nothing by arguments or environment.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::process;
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

/// How the server is told that its client is gone: by everything that may reach it, since the
/// path in use is as mortal as any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Where the server listens, as far as is known.
    pub servers: Vec<SocketAddr>,
    /// Whether it takes packets by UDP.
    pub udp: bool,
    /// Whether by TCP.
    pub tcp: bool,
    /// The sealed packet.
    pub packet: Vec<u8>,
}

impl Farewell {
    /// Tells the server once, as well as can be, that nobody will come; a second goes by where it
    /// is out of reach.
    ///
    /// # Cancel safety
    /// It is told even if the future is dropped.
    pub async fn send_once(&self) {
        let farewell = self.clone();
        // It may be out of reach; its own patience is what is left then.
        let sent =
            tokio::task::spawn_blocking(move || farewell.send_to(&mut farewell.servers.clone()));
        let _ = sent.await;
    }

    /// Tells the server at each of these addresses, and takes away those where a connection has
    /// carried the word.
    fn send_to(&self, deaf: &mut Vec<SocketAddr>) {
        if self.udp {
            for server in deaf.iter() {
                let _ = over_udp(*server, &self.packet);
            }
        }
        if self.tcp {
            at_once(deaf, |server| over_tcp(server, &self.packet).is_ok());
        }
    }
}

/// Tells all of them at the same time, as each of those out of reach takes its while, and keeps
/// those where `tell` had no success.
fn at_once(servers: &mut Vec<SocketAddr>, tell: impl Fn(SocketAddr) -> bool + Sync) {
    std::thread::scope(|scope| {
        let started: Vec<_> = servers
            .drain(..)
            .map(|server| {
                let tell = &tell;
                // Where there are no threads to be had nobody is told.
                let thread = std::thread::Builder::new().spawn_scoped(scope, move || tell(server));
                (server, thread.ok())
            })
            .collect();
        let is_deaf =
            |thread: std::thread::ScopedJoinHandle<'_, bool>| !thread.join().unwrap_or(false);
        let deaf = started
            .into_iter()
            .filter_map(|(server, thread)| thread.is_none_or(is_deaf).then_some(server));
        servers.extend(deaf.collect::<Vec<_>>());
    });
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
        let mut child = process::again_as(NAME)?
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
        self.say(&farewell.to_line());
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
    process::lead_session();
    crate::sys::stdio::close_stdout();
    let mut farewell = None;
    for line in BufReader::new(io::stdin()).lines() {
        match line.as_deref() {
            Ok(DISMISSED) => return ExitCode::SUCCESS,
            Ok(TERMINAL_LEFT) => terminal = None,
            Ok(line) => farewell = Farewell::from_line(line).or(farewell),
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

impl Farewell {
    /// `udp+tcp ADDRESS,ADDRESS PACKET`.
    fn to_line(&self) -> String {
        let carriers = match (self.udp, self.tcp) {
            (true, true) => "udp+tcp",
            (false, true) => "tcp",
            (_, false) => "udp",
        };
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("{carriers} {} {}", servers.join(","), hex::encode(&self.packet))
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (udp, tcp) = match words.next()? {
            "udp+tcp" => (true, true),
            "tcp" => (false, true),
            "udp" => (true, false),
            _ => return None,
        };
        let servers = words.next()?.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        let packet = hex::decode(words.next()?).ok()?;
        Some(Self { servers, udp, tcp, packet })
    }
}

fn deliver(farewell: &Farewell) {
    let mut deaf = farewell.servers.clone();
    for _ in 0..FAREWELLS {
        farewell.send_to(&mut deaf);
        if deaf.is_empty() {
            return;
        }
        std::thread::sleep(FAREWELL_SPACING);
    }
}

fn over_udp(server: SocketAddr, packet: &[u8]) -> io::Result<()> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any)?.send_to(packet, server).map(drop)
}

/// One frame of PROTOCOL §2.4.
fn over_tcp(server: SocketAddr, packet: &[u8]) -> io::Result<()> {
    let mut frame = u16::try_from(packet.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    frame.extend_from_slice(packet);
    TcpStream::connect_timeout(&server, FAREWELL_SPACING)?.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_understood_and_garbage_is_not() {
        for (udp, tcp) in [(true, false), (false, true), (true, true)] {
            let servers = ["127.0.0.1:61001", "[fd77::1]:61001"].map(|at| at.parse().unwrap());
            let farewell = Farewell { servers: servers.to_vec(), udp, tcp, packet: vec![10, 255] };
            assert_eq!(Farewell::from_line(&farewell.to_line()), Some(farewell));
        }
        for bad in ["", "udp", "udp x", "tcp 1.2.3.4:5 zz", "icmp 1.2.3.4:5 00", "udp , 00"] {
            assert!(Farewell::from_line(bad).is_none(), "{bad}");
        }
    }

    /// Each of them answers only after all have been asked.
    #[test]
    fn addresses_that_do_not_answer_hold_up_no_other() {
        let all: Vec<SocketAddr> =
            (1..=5).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let together = std::sync::Barrier::new(all.len());
        let mut deaf = all.clone();
        at_once(&mut deaf, |server| {
            together.wait();
            server.port() % 2 == 0
        });
        assert_eq!(deaf, [all[0], all[2], all[4]]);
    }

    #[test]
    fn a_farewell_goes_to_every_address_by_every_carrier() {
        use std::io::Read as _;
        let udp = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let servers = udp.iter().map(|socket| socket.local_addr().unwrap()).collect::<Vec<_>>();
        // By TCP one of them is not reached.
        let tcp = std::net::TcpListener::bind(servers[1]).unwrap();
        let farewell = Farewell { servers: servers.clone(), udp: true, tcp: true, packet: vec![7] };
        let mut deaf = servers.clone();
        farewell.send_to(&mut deaf);
        assert_eq!(deaf, servers[..1]);
        for socket in udp {
            assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
        }
        let mut frame = Vec::new();
        tcp.accept().unwrap().0.read_to_end(&mut frame).unwrap();
        assert_eq!(frame, [0, 1, 7]);
    }
}
