//! Forwards of datagrams (`-L udp/`, `-R udp/`, `UdpLocalForward`, `UdpRemoteForward`).
//!
//! Each address that sends to a forward is a flow of its own, which ends when nothing has
//! passed for ForwardUdpTimeout, also while it waits for the far host to answer. Flows hold
//! nothing up at the end of a session: nobody can tell whether there is more to come.
//!
//! A datagram that cannot be led on begins no flow, so the next one would be the first again: a
//! forward that was refused rests for [`REFUSAL_PAUSE`], and says each reason once ([`Refused`]).

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use transport::flows::{Connected, Flow, Near, Peers, Socket, conduct};

use super::near::{self, Gram};
use super::{Active, Forwarder, Inner, NotSetUp, Side, described, shown, words};
use crate::config::forward::{Connect, Forward, Listen};
use crate::remote::{RemoteDatagrams, RemoteError, Target};

/// What a login without datagrams is told.
const NEEDS_UDP: &str = "UDP forwarding needs UDP mode: use --udp, or UdpMode in ssh_config";

/// For so long a forward that was refused drops what comes, before it asks again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(5);

/// What a forward was told when it could not be led on.
#[derive(Debug, Default)]
struct Refused(Mutex<Option<(String, Instant)>>);

impl Refused {
    /// Returns whether it is time to ask again.
    fn is_over(&self) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|(_, at)| at.elapsed() >= REFUSAL_PAUSE)
    }

    /// Remembers a refusal; returns whether it is news.
    fn is_news(&self, reason: &dyn Display) -> bool {
        let reason = reason.to_string();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = last.as_ref().is_none_or(|(before, _)| *before != reason);
        *last = Some((reason, Instant::now()));
        is_news
    }

    /// Forgets all refusals: the way is free.
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Forwarder {
    /// Sets up the local ones of the settings; returns how many failed.
    pub(super) async fn set_up_local_udp(&self) -> usize {
        let Inner { remote, settings, reporter, .. } = &*self.0;
        let any = !settings.udp_local.is_empty() || !settings.udp_remote.is_empty();
        if any && !remote.carries_datagrams() {
            reporter.plain_error(&NEEDS_UDP);
            return settings.udp_local.len();
        }
        let mut failed = 0;
        for forward in &settings.udp_local {
            failed += usize::from(self.add_local_udp(forward.clone()).await.is_err());
        }
        failed
    }

    /// Sets up the remote ones of the settings.
    pub(super) async fn set_up_remotes_udp(&self) -> Result<(), NotSetUp> {
        for forward in self.0.settings.udp_remote.iter().cloned() {
            if self.0.settings.exit_on_failure {
                self.set_up_remote_udp(forward).await?;
            } else {
                let this = self.clone();
                tokio::spawn(async move { this.set_up_remote_udp(forward).await });
            }
        }
        Ok(())
    }

    async fn set_up_remote_udp(&self, forward: Forward) -> Result<(), NotSetUp> {
        match self.add_remote_udp(forward.clone()).await {
            Ok(None) => Ok(()),
            Ok(Some(port)) => {
                let to = described(&forward.connect);
                let reporter = self.0.reporter;
                reporter
                    .info(&format_args!("Allocated UDP port {port} for remote forward to {to}"));
                Ok(())
            }
            Err(error) => {
                tracing::info!(%error, "no remote forward of datagrams");
                let listen = &forward.listen;
                let text = format!("remote UDP forwarding failed for listen {listen}");
                self.remote_failed(&text)
            }
        }
    }

    /// Receives datagrams here and sends them there.
    async fn add_local_udp(&self, forward: Forward) -> Result<(), NotSetUp> {
        let Inner { settings, family, reporter, .. } = &*self.0;
        let Some(target) = target(&forward) else { return Err(NotSetUp) };
        let refused = Arc::new(Refused::default());
        let tasks = match &forward.listen {
            Listen::Tcp { host, port } => {
                let gateway = settings.gateway_ports;
                let bound = near::listen_udp(host.as_deref(), *port, gateway, *family).await;
                let sockets = bound.map_err(|(address, error)| {
                    let (ip, words) = (address.ip(), words(&error));
                    reporter.plain_error(&format_args!("bind [{ip}]:{port}: {words}"));
                    reporter.plain_error(&format_args!("cannot listen to UDP port: {port}"));
                    NotSetUp
                })?;
                sockets.into_iter().map(|socket| self.serve(socket, &target, &refused)).collect()
            }
            Listen::Unix(path) => {
                let bound = near::listen_gram(path, settings.socket_mask, settings.socket_unlink);
                let socket = bound.map_err(|error| {
                    let words = words(&error);
                    reporter.plain_error(&format_args!("cannot bind to path {path}: {words}"));
                    NotSetUp
                })?;
                vec![self.serve(socket, &target, &refused)]
            }
        };
        self.0.lock().push(Active {
            side: Side::Local,
            datagrams: true,
            forward,
            chosen: None,
            tasks,
        });
        Ok(())
    }

    /// Leads whoever sends to `socket` to `target`.
    fn serve<S: Socket>(&self, socket: S, target: &Target, refused: &Arc<Refused>) -> AbortHandle {
        // Weak: the sockets end with the forwarder, not the other way round.
        let (inner, target) = (Arc::downgrade(&self.0), target.clone());
        let refused = Arc::clone(refused);
        let task = tokio::spawn(async move {
            let mut peers = Peers::new(socket);
            loop {
                let flow = peers.next().await;
                let Some(inner) = inner.upgrade() else { return };
                if !refused.is_over() {
                    continue;
                }
                let (target, refused) = (target.clone(), Arc::clone(&refused));
                tokio::spawn(async move { inner.flow_outwards(flow, target, &refused).await });
            }
        });
        task.abort_handle()
    }

    /// Has datagrams received there sent to here; returns the port the far host chose, if it did.
    async fn add_remote_udp(&self, forward: Forward) -> Result<Option<u16>, RemoteError> {
        let listener = self.0.remote.listen_udp(forward.listen.clone()).await?;
        let port = listener.port;
        let (inner, target) = (Arc::downgrade(&self.0), target(&forward));
        let refused = Arc::new(Refused::default());
        let task = tokio::spawn(async move {
            // All of it, or what keeps it alive would be left outside and dropped.
            let mut listener = listener;
            while let (Some(flow), Some(target)) = (listener.incoming.recv().await, target.clone())
            {
                let Some(inner) = inner.upgrade() else { return };
                if !refused.is_over() {
                    continue;
                }
                let refused = Arc::clone(&refused);
                tokio::spawn(async move { inner.flow_inwards(flow, target, &refused).await });
            }
        });
        let tasks = vec![task.abort_handle()];
        self.0.lock().push(Active {
            side: Side::Remote,
            datagrams: true,
            forward,
            chosen: None,
            tasks,
        });
        Ok(port)
    }
}

