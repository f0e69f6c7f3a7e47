//! The drivers over real loopback sockets: packets go both ways, roams go
//! unnoticed, strangers get nothing.
#![expect(clippy::unwrap_used, reason = "the configured exception knows test functions only")]

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use proto::path_auth::{PathAck, PathAuth};
use proto::{ClientId, PathSerial, ServerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tssh_proxy::client::RenewReason;
use tssh_proxy::driver::{
    ClientConfig, ClientProxy, Events, LinkState, ServerConfig, ServerEvent, ServerProxy,
};
use tssh_proxy::seal::Sealer;
use tssh_proxy::{Carrier, Means, PacketSocket, PathId, ProxyKey, RecvMeta, Transmit};

/// Longer than anything here takes; only a hang runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

fn key() -> ProxyKey {
    ProxyKey::new([7; 32])
}

fn server_config() -> ServerConfig {
    ServerConfig { client_id: ClientId(1), server_id: ServerId(2), proxy_key: key() }
}

/// A client that knows its server to be one of ours.
fn client_config(to: SocketAddr, carrier: Carrier) -> ClientConfig {
    let tcp_pipelining = true;
    ClientConfig {
        means: vec![Means::socket(carrier)],
        tcp_pipelining,
        ..ClientConfig::new(ClientId(1), ServerId(2), key(), vec![to])
    }
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
                // Refused while there is no path; the next tick tries again.
                _ = pace.tick() => drop(socket.try_send(&Transmit { contents: packet, segment_size: None })),
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
    assert_eq!(
        events.next().await,
        Some(ServerEvent::NewPath { first: true, after_silence: false, remote })
    );
    let remote = after.local.unwrap();
    assert_eq!(
        events.next().await,
        Some(ServerEvent::NewPath { first: false, after_silence: false, remote })
    );
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

/// Starts a client and a server that echoes, and waits for the first round trip.
async fn connected_to(server: &ServerProxy, to: SocketAddr, carrier: Carrier) -> ClientProxy {
    drop(echo(server.socket()));
    let client = ClientProxy::start(client_config(to, carrier)).unwrap();
    round_trip(&client.socket(), b"the first packet that goes round").await;
    client
}

fn sealed(plaintext: [u8; 16]) -> [u8; 44] {
    Sealer::new(&key()).seal([1; 12], plaintext)
}

fn auth(serial: u64) -> [u8; 44] {
    sealed(PathAuth { client: ClientId(1), serial: PathSerial(serial) }.encode())
}

#[tokio::test]
async fn server_answers_from_the_socket_and_the_address_that_were_asked() {
    let wildcard = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = wildcard.local_addr().unwrap().port();
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (server, _events) = ServerProxy::bind_udp(vec![other, wildcard], server_config()).unwrap();
    // The client's socket is connected: it hears this address only.
    let client = connected_to(&server, ([127, 0, 0, 9], port).into(), Carrier::Udp).await;
    assert_eq!(client.status().state, LinkState::Up);
}

#[tokio::test]
async fn one_transmit_of_many_segments_arrives_as_many_packets() {
    for carrier in [Carrier::Udp, Carrier::Tcp] {
        let (server, _events, addr) = serve(carrier);
        let client = ClientProxy::start(client_config(addr, carrier)).unwrap();
        let (socket, served) = (client.socket(), server.socket());
        let contents: Vec<u8> = (0..12_100_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected: Vec<_> = contents.chunks(1200).map(<[u8]>::to_vec).collect();
        let transfer = async {
            send(&socket, &contents, Some(1200)).await;
            let mut got = Vec::new();
            while got.len() < expected.len() {
                for (packet, path, _) in receive(&served).await {
                    served.packet_accepted(path);
                    got.push(packet);
                }
            }
            got
        };
        let got = tokio::time::timeout(PATIENCE, transfer).await.expect("all arrive");
        assert_eq!(got, expected, "{carrier:?}");
    }
}

#[tokio::test]
async fn garbage_is_not_answered() {
    let (server, _events, addr) = serve(Carrier::Udp);
    drop(echo(server.socket()));
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(addr).await.unwrap();
    for len in 0..200 {
        stranger.send(&vec![0x5a; len]).await.unwrap();
    }
    stranger.send(&auth(0)).await.unwrap();
    stranger.send(&auth(1)).await.unwrap();
    let mut buf = [0; 2000];
    let len = tokio::time::timeout(PATIENCE, stranger.recv(&mut buf)).await.unwrap().unwrap();
    let ack = Sealer::new(&key()).open(&buf[..len]).expect("the first answer is an ack");
    let expected = PathAck { server: ServerId(2), serial: PathSerial(1) };
    assert_eq!(PathAck::decode(&ack), Some(expected));
}

#[tokio::test]
async fn address_that_only_authenticated_gets_no_packet_larger_than_its_allowance() {
    let (server, _events, addr) = serve(Carrier::Udp);
    let socket = server.socket();
    let blocked = |bytes: usize| {
        let contents = vec![0x77; bytes];
        let sent = socket.try_send(&Transmit { contents: &contents, segment_size: None });
        sent.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(blocked(60), "nobody is there");
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&auth(1), addr).await.unwrap();
    let mut buf = [0; 2000];
    tokio::select! {
        _ = receive(&socket) => panic!("an auth packet is not for the transport"),
        ack = stranger.recv(&mut buf) => assert_eq!(ack.unwrap(), 44),
    }
    assert!(blocked(1400));
    // A sender that waits must sleep, not spin.
    let pending = poll_fn(|cx| Poll::Ready(socket.poll_writable(cx).is_pending())).await;
    assert!(pending, "1400 bytes are more than three times 44");
    assert!(!blocked(88) && blocked(1), "of 132 bytes the ack took 44");
    assert_eq!(stranger.recv(&mut buf).await.unwrap(), 88);
}

#[tokio::test(start_paused = true)]
async fn tcp_listener_holds_four_strangers_the_newest_for_three_seconds() {
    let (server, _events, addr) = serve(Carrier::Tcp);
    drop(echo(server.socket()));
    let begin = tokio::time::Instant::now();
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(tokio::net::TcpStream::connect(addr).await.unwrap());
    }
    let mut at_once = 0;
    for mut stream in streams {
        let mut buf = [0; 1];
        // Closed without a word, one way or the other.
        assert!(!matches!(stream.read(&mut buf).await, Ok(n) if n > 0));
        at_once += usize::from(begin.elapsed().as_secs() < 3);
        assert!(begin.elapsed().as_secs() < 4);
    }
    assert_eq!(at_once, 2, "the two oldest made room");
}

#[tokio::test]
async fn towards_a_reference_server_the_auth_frame_stays_alone_until_its_ack() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = server.local_addr().unwrap();
    let config = ClientConfig { tcp_pipelining: false, ..client_config(to, Carrier::Tcp) };
    let client = ClientProxy::start(config).unwrap();
    let socket = client.socket();
    let listening = socket.clone();
    let client_reads = tokio::spawn(async move { receive(&listening).await });
    let (mut stream, _) = server.accept().await.unwrap();
    let early = socket.try_send(&Transmit { contents: &[1; 1400], segment_size: None });
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let mut first = [0; 128];
    let n = stream.read(&mut first).await.unwrap();
    assert_eq!((n, &first[..2]), (46, &[0, 44][..]), "one read gets the frame and nothing else");
    let ack = PathAck { server: ServerId(2), serial: PathSerial(1) };
    let ack = Sealer::new(&key()).seal([5; 12], ack.encode());
    stream.write_all(&[&[0, 44][..], &ack].concat()).await.unwrap();
    send(&socket, &[1; 1400], None).await;
    let mut frame = vec![0; 1402];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..2], 1400u16.to_be_bytes());
    client_reads.abort();
}

