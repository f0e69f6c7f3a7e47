//! Connections made for the client.

pub(crate) mod dial;
