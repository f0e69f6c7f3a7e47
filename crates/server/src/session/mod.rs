//! Sessions: one remote shell, command or subsystem each (PROTOCOL §6.3, §6.4).
//!
//! ```text
//! StartMessage ─ program ─▶ what to run     environment, modes, motd: its surroundings
//!                  │
//!                start ──▶ Session ◀─ resize, signal, kill   (from the bus)
//!                  │
//!                relay: stream ⇄ pty or pipes, until the program has ended
//! ```
//!
//! A pty session ends with its program, after what it had printed; one without
//! a pty when its output has ended as well, as with sshd (DESIGN D8). Without a
//! pty nothing is ever lost: the program waits while its client is away. With
//! one it runs on, and a bounded log holds what it prints (D7).

mod environment;
mod input;
mod motd;
mod output;
mod program;
mod relay;
mod run;

pub use output::DEFAULT_LOG_BYTES;
pub(crate) use output::{Gap, Presence};
pub use run::Host;
pub(crate) use run::{Dropped, Reach, Running, Session, StartError, Surroundings, start, winsize};

pub(crate) use crate::sys::process::Ending;
