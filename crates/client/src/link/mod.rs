//! The UDP link: a connection to tsshd that outlives the network paths under it.
//!
//! Owns the proxy, the transport and the bus, and is one make of [`Remote`].
//! Not here: the login that started the server, and what people see.
//!
//! Order of opening (DESIGN D2): auth packet and handshake go out back to back,
//! the bus is initialised with the first stream data, and with extension
//! `early` the first session travels in that same flight.

mod bus;
mod datagrams;
mod forward;
mod listen;
mod rhythm;
mod session;
mod slots;
mod way;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use proto::bootstrap::{BootstrapError, Secret, ServerInfo, TransportKind};
use proto::ext::{Ext, ExtSet};
use proto::open::{AGENT_CHANNEL, Timeouts, X11_CHANNEL};
use proto::path_auth::PathAuth;
use proto::{ClientId, PathSerial, ServerId};
use proxy::driver::{ClientConfig, ClientProxy, LinkState, LinkStatus};
use proxy::seal::{NONCE_LEN, Sealer};
use proxy::{Carrier, Means, ProxyKey};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use transport::channels::Channels;
use transport::crypt::SECRET_LEN;
use transport::quic::{self, ClientCredentials};
use transport::{Connection, kcp_transport};
use zeroize::Zeroizing;

use crate::config::UdpSettings;
use crate::config::forward::Listen;
use crate::guard::Farewell;
use crate::remote::{
    BoxFuture, HealthWatch, Outage, Remote, RemoteDatagrams, RemoteError, RemoteListener,
    RemoteSession, RemoteStream, RemoteUdpListener, SessionRequest, Target, X11Request,
};
use bus::Bus;
use datagrams::Flows;
use forward::Connections;
use listen::{Listening, channels, listen};
use slots::Slots;
pub use way::{Near, Way};

/// How long the server may take to end the bus after `close` (PROTOCOL §7.7).
const CLOSE_GRACE: Duration = Duration::from_millis(280);

/// How long the transport may take to get its last packet out (PROTOCOL §7.7).
const TRANSPORT_GRACE: Duration = Duration::from_millis(200);

/// Why the link did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The server's information cannot be used.
    #[error(transparent)]
    Info(#[from] BootstrapError),
    /// The server took the connection but gave no new key within the connect timeout.
    #[error("the server did not exchange keys within {0:?}; update its tsshd, or use --quic")]
    NoKeys(Duration),
    /// There are no random numbers to make keys of.
    #[error(transparent)]
    NoEntropy(#[from] kcp_transport::NoEntropy),
    /// A key or certificate of the server information is malformed. Its content is not shown.
    #[error("the server information holds a malformed {0}")]
    Malformed(&'static str),
    /// No answer from the server's port within the connect timeout.
    #[error(
        "no answer from {carrier} port {port} of {host} within {limit:?}{}",
        Because(reason.as_deref())
    )]
    Silent {
        /// Where the packets went.
        host: String,
        /// The last error on the way there, if there was one.
        reason: Option<String>,
        /// The server's port.
        port: u16,
        /// `UDP` or `TCP`.
        carrier: &'static str,
        /// The connect timeout.
        limit: Duration,
    },
    /// A socket of ours could not be opened.
    #[error("opening a {carrier} socket to {addr}: {source}")]
    Socket {
        /// `UDP` or `TCP`.
        carrier: &'static str,
        /// Where to.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] quic::ConnectError),
}

/// ` (reason)` where there is one.
struct Because<'a>(Option<&'a str>);

impl std::fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

