//! Takes the server's one connection and refuses all others (PROTOCOL §2.8).

use std::fmt;
use std::sync::Arc;

use proxy::PacketSocket;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::acceptance::Watched;
use super::{Config, ConnectError, Link, SERVER_ID_LEN, ServerCredentials, config, tls};
use crate::driver::Connection;

/// Handshakes under way at a time; further ones are refused. They come from
/// holders of the proxy key only, and an honest client makes one.
const MAX_HANDSHAKES: usize = 4;

/// Waits for the client at the other end of a packet socket.
///
/// The first client that completes the handshake, its certificate verified, is
/// served; every further one is refused, as long as the listener or that
/// connection exists.
pub struct Listener {
    link: Link,
    config: Config,
    endpoint: quinn::Endpoint,
    first: Mutex<Option<oneshot::Receiver<quinn::Connection>>>,
    task: Arc<AbortOnDrop>,
}

impl Listener {
    /// Starts to listen; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError::Credentials`] when they cannot be used.
    pub fn new(
        socket: Arc<dyn PacketSocket>,
        credentials: ServerCredentials,
        config: Config,
    ) -> Result<Self, ConnectError> {
        let link = Link::new(socket);
        let tls = Watched::new(tls::server_config(&credentials)?, link.acceptance.clone());
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        server.transport_config(config::transport(&config, &link)).migration(false);
        let endpoint = link.endpoint(Some(server), SERVER_ID_LEN)?;
        let (sender, receiver) = oneshot::channel();
        let task = tokio::spawn(serve(endpoint.clone(), config.clone(), sender));
        Ok(Self {
            link,
            config,
            endpoint,
            first: Mutex::new(Some(receiver)),
            task: Arc::new(AbortOnDrop(task.abort_handle())),
        })
    }

    /// Waits for the client; `None` when there already was one, or the packet
    /// socket was closed.
    ///
    /// # Cancel safety
    /// The client is not lost if the future is dropped.
    pub async fn accept(&self) -> Option<Connection> {
        let mut first = self.first.lock().await;
        let inner = first.as_mut()?.await;
        *first = None;
        let listener = Some(self.task.clone());
        Some(self.link.clone().connection(
            &self.config,
            self.endpoint.clone(),
            inner.ok()?,
            listener,
        ))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("link", &self.link).finish_non_exhaustive()
    }
}

/// Ends a task with the last owner.
#[derive(Debug)]
pub(super) struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs handshakes until one succeeds, hands that over, and refuses the rest.
async fn serve(
    endpoint: quinn::Endpoint,
    config: Config,
    first: oneshot::Sender<quinn::Connection>,
) {
    let mut handshakes = JoinSet::new();
    let served = loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                None => return,
                Some(incoming) if handshakes.len() >= MAX_HANDSHAKES => incoming.refuse(),
                Some(incoming) => {
                    handshakes.spawn(timeout(config.connect_timeout, incoming.into_future()));
                }
            },
            Some(done) = handshakes.join_next() => match done {
                Ok(Ok(Ok(connection))) => break connection,
                Ok(Ok(Err(error))) => tracing::warn!(%error, "handshake failed"),
                Ok(Err(_)) => tracing::warn!("handshake not completed in time"),
                Err(_) => {}
            },
        }
    };
    drop(handshakes); // closes those that come too late
    if first.send(served).is_err() {
        return; // The listener is gone, and so is the connection now.
    }
    while let Some(incoming) = endpoint.accept().await {
        incoming.refuse();
    }
}
