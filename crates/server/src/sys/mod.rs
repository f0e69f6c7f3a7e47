//! What the operating system does for us, and the only place with `unsafe`.
//!
//! The rest of the crate sees plain functions over `std` types; a port to
//! another system is written here.

pub(crate) mod account;
pub(crate) mod daemon;
pub(crate) mod limits;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod scope;
