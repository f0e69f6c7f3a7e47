//! What both halves of tssh ask the machine they run on.
//!
//! * [`account`]: the user database.
//! * [`inherit`]: what a program we start gets of our open files.
//! * [`interfaces`]: the machine's addresses.
//! * [`local`]: sockets that have a name on this machine.
//! * [`socket`]: listening at ports; [`udp`]: asking at them.
//!
//! The faces are the same on every system; `sys/` has one folder for each kind of them, and is
//! the only place with `unsafe` or `cfg`. Not here: what one program alone needs (its own
//! `sys/`), and anything of the protocol.

mod sys;
pub mod udp;

pub use sys::{account, inherit, interfaces, local, socket};
