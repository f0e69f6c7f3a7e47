//! The tokio half: sockets, the one timer, and the [`crate::PacketSocket`] that
//! transports run over.
//!
//! [`ClientProxy`] and [`ServerProxy`] are handles on a *hub* (`hub.rs`): one
//! machine and its sockets under one lock. Sockets are read where the transport
//! asks for packets, straight into its buffers, and written where it hands them
//! over; there is no task and no queue in between. One background task per
//! proxy arms the timer and waits for room in send buffers.

mod client;
mod clock;
mod hub;
mod monitor;
mod refusals;
mod server;
mod state;
mod tcp;
mod udp;
mod wake;
mod wire;

pub use client::{ClientConfig, ClientProxy, LinkState, LinkStatus};
pub use clock::boot_time;
pub use server::{Events, ServerConfig, ServerEvent, ServerProxy};
pub use state::{Resolver, Resolving};
pub use wire::{Opener, Opening, Wire, WireEnd};
