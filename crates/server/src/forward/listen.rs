//! `listen` and `accept`: remote listeners and their connections (PROTOCOL §6.7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use host::local::{self, SocketFile};
use host::socket;
use proto::open::{CODE_PROHIBITED, IdMessage, ListenMessage, ListenResponse, NO_ERROR, Outcome};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use transport::frames::{self, ReadError};
use transport::{RecvStream, SendStream};

use super::parked::Parked;
use super::socket::{PRIORITY, Socket, conduct, split};
use crate::config::policy::{GatewayPorts, Target};
use crate::config::{Policy, Refusal};

/// A pause after the system refused us a connection, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("network {0:?} cannot be listened on")]
    Network(String),
    #[error("{0:?} is not HOST:PORT")]
    Address(String),
    #[error("cannot listen on {at}: {error}")]
    Bind { at: String, error: io::Error },
}

/// Where a client wants to be listened for, as far as that is permitted.
pub(super) struct Places {
    addresses: Vec<IpAddr>,
    port: u16,
}

impl Places {
    /// Reads a message, whose network has one of the names `of`: of either family, of IPv4 and of
    /// IPv6.
    pub(super) async fn read(
        policy: &Policy,
        message: &ListenMessage,
        of: [&str; 3],
    ) -> Result<Self, ListenError> {
        let wants = match of.iter().position(|name| *name == message.net) {
            Some(0) => |_: &IpAddr| true,
            Some(1) => IpAddr::is_ipv4,
            Some(2) => IpAddr::is_ipv6,
            _ => return Err(ListenError::Network(message.net.chars().take(40).collect())),
        };
        let (host, port) = split(&message.addr)
            .ok_or_else(|| ListenError::Address(message.addr.chars().take(300).collect()))?;
        policy.permits_listen(Target::Tcp(host, port))?;
        let found = addresses(host, policy.gateway_ports()).await;
        let found = found.map_err(|error| ListenError::Bind { at: message.addr.clone(), error })?;
        Ok(Self { addresses: found.into_iter().filter(wants).collect(), port })
    }

    /// Binds every address that can be bound, all at one port; `place` tells a socket's.
    ///
    /// # Errors
    /// That of the last address, if none could be bound.
    pub(super) fn bind<T>(
        self,
        bind: impl Fn(SocketAddr) -> io::Result<T>,
        place: impl Fn(&T) -> io::Result<SocketAddr>,
    ) -> io::Result<Vec<T>> {
        let Self { addresses, mut port } = self;
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let mut sockets = Vec::new();
        for address in addresses {
            match bind(SocketAddr::new(address, port)) {
                Ok(socket) => {
                    // Where the system chooses, it chooses once.
                    port = place(&socket).map_or(port, |place| place.port());
                    sockets.push(socket);
                }
                Err(error) => failed = error,
            }
        }
        if sockets.is_empty() { Err(failed) } else { Ok(sockets) }
    }
}

/// Tells the client what came of its request to listen; returns what did, if anything. `place`
/// is where that is, for a client that wants to know the port it was given.
pub(super) async fn answer<T>(
    send: &mut SendStream,
    message: &ListenMessage,
    bound: Result<T, ListenError>,
    place: impl FnOnce(&T) -> Option<SocketAddr>,
) -> Result<Option<T>, ReadError> {
    let (bound, response) = match bound {
        Ok(bound) => {
            let asked = message.addr.rsplit_once(':').is_some_and(|(_, port)| port == "0");
            let port = place(&bound).filter(|_| asked).map_or(0, |place| place.port());
            (Some(bound), ListenResponse { code: 0, msg: NO_ERROR.into(), port })
        }
        Err(error) => {
            let code = if matches!(error, ListenError::Refused(_)) { CODE_PROHIBITED } else { 0 };
            (None, ListenResponse { code, msg: error.to_string(), port: 0 })
        }
    };
    frames::write_message(send, &response).await?;
    Ok(bound)
}

/// Serves a `listen` stream behind its hello, until the client closes it.
pub(crate) async fn serve(
    policy: &Policy,
    parked: &Parked<Socket>,
    tells_port: bool,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let message: ListenMessage = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let bound = listen(policy, &message).await;
    let place = |listeners: &Vec<Listener>| listeners.first()?.place().filter(|_| tells_port);
    let Some(listeners) = answer(&mut send, &message, bound, place).await? else { return Ok(()) };
    // One place each: every listener holds its own while it waits.
    let (accepted, mut sockets) = mpsc::channel(listeners.len().max(1));
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept_all(listener, accepted.clone()));
    }
    // Nothing more is said on it: whatever comes is its end.
    let mut end = [0];
    loop {
        let Some(place) = parked.room().await else { return Ok(()) };
        tokio::select! {
            Some(socket) = sockets.recv() => {
                let id = parked.park(socket, place);
                frames::write_message(&mut send, &IdMessage { id }).await?;
            }
            _ = recv.read(&mut end) => return Ok(()),
        }
    }
}

