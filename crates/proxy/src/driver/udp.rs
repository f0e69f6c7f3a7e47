//! [`UdpPort`]: one UDP socket with offloads, marked and sized as the protocol says.
//!
//! Reading goes through quinn-udp (batches, GRO). Sending does not: quinn-udp
//! writes its own traffic class into every packet and would erase the DSCP
//! mark of PROTOCOL §2.6, so segment offload is asked for here.
//!
//! The kernel may fragment what we send (DESIGN D16): packets of 1400 bytes
//! meet links of 1280, and without path MTU discovery above us a packet that
//! is too big would vanish for good.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::path::Route;
use crate::socket::Transmit;

/// Send and receive buffer (PROTOCOL §2.6).
const BUFFER_BYTES: usize = 1024 * 1024;
/// DSCP 46, expedited forwarding, in its place in the IPv4 TOS byte (PROTOCOL §2.6).
const TOS_V4: u32 = 46 << 2;
/// IPv6 carries the number unshifted, as the reference does (PROTOCOL §2.6).
#[cfg(not(windows))]
const TCLASS_V6: u32 = 46;

/// One UDP socket.
#[derive(Debug)]
pub(super) struct UdpPort {
    io: UdpSocket,
    offload: UdpSocketState,
    /// The peer's address, if the socket is connected.
    connected: Option<SocketAddr>,
    /// Whether the kernel segments for us; cleared when it refuses.
    segments: AtomicBool,
}

/// What one read brought.
pub(super) type Received = io::Result<usize>;

impl UdpPort {
    /// Binds a new port of the unspecified address and connects it to `remote`,
    /// so that ICMP errors reach us and strangers' packets don't.
    pub(super) fn connect(remote: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(remote)?;
        Self::new(socket, Some(remote))
    }

    /// Takes over a bound socket that serves any remote address.
    pub(super) fn bound(socket: std::net::UdpSocket) -> io::Result<Self> {
        Self::new(socket, None)
    }

    fn new(socket: std::net::UdpSocket, connected: Option<SocketAddr>) -> io::Result<Self> {
        let offload = UdpSocketState::new((&socket).into())?;
        tune(&socket);
        let segments = AtomicBool::new(offload.max_gso_segments() > 1 && cfg!(target_os = "linux"));
        Ok(Self { io: UdpSocket::from_std(socket)?, offload, connected, segments })
    }

    /// Returns the local address.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Marks what is sent from now on with a traffic class.
    pub(super) fn mark(&self, class: u8) {
        mark(&self.io, self.io.local_addr(), class);
    }

    /// How many packets one receive buffer may come back with.
    pub(super) fn receive_segments(&self) -> usize {
        self.offload.gro_segments()
    }

    /// Reads a batch; `meta` must be at least as long as `bufs`.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta; BATCH_SIZE],
    ) -> Poll<Received> {
        let count = bufs.len().min(BATCH_SIZE);
        loop {
            std::task::ready!(self.io.poll_recv_ready(cx))?;
            let read = self.io.try_io(Interest::READABLE, || {
                self.offload.recv((&self.io).into(), &mut bufs[..count], meta)
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Becomes ready when the send buffer has room. One task may wait.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(cx)
    }

    /// Sends all packets of `transmit` along `route`.
    ///
    /// # Errors
    /// `WouldBlock` if the first found no room; a later one is lost instead,
    /// because the caller would send all of them again.
    pub(super) fn send(&self, route: &Route, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(size) = transmit.segment_size
            && transmit.contents.len() > size
            && self.segments.load(Ordering::Relaxed)
        {
            match self.send_one(route, transmit.contents, Some(size)) {
                // The device can't, or the segments exceed its MTU: the kernel
                // does not fragment what it segments.
                Err(error) if refuses_offload(&error) => {
                    tracing::debug!(%error, "segmentation offload refused");
                    self.segments.store(false, Ordering::Relaxed);
                }
                sent => return sent,
            }
        }
        let mut packets = transmit.packets();
        let Some(first) = packets.next() else { return Ok(()) };
        self.send_one(route, first, None)?;
        for packet in packets {
            match self.send_one(route, packet, None) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                sent => sent?,
            }
        }
        Ok(())
    }

    fn send_one(&self, route: &Route, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        // Not through tokio's `try_io`: it refuses until the event loop has
        // seen the socket, and the first auth packet would be lost.
        let sent = self.send_now(route, contents, segment);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            // Has tokio wait for the next event instead of believing the last.
            return self.io.try_io(Interest::WRITABLE, || sent);
        }
        sent
    }

    #[cfg(target_os = "linux")]
    fn send_now(&self, route: &Route, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        use nix::libc;
        use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
        use std::os::fd::AsRawFd;

        let segment = segment.and_then(|size| u16::try_from(size).ok());
        let to = self.connected.is_none().then(|| SockaddrStorage::from(route.remote));
        let source_v4 = match route.local_ip {
            Some(IpAddr::V4(ip)) if to.is_some() => Some(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            _ => None,
        };
        let source_v6 = match route.local_ip {
            Some(IpAddr::V6(ip)) if to.is_some() => Some(libc::in6_pktinfo {
                ipi6_ifindex: 0,
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
            }),
            _ => None,
        };
        let control: Vec<ControlMessage<'_>> = [
            segment.as_ref().map(ControlMessage::UdpGsoSegments),
            source_v4.as_ref().map(ControlMessage::Ipv4PacketInfo),
            source_v6.as_ref().map(ControlMessage::Ipv6PacketInfo),
        ]
        .into_iter()
        .flatten()
        .collect();
        let iov = [io::IoSlice::new(contents)];
        sendmsg(self.io.as_raw_fd(), &iov, &control, MsgFlags::empty(), to.as_ref())?;
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn send_now(&self, route: &Route, contents: &[u8], _segment: Option<usize>) -> io::Result<()> {
        let socket = SockRef::from(&self.io);
        match self.connected {
            Some(_) => socket.send(contents)?,
            None => socket.send_to(contents, &route.remote.into())?,
        };
        Ok(())
    }
}

/// Returns the address of ours that packets to `remote` leave from. Nothing is sent.
pub(super) fn source_to(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether a send error is this one packet's, not the path's: it is a lost packet.
pub(super) fn is_loss(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::Interrupted {
        return true;
    }
    #[cfg(target_os = "linux")]
    {
        use nix::libc;
        matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM | libc::EMSGSIZE))
    }
    #[cfg(not(target_os = "linux"))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

#[cfg(target_os = "linux")]
fn refuses_offload(error: &io::Error) -> bool {
    use nix::libc;
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP)
    )
}