/// A live link. Cloning is cheap; all clones are the same link.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    /// The jump host that packets go through.
    hop: Option<Arc<dyn Remote>>,
    /// What the guard tells the server if we are killed, where the server understands it.
    farewell: Option<Farewell>,
    connection: Connection,
    proxy: ClientProxy,
    bus: Bus,
    /// What both ends can do beyond the reference.
    ext: ExtSet,
    heartbeat_timeout: Duration,
    /// Packets may go through the login.
    may_use_login: bool,
    slots: Slots,
    channels: Channels,
    /// What sessions say of the display here, where they may reach it.
    x11: OnceLock<X11Request>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("ext", &self.shared.ext).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects to the server described by `info` at the address of `host`, whose port is
    /// that of the login and whose zone, for link-local addresses, is kept.
    ///
    /// # Errors
    /// [`LinkError`], within the connect timeout.
    pub async fn connect(
        info: ServerInfo,
        host: SocketAddr,
        settings: &UdpSettings,
    ) -> Result<Self, LinkError> {
        Self::connect_by(info, &Way::Direct(host.into()), None, settings).await
    }

    /// Connects to the server described by `info`, whose packets take that way. Where the server
    /// takes TCP as well (extension `tcp`), whichever of UDP, TCP and a connection of `login`
    /// proves itself is used; [`Link::uses_login`] tells.
    ///
    /// # Errors
    /// As [`Link::connect`].
    pub async fn connect_by(
        mut info: ServerInfo,
        way: &Way,
        login: Option<Weak<dyn Remote>>,
        settings: &UdpSettings,
    ) -> Result<Self, LinkError> {
        let kind = info.transport()?;
        let tcp = info.is_tcp();
        // A wire goes by the name; the proxy only tells addresses apart.
        let near = match way {
            Way::Direct(near) => near.clone(),
            Way::Through(..) | Way::Command(..) => {
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()
            }
        };
        let servers = near.addresses(info.port, &info.further_addresses());
        let proxy_key = ProxyKey::from_slice(info.proxy_key.expose())
            .ok_or(LinkError::Malformed("proxy key"))?;
        let client_id = match info.client_id {
            0 => random_id(),
            id => id,
        };
        let ext = info.ext_set().and(usable(kind));
        let goodbye = || seal_goodbye(&proxy_key, ClientId(client_id));
        // To be said by the jump host, which nobody can ask for it once we are gone.
        let left = ext.has(Ext::Goodbye).then(goodbye).unwrap_or_default();
        let opener = way.opener(info.port, tcp, &left);
        let can_tell = ext.has(Ext::Goodbye) && opener.is_none();
        let all_ways = ext.has(Ext::Tcp) && !tcp && opener.is_none();
        let farewell = can_tell.then(|| Farewell {
            servers: servers.clone(),
            udp: !tcp,
            tcp: tcp || all_ways,
            packet: goodbye(),
        });
        let through = login.filter(|_| all_ways).map(|login| way::through_login(&login, info.port));
        let may_use_login = through.is_some();
        let mut means = vec![match (tcp, opener.is_some()) {
            (true, false) => Means::TCP,
            (false, false) => Means::UDP,
            (true, true) => Means::wire(Carrier::Tcp),
            (false, true) => Means::wire(Carrier::Udp),
        }];
        if all_ways {
            means.push(Means::TCP);
            means.extend(through.as_ref().map(|_| Means::wire(Carrier::Tcp)));
        }
        let name = if all_ways { "UDP or TCP" } else { carrier_name(tcp) };
        let config = ClientConfig {
            client_id: ClientId(client_id),
            server_id: ServerId(info.server_id),
            proxy_key,
            candidates: servers.clone(),
            means,
            connect_timeout: settings.connect_timeout,
            round_trip: near.round_trip,
            tcp_pipelining: ext.has(Ext::Early),
            patient: opener.is_some(),
            heartbeat_timeout: settings.heartbeat_timeout,
            quiet: ext.has(Ext::Silence),
        };
        let proxy = match opener {
            None => ClientProxy::start_with(config, through),
            Some(opener) => ClientProxy::start_over_wires(config, opener),
        }
        .map_err(|source| LinkError::Socket {
            carrier: carrier_name(tcp),
            addr: near.peer,
            source,
        })?;
        if let Some(resolver) = near.resolver(&servers, info.port) {
            proxy.set_resolver(resolver);
        }

        if let Some(class) = settings.traffic_class {
            proxy.set_traffic_class(class);
        }
        if ext.has(Ext::Loss) {
            proxy.enable_copies();
        }
        let port = info.port;
        let failure = proxy.clone();
        let silent = || LinkError::Silent {
            host: way.host(),
            reason: failure.status().reason.filter(|_| !matches!(way, Way::Direct(_))),
            port,
            carrier: name,
            limit: settings.connect_timeout,
        };
        let connection = match connect(kind, &mut info, &proxy, settings).await {
            Ok(connection) => connection,
            Err(LinkError::Handshake(quic::ConnectError::Timeout { .. })) => return Err(silent()),
            // The proxy gave up a moment earlier, for the same reason.
            Err(_) if matches!(proxy.status().state, LinkState::Failed { .. }) => {
                return Err(silent());
            }
            Err(error) => return Err(error),
        };
        if ext.has(Ext::Stop) {
            connection.tell_stops();
        }
        let timeouts = Timeouts::new(
            settings.alive_timeout,
            settings.heartbeat_timeout,
            settings.reconnect_timeout,
        );
        let bus = Bus::start(&connection, &proxy, info.proto_ver, timeouts, ext);
        way.follow(&proxy, &bus);
        let link = Self {
            shared: Arc::new(Shared {
                hop: way.hop(),
                channels: Channels::new(connection.clone()),
                x11: OnceLock::new(),
                farewell,
                connection,
                proxy,
                bus,
                ext,
                heartbeat_timeout: settings.heartbeat_timeout,
                may_use_login,
                slots: Slots::new(kind, ext),
            }),
        };
        // KCP has no handshake: the bus is the first to notice a server that is not there.
        if !ext.has(Ext::Early) || kind == TransportKind::Kcp {
            let failed =
                |link: &Self| matches!(link.shared.proxy.status().state, LinkState::Failed { .. });
            let error = match timeout(settings.connect_timeout, link.shared.bus.wait_up()).await {
                Ok(Err(_)) if failed(&link) => silent(),
                // Whoever opens a session is told why it cannot be.
                Ok(_) => return Ok(link),
                Err(_) if link.shared.bus.is_answered() => {
                    LinkError::NoKeys(settings.connect_timeout)
                }
                Err(_) => silent(),
            };
            // The server may have heard more of us than we of it.
            link.close().await;
            if let Some(farewell) = link.farewell() {
                farewell.send_once().await;
            }
            return Err(error);
        }
        // Sessions open meanwhile; the server waits for the bus no longer than that, either.
        let (bus, limit) = (link.shared.bus.clone(), settings.connect_timeout);
        tokio::spawn(async move {
            if timeout(limit, bus.wait_up()).await.is_err() {
                bus.give_up(format!("the server did not answer within {limit:?}"));
            }
        });
        Ok(link)
    }

    /// Returns whether the path in use leads through the login.
    #[must_use]
    pub fn uses_login(&self) -> bool {
        let means = self.shared.proxy.means();
        self.shared.may_use_login && means.is_some_and(|means| means.is_wire)
    }

    /// Returns what a guard needs to end the server if we are killed.
    #[must_use]
    pub fn farewell(&self) -> Option<&Farewell> {
        self.shared.farewell.as_ref()
    }

    /// Returns warnings that the server sends for the user, as they come.
    pub async fn next_warning(&self) -> Option<String> {
        self.shared.bus.next_warning().await
    }
}

