//! How fast one stream is, QUIC and KCP side by side: through memory, and
//! through both proxies and UDP on the loopback interface.
//!
//! Each side has a thread, as each program has. A run moves [`BULK`] bytes to the
//! server and waits until it has read them. Numbers are reported, never judged.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use divan::Bencher;
use divan::counter::BytesCount;
use proto::{ClientId, ServerId};
use proxy::driver::{ClientConfig, ClientProxy, ServerConfig, ServerProxy};
use proxy::{LinkChange, PacketSocket, PathId, ProxyKey, RecvMeta, Transmit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tssh_transport::{Connection, kcp_transport, quic};

fn main() {
    divan::main();
}

/// What one run moves.
const BULK: usize = 32 << 20;

#[derive(Clone, Copy, Debug)]
enum Carried {
    Quic,
    Kcp,
}

#[divan::bench(args = [Carried::Quic, Carried::Kcp], sample_count = 20)]
fn memory(bencher: Bencher<'_, '_>, by: Carried) {
    let (here, there) = End::pair();
    bench(bencher, by, move || (Arc::new(here), ()), move || (Arc::new(there), ()));
}

#[divan::bench(args = [Carried::Quic, Carried::Kcp], sample_count = 20)]
fn loopback(bencher: Bencher<'_, '_>, by: Carried) {
    let (client_id, server_id) = (ClientId(1), ServerId(2));
    let key = || ProxyKey::new([7; 32]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = socket.local_addr().expect("it is bound");
    let there = move || {
        let config = ServerConfig { client_id, server_id, proxy_key: key() };
        let (proxy, events) = ServerProxy::bind_udp(vec![socket], config).expect("a socket");
        (proxy.socket(), (proxy, events))
    };
    let here = move || {
        let config = ClientConfig::new(client_id, server_id, key(), vec![addr]);
        let proxy = ClientProxy::start(config).expect("a socket");
        (proxy.socket(), proxy)
    };
    bench(bencher, by, here, there);
}

type Socket = Arc<dyn PacketSocket>;

/// Connects by the sockets that are made on each side's thread, and moves bytes.
fn bench<A, B>(
    bencher: Bencher<'_, '_>,
    by: Carried,
    here: impl FnOnce() -> (Socket, A),
    there: impl FnOnce() -> (Socket, B) + Send + 'static,
) {
    let (for_quic, quic) = quic::generate_credentials().expect("entropy");
    let secrets = kcp_transport::generate_secrets().expect("entropy");
    let (listening, is_listening) = mpsc::channel();
    let for_kcp = secrets.clone();
    // It is left alone in the end: KCP has no word for closing, and it costs nothing.
    thread::spawn(move || {
        let runtime = runtime();
        let (socket, _kept) = runtime.block_on(async { there() });
        runtime.block_on(async move {
            let _ = listening.send(());
            match by {
                Carried::Quic => {
                    let listener = quic::Listener::new(socket, for_quic, quic::Config::default());
                    let listener = listener.expect("settings are right");
                    serve(listener.accept().await.expect("a client")).await;
                }
                Carried::Kcp => {
                    let config = kcp_transport::Config::default();
                    let listener = kcp_transport::Listener::new(socket, &for_kcp, config);
                    let listener = listener.expect("entropy");
                    serve(listener.accept().await.expect("a client")).await;
                }
            }
        });
    });
    is_listening.recv().expect("the server started");
    let runtime = runtime();
    let (socket, _kept) = runtime.block_on(async { here() });
    let client = runtime.block_on(async {
        match by {
            Carried::Quic => {
                quic::connect(socket, quic, quic::Config::default()).await.expect("a server")
            }
            Carried::Kcp => {
                kcp_transport::connect(socket, &secrets, kcp_transport::Config::default())
                    .expect("entropy")
            }
        }
    });
    bencher.counter(BytesCount::new(BULK)).bench_local(|| runtime.block_on(transfer(&client)));
    runtime.block_on(async {
        client.close();
        client.closing_sent().await;
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn transfer(client: &Connection) {
    let (mut send, mut recv) = client.open_stream().await.expect("connected");
    let chunk = vec![7; 64 * 1024];
    for _ in 0..BULK / chunk.len() {
        send.write_all(&chunk).await.expect("connected");
    }
    send.shutdown().await.expect("connected");
    assert_eq!(recv.read_u64().await.expect("an answer"), BULK as u64);
    assert_eq!(recv.read(&mut [0]).await.expect("the end"), 0);
}

/// Reads streams and answers with their lengths, until the client closes.
async fn serve(connection: Connection) {
    let mut buf = vec![0; 64 * 1024];
    while let Ok((mut send, mut recv)) = connection.accept_stream().await {
        let mut total = 0;
        while let count @ 1.. = recv.read(&mut buf).await.expect("connected") {
            total += count as u64;
        }
        send.write_u64(total).await.expect("connected");
        send.shutdown().await.expect("connected");
    }
}

/// One end of a link in memory that loses nothing but what does not fit.
#[derive(Clone, Debug)]
struct End(Arc<Inbox>, Arc<Inbox>);

type Inbox = Mutex<(VecDeque<Vec<u8>>, Option<Waker>)>;

/// Packets that wait, at most: what a socket's buffer holds.
const INBOX: usize = 2048;

impl End {
    fn pair() -> (Self, Self) {
        let (one, other) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
        (Self(one.clone(), other.clone()), Self(other, one))
    }
}

impl PacketSocket for End {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut peer = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let room = INBOX.saturating_sub(peer.0.len());
        peer.0.extend(transmit.packets().take(room).map(<[u8]>::to_vec));
        let waker = peer.1.take();
        drop(peer);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = inbox.0.pop_front() else { break };
            let len = packet.len().min(buf.len());
            buf[..len].copy_from_slice(&packet[..len]);
            *meta = RecvMeta { len, stride: len, path: PathId(0), unproven: false };
            filled += 1;
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        inbox.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_link(&self, _: &mut Context<'_>) -> Poll<LinkChange> {
        Poll::Pending
    }

    fn packet_accepted(&self, _: PathId) {}
}
