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
//! a pty when its output has ended as well, as with sshd (DESIGN D8). Nothing
//! is lost on the way: a program is blocked while its client is away (D7).

mod environment;
mod input;
mod modes;
mod motd;
mod program;
mod relay;
mod run;

pub use run::Host;
pub(crate) use run::{Running, Session, StartError, start, winsize};

pub(crate) use crate::sys::process::Ending;
