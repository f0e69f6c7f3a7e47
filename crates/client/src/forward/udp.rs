//! Forwards of datagrams (`-L udp/`, `-R udp/`, `UdpLocalForward`, `UdpRemoteForward`).
//!
//! Each address that sends to a forward is a flow of its own, which ends when nothing has
//! passed for ForwardUdpTimeout. Flows hold nothing up at the end of a session: nobody can
//! tell whether there is more to come.

use tokio::net::UdpSocket;
use transport::flows::{Connected, Flow, Near, Peers, conduct};

use super::near::{self, Datagram};
use super::{Active, Forwarder, Inner, NotSetUp, Side, described, shown, words};
use crate::config::forward::{Connect, Forward, Listen};
use crate::remote::{RemoteDatagrams, RemoteError, Target};

/// What a login without datagrams is told.
const NEEDS_UDP: &str = "UDP forwarding needs UDP mode: use --udp, or UdpMode in ssh_config";

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
        let (Listen::Tcp { host, port }, Some(target)) = (&forward.listen, target(&forward)) else {
            return Err(NotSetUp);
        };
        let gateway = settings.gateway_ports;
        let bound = near::listen_udp(host.as_deref(), *port, gateway, *family).await;
        let sockets = bound.map_err(|(address, error)| {
            let (ip, words) = (address.ip(), words(&error));
            reporter.plain_error(&format_args!("bind [{ip}]:{port}: {words}"));
            reporter.plain_error(&format_args!("cannot listen to UDP port: {port}"));
            NotSetUp
        })?;
        let serve = |socket: UdpSocket| {
            // Weak: the sockets end with the forwarder, not the other way round.
            let (inner, target) = (std::sync::Arc::downgrade(&self.0), target.clone());
            let task = tokio::spawn(async move {
                let mut peers = Peers::new(socket);
                loop {
                    let flow = peers.next().await;
                    let Some(inner) = inner.upgrade() else { return };
                    let target = target.clone();
                    tokio::spawn(async move { inner.flow_outwards(flow, target).await });
                }
            });
            task.abort_handle()
        };
        let tasks = sockets.into_iter().map(serve).collect();
        self.0.lock().push(Active {
            side: Side::Local,
            datagrams: true,
            forward,
            chosen: None,
            tasks,
        });
        Ok(())
    }

    /// Has datagrams received there sent to here; returns the port the far host chose, if it did.
    async fn add_remote_udp(&self, forward: Forward) -> Result<Option<u16>, RemoteError> {
        let listener = self.0.remote.listen_udp(forward.listen.clone()).await?;
        let port = listener.port;
        let (inner, target) = (std::sync::Arc::downgrade(&self.0), target(&forward));
        let task = tokio::spawn(async move {
            // All of it, or what keeps it alive would be left outside and dropped.
            let mut listener = listener;
            while let (Some(flow), Some(target)) = (listener.incoming.recv().await, target.clone())
            {
                let Some(inner) = inner.upgrade() else { return };
                tokio::spawn(async move { inner.flow_inwards(flow, target).await });
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
    async fn flow_outwards(&self, flow: Flow<UdpSocket>, target: Target) {
        match self.remote.dial_udp(target).await {
            Ok(far) => self.conduct(flow, far).await,
            Err(RemoteError::Refused { reason, .. }) => {
                self.reporter.plain_error(&format_args!("UDP forward failed: {reason}"));
            }
            Err(error) => tracing::debug!(%error, "no flow for a forward"),
        }
    }

    /// Leads a flow that begins on the far host to here.
    async fn flow_inwards(&self, far: RemoteDatagrams, target: Target) {
        let connected = match &target {
            Target::Tcp { host, port } => match near::connect_udp(host, *port).await {
                Ok(socket) => return self.conduct(Connected::new(socket), far).await,
                Err(error) => error,
            },
            Target::Unix(path) => match Datagram::connect(path) {
                Ok(socket) => return self.conduct(Connected::new(socket), far).await,
                Err(error) => error,
            },
        };
        let (shown, words) = (shown(&target), words(&connected));
        self.reporter.plain_error(&format_args!("UDP forward to {shown}: {words}"));
    }

    async fn conduct(&self, near: impl Near, far: RemoteDatagrams) {
        let RemoteDatagrams { sender, receiver, _slot } = far;
        conduct(near, (sender, receiver), Some(self.settings.udp_idle)).await;
    }
}
