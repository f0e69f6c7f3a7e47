//! Things to forward to: small servers on loopback, and how long ports are free.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::process::Process;
use crate::wait::{DEADLINE, wait_for};

/// A stream with two directions that end on their own.
pub trait Duplex: Read + Write + Send + Sized + 'static {
    /// Ends what we send.
    ///
    /// # Panics
    /// When the socket is gone.
    fn finish(&self);
    /// Returns a second handle.
    ///
    /// # Panics
    /// When there are no descriptors left.
    #[must_use]
    fn twin(&self) -> Self;
}

impl Duplex for TcpStream {
    fn finish(&self) {
        self.shutdown(Shutdown::Write).expect("the connection is there");
    }

    fn twin(&self) -> Self {
        self.try_clone().expect("a descriptor is free")
    }
}

impl Duplex for UnixStream {
    fn finish(&self) {
        self.shutdown(Shutdown::Write).expect("the connection is there");
    }

    fn twin(&self) -> Self {
        self.try_clone().expect("a descriptor is free")
    }
}

/// A server that sends everything back, and ends when its client's data ends.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
}

impl Echo {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, Arc::clone(&count));
            }
        });
        Self { address, open }
    }

    /// Starts one on a unix socket.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn start_unix(path: &Path) {
        let listener = UnixListener::bind(path).expect("a socket of the world");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, Arc::default());
            }
        });
    }

    /// Returns its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Sends back whatever comes in by the connections of a listener, wherever that listens.
pub fn serve_echo(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, Arc::default());
        }
    });
}

fn serve(stream: impl Duplex, count: Arc<AtomicUsize>) {
    count.fetch_add(1, Ordering::SeqCst);
    std::thread::spawn(move || {
        let mut reader = stream.twin();
        let mut writer = stream.twin();
        // A client that goes away ends it as well.
        if std::io::copy(&mut reader, &mut writer).is_ok() {
            let _ = writer.flush();
            drop((reader, writer, stream));
        }
        count.fetch_sub(1, Ordering::SeqCst);
    });
}

/// Sends `bytes`, ends its side, and returns all that comes back.
///
/// # Panics
/// When the connection breaks or hangs.
pub fn exchange(mut stream: impl Duplex, bytes: &[u8]) -> Vec<u8> {
    let mut writer = stream.twin();
    let sent = bytes.to_vec();
    let sender = std::thread::spawn(move || {
        writer.write_all(&sent).expect("the connection takes it all");
        writer.finish();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("the connection ends well");
    sender.join().expect("the sender is done");
    got
}

/// Returns a TCP port that was free on all addresses a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    free_port_at(Ipv4Addr::UNSPECIFIED.into())
}

/// Returns a TCP port of this address that was free a moment ago.
///
/// It lies below those that systems take for outgoing connections, of which
/// other tests make many: between this look and its use nobody takes it by chance.
pub(crate) fn free_port_at(address: IpAddr) -> u16 {
    loop {
        let random = RandomState::new().build_hasher().finish();
        let port = u16::try_from(10_000 + random % 20_000).unwrap_or(10_000);
        if TcpListener::bind((address, port)).is_ok() {
            return port;
        }
    }
}

/// Connects to a port as soon as somebody listens there.
///
/// # Panics
/// When nobody does in time.
#[must_use]
pub fn connect(port: u16) -> TcpStream {
    let stream = wait_for(&format!("port {port} is listened at"), || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
    });
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream
}

/// Connects to a unix socket as soon as somebody listens there.
///
/// # Panics
/// When nobody does in time.
#[must_use]
pub fn connect_unix(path: &Path) -> UnixStream {
    let stream = wait_for("the socket is listened at", || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream
}

/// Closes a connection by a reset.
///
/// # Panics
/// When the option cannot be set.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO))
        .expect("a socket option");
    drop(stream);
}

/// Returns how many descriptors a process has open; 0 once it is gone.
#[must_use]
pub fn open_files(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid)).map_or(0, Iterator::count)
}

/// Returns how much memory a process has resident, in bytes; 0 once it is gone.
#[must_use]
pub fn resident_bytes(process: &Process) -> usize {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) * 1024
}
