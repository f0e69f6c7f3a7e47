//! Paths that are wires, one after another.
#![expect(clippy::unwrap_used, reason = "the configured exception knows test functions only")]

use std::future::poll_fn;
use std::io::{ErrorKind, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::path_auth::{PathAck, PathAuth};
use proto::{ClientId, ServerId};
use tokio::sync::mpsc;
use tssh_proxy::client::RenewReason;
use tssh_proxy::driver::{ClientConfig, ClientProxy, Opener, Wire, WireEnd};
use tssh_proxy::seal::Sealer;
use tssh_proxy::{Carrier, Means, PacketSocket, PathId, ProxyKey, RecvMeta, Transmit};

fn key() -> ProxyKey {
    ProxyKey::new([7; 32])
}

/// The server's end of a wire: acknowledges the path and takes what comes; a stalled one takes
/// nothing after that.
async fn serve(end: WireEnd, stalls: bool, arrived: mpsc::UnboundedSender<Vec<u8>>) {
    let WireEnd { incoming, mut outgoing } = end;
    let sealer = Sealer::new(&key());
    while let Some(packet) = outgoing.recv().await {
        match sealer.open(&packet).and_then(|plain| PathAuth::decode(&plain)) {
            Some(auth) => {
                let ack = PathAck { server: ServerId(2), serial: auth.serial };
                incoming.send(sealer.seal([5; 12], ack.encode()).to_vec()).await.unwrap();
            }
            None => arrived.send(packet).unwrap(),
        }
        if stalls {
            std::future::pending().await
        }
    }
}

/// Reads for as long as there is something to read, as transports do.
fn keep_reading(socket: Arc<dyn PacketSocket>) {
    tokio::spawn(async move {
        let mut storage = vec![0; 2000 * socket.max_receive_segments()];
        let mut meta = [RecvMeta { len: 0, stride: 0, path: PathId(0), unproven: false }];
        while poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut storage)], &mut meta))
            .await
            .is_ok()
        {}
    });
}

#[tokio::test(start_paused = true)]
async fn a_path_that_stalls_does_not_hold_up_the_one_that_replaced_it() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let wires = AtomicUsize::new(0);
    let opener: Opener = Arc::new(move || {
        let stalls = wires.fetch_add(1, Ordering::Relaxed) == 0;
        let arrived = arrived.clone();
        Box::pin(async move { Ok(Wire::new(move |end| serve(end, stalls, arrived))) })
    });
    let name = ([192, 0, 2, 1], 61001).into();
    let config = ClientConfig {
        means: vec![Means::wire(Carrier::Tcp)],
        ..ClientConfig::new(ClientId(1), ServerId(2), key(), vec![name])
    };
    let client = ClientProxy::start_over_wires(config, opener).unwrap();
    let (socket, mut status) = (client.socket(), client.watch());
    keep_reading(socket.clone());
    status.wait_for(|status| status.paths == 1).await.unwrap();
    let old = Transmit { contents: b"by the path that stalls", segment_size: None };
    while socket.try_send(&old).is_ok() {}

    client.renew(RenewReason::Requested);
    status.wait_for(|status| status.paths == 2).await.unwrap();
    let replaced = tokio::time::Instant::now();
    poll_fn(|cx| socket.poll_writable(cx)).await.unwrap();
    let new = Transmit { contents: b"by the one that replaced it", segment_size: None };
    socket.try_send(&new).unwrap();
    assert_eq!(arrivals.recv().await.as_deref(), Some(new.contents));
    assert!(replaced.elapsed().is_zero(), "without waiting for the old one to be closed");
    // And it fills up as any other does.
    let mut refused = Ok(());
    while refused.is_ok() {
        refused = socket.try_send(&new);
    }
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}
