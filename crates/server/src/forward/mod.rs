//! Connections made and accepted for the client (PROTOCOL §6.6–§6.9).

pub(crate) mod agent;
pub(crate) mod dial;
pub(crate) mod farewell;
pub(crate) mod listen;
pub(crate) mod parked;
pub(crate) mod socket;
pub(crate) mod udp;
pub(crate) mod x11;
