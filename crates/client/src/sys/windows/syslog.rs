//! The system's log, which Windows has not in the sense of `-y`.

use std::io;

use super::unsupported;

/// A way to the system's log, of which there is none.
#[derive(Debug)]
pub(crate) struct Syslog(std::convert::Infallible);

impl Syslog {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn open() -> io::Result<Self> {
        Err(unsupported("a log for -y"))
    }

    /// Never called.
    pub(crate) fn send(&self, _: u8, _: &str) {
        match self.0 {}
    }
}
