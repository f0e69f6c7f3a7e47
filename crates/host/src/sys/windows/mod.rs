//! Windows: what it has of its own, and a plain word for what it has not.

pub mod account;
pub mod inherit;
pub mod interfaces;
pub mod local;
pub mod socket;
