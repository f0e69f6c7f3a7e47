//! [`Relay`]: a network path between a client and a server, in this process.
//!
//! It can be slow (a delay each way), cut (nothing passes, nothing is
//! refused: what a dead radio link looks like) and re-addressed (the server
//! sees another source port, as after a NAT forgot its mapping).
//!
//! Not here: loss, reordering, rates; those need the simulator or namespaces.
//! A delay is emulated above the kernel, so the three-way handshake of TCP,
//! which the kernel finishes at once, is paid for by holding a new connection
//! back as long as a real one would have taken.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a relay carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayKind {
    /// UDP packets; while cut they are lost.
    Udp,
    /// TCP connections; while cut they stand still, as retransmission makes up for what is lost.
    Tcp,
}

/// A path through this process to the port named in a file.
#[derive(Debug)]
pub struct Relay {
    kind: RelayKind,
    port: u16,
    link: Arc<Link>,
}

impl Relay {
    /// Starts a relay on a free loopback port.
    ///
    /// `target` is a file that holds the server's port; it is read for each new
    /// path, so it may appear later and change between sessions.
    pub(crate) fn start(kind: RelayKind, target: PathBuf) -> Self {
        let link = Arc::new(Link { target, state: Mutex::default(), changed: Condvar::new() });
        let port = match kind {
            RelayKind::Udp => relay_packets(Arc::clone(&link)),
            RelayKind::Tcp => relay_connections(Arc::clone(&link)),
        };
        Self { kind, port, link }
    }

    /// Returns the port clients have to use.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets everything take `delay` longer, in each direction.
    pub fn set_delay(&self, delay: Duration) {
        self.link.lock().delay = delay;
    }

    /// Lets nothing pass any more.
    pub fn cut(&self) {
        self.link.lock().cut = true;
    }

    /// Ends what [`Relay::cut`] began.
    pub fn mend(&self) {
        self.link.lock().cut = false;
        self.link.changed.notify_all();
    }

    /// Abandons every present path: what comes next has another source port.
    ///
    /// TCP connections are broken, since none survives a change of address.
    pub fn change_address(&self) {
        let mut state = self.link.lock();
        state.generation += 1;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns how many paths (source ports at the server) there have been.
    #[must_use]
    pub fn paths(&self) -> usize {
        self.link.lock().paths
    }

    /// Returns how many packets (reads, for TCP) have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.link.lock().passed
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.link.lock().stopped = true;
        self.change_address();
        self.mend();
        if self.kind == RelayKind::Tcp {
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(loopback(self.port));
        }
    }
}

/// What the relay's threads share.
#[derive(Debug)]
struct Link {
    target: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    cut: bool,
    stopped: bool,
    /// Grows with each change of address; older paths end.
    generation: u64,
    paths: usize,
    passed: u64,
    streams: Vec<TcpStream>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the server's address, once it is known.
    fn target(&self) -> Option<SocketAddr> {
        let port = fs::read_to_string(&self.target).ok()?.trim().parse().ok()?;
        Some(loopback(port))
    }

    /// Returns when something that enters now comes out, or `None` when it is lost.
    fn pass(&self) -> Option<Instant> {
        let mut state = self.lock();
        if state.cut || state.stopped {
            return None;
        }
        state.passed += 1;
        Some(Instant::now() + state.delay)
    }

    /// Waits until the link is not cut; `false` when the relay has been stopped.
    fn wait_until_whole(&self) -> bool {
        let mut state = self.lock();
        while state.cut && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.stopped
    }

    fn is_over(&self, generation: u64) -> bool {
        let state = self.lock();
        state.stopped || state.generation != generation
    }
}

/// Bytes and when they come out of the link.
type Due = (Instant, Vec<u8>);

/// Hands each item on when it is due, in order, until the sender is gone or `send` fails.
fn deliver(items: &Receiver<Due>, mut send: impl FnMut(&[u8]) -> std::io::Result<()>) {
    for (due, bytes) in items {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if send(&bytes).is_err() {
            return;
        }
    }
}

/// How often a thread that waits for packets looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

