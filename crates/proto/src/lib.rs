//! The words both ends of a tssh connection say: bytes in, values out.
//!
//! Pure: no sockets, no clock, no randomness. Decoders never panic, whatever
//! they are fed; every length that a peer can choose is bounded.
//! Wire format: `docs/protocol.md`; the extensions are in `docs/extensions.md`.
#![forbid(unsafe_code)]

pub mod bootstrap;
pub mod bus;
pub mod codec;
pub mod ext;
pub mod ids;
pub mod json;
pub mod marker;
pub mod open;
pub mod path_auth;
pub mod version;

pub use ids::{ChannelId, ClientId, PathSerial, ServerId, SessionId};
