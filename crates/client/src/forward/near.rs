//! The near end of a forward: sockets on this machine, listening and connected.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::local::{self, SocketFile};
use host::socket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use transport::flows::{self, Pipe};
use transport::relay::{Ended, relay};

use crate::config::AddressFamily;
use crate::remote::{RemoteStream, Target};

/// A pause after the system refused us a connection, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(local::Stream),
}

impl Socket {
    /// Connects to `target`, to whichever of its addresses answers.
    pub(super) async fn connect(target: &Target) -> io::Result<Self> {
        match target {
            Target::Tcp { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                // Delay is for bulk, which fills its segments anyway.
                let _ = socket.set_nodelay(true);
                Ok(Self::Tcp(socket))
            }
            Target::Unix(path) => Ok(Self::Unix(local::connect(path).await?)),
        }
    }

    /// Carries bytes between this socket and `far` until both have ended.
    pub(super) async fn conduct(self, mut far: RemoteStream) {
        match self {
            Self::Tcp(mut socket) => {
                let (read, write) = socket.split();
                let ended = relay(read, write, &mut *far.read, &mut *far.write).await;
                if ended == Ended::FarBroke {
                    // Closed without lingering a socket resets its connection: the
                    // program here learns what the far one learnt.
                    let _ = socket.set_zero_linger();
                }
            }
            Self::Unix(mut socket) => {
                let (read, write) = local::split(&mut socket);
                relay(read, write, &mut *far.read, &mut *far.write).await;
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => std::pin::Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => std::pin::Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => std::pin::Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => std::pin::Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => std::pin::Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => std::pin::Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: local::Listener, _file: SocketFile },
}

impl Listener {
    /// Accepts connections for ever, through whatever the system refuses us for a while.
    pub(super) async fn accept(&self) -> Socket {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(socket, _)| {
                    let _ = socket.set_nodelay(true);
                    Socket::Tcp(socket)
                }),
                Self::Unix { listener, .. } => {
                    listener.accept().await.map(|(socket, _)| Socket::Unix(socket))
                }
            };
            match accepted {
                Ok(socket) => return socket,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Listens at every address that `host` stands for, by OpenSSH's rules: `None` is the loopback,
/// or everything under GatewayPorts; an empty name or `*` is everything.
///
/// # Errors
/// Those of the last address, if none could be had.
pub(super) async fn listen_tcp(
    host: Option<&str>,
    port: u16,
    gateway_ports: bool,
    family: AddressFamily,
) -> Result<Vec<Listener>, (SocketAddr, io::Error)> {
    let addresses = addresses(host, port, gateway_ports, family).await?;
    bind_all(addresses, |address| socket::listen(address).map(Listener::Tcp))
}

/// Binds datagram sockets at every address that `host` stands for; see [`listen_tcp`].
///
/// # Errors
/// Those of the last address, if none could be had.
pub(super) async fn listen_udp(
    host: Option<&str>,
    port: u16,
    gateway_ports: bool,
    family: AddressFamily,
) -> Result<Vec<UdpSocket>, (SocketAddr, io::Error)> {
    let addresses = addresses(host, port, gateway_ports, family).await?;
    bind_all(addresses, socket::bind_udp)
}

/// Returns the addresses that `host` stands for.
async fn addresses(
    host: Option<&str>,
    port: u16,
    gateway_ports: bool,
    family: AddressFamily,
) -> Result<Vec<SocketAddr>, (SocketAddr, io::Error)> {
    let any = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    let loopback = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let pair = |(v4, v6)| vec![SocketAddr::new(v6, port), SocketAddr::new(v4, port)];
    let addresses = match host {
        None if gateway_ports => pair(any),
        Some("" | "*") => pair(any),
        None | Some("localhost") => pair(loopback),
        Some(name) => match tokio::net::lookup_host((name, port)).await {
            Ok(found) => found.collect(),
            Err(error) => return Err((SocketAddr::new(any.0, port), error)),
        },
    };
    Ok(addresses.into_iter().filter(|address| family.allows(address)).collect())
}

/// Binds what can be bound.
fn bind_all<T>(
    addresses: Vec<SocketAddr>,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, (SocketAddr, io::Error)> {
    let mut failed = None;
    let mut bound = Vec::new();
    for address in addresses {
        match bind(address) {
            Ok(socket) => bound.push(socket),
            Err(error) => failed = Some((address, error)),
        }
    }
    match failed {
        Some(failed) if bound.is_empty() => Err(failed),
        _ => Ok(bound),
    }
}

/// Makes a datagram socket that is connected to a port.
///
/// # Errors
/// The name is unknown, or no address of it has a route.
pub(super) async fn connect_udp(host: &str, port: u16) -> io::Result<UdpSocket> {
    host::udp::connect(tokio::net::lookup_host((host, port)).await?).await
}

/// A connected datagram socket of unix.
pub(super) struct Gram(pub(super) local::Gram);

impl Pipe for Gram {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer).await
    }

    async fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.0.send(payload)
    }
}

/// A datagram socket of unix that others send to; who has no name cannot be answered.
pub(super) struct GramListener(local::GramListener);

impl flows::Socket for GramListener {
    type Peer = Option<PathBuf>;

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Peer)> {
        self.0.recv_from(buffer).await
    }

    async fn send(&self, payload: &[u8], to: &Self::Peer) -> io::Result<()> {
        let to = to.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.0.send_to(payload, to)
    }
}

/// Takes datagrams at a unix socket; see [`listen_unix`].
///
/// # Errors
/// As [`listen_unix`].
pub(super) fn listen_gram(path: &str, mask: u16, unlink: bool) -> io::Result<GramListener> {
    let path = Path::new(path);
    if unlink {
        local::clear_place(path)?;
    }
    local::GramListener::bind(path, mask).map(GramListener)
}

/// Listens at a unix socket whose mode lacks the bits of `mask`.
///
/// # Errors
/// When it cannot be made; without `unlink` also if there is a file in its place.
pub(super) fn listen_unix(path: &str, mask: u16, unlink: bool) -> io::Result<Listener> {
    let path = Path::new(path);
    if unlink {
        local::clear_place(path)?;
    }
    let listener = local::listen(path, mask)?;
    Ok(Listener::Unix { listener, _file: SocketFile::at(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_without_an_address_is_the_loopback_s_in_both_families() {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let listeners = listen_tcp(None, port, false, AddressFamily::Inet).await.expect("free");
        let [Listener::Tcp(listener)] = &listeners[..] else { panic!("{listeners:?}") };
        let address = listener.local_addr().expect("an address");
        assert_eq!(address, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        let again = listen_tcp(None, port, false, AddressFamily::Inet).await;
        let (address_again, error) = again.expect_err("taken");
        assert_eq!((address_again, error.kind()), (address, io::ErrorKind::AddrInUse));
    }
}