#[cfg(not(target_os = "linux"))]
const fn refuses_offload(_error: &io::Error) -> bool {
    true
}

/// Marks what a socket sends from now on; a system that refuses takes away quality, not function.
pub(super) fn mark<'s, S>(socket: &'s S, local: io::Result<SocketAddr>, class: u8)
where
    SockRef<'s>: From<&'s S>,
{
    let options = SockRef::from(socket);
    let result = match local {
        Ok(SocketAddr::V4(_)) => options.set_tos_v4(class.into()),
        #[cfg(not(windows))]
        Ok(SocketAddr::V6(_)) => options.set_tclass_v6(class.into()),
        #[cfg(windows)]
        Ok(SocketAddr::V6(_)) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::debug!(%error, class, "cannot mark packets");
    }
}

/// Sets buffers, DSCP and fragmentation. What a system refuses is a loss of
/// quality, not of function, so it is noted and no more.
fn tune(socket: &std::net::UdpSocket) {
    let note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            tracing::debug!(%error, "cannot set {what}");
        }
    };
    let options = SockRef::from(socket);
    note("receive buffer", options.set_recv_buffer_size(BUFFER_BYTES));
    note("send buffer", options.set_send_buffer_size(BUFFER_BYTES));
    match socket.local_addr() {
        Ok(SocketAddr::V4(_)) => {
            note("DSCP", options.set_tos_v4(TOS_V4));
            #[cfg(target_os = "linux")]
            note(
                "fragmentation",
                rustix::net::sockopt::set_ip_mtu_discover(
                    socket,
                    rustix::net::sockopt::Ipv4PathMtuDiscovery::DONT,
                )
                .map_err(Into::into),
            );
        }
        Ok(SocketAddr::V6(_)) => {
            #[cfg(not(windows))]
            note("DSCP", options.set_tclass_v6(TCLASS_V6));
            #[cfg(target_os = "linux")]
            {
                use nix::sys::socket::{setsockopt, sockopt::Ipv6DontFrag};
                note(
                    "fragmentation",
                    rustix::net::sockopt::set_ipv6_mtu_discover(
                        socket,
                        rustix::net::sockopt::Ipv6PathMtuDiscovery::DONT,
                    )
                    .map_err(Into::into),
                );
                note("fragmentation", setsockopt(socket, Ipv6DontFrag, &false).map_err(Into::into));
            }
        }
        Err(error) => note("DSCP", Err(error)),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover,
    };

    #[tokio::test]
    async fn socket_is_marked_and_lets_the_kernel_fragment() {
        let port = UdpPort::connect(([127, 0, 0, 1], 9).into()).unwrap();
        assert_eq!(SockRef::from(&port.io).tos_v4().unwrap(), 0xb8);
        port.mark(0x48);
        assert_eq!(SockRef::from(&port.io).tos_v4().unwrap(), 0x48);
        assert_eq!(ip_mtu_discover(&port.io).unwrap(), Ipv4PathMtuDiscovery::DONT);

        // Where there is no IPv6 there is nothing to show.
        let Ok(socket) = std::net::UdpSocket::bind("[::1]:0") else { return };
        let port = UdpPort::bound(socket).unwrap();
        assert_eq!(SockRef::from(&port.io).tclass_v6().unwrap(), 0x2e);
        port.mark(0x48);
        assert_eq!(SockRef::from(&port.io).tclass_v6().unwrap(), 0x48);
        assert_eq!(ipv6_mtu_discover(&port.io).unwrap(), Ipv6PathMtuDiscovery::DONT);
        let no_fragments = nix::sys::socket::sockopt::Ipv6DontFrag;
        assert!(!nix::sys::socket::getsockopt(&port.io, no_fragments).unwrap());
    }
}
