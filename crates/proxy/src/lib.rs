//! Keeps one connection alive while network paths come and go.
//!
//! Packets are opaque here: this crate authenticates *paths*, never content.
//! The machines ([`client`], [`server`]) are sans-IO; sockets and timers are in
//! [`driver`]. Wire format: `docs/protocol.md`, "Proxy".

pub mod socket;

pub use socket::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
