//! Connection sharing: several processes on one connection (ControlMaster, `-S`, `-O`).
//!
//! The protocol is OpenSSH's, version 4, on a unix socket (`PROTOCOL.mux` of its distribution),
//! so that stock `ssh`, `scp`, `sftp`, `git` and `rsync` use a connection of ours, which may roam,
//! and we use theirs.
//!
//! * [`message`]: what is said, as bytes. No I/O; never panics, whatever it reads.
//! * [`channel`]: messages and descriptors on a socket.
//! * [`socket`]: the socket's file, made and found safely.
//! * [`master`]: lending our connection; [`guest`]: a session of another process on it.
//! * [`client`]: using the connection of another process, and `-O`.
//!
//! A guest lends its standard streams for the time of its session (as descriptors, by
//! `SCM_RIGHTS`); keys, passwords and the connection itself never leave the master. See
//! docs/decisions for what that means.

pub(crate) mod channel;
pub mod client;
mod guest;
pub(crate) mod master;
pub mod message;
pub(crate) mod socket;
