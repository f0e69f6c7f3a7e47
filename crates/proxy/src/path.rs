//! [`Path`]: one way to the peer, as a value.
//!
//! A path is a carrier plus a local socket plus a remote address. The machines
//! compare and remember paths; only the driver knows the sockets behind them.

use std::net::{IpAddr, SocketAddr};

use crate::socket::PathId;

/// What carries the packets of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// One UDP payload is one packet.
    Udp,
    /// Packets framed by a 16-bit length on a TCP connection (PROTOCOL §2.4).
    Tcp,
}

/// How a path is opened, and what carries its packets then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// What carries them.
    pub carrier: Carrier,
    /// Whether it is a wire that the owner opens, and no socket of this machine.
    pub is_wire: bool,
}

impl Means {
    /// A UDP socket.
    pub const UDP: Self = Self { carrier: Carrier::Udp, is_wire: false };
    /// A TCP connection.
    pub const TCP: Self = Self { carrier: Carrier::Tcp, is_wire: false };

    /// Returns a wire that behaves as this carrier does.
    #[must_use]
    pub const fn wire(carrier: Carrier) -> Self {
        Self { carrier, is_wire: true }
    }

    /// Returns the socket that this carrier needs.
    #[must_use]
    pub const fn socket(carrier: Carrier) -> Self {
        Self { carrier, is_wire: false }
    }
}

/// Names a local socket (a UDP socket, or one TCP connection) to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// Where a packet came from, and where an answer to it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// What carries it.
    pub carrier: Carrier,
    /// The local socket.
    pub socket: SocketId,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The local address the packet was sent to, if the system tells: the
    /// source of answers when the socket is bound to the wildcard address.
    pub local_ip: Option<IpAddr>,
}

impl Route {
    /// Describes a UDP route. The IPv6 flow label is cleared: senders may
    /// change it at will, and it must not make one address look like two.
    #[must_use]
    pub fn udp(socket: SocketId, mut remote: SocketAddr, local_ip: Option<IpAddr>) -> Self {
        if let SocketAddr::V6(v6) = &mut remote {
            v6.set_flowinfo(0);
        }
        Self { carrier: Carrier::Udp, socket, remote, local_ip }
    }

    /// Describes a TCP connection.
    #[must_use]
    pub const fn tcp(socket: SocketId, remote: SocketAddr, local_ip: Option<IpAddr>) -> Self {
        Self { carrier: Carrier::Tcp, socket, remote, local_ip }
    }

    /// Returns whether what was learnt of one network can be expected to hold
    /// on the other: same carrier, same addresses but for the ports.
    #[must_use]
    pub fn same_network(&self, other: &Self) -> bool {
        self.carrier == other.carrier
            && self.remote.ip() == other.remote.ip()
            && self.local_ip == other.local_ip
    }
}

/// A route that was given an id, because the peer showed an auth packet for it
/// (server) or we mean to (client).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Its id, never used again within the process.
    pub id: PathId,
    /// The way there.
    pub route: Route,
}

/// What to do with a packet that was handed to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for the transport.
    Deliver {
        /// The path it came by.
        path: PathId,
        /// Whether that path still has to be proven: the transport must say if
        /// it accepted this packet ([`crate::PacketSocket::packet_accepted`]).
        unproven: bool,
    },
    /// It was for the proxy.
    Consumed,
    /// It is from nobody we know: drop it in silence. A TCP connection that
    /// this is the answer to is closed.
    Refused,
}

/// Where the transport's packets go at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// The path in use.
    pub active: Option<Path>,
    /// A path not yet proven that packets go to as well, as far as `allowance` permits.
    pub pending: Option<Pending>,
}

/// See [`Routes::pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The path.
    pub path: Path,
    /// How many bytes may go there now; report them with `handle_copied`.
    pub allowance_bytes: u64,
}

/// What a proven path changes for the layers above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is the first one.
    First,
    /// It replaces a path that was in use until now.
    Moved {
        /// See [`Route::same_network`].
        same_network: bool,
    },
    /// It ends a time without any path.
    Restored {
        /// See [`Route::same_network`].
        same_network: bool,
    },
}
