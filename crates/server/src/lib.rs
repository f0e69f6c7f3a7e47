//! `tsshd`, the server half of tssh: runs as the user, serves one client, and
//! goes away with it.
//!
//! [`run`] is the program. [`Link`](link::Link) is what it is about: one client's connection
//! with its sessions; it can be had alone, over any connection.
//!
//! Not here: paths and packets (`proxy`), streams (`transport`), words (`proto`).
#![deny(unsafe_code)]

pub mod addresses;
mod bootstrap;
pub mod cli;
mod config;
mod exit;
mod forward;
pub mod link;
pub mod ports;
mod session;
#[expect(unsafe_code, reason = "system calls are made here and nowhere else")]
mod sys;
mod trace;

pub use bootstrap::run;
pub use exit::Exit;
