//! The drivers over real loopback sockets: packets go both ways, roams go
//! unnoticed, strangers get nothing.

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::{ClientId, ServerId};
use tssh_proxy::client::RenewReason;
use tssh_proxy::driver::{
    ClientConfig, ClientProxy, Events, ServerConfig, ServerEvent, ServerProxy,
};
use tssh_proxy::{Carrier, PacketSocket, PathId, ProxyKey, RecvMeta, Transmit};

/// Longer than anything here takes; only a hang runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

fn key() -> ProxyKey {
    ProxyKey::new([7; 32])
}

fn server_config() -> ServerConfig {
    ServerConfig { client_id: ClientId(1), server_id: ServerId(2), proxy_key: key() }
}

fn client_config(to: SocketAddr, carrier: Carrier) -> ClientConfig {
    ClientConfig { carrier, ..ClientConfig::new(ClientId(1), ServerId(2), key(), vec![to]) }
}

fn serve(carrier: Carrier) -> (ServerProxy, Events, SocketAddr) {
    match carrier {
        Carrier::Udp => {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let addr = socket.local_addr().unwrap();
            let (proxy, events) = ServerProxy::bind_udp(vec![socket], server_config()).unwrap();
            (proxy, events, addr)
        }
        Carrier::Tcp => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            let (proxy, events) = ServerProxy::bind_tcp(vec![listener], server_config()).unwrap();
            (proxy, events, addr)
        }
    }
}

/// Receives one batch and returns its packets.
async fn receive(socket: &Arc<dyn PacketSocket>) -> Vec<(Vec<u8>, PathId, bool)> {
    let size = 1500 * socket.max_receive_segments();
    let mut storage = vec![vec![0; size]; 4];
    let blank = RecvMeta { len: 0, stride: 0, path: PathId(0), unproven: false };
    let mut meta = [blank; 4];
    let n = poll_fn(|cx| {
        let mut bufs: Vec<_> = storage.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        socket.poll_recv(cx, &mut bufs, &mut meta)
    })
    .await
    .unwrap();
    let packets = |i: usize| {
        let (buf, meta): (&Vec<u8>, RecvMeta) = (&storage[i], meta[i]);
        let packets = buf[..meta.len].chunks(meta.stride);
        packets.map(move |p| (p.to_vec(), meta.path, meta.unproven)).collect::<Vec<_>>()
    };
    let batch: Vec<_> = (0..n).flat_map(packets).collect();
    if batch.iter().any(|(.., unproven)| *unproven) {
        assert_eq!(batch.len(), 1, "an unproven packet comes alone");
    }
    batch
}

async fn send(socket: &Arc<dyn PacketSocket>, contents: &[u8], segment_size: Option<usize>) {
    loop {
        match socket.try_send(&Transmit { contents, segment_size }) {
            Ok(()) => return,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => panic!("send: {e}"),
        }
        poll_fn(|cx| socket.poll_writable(cx)).await.unwrap();
    }
}

/// Accepts every packet, as a transport with nothing but genuine packets does,
/// and sends it back.
fn echo(socket: Arc<dyn PacketSocket>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            for (packet, path, _) in receive(&socket).await {
                socket.packet_accepted(path);
                send(&socket, &packet, None).await;
            }
        }
    })
}

/// Sends `packet` again and again until it comes back.
async fn round_trip(socket: &Arc<dyn PacketSocket>, packet: &[u8]) {
    let exchange = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                _ = pace.tick() => send(socket, packet, None).await,
                batch = receive(socket) => for (got, path, _) in batch {
                    socket.packet_accepted(path);
                    if got == packet {
                        return;
                    }
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the packet comes back");
}

async fn packets_go_both_ways_and_a_roam_goes_unnoticed(carrier: Carrier) {
    let (server, mut events, addr) = serve(carrier);
    let echo = echo(server.socket());
    let client = ClientProxy::start(client_config(addr, carrier)).unwrap();
    let socket = client.socket();
    round_trip(&socket, b"a packet of more than sixteen bytes").await;
    let before = client.status();
    assert_eq!(before.remote, Some(addr));
    assert_eq!(server.remote_addr(), before.local);

    client.renew(RenewReason::Requested);
    let mut watch = client.watch();
    let moved = async {
        while watch.borrow_and_update().paths < 2 {
            tokio::select! {
                () = round_trip(&socket, b"while the path is being renewed") => {}
                changed = watch.changed() => changed.unwrap(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("a second path");
    round_trip(&socket, b"and when it has been").await;
    let after = client.status();
    assert_ne!(after.local, before.local, "a renewal uses a new port");
    assert_eq!(server.remote_addr(), after.local);

    let remote = before.local.unwrap();
    assert_eq!(events.next().await, Some(ServerEvent::NewPath { first: true, remote }));
    let remote = after.local.unwrap();
    assert_eq!(events.next().await, Some(ServerEvent::NewPath { first: false, remote }));
    echo.abort();
    client.close();
    assert!(socket.try_send(&Transmit { contents: b"late", segment_size: None }).is_err());
}

#[tokio::test]
async fn udp_packets_go_both_ways_and_a_roam_goes_unnoticed() {
    packets_go_both_ways_and_a_roam_goes_unnoticed(Carrier::Udp).await;
}

#[tokio::test]
async fn tcp_packets_go_both_ways_and_a_roam_goes_unnoticed() {
    packets_go_both_ways_and_a_roam_goes_unnoticed(Carrier::Tcp).await;
}
