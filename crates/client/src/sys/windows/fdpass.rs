//! Open files on their way between processes, which there is no way for.

use std::io;

use host::local::Stream;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::stdio::{Borrowed, Owned};
use super::unsupported;

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) async fn lend(_: &Stream, _: Borrowed<'_>) -> io::Result<()> {
    Err(unsupported("handing an open file to another process"))
}

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) async fn take(_: &Stream) -> io::Result<Owned> {
    Err(unsupported("taking an open file from another process"))
}

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) async fn take_socket_of(_: Command) -> io::Result<TcpStream> {
    Err(unsupported("ProxyUseFdpass"))
}
