//! Calls to the operating system: terminal, standard streams, signals to ourselves.
//!
//! The only place in this crate with `unsafe` or `cfg` on the platform. [`account`] is about
//! users and files, [`names`] about hosts; of the rest each kind of system has a folder with the same faces in it.

pub(crate) mod account;
pub(crate) mod names;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub(crate) use system::{fdpass, process, prompt, syslog};
pub use system::{signals, stdio, tty};