/// Where a forward leads; there is no SOCKS for datagrams here.
fn target(forward: &Forward) -> Option<Target> {
    match &forward.connect {
        Connect::Tcp { host, port } => Some(Target::Tcp { host: host.clone(), port: *port }),
        Connect::Unix(path) => Some(Target::Unix(path.clone())),
        Connect::Socks => None,
    }
}

impl Inner {
    /// Leads a flow that begins here to the far host.
    async fn flow_outwards<S: Socket>(&self, flow: Flow<S>, target: Target, refused: &Refused) {
        // An outage may be longer than anybody waits for an answer to what was sent before it.
        let dialled = timeout(self.settings.udp_idle, self.remote.dial_udp(target)).await;
        match dialled {
            Ok(Ok(far)) => {
                refused.clear();
                self.conduct(flow, far).await;
            }
            Ok(Err(RemoteError::Refused { reason, .. })) => {
                if refused.is_news(&reason) {
                    self.reporter.plain_error(&format_args!("UDP forward failed: {reason}"));
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "no flow for a forward"),
            Err(_) => tracing::debug!("a flow of a forward waited too long"),
        }
    }

    /// Leads a flow that begins on the far host to here.
    async fn flow_inwards(&self, far: RemoteDatagrams, target: Target, refused: &Refused) {
        let connected = match &target {
            Target::Tcp { host, port } => match near::connect_udp(host, *port).await {
                Ok(socket) => {
                    refused.clear();
                    return self.conduct(Connected::new(socket), far).await;
                }
                Err(error) => error,
            },
            Target::Unix(path) => match host::local::Gram::connect(path) {
                Ok(socket) => {
                    refused.clear();
                    return self.conduct(Connected::new(Gram(socket)), far).await;
                }
                Err(error) => error,
            },
        };
        let (shown, words) = (shown(&target), words(&connected));
        if refused.is_news(&words) {
            self.reporter.plain_error(&format_args!("UDP forward to {shown}: {words}"));
        }
    }

    async fn conduct(&self, near: impl Near, far: RemoteDatagrams) {
        let RemoteDatagrams { sender, receiver, _slot } = far;
        conduct(near, (sender, receiver), Some(self.settings.udp_idle)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_forward_rests_and_says_each_reason_once() {
        let refused = Refused::default();
        assert!(refused.is_over());
        assert!(refused.is_news(&"not permitted"));
        assert!(!refused.is_over(), "it rests");
        tokio::time::advance(REFUSAL_PAUSE).await;
        assert!(refused.is_over(), "and asks again");
        assert!(!refused.is_news(&"not permitted"), "that has been said");
        assert!(refused.is_news(&"no such host"));
        refused.clear();
        assert!(refused.is_over());
        assert!(refused.is_news(&"no such host"), "it had worked in between");
    }
}
