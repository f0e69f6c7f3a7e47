//! `tssh`: a drop-in ssh client whose sessions survive sleep, roaming and outages.

pub mod cli;
pub mod config;
pub mod remote;
pub mod sys;
pub mod bootstrap;
pub mod report;
pub mod session;
pub mod terminal;
mod wire;
