//! What this host's sshd_config allows, and what it sets.
//!
//! [`sshd`] reads a file by OpenSSH's rules; [`policy`] answers our questions
//! from it, and from the options of the key that
//! logged in, where those can be known ([`key`]). Policy can only get stricter (DESIGN D9): what cannot be read or
//! evaluated counts against the request it could concern.

mod key;
mod pattern;
pub(crate) mod policy;
pub(crate) mod sshd;

pub(crate) use policy::{Policy, Refusal};
