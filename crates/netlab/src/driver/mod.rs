//! The lab on this machine: hosts, devices, the thread that moves packets.

pub mod by_hand;
mod control;
mod host;
mod lab;
mod pump;

pub use host::Host;
pub use lab::{Lab, LabBuilder, LabError, why_not};
