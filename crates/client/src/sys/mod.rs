//! Calls to the operating system: terminal, standard streams, signals to ourselves.
//!
//! The only place in this crate with `unsafe` or `cfg` on the platform.

pub(crate) mod account;
pub(crate) mod fdpass;
pub(crate) mod names;
pub(crate) mod process;
pub mod signals;
pub mod stdio;
pub mod tty;
