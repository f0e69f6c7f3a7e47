//! Two QUIC endpoints, a link in memory between them, and an outage.
//!
//! A client counts aloud every tenth of a second. After a second the link goes
//! down for three, and both sides are told, as their proxies would tell them;
//! when it is back, the server hears every number there was, the first one
//! within a round trip or two.
//!
//! [`End`] is all a transport needs from below: a [`PacketSocket`].

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::Context as _;
use proxy::{LinkChange, PacketSocket, PathId, RecvMeta, Transmit};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::{Instant, sleep};
use transport::quic::{Config, Listener, connect, generate_credentials};

/// One-way delay of the link.
const DELAY: Duration = Duration::from_millis(25);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (client_end, server_end) = End::pair();
    let (server_credentials, client_credentials) = generate_credentials()?;
    let listener = Listener::new(server_end.clone(), server_credentials, Config::default())?;
    let (client, server) = tokio::join!(
        connect(client_end.clone(), client_credentials, Config::default()),
        listener.accept(),
    );
    let (client, server) = (client?, server.context("no client came")?);

    let started = Instant::now();
    let counting = tokio::spawn(async move {
        let (mut send, _) = client.open_stream().await?;
        for number in 1..=60 {
            send.write_all(format!("{number}\n").as_bytes()).await?;
            sleep(Duration::from_millis(100)).await;
        }
        send.shutdown().await?;
        send.finished().await?;
        anyhow::Ok(())
    });
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        let ends = [&client_end, &server_end];
        ends.iter().for_each(|end| end.change(LinkChange::Lost));
        sleep(Duration::from_secs(3)).await;
        ends.iter().for_each(|end| end.change(LinkChange::Restored { same_network: true }));
    });

    let (_, recv) = server.accept_stream().await?;
    let mut lines = BufReader::new(recv).lines();
    let mut out = io::stdout();
    while let Some(number) = lines.next_line().await? {
        writeln!(out, "{:6.3} s: {number}", started.elapsed().as_secs_f32())?;
    }
    counting.await?
}

/// One end of the link.
#[derive(Clone, Debug)]
struct End(Arc<Mutex<State>>, Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Packets that arrived and were not yet read.
    inbox: VecDeque<Vec<u8>>,
    changes: VecDeque<LinkChange>,
    is_down: bool,
    wakers: Vec<Waker>,
}

impl End {
    /// Makes both ends of a link.
    fn pair() -> (Arc<Self>, Arc<Self>) {
        let (one, other) = (Arc::default(), Arc::default());
        (Arc::new(Self(Arc::clone(&one), Arc::clone(&other))), Arc::new(Self(other, one)))
    }

    /// Takes the link down or brings it up, at this end, and tells the transport.
    fn change(&self, change: LinkChange) {
        let mut state = lock(&self.0);
        state.is_down = change == LinkChange::Lost;
        state.changes.push_back(change);
        wake(state);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(mut state: MutexGuard<'_, State>) {
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

impl PacketSocket for End {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if lock(&self.0).is_down {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let packets: Vec<_> = transmit.packets().map(<[u8]>::to_vec).collect();
        let peer = self.1.clone();
        tokio::spawn(async move {
            sleep(DELAY).await;
            let mut peer = lock(&peer);
            if !peer.is_down {
                peer.inbox.extend(packets);
                wake(peer);
            }
        });
        Ok(())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        if state.is_down {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some(packet) = state.inbox.pop_front() else { break };
            let len = packet.len().min(buf.len());
            buf[..len].copy_from_slice(&packet[..len]);
            *meta = RecvMeta { len, stride: len, path: PathId(0), unproven: false };
            filled += 1;
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }

    fn poll_link(&self, cx: &mut Context<'_>) -> Poll<LinkChange> {
        let mut state = lock(&self.0);
        match state.changes.pop_front() {
            Some(change) => Poll::Ready(change),
            None => {
                state.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn packet_accepted(&self, _: PathId) {
        // There is one path, and nobody else on it.
    }
}
