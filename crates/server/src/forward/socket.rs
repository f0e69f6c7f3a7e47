//! A socket whose bytes travel on a stream of the link.

use tokio::net::{TcpStream, UnixStream};
use transport::relay::{Ended, relay};
use transport::{RecvStream, SendStream};

/// Forwards yield to sessions.
pub(crate) const PRIORITY: i32 = -1;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Carries bytes between `socket` and a stream until both have ended.
pub(crate) async fn conduct(socket: Socket, mut send: SendStream, mut recv: RecvStream) {
    match socket {
        Socket::Tcp(mut socket) => {
            let (read, write) = socket.split();
            if relay(read, write, &mut recv, &mut send).await == Ended::FarBroke {
                // Closed without lingering a socket resets its connection: the
                // program here learns what the client's learnt.
                let _ = socket.set_zero_linger();
            }
        }
        Socket::Unix(mut socket) => {
            let (read, write) = socket.split();
            relay(read, write, &mut recv, &mut send).await;
        }
    }
}

/// Splits `host:port` or `[v6]:port`.
pub(crate) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(split("db:5432"), Some(("db", 5432)));
        assert_eq!(split("[::1]:22"), Some(("::1", 22)));
        assert_eq!(split(":0"), Some(("", 0)));
        for bad in ["db", "db:", "db:70000", ""] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