fn relay_packets(link: Arc<Link>) -> u16 {
    let front = UdpSocket::bind(loopback(0)).expect("a UDP port on loopback");
    let port = front.local_addr().expect("a bound socket has an address").port();
    front.set_read_timeout(Some(LOOK_UP)).expect("a socket can have a timeout");
    thread::spawn(move || {
        let mut paths: HashMap<SocketAddr, (u64, Sender<Due>)> = HashMap::new();
        let mut packet = [0; 65536];
        while !link.lock().stopped {
            let Ok((len, client)) = front.recv_from(&mut packet) else { continue };
            let Some(due) = link.pass() else { continue };
            let generation = link.lock().generation;
            let current = paths.get(&client).filter(|path| path.0 == generation);
            let path = match current {
                Some((_, path)) => path.clone(),
                None => match open_path(&link, &front, client, generation) {
                    Some(path) => path,
                    None => continue,
                },
            };
            let _ = path.send((due, packet[..len].to_vec()));
            paths.insert(client, (generation, path));
        }
    });
    port
}

/// Opens a socket towards the server for one client, and the threads of both directions.
fn open_path(
    link: &Arc<Link>,
    front: &UdpSocket,
    client: SocketAddr,
    generation: u64,
) -> Option<Sender<Due>> {
    let back = UdpSocket::bind(loopback(0)).ok()?;
    back.connect(link.target()?).ok()?;
    back.set_read_timeout(Some(LOOK_UP)).ok()?;
    let front = front.try_clone().ok()?;
    link.lock().paths += 1;

    let (up, up_items) = channel();
    let sender = back.try_clone().ok()?;
    // A send error is the server's port being closed: a NAT would not tell either.
    thread::spawn(move || deliver(&up_items, |bytes| sender.send(bytes).map(drop).or(Ok(()))));

    let (down, down_items) = channel();
    thread::spawn(move || {
        deliver(&down_items, |bytes| front.send_to(bytes, client).map(drop).or(Ok(())));
    });
    let link = Arc::clone(link);
    thread::spawn(move || {
        let mut packet = [0; 65536];
        while !link.is_over(generation) {
            let Ok(len) = back.recv(&mut packet) else { continue };
            if let Some(due) = link.pass() {
                let _ = down.send((due, packet[..len].to_vec()));
            }
        }
    });
    Some(up)
}

fn relay_connections(link: Arc<Link>) -> u16 {
    let listener = TcpListener::bind(loopback(0)).expect("a TCP port on loopback");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            if !link.wait_until_whole() {
                return;
            }
            open_connection(Arc::clone(&link), client);
        }
    });
    port
}

/// Relays one connection, as if SYN, SYN-ACK and ACK had had to travel too.
///
/// With a one-way delay d a client hears of its connection after 2d, the
/// server after 3d. So what the client sends earlier counts as sent at 2d,
/// and the server is connected to at 3d.
fn open_connection(link: Arc<Link>, client: TcpStream) {
    let delay = link.lock().delay;
    let established = Instant::now() + 2 * delay;
    let _ = client.set_nodelay(true);
    let (up, up_items) = channel();
    let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else { return };
    link.lock().streams.push(client);
    let reader_link = Arc::clone(&link);
    thread::spawn(move || pump(&reader_link, from_client, &up, established));
    thread::spawn(move || {
        thread::sleep((established + delay).saturating_duration_since(Instant::now()));
        let Some(server) = link.target().and_then(|to| TcpStream::connect(to).ok()) else {
            let _ = to_client.shutdown(Shutdown::Both);
            return;
        };
        let _ = server.set_nodelay(true);
        let (Ok(from_server), Ok(kept)) = (server.try_clone(), server.try_clone()) else { return };
        let mut state = link.lock();
        state.paths += 1;
        state.streams.push(kept);
        drop(state);
        let (down, down_items) = channel();
        thread::spawn(move || pump(&link, from_server, &down, established));
        thread::spawn(move || write_all(&down_items, to_client));
        write_all(&up_items, server);
    });
}

/// Reads a connection into the link until it ends.
fn pump(link: &Link, mut from: TcpStream, into: &Sender<Due>, not_before: Instant) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(len) = from.read(&mut chunk) {
        if len == 0 {
            return;
        }
        let due = loop {
            if !link.wait_until_whole() {
                return;
            }
            if let Some(due) = link.pass() {
                break due;
            }
        };
        let delay = link.lock().delay;
        if into.send((due.max(not_before + delay), chunk[..len].to_vec())).is_err() {
            return;
        }
    }
}

/// Writes what comes out of the link; then tells the other end that there is no more.
fn write_all(items: &Receiver<Due>, mut to: TcpStream) {
    deliver(items, |bytes| to.write_all(bytes));
    let _ = to.shutdown(Shutdown::Write);
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
