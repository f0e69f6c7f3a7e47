//! The addresses of the machine's network interfaces.

use std::io;
use std::net::SocketAddr;

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name.
    pub name: Vec<u8>,
    /// The address, with port 0.
    pub address: SocketAddr,
}

/// Interfaces are not looked up on Windows.
///
/// # Errors
/// Always.
pub fn list() -> io::Result<Vec<Interface>> {
    let text = "network interfaces are not looked up on Windows";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}
