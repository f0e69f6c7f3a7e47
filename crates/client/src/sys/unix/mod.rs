//! Unix: descriptors, signals and terminals with modes.

pub(crate) mod fdpass;
pub(crate) mod process;
pub(crate) mod prompt;
pub mod signals;
pub mod stdio;
pub(crate) mod syslog;
pub mod tty;
