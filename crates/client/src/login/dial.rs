//! Dialling: name to addresses, addresses to one TCP connection.
//!
//! All addresses are tried in the resolver's order, as OpenSSH does; which
//! address answered matters later, because the UDP link starts from it.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::LoginError;
use crate::config::settings::{AddressFamily, Settings};

/// A fresh TCP connection to the ssh server.
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// When the server must have shown its host key (ConnectTimeout).
    pub(super) deadline: Option<Instant>,
}

/// Connects to the first address that answers.
pub(super) async fn dial(settings: &Settings) -> Result<Dialled, LoginError> {
    let addresses = resolve(settings).await?;
    let failed = |error: &io::Error| LoginError::Connect {
        host: settings.host_name.clone(),
        port: settings.port,
        reason: system_words(error),
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for attempt in 0..settings.connection_attempts.max(1) {
        if attempt > 0 {
            // OpenSSH waits a second between attempts, too.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        for &peer in &addresses {
            let deadline = settings.connect_timeout.map(|limit| Instant::now() + limit);
            let socket = socket_for(peer, settings)?;
            let Some(socket) = socket else { continue };
            tracing::debug!(%peer, "connecting");
            let connected = match deadline {
                None => socket.connect(peer).await,
                Some(deadline) => tokio::time::timeout_at(deadline, socket.connect(peer))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            };
            match connected {
                Ok(stream) => {
                    return Ok(Dialled { stream, peer, deadline });
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "no connection");
                    last = error;
                }
            }
        }
    }
    Err(failed(&last))
}

async fn resolve(settings: &Settings) -> Result<Vec<SocketAddr>, LoginError> {
    let failed = |reason: String| LoginError::Resolve { host: settings.host_name.clone(), reason };
    let found = tokio::net::lookup_host((settings.host_name.as_str(), settings.port))
        .await
        .map_err(|error| failed(resolver_words(&error)))?;
    let addresses: Vec<SocketAddr> = found
        .filter(|address| match settings.address_family {
            AddressFamily::Any => true,
            AddressFamily::Inet => address.is_ipv4(),
            AddressFamily::Inet6 => address.is_ipv6(),
        })
        .collect();
    if addresses.is_empty() {
        return Err(failed("Address family for hostname not supported".into()));
    }
    Ok(addresses)
}

/// A socket for `peer`, or `None` if the local address asked for is of the other family.
fn socket_for(peer: SocketAddr, settings: &Settings) -> Result<Option<TcpSocket>, LoginError> {
    let local = settings.bind_address;
    if local.is_some_and(|local| local.is_ipv4() != peer.is_ipv4()) {
        return Ok(None);
    }
    let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket
        .and_then(|socket| {
            // Without this the last small packet of every flight waits for an
            // acknowledgement, which is a round trip.
            socket.set_nodelay(true)?;
            socket.set_keepalive(settings.tcp_keep_alive)?;
            Ok(socket)
        })
        .map_err(|error| LoginError::Connect {
            host: settings.host_name.clone(),
            port: settings.port,
            reason: system_words(&error),
        })?;
    if let Some(address) = local {
        socket
            .bind(SocketAddr::new(address, 0))
            .map_err(|error| LoginError::Bind { address, reason: system_words(&error) })?;
    }
    Ok(Some(socket))
}

/// The system's words for an error, without Rust's "(os error N)".
pub(super) fn system_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
        return "Connection timed out".into();
    }
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.into(),
        None => text,
    }
}

fn resolver_words(error: &io::Error) -> String {
    let text = system_words(error);
    // std puts its own words before those of getaddrinfo(3).
    match text.strip_prefix("failed to lookup address information: ") {
        Some(words) => words.into(),
        None => text,
    }
}
