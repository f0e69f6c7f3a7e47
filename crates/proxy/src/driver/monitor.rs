//! [`Monitor`]: tells that the system's addresses or routes have changed.
//!
//! A hint and no more: what changed is found out by looking. Linux only so
//! far, by rtnetlink; elsewhere the client learns of a change when it sends
//! and is not answered.

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::AsRawFd;

    use nix::libc;
    use nix::sys::socket::{
        AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
    };
    use tokio::net::UdpSocket;

    /// Links too: when one goes down, its IPv4 routes go without a word.
    const GROUPS: i32 = libc::RTMGRP_LINK
        | libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV6_ROUTE;

    /// Longest burst of messages read in one call; what they say is not looked at.
    const BURST: usize = 8192;

    #[derive(Debug)]
    pub(in super::super) struct Monitor {
        /// Not of UDP, but datagrams are read alike, and what knows how to wait
        /// for any descriptor wants unsafe code.
        socket: UdpSocket,
    }

    impl Monitor {
        /// Begins to listen. Must be called within a tokio runtime.
        pub(in super::super) fn start() -> io::Result<Self> {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let route = SockProtocol::NetlinkRoute;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, route)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.cast_unsigned()))?;
            Ok(Self { socket: UdpSocket::from_std(socket.into())? })
        }

        /// Waits until something has changed since the last call.
        ///
        /// # Cancel safety
        /// Nothing is lost if the future is dropped.
        pub(in super::super) async fn changed(&self) -> io::Result<()> {
            self.socket.readable().await?;
            let mut burst = [0; BURST];
            loop {
                match self.socket.try_recv(&mut burst) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    // Too many at once for the system to keep: changes, all the same.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;

    #[derive(Debug)]
    pub(in super::super) struct Monitor;

    impl Monitor {
        /// There is none yet.
        pub(in super::super) fn start() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// Waits for ever.
        pub(in super::super) async fn changed(&self) -> io::Result<()> {
            std::future::pending().await
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::Monitor;
#[cfg(target_os = "linux")]
pub(super) use linux::Monitor;