impl Remote for Link {
    fn open_session(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'_, Result<RemoteSession, RemoteError>> {
        Box::pin(session::open(&self.shared, request))
    }

    fn dial(&self, target: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        Box::pin(forward::dial(self, target, Vec::new()))
    }

    fn dial_with_farewell(
        &self,
        target: Target,
        farewell: Vec<u8>,
    ) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        Box::pin(forward::dial(self, target, farewell))
    }

    fn listen(&self, at: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>> {
        Box::pin(async move {
            let Listening { port, incoming, guard } = listen::<Connections>(self, &at).await?;
            Ok(RemoteListener { port, incoming, _guard: Box::new(guard) })
        })
    }

    fn carries_datagrams(&self) -> bool {
        true
    }

    fn dial_udp(&self, target: Target) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
        Box::pin(datagrams::dial(self, target, Vec::new()))
    }

    fn dial_udp_with_farewell(
        &self,
        target: Target,
        farewell: Vec<u8>,
    ) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
        Box::pin(datagrams::dial(self, target, farewell))
    }

    fn listen_udp(&self, at: Listen) -> BoxFuture<'_, Result<RemoteUdpListener, RemoteError>> {
        Box::pin(async move {
            let Listening { port, incoming, guard } = listen::<Flows>(self, &at).await?;
            Ok(RemoteUdpListener { port, incoming, _guard: Box::new(guard) })
        })
    }

    fn forward_agent(&self) -> mpsc::Receiver<RemoteStream> {
        channels::<Connections>(self, AGENT_CHANNEL)
    }

    fn forward_x11(&self, x11: X11Request) -> mpsc::Receiver<RemoteStream> {
        let incoming = channels::<Connections>(self, X11_CHANNEL);
        // A second call is against the rules; the first one's cookie stays.
        let _ = self.shared.x11.set(x11);
        incoming
    }

    fn closed(&self) -> BoxFuture<'_, RemoteError> {
        Box::pin(self.shared.bus.ended())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // The server may close its end first.
            self.shared.proxy.open_no_more();
            if self.shared.bus.close()
                && timeout(CLOSE_GRACE, self.shared.bus.ended()).await.is_err()
                && let Some(farewell) = self.farewell()
            {
                // The path may have ended a moment ago: this one needs none.
                farewell.send_once().await;
            }
            self.shared.connection.close();
            let _ = timeout(TRANSPORT_GRACE, self.shared.connection.closing_sent()).await;
            self.shared.proxy.close();
        })
    }

    fn renew_keys(&self) {
        self.shared.connection.update_keys();
    }

    fn roams(&self) -> bool {
        true
    }

    fn datagram_size(&self) -> Option<usize> {
        // Without the id of the channel (PROTOCOL §6.9).
        let size = self.shared.connection.max_datagram_size();
        size.checked_sub(size_of::<u64>()).filter(|size| *size > 0)
    }

    fn health(&self) -> Option<Box<dyn HealthWatch>> {
        let proxy = self.shared.proxy.clone();
        let patience = self.shared.heartbeat_timeout;
        let before = self.shared.hop.as_ref().and_then(|hop| hop.health());
        Some(Box::new(Health { changes: proxy.watch(), proxy, patience, before }))
    }
}

