//! Windows: its console, and a plain word for what it has not.

mod console;
pub(crate) mod fdpass;
pub(crate) mod process;
pub(crate) mod prompt;
pub mod signals;
pub mod stdio;
pub(crate) mod syslog;
pub mod tty;

/// The error of what this system does not have.
fn unsupported(what: &str) -> std::io::Error {
    let text = format!("{what} is not supported on Windows");
    std::io::Error::new(std::io::ErrorKind::Unsupported, text)
}
