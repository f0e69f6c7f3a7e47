//! Two hosts, joined by links as bad as a test asks for.
//!
//! The hosts, [`Side::Client`] and [`Side::Server`], are network namespaces:
//! any program runs in them unchanged. Between them are one or more links,
//! each a TUN device at both ends with this process in the middle, which
//! decides per direction what becomes of a packet ([`Conditions`]), and where
//! asked for plays the address translator of a home network ([`NatConfig`]).
//! With several links the client can roam. Everything may be changed while
//! traffic flows, and luck is decided by a seed.
//!
//! [`Pipe`] (one direction) and [`Network`] (all links) are sans-IO: packets
//! and time go in, packets come out. The driver (Linux, root) is [`Lab`]: it
//! makes the hosts, moves packets on a thread of its own and keeps time to a
//! few tens of microseconds. The program `netlab` is the same by hand.
//!
//! Not here: anything about tssh; what happens above IP; links between more
//! than two hosts. A dev-only crate.
//!
//! Addresses: on link `n` the client is `10.77.n.1` and `fd77:0:0:n::1`, and
//! the server, which is reached over whichever link the client uses, is
//! [`SERVER_V4`] and [`SERVER_V6`] everywhere.

#![cfg_attr(not(target_os = "linux"), forbid(unsafe_code))]
#![deny(unsafe_code)]

mod conditions;
#[cfg(target_os = "linux")]
mod driver;
mod nat;
mod network;
mod packet;
mod pipe;
#[cfg(target_os = "linux")]
mod sys;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use conditions::{BadWord, Conditions};
#[cfg(target_os = "linux")]
pub use driver::by_hand;
#[cfg(target_os = "linux")]
pub use driver::{Host, Lab, LabBuilder, LabError, why_not};
pub use nat::NatConfig;
pub use network::{Direction, LinkConfig, LinkId, Network, Side};
pub use pipe::{Counters, Pipe};

/// The server's address, on whichever link.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 1);

/// The server's IPv6 address, on whichever link.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0xff, 0, 0, 0, 1);