/// The proxy's state, as far as it concerns a person.
struct Health {
    proxy: ClientProxy,
    changes: watch::Receiver<LinkStatus>,
    /// How long nothing came when the link counts as lost.
    patience: Duration,
    /// The path to the jump host that this one leads through.
    before: Option<Box<dyn HealthWatch>>,
}

impl HealthWatch for Health {
    fn outage(&self) -> Option<Outage> {
        let status = self.proxy.status();
        let last_contact = status.last_contact.unwrap_or(status.since);
        (status.state == LinkState::Lost).then(|| {
            // Of several hosts out of reach the nearest has the reason.
            let before = self.before.as_ref().and_then(|before| before.outage());
            Outage {
                last_contact,
                // An idle session is silent for longer (DESIGN D14).
                since: status
                    .since
                    .checked_sub(self.patience)
                    .map_or(last_contact, |at| at.max(last_contact)),
                is_refused: status.refused_since.is_some(),
                error: before.and_then(|outage| outage.error).or(status.reason),
            }
        })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.changes.changed().await.is_err() {
                std::future::pending().await
            }
        })
    }
}

const fn carrier_name(tcp: bool) -> &'static str {
    if tcp { "TCP" } else { "UDP" }
}

/// Returns the extensions that make sense with a transport.
fn usable(kind: TransportKind) -> ExtSet {
    match kind {
        TransportKind::Quic => Ext::ALL.into_iter().filter(|ext| *ext != Ext::Rekey).collect(),
        TransportKind::Kcp => ExtSet::all(),
    }
}

/// Connects by the server's transport.
async fn connect(
    kind: TransportKind,
    info: &mut ServerInfo,
    proxy: &ClientProxy,
    settings: &UdpSettings,
) -> Result<Connection, LinkError> {
    // A server that says nothing of the size we asked for gets it all the same (PROTOCOL §3.2).
    let asked = Some(info.mtu).filter(|mtu| *mtu != 0).or(settings.mtu);
    match kind {
        TransportKind::Quic => {
            let config = quic::Config {
                packet_size: asked.unwrap_or(quic::DEFAULT_PACKET_SIZE),
                connect_timeout: settings.connect_timeout,
                ..quic::Config::default()
            };
            Ok(quic::connect(proxy.socket(), credentials(info), config).await?)
        }
        TransportKind::Kcp => {
            let config = kcp_transport::Config {
                packet_size: asked.unwrap_or(kcp_transport::DEFAULT_PACKET_SIZE),
                ..kcp_transport::Config::default()
            };
            Ok(kcp_transport::connect(proxy.socket(), &secrets(info)?, config)?)
        }
    }
}

/// Takes KCP's secrets out of `info`.
fn secrets(info: &mut ServerInfo) -> Result<kcp_transport::Secrets, LinkError> {
    // Copied into its place, so that no copy stays behind on the way.
    let take = |secret: &mut Secret, what| {
        let secret = std::mem::take(secret);
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        if secret.expose().len() != SECRET_LEN {
            return Err(LinkError::Malformed(what));
        }
        bytes.copy_from_slice(secret.expose());
        Ok(bytes)
    };
    Ok(kcp_transport::Secrets {
        pass: take(&mut info.pass, "secret of KCP")?,
        salt: take(&mut info.salt, "salt of KCP")?,
    })
}

/// Takes the TLS credentials out of `info`.
fn credentials(info: &mut ServerInfo) -> ClientCredentials {
    let take = |secret: &mut Secret| Zeroizing::new(std::mem::take(secret).expose().to_vec());
    ClientCredentials {
        server_cert: take(&mut info.server_cert),
        client_cert: take(&mut info.client_cert),
        client_key: take(&mut info.client_key),
    }
}

/// Seals the packet of extension `goodbye`.
fn seal_goodbye(key: &ProxyKey, client: ClientId) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).expect("the system has a source of randomness");
    let goodbye = PathAuth { client, serial: PathSerial::GOODBYE };
    Sealer::new(key).seal(nonce, goodbye.encode()).to_vec()
}

/// Returns a random id other than zero, which means "absent" on the wire.
fn random_id() -> u64 {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has a source of randomness");
        match u64::from_ne_bytes(bytes) {
            0 => {}
            id => return id,
        }
    }
}
