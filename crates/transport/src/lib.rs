//! Streams and datagrams over packets: QUIC (PROTOCOL §3) and KCP (§4, §5).
//!
//! One face for both: [`Connection`], [`SendStream`], [`RecvStream`]. Client and
//! server use these and never ask which transport is below.
//!
//! Not here: addresses, paths and their liveness (`proxy` hides them behind
//! [`proxy::PacketSocket`]), and what the streams say (`proto`).
//!
//! Invariant: a connection ends only when one of its two ends closes it, or
//! misbehaves. Outages, moves and suspended processes never end it; limits on
//! waiting belong to the layers above.
#![forbid(unsafe_code)]

pub mod congestion;
pub mod crypt;
#[cfg(feature = "driver")]
mod driver;
pub mod fec;
pub mod kcp;
pub mod smux;
pub mod stack;
mod time;

#[cfg(feature = "driver")]
pub use driver::{
    Connection, ConnectionError, DatagramError, HandshakeFailure, Listener, RecvStream, SendStream,
    channels, flows, frames, kcp as kcp_transport, quic, relay,
};
