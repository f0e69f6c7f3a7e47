//! `tssh`: a drop-in ssh client whose sessions survive sleep, roaming and outages.

pub mod config;
pub mod remote;
