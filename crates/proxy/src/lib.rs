//! Keeps one connection alive while network paths come and go.
//!
//! Packets are opaque here: this crate authenticates *paths*, never content.
//! The machines ([`client`], [`server`]) are sans-IO; sockets and timers are in
//! [`driver`]. Wire format: `docs/protocol.md`, "Proxy".
#![forbid(unsafe_code)]

mod answers;
pub mod client;
pub mod copies;
#[cfg(feature = "driver")]
pub mod driver;
pub mod path;
pub mod seal;
pub mod server;
pub mod socket;
pub mod timers;

pub use path::{Carrier, Change, Means, Path, Route, SocketId, Verdict};
pub use seal::ProxyKey;
pub use socket::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
