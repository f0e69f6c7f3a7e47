//! What is said for a client that was killed, where its connections led (extension `farewell`).
//!
//! A server behind this one hears nothing from the client's guard: every packet to it went
//! through here. So the client leaves a farewell with each dial that is a path of such a server,
//! which is said should this server end while that dial is still open. It says it to where the
//! dial led, and to nobody else; what it means only the server there can read.
//!
//! Invariant: a farewell is forgotten with its connection.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The longest farewell that is kept, in bytes: room for a sealed packet and to spare.
const LONGEST: usize = 256;

/// How long saying them may take.
const LIMIT: Duration = Duration::from_secs(1);

/// How often a datagram is sent: it goes to a neighbour, but even those lose some.
const COPIES: u32 = 3;

/// The farewells of a link. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Farewells(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    all: HashMap<u64, Farewell>,
}

/// Something to be said.
#[derive(Clone, Debug)]
pub(super) struct Farewell {
    pub(super) to: SocketAddr,
    pub(super) is_tcp: bool,
    pub(super) bytes: Vec<u8>,
}

/// Keeps a farewell for as long as it lives.
#[derive(Debug)]
pub(super) struct Keeping {
    farewells: Farewells,
    id: u64,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.farewells.lock().all.remove(&self.id);
    }
}

impl Farewells {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a farewell, unless it is none, or too long to be one.
    pub(super) fn keep(&self, farewell: Farewell) -> Option<Keeping> {
        if farewell.bytes.is_empty() || farewell.bytes.len() > LONGEST {
            return None;
        }
        let mut kept = self.lock();
        let id = kept.next;
        kept.next += 1;
        kept.all.insert(id, farewell);
        Some(Keeping { farewells: self.clone(), id })
    }

    /// Says them all, as far as that can be done in time.
    pub(crate) async fn say(&self) {
        let all: Vec<_> = self.lock().all.values().cloned().collect();
        let mut saying: JoinSet<_> = all.into_iter().map(say).collect();
        let all_said = async { while saying.join_next().await.is_some() {} };
        let _ = timeout(LIMIT, all_said).await;
    }
}

/// Says one farewell.
async fn say(Farewell { to, is_tcp, bytes }: Farewell) -> io::Result<()> {
    if is_tcp {
        return TcpStream::connect(to).await?.write_all(&bytes).await;
    }
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    for _ in 0..COPIES {
        socket.send_to(&bytes, to).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_farewells_of_connections_that_are_left_are_said() {
        let farewells = Farewells::default();
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let connections = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let udp = |bytes: &[u8]| Farewell {
            to: datagrams.local_addr().unwrap(),
            is_tcp: false,
            bytes: bytes.to_vec(),
        };
        let to = connections.local_addr().unwrap();
        let tcp = Farewell { to, is_tcp: true, bytes: b"by tcp".to_vec() };
        drop(farewells.keep(udp(b"of one that is closed")));
        let _udp = farewells.keep(udp(b"by udp"));
        let _tcp = farewells.keep(tcp);
        assert!(farewells.keep(udp(&[0; LONGEST + 1])).is_none());
        farewells.say().await;

        let mut buffer = [0; 64];
        let len = datagrams.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"by udp");
        let (mut connection, _) = connections.accept().await.unwrap();
        let mut heard = String::new();
        connection.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "by tcp");
    }
}
