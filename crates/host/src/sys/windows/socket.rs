//! Sockets that are bound to ports.
//!
//! Those of IPv6 leave IPv4 alone, which is the system's way unless told otherwise. An address
//! is not reused: here that would let others take it from us.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// Listens at `address`.
///
/// # Errors
/// The system's; above all that the port is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds a socket for datagrams.
///
/// # Errors
/// As [`listen`].
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// Does nothing: Windows leaves the marks of IPv6 to its administrators.
///
/// # Errors
/// None.
pub fn set_traffic_class(_: &TcpSocket, _: u32) -> io::Result<()> {
    Ok(())
}
