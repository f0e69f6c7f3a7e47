//! DISPLAY: what it may look like, and how to connect to what it names.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use host::local;

use crate::forward::near::Socket;
use crate::remote::Target;
use crate::sys::account::is_socket;

/// Where local X servers have their sockets.
const SOCKETS: &str = "/tmp/.X11-unix/X";

/// The port of display 0.
const FIRST_PORT: u32 = 6000;

/// The highest number of a screen.
const LAST_SCREEN: u32 = 400;

/// A display that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Display {
    /// As DISPLAY has it.
    name: String,
    place: Place,
    /// The screen to use.
    pub(super) screen: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The socket of this display on this machine.
    Local(u32),
    /// A port of another.
    Tcp { host: String, port: u16 },
    /// A socket of any name, as macOS has them.
    Path(PathBuf),
}

impl Display {
    /// Reads a DISPLAY.
    ///
    /// # Errors
    /// What is wrong with it, in OpenSSH's words.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ":/.-_".contains(c);
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(format!("DISPLAY \"{name}\" invalid; disabling X11 forwarding"));
        }
        let screen = screen(name);
        if name.starts_with('/') {
            let path = socket_path(name);
            return Ok(Self { name: name.to_owned(), place: Place::Path(path), screen });
        }
        let Some((host, rest)) = name.rsplit_once(':') else {
            return Err(format!("Could not find ':' in DISPLAY: {name}"));
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let unreadable = || format!("Could not parse display number from DISPLAY: {name}");
        let number: u32 = digits.parse().map_err(|_| unreadable())?;
        let place = match host {
            "" | "unix" => Place::Local(number),
            host => {
                let port = FIRST_PORT.checked_add(number).and_then(|port| port.try_into().ok());
                Place::Tcp { host: host.to_owned(), port: port.ok_or_else(unreadable)? }
            }
        };
        Ok(Self { name: name.to_owned(), place, screen })
    }

    /// Returns the name under which xauth knows the display.
    #[must_use]
    pub(super) fn for_xauth(&self) -> String {
        // Entries for this machine are under its name, or "unix".
        match self.name.strip_prefix("localhost:") {
            Some(number) => format!("unix:{number}"),
            None => self.name.clone(),
        }
    }

    /// Connects to the display.
    ///
    /// # Errors
    /// Those of the sockets.
    pub(super) async fn connect(&self) -> io::Result<Socket> {
        match &self.place {
            Place::Tcp { host, port } => {
                Socket::connect(&Target::Tcp { host: host.clone(), port: *port }).await
            }
            Place::Path(path) => Ok(Socket::Unix(local::connect(path).await?)),
            Place::Local(number) => {
                let path = format!("{SOCKETS}{number}");
                // First the name that no file stands for, which Linux has.
                match local::connect(format!("\0{path}")).await {
                    Ok(socket) => Ok(Socket::Unix(socket)),
                    Err(_) => Ok(Socket::Unix(local::connect(path).await?)),
                }
            }
        }
    }
}

impl fmt::Display for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The screen: what follows the last dot behind the colon.
fn screen(name: &str) -> u32 {
    let number = name.split_once(':').and_then(|(_, rest)| rest.split_once('.'));
    let screen = number.and_then(|(_, screen)| screen.parse().ok());
    screen.filter(|screen| *screen <= LAST_SCREEN).unwrap_or(0)
}

/// A socket's own path, or what is left of it without `:0` or `.0`.
fn socket_path(name: &str) -> PathBuf {
    let is_socket = |path: &Path| path.metadata().is_ok_and(|found| is_socket(&found));
    let shorter = name.rsplit_once(['.', ':']).map(|(path, _)| Path::new(path));
    match shorter {
        Some(path) if !is_socket(Path::new(name)) && is_socket(path) => path.to_owned(),
        _ => PathBuf::from(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_are_named_in_all_of_their_ways() {
        let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
        for (name, place, screen, known_as) in [
            (":0", Place::Local(0), 0, ":0"),
            (":12.3", Place::Local(12), 3, ":12.3"),
            ("unix:1.0", Place::Local(1), 0, "unix:1.0"),
            ("localhost:10.0", tcp("localhost", 6010), 0, "unix:10.0"),
            ("10.0.0.1:2", tcp("10.0.0.1", 6002), 0, "10.0.0.1:2"),
            ("host.example:0.1", tcp("host.example", 6000), 1, "host.example:0.1"),
            ("/no/such:0", Place::Path("/no/such:0".into()), 0, "/no/such:0"),
            (":0.9999", Place::Local(0), 0, ":0.9999"),
        ] {
            let display = Display::parse(name).expect(name);
            assert_eq!((&display.place, display.screen), (&place, screen), "{name}");
            assert_eq!(display.for_xauth(), known_as);
        }
        for (name, complaint) in [
            ("", "invalid; disabling X11 forwarding"),
            (":0;reboot", "invalid; disabling X11 forwarding"),
            ("host", "Could not find ':'"),
            (":x", "Could not parse display number"),
            ("host:99999", "Could not parse display number"),
        ] {
            let error = Display::parse(name).expect_err(name);
            assert!(error.contains(complaint), "{name}: {error}");
        }
    }

    #[test]
    fn a_socket_may_have_a_display_number_behind_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("org.xquartz");
        let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let name = format!("{}:0", path.display());
        assert_eq!(socket_path(&name), path);
    }
}