/// Serves an `accept` stream behind its hello.
pub(crate) async fn claim(
    parked: &Parked<Socket>,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let IdMessage { id } = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let Some(socket) = parked.claim(id) else {
        let refusal = Outcome::failure(format!("no connection {id} waits to be claimed"));
        return Ok(frames::write_message(&mut send, &refusal).await?);
    };
    frames::write_message(&mut send, &Outcome::success()).await?;
    conduct(socket, send, recv).await;
    Ok(())
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Listener {
    /// Returns the address of a port.
    fn place(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Accepts the next connection, through whatever the system refuses us for a while.
    pub(crate) async fn accept(&self) -> Socket {
        loop {
            let socket = match self {
                Self::Tcp(listener) => listener.accept().await.map(|(socket, _)| {
                    // Delay is for bulk, which fills its segments anyway.
                    let _ = socket.set_nodelay(true);
                    Socket::Tcp(socket)
                }),
                Self::Unix { listener, .. } => {
                    listener.accept().await.map(|(socket, _)| Socket::Unix(socket))
                }
            };
            match socket {
                Ok(socket) => return socket,
                Err(error) => {
                    tracing::debug!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Hands on every connection of a listener.
pub(super) async fn accept_all(listener: Listener, accepted: mpsc::Sender<Socket>) {
    // Room first: what nobody can take waits in the system's queue.
    while let Ok(place) = accepted.reserve().await {
        place.send(listener.accept().await);
    }
}

async fn listen(policy: &Policy, message: &ListenMessage) -> Result<Vec<Listener>, ListenError> {
    let failed = |error| ListenError::Bind { at: message.addr.clone(), error };
    if message.net == "unix" {
        policy.permits_listen(Target::Unix)?;
        let (mask, unlink) = policy.stream_local_bind();
        return Ok(vec![listen_unix(&message.addr, mask, unlink).map_err(failed)?]);
    }
    let places = Places::read(policy, message, ["tcp", "tcp4", "tcp6"]).await?;
    let listeners = places.bind(socket::listen, TcpListener::local_addr).map_err(failed)?;
    Ok(listeners.into_iter().map(Listener::Tcp).collect())
}

/// Returns the addresses that sshd would bind for `host`.
async fn addresses(host: &str, gateway: GatewayPorts) -> io::Result<Vec<IpAddr>> {
    let loopback = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    let any = vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    Ok(match (gateway, host) {
        // These may be asked for in any case, to choose a family.
        (GatewayPorts::No, "127.0.0.1") => vec![Ipv4Addr::LOCALHOST.into()],
        (GatewayPorts::No, "::1") => vec![Ipv6Addr::LOCALHOST.into()],
        (GatewayPorts::No, _) | (GatewayPorts::ClientSpecified, "localhost") => loopback,
        (GatewayPorts::Yes, _) | (GatewayPorts::ClientSpecified, "" | "*") => any,
        (GatewayPorts::ClientSpecified, name) => {
            tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()
        }
    })
}

/// Listens at a unix socket whose mode lacks the bits of `mask`.
pub(crate) fn listen_unix(path: &str, mask: u16, unlink: bool) -> io::Result<Listener> {
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
    async fn gateway_ports_decides_about_the_address_as_in_sshd() {
        use GatewayPorts::{ClientSpecified, No, Yes};
        let (v4, v6) = ("127.0.0.1", "::1");
        let (any4, any6) = ("0.0.0.0", "::");
        for (gateway, host, want) in [
            (No, "localhost", &[v6, v4][..]),
            (No, "", &[v6, v4]),
            (No, "10.0.0.1", &[v6, v4]),
            (No, "127.0.0.1", &[v4]),
            (No, "::1", &[v6]),
            (Yes, "localhost", &[any6, any4]),
            (Yes, "10.0.0.1", &[any6, any4]),
            (ClientSpecified, "localhost", &[v6, v4]),
            (ClientSpecified, "*", &[any6, any4]),
            (ClientSpecified, "", &[any6, any4]),
            (ClientSpecified, "10.0.0.1", &["10.0.0.1"]),
        ] {
            let got = addresses(host, gateway).await.unwrap();
            let want: Vec<IpAddr> = want.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(got, want, "{gateway:?} {host}");
        }
    }
}
