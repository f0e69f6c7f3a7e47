//! Sockets of UDP that are connected to one peer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

/// Makes a socket that is connected to the first of these addresses there is a route to. Nothing
/// is sent.
///
/// # Errors
/// The last address's, or that there is none.
pub async fn connect(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<UdpSocket> {
    let mut addresses: Vec<SocketAddr> = addresses.into_iter().collect();
    // Nobody answers a connect of UDP, so a second address would never be tried: first the
    // family in which more is listened at, above all for "localhost".
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_two_families_the_older_one_is_connected_to() {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(connect([v6, v4]).await.unwrap().peer_addr().unwrap(), v4);
        assert_eq!(connect([]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
