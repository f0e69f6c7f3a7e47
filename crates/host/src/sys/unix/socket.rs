//! Sockets that are bound to ports, set up before they are.
//!
//! Those of IPv6 leave IPv4 alone: the other family has a socket of its own.

use std::io;
use std::net::SocketAddr;

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// Listens at `address`.
///
/// # Errors
/// The system's; above all that the port is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds a socket for datagrams, which no program inherits.
///
/// # Errors
/// As [`listen`].
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, CLOEXEC, Some(ipproto::UDP))?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    UdpSocket::from_std(socket.into())
}

/// Marks what a socket of IPv6 sends.
///
/// # Errors
/// The system's.
pub fn set_traffic_class(socket: &TcpSocket, mark: u32) -> io::Result<()> {
    socket.set_tclass_v6(mark)
}

/// Leaves no moment for another thread to start a program, where the system has a flag for it.
#[cfg(target_os = "linux")]
const CLOEXEC: SocketFlags = SocketFlags::CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOEXEC: SocketFlags = SocketFlags::empty();

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn both_families_can_be_listened_at_at_one_port() {
        if std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
            return; // a machine without IPv6
        }
        let tcp = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let _other = listen((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
        let udp = bind_udp((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = udp.local_addr().unwrap().port();
        let _other = bind_udp((Ipv4Addr::UNSPECIFIED, port).into()).unwrap();
    }
}
