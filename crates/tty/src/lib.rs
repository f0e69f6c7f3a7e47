//! What both halves of tssh know about terminals.
//!
//! [`sequence`] tells where in a program's output a control sequence or a
//! character begins and ends: the server must not cut one when it drops
//! output, the client must not put anything of its own into one. [`states`]
//! keeps what dropped output had set. [`sys`] knows how a terminal's settings
//! are written on the wire.
//!
//! Pure: no system calls, no clock. Not here: what a terminal shows.
#![forbid(unsafe_code)]

pub mod sequence;
pub mod states;
pub mod sys;