#[tokio::test]
async fn strangers_that_hold_connections_do_not_keep_the_client_out() {
    let (server, _events, addr) = serve(Carrier::Tcp);
    drop(echo(server.socket()));
    let mut strangers = Vec::new();
    for _ in 0..8 {
        strangers.push(tokio::net::TcpStream::connect(addr).await.unwrap());
    }
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    client.write_all(&[&[0, 44][..], &auth(1)].concat()).await.unwrap();
    let mut ack = [0; 46];
    let read = tokio::time::timeout(PATIENCE, client.read_exact(&mut ack)).await;
    read.expect("answered").unwrap();
    assert_eq!(ack[..2], [0, 44]);
}

#[tokio::test]
async fn tcp_connection_that_says_anything_but_a_fresh_auth_is_closed() {
    let (server, _events, addr) = serve(Carrier::Tcp);
    drop(echo(server.socket()));
    let old = auth(0);
    let stranger = [&[0, 44][..], &old].concat();
    for opening in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 3, 1, 2, 3], &stranger] {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(opening).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("closed").ok();
        assert!(answer.is_empty(), "and never answered");
    }
    // Meanwhile the honest client gets through.
    connected_to(&server, addr, Carrier::Tcp).await;
}

#[tokio::test]
async fn tcp_sender_waits_for_a_receiver_that_does_not_read_and_loses_nothing() {
    let (server, _events, addr) = serve(Carrier::Tcp);
    let client = ClientProxy::start(client_config(addr, Carrier::Tcp)).unwrap();
    let (socket, served) = (client.socket(), server.socket());
    send(&socket, &0_u32.to_be_bytes().repeat(300), None).await;
    // The server must have accepted the connection before it stops reading.
    let (_, path, unproven) = receive(&served).await.remove(0);
    assert!(unproven);
    served.packet_accepted(path);
    let mut sent = 1_u32;
    loop {
        let contents = sent.to_be_bytes().repeat(300);
        match socket.try_send(&Transmit { contents: &contents, segment_size: None }) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let mut next = 1;
    let mut writable = pin!(poll_fn(|cx| socket.poll_writable(cx)));
    let mut room = false;
    let transfer = async {
        while next < sent || !room {
            tokio::select! {
                ready = &mut writable, if !room => {
                    ready.unwrap();
                    room = true;
                }
                batch = receive(&served) => for (packet, ..) in batch {
                    assert_eq!(packet, next.to_be_bytes().repeat(300));
                    next += 1;
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, transfer).await.expect("all arrives and there is room again");
}

#[tokio::test]
async fn closed_port_fails_the_first_connect_with_the_reason() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = client_config(nobody, Carrier::Udp);
    config.connect_timeout = Duration::from_millis(300);
    let client = ClientProxy::start(config).unwrap();
    let socket = client.socket();
    let receive = poll_fn(|cx| socket.poll_recv(cx, &mut [], &mut []));
    let ended = tokio::time::timeout(PATIENCE, receive).await.expect("it gives up");
    assert!(ended.is_err());
    let status = client.status();
    assert_eq!(status.state, LinkState::Failed { heard: false });
    assert!(status.reason.is_some_and(|reason| reason.contains("refused")));
}

/// Passes packets between one client and the server, as a NAT does, and can
/// forget its mapping.
struct Nat {
    inside: tokio::net::UdpSocket,
    server: SocketAddr,
}

impl Nat {
    async fn run(self, rebind: Arc<tokio::sync::Notify>) {
        // One outside port per inside address.
        let mut outside: Vec<(SocketAddr, Arc<tokio::net::UdpSocket>)> = Vec::new();
        let inside = Arc::new(self.inside);
        let mut buf = vec![0; 65536];
        loop {
            let (len, from) = tokio::select! {
                got = inside.recv_from(&mut buf) => got.unwrap(),
                () = rebind.notified() => {
                    outside.clear();
                    continue;
                }
            };
            let known = outside.iter().find(|(addr, _)| *addr == from).map(|(_, s)| s.clone());
            let socket = match known {
                Some(socket) => socket,
                None => {
                    let socket =
                        Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    socket.connect(self.server).await.unwrap();
                    outside.push((from, socket.clone()));
                    let (back, down) = (socket.clone(), inside.clone());
                    tokio::spawn(async move {
                        let mut buf = vec![0; 65536];
                        while let Ok(len) = back.recv(&mut buf).await {
                            down.send_to(&buf[..len], from).await.unwrap();
                        }
                    });
                    socket
                }
            };
            // Errors are ICMP from the other side: a NAT drops them.
            socket.send(&buf[..len]).await.ok();
        }
    }
}

#[tokio::test]
async fn source_port_that_changes_in_mid_session_is_noticed_and_renewed() {
    let (server, mut events, addr) = serve(Carrier::Udp);
    drop(echo(server.socket()));
    let inside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let nat_addr = inside.local_addr().unwrap();
    let rebind = Arc::new(tokio::sync::Notify::new());
    tokio::spawn(Nat { inside, server: addr }.run(rebind.clone()));

    let mut config = client_config(nat_addr, Carrier::Udp);
    config.heartbeat_timeout = Duration::from_millis(300);
    let client = ClientProxy::start(config).unwrap();
    let socket = client.socket();
    round_trip(&socket, b"before the mapping is forgotten").await;
    client.heartbeat_confirmed(std::time::Instant::now());
    server.set_bus_up(Duration::from_secs(60), false);
    let before = server.remote_addr();

    rebind.notify_one();
    round_trip(&socket, b"packets of the unknown port are dropped until it is renewed").await;
    assert_ne!(server.remote_addr(), before);
    let first = matches!(events.next().await, Some(ServerEvent::NewPath { first: true, .. }));
    assert!(first);
    let moved = matches!(events.next().await, Some(ServerEvent::NewPath { first: false, .. }));
    assert!(moved, "so that the bus' owner can arm the marker");
}

#[tokio::test]
async fn name_that_leads_elsewhere_after_an_outage_is_followed() {
    let (old, _events, old_addr) = serve(Carrier::Udp);
    let (new, _events, new_addr) = serve(Carrier::Udp);
    drop(echo(new.socket()));
    drop(echo(old.socket()));
    let mut config = client_config(old_addr, Carrier::Udp);
    config.heartbeat_timeout = Duration::from_millis(300);
    let client = ClientProxy::start(config).unwrap();
    let socket = client.socket();
    round_trip(&socket, b"to the address known so far").await;
    client.heartbeat_confirmed(std::time::Instant::now());
    client.set_resolver(Arc::new(move || Box::pin(async move { vec![new_addr] })));

    old.close();
    round_trip(&socket, b"to the address that was found").await;
    assert_eq!(client.status().remote, Some(new_addr));
}
