//! The system's log, spoken to as syslog(3) does (RFC 3164).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where the system's log listens.
const SOCKET: &str = "/dev/log";

/// A way to the system's log.
#[derive(Debug)]
pub(crate) struct Syslog(Option<UnixDatagram>);

impl Syslog {
    /// Opens it. Where nobody listens, as for syslog(3), nothing is said and nothing is wrong.
    ///
    /// # Errors
    /// None on this system.
    #[expect(clippy::unnecessary_wraps, reason = "other systems have no such log")]
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self::at(Path::new(SOCKET)))
    }

    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::unbound().ok();
        Self(socket.filter(|socket| socket.connect(path).is_ok()))
    }

    /// Says one line; `number` is facility and priority, as RFC 3164 §4.1.1 has them.
    pub(crate) fn send(&self, number: u8, line: &str) {
        let Some(socket) = &self.0 else { return };
        let text = format!("<{number}>tssh[{}]: {line}", std::process::id());
        let _ = socket.send(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_log_gets_a_line_at_a_time_with_its_priority() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        Syslog::at(&path).send(11, "no way");
        let mut text = [0; 100];
        let length = log.recv(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..length]);
        assert_eq!(text, format!("<11>tssh[{}]: no way", std::process::id()));
        // Without a log there is nothing to say it to.
        Syslog::at(&directory.path().join("none")).send(14, "unheard");
    }
}
