//! `dial`: an outgoing TCP or unix connection (PROTOCOL §6.6).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proto::open::{CODE_PROHIBITED, DialMessage, DialResponse, NO_ERROR, TcpAddr};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use transport::{RecvStream, SendStream};

use crate::config::policy::Target;
use crate::config::{Policy, Refusal};
use crate::forward::farewell::{Farewell, Farewells};
use crate::forward::socket::{PRIORITY, Socket, conduct, split};
use transport::frames::{self, ReadError};

/// What an address has before the next is tried beside it (RFC 8305 §8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("network {0:?} cannot be dialled")]
    Network(String),
    #[error("{0:?} is not HOST:PORT")]
    Address(String),
    #[error("cannot connect to {to}: {error}")]
    Connect { to: String, error: io::Error },
}

impl DialError {
    /// Returns the code that the client is told.
    pub(super) fn code(&self) -> u32 {
        if matches!(self, Self::Refused(_)) { CODE_PROHIBITED } else { 0 }
    }
}

/// Where a client wants to be connected to, as far as that is permitted.
pub(super) struct Destination<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// Which of the host's addresses are meant.
    pub(super) wants: fn(&SocketAddr) -> bool,
}

impl<'a> Destination<'a> {
    /// Reads a message, whose network has one of the names `of`: of either family, of IPv4 and of
    /// IPv6.
    pub(super) fn read(
        policy: &Policy,
        message: &'a DialMessage,
        of: [&str; 3],
    ) -> Result<Self, DialError> {
        let wants = match of.iter().position(|name| *name == message.net) {
            Some(0) => |_: &SocketAddr| true,
            Some(1) => SocketAddr::is_ipv4,
            Some(2) => SocketAddr::is_ipv6,
            _ => return Err(DialError::Network(message.net.chars().take(40).collect())),
        };
        let (host, port) = split(&message.addr)
            .ok_or_else(|| DialError::Address(message.addr.chars().take(300).collect()))?;
        policy.permits_dial(Target::Tcp(host, port))?;
        Ok(Self { host, port, wants })
    }
}

/// Serves a `dial` stream behind its hello.
pub(crate) async fn serve(
    policy: &Policy,
    farewells: &Farewells,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ReadError> {
    let message: DialMessage = frames::read_message(&mut recv).await?;
    send.set_priority(PRIORITY);
    let response = |remote_addr| DialResponse { code: 0, msg: NO_ERROR.into(), remote_addr };
    match dial(policy, &message).await {
        Ok(Socket::Tcp(stream)) => {
            let address = stream.peer_addr().ok();
            let _farewell = address.and_then(|to| {
                farewells.keep(Farewell { to, is_tcp: true, bytes: message.farewell.0 })
            });
            let address = address.map(|address| TcpAddr {
                ip: address.ip().to_string(),
                port: address.port(),
                zone: String::new(),
            });
            frames::write_message(&mut send, &response(address)).await?;
            conduct(Socket::Tcp(stream), send, recv).await;
        }
        Ok(Socket::Unix(stream)) => {
            frames::write_message(&mut send, &response(None)).await?;
            conduct(Socket::Unix(stream), send, recv).await;
        }
        Err(error) => {
            let (code, msg) = (error.code(), error.to_string());
            let refusal = DialResponse { code, msg, remote_addr: None };
            frames::write_message(&mut send, &refusal).await?;
        }
    }
    Ok(())
}

async fn dial(policy: &Policy, message: &DialMessage) -> Result<Socket, DialError> {
    let failed = |error| DialError::Connect { to: message.addr.clone(), error };
    let connect = async {
        if message.net == "unix" {
            policy.permits_dial(Target::Unix)?;
            return Ok(Socket::Unix(UnixStream::connect(&message.addr).await.map_err(failed)?));
        }
        let to = Destination::read(policy, message, ["tcp", "tcp4", "tcp6"])?;
        let Destination { host, port, wants } = to;
        let found = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
        let stream = connect_any(found.filter(wants)).await.map_err(failed)?;
        // Delay is for bulk, which fills its segments anyway.
        let _ = stream.set_nodelay(true);
        Ok(Socket::Tcp(stream))
    };
    if message.timeout.is_zero() {
        return connect.await;
    }
    let timed_out = |_| failed(io::Error::from(io::ErrorKind::TimedOut));
    timeout(message.timeout, connect).await.map_err(timed_out)?
}

/// Connects to the first of the addresses that answers; those that say nothing hold up none.
async fn connect_any(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        let next = addresses.next();
        let may_be_more = next.is_some();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(_)) => {}
                None => return Err(last),
            },
            () = sleep(HEAD_START), if may_be_more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_says_nothing_does_not_hold_up_the_others() {
        // A queue that is full: further connections are not answered.
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(0).unwrap();
        let mut silent = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(300), TcpStream::connect(full.local_addr().unwrap()))
                .await
        {
            silent.push(stream);
        }
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let addresses = [full.local_addr().unwrap(), closed, open.local_addr().unwrap()];
        let stream = timeout(Duration::from_secs(60), connect_any(addresses.into_iter())).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), open.local_addr().unwrap());
        assert!(connect_any([closed].into_iter()).await.is_err());
        assert!(connect_any(std::iter::empty()).await.is_err());
    }
}
