//! Linux, macOS and other systems with a user database, descriptors and unix sockets.

pub mod account;
pub mod inherit;
pub mod interfaces;
pub mod local;
pub mod socket;
