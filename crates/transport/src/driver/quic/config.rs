//! What both ends tell quinn, and why (PROTOCOL §3.2).

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{Controller, ControllerFactory};
use quinn::{IdleTimeout, TransportConfig, VarInt};

use super::Link;
use super::control::ModelFactory;
use super::replay::RoundTrip;

/// The smallest packet size QUIC allows, in bytes.
pub const MIN_PACKET_SIZE: u16 = 1200;
/// The largest packet size the proxy carries, in bytes (PROTOCOL §2.1).
pub const MAX_PACKET_SIZE: u16 = 1452;
/// The packet size where nobody asked for another, in bytes (PROTOCOL §3.2).
pub const DEFAULT_PACKET_SIZE: u16 = 1400;

/// What may be chosen for one QUIC connection.
#[derive(Clone, Debug)]
pub struct Config {
    /// Size in bytes of the packets sent; default 1400. Values outside
    /// 1200..=1452 are brought to the nearest allowed one, as PROTOCOL §3.2 says.
    pub packet_size: u16,
    /// How many streams the peer may have open at a time; default 1000
    /// (DESIGN D18; the reference allows 100). Costs memory per open stream only.
    pub max_streams: u32,
    /// How long the handshake may take, in real time, whether there is a path
    /// or not; default 10 s.
    pub connect_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            packet_size: DEFAULT_PACKET_SIZE,
            max_streams: 1000,
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Returns the packet size, brought into the allowed range.
    pub(super) fn clamped_packet_size(&self) -> u16 {
        self.packet_size.clamp(MIN_PACKET_SIZE, MAX_PACKET_SIZE)
    }
}

/// Bytes of one stream that may be under way to us. More than 1024 gaps in one
/// stream make quinn close the connection, and a gap takes at least two packets:
/// 2 x 1024 x 1300 bytes (DESIGN D6).
const STREAM_WINDOW_BYTES: u32 = 2_560 * 1024;
/// Bytes of all streams that may be under way to us: what all streams may have
/// together, because streams whose readers stall (a paused download through a
/// forward) must never stall the others, the bus among them (DESIGN D18).
const CONNECTION_WINDOW_BYTES: u32 = 1000 * STREAM_WINDOW_BYTES;
/// Bytes written but not yet acknowledged, or behind such, all streams together:
/// a bound on memory. How far a writer gets ahead of the link is the gate's.
const SEND_WINDOW_BYTES: u64 = 6 * 1024 * 1024;
/// Received datagrams nobody has read yet: 128 of the largest, as the reference.
/// It makes quinn announce max_datagram_frame_size 65535; the reference announces
/// 16383; both are far above what fits a packet.
const DATAGRAM_RECEIVE_BYTES: usize = 128 * MAX_PACKET_SIZE as usize;
/// Datagrams not yet sent; beyond it the oldest goes. 32 of the largest, as the reference.
const DATAGRAM_SEND_BYTES: usize = 32 * MAX_PACKET_SIZE as usize;
/// Announced idle timeout: 365 days (PROTOCOL §3.2).
const IDLE_TIMEOUT_MILLIS: u64 = 365 * 24 * 3600 * 1000;
/// One-directional streams we allow; nobody opens any (PROTOCOL §3.2).
const MAX_UNI_STREAMS: u32 = 100;

/// Builds quinn's settings for one end.
pub(super) fn transport(config: &Config, link: &Link) -> Arc<TransportConfig> {
    let idle = VarInt::from_u64(IDLE_TIMEOUT_MILLIS).expect("365 days fit a QUIC integer");
    let packet_size = config.clamped_packet_size();
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(config.max_streams.into())
        .max_concurrent_uni_streams(MAX_UNI_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(IdleTimeout::from(idle)))
        .keep_alive_interval(None)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        // The size is pinned: no probing upwards, and black-hole detection
        // must not shrink it, or full datagrams would no longer fit (§3.6).
        .initial_mtu(packet_size)
        .min_mtu(packet_size)
        .mtu_discovery_config(None)
        .congestion_controller_factory(congestion(link));
    Arc::new(transport)
}

/// Chooses the congestion controller: our model, kept from punishing outages.
fn congestion(link: &Link) -> Arc<dyn ControllerFactory + Send + Sync> {
    let inner: Arc<dyn ControllerFactory + Send + Sync> = Arc::new(ModelFactory);
    Arc::new(OutageBlindFactory { inner, link: link.clone() })
}

/// Makes controllers that do not take an outage for congestion (DESIGN D3).
struct OutageBlindFactory {
    inner: Arc<dyn ControllerFactory + Send + Sync>,
    link: Link,
}

impl ControllerFactory for OutageBlindFactory {
    fn build(self: Arc<Self>, now: std::time::Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(OutageBlind {
            controller: self.inner.clone().build(now, mtu),
            factory: self.inner.clone(),
            network: self.link.clock.network(),
            link: self.link.clone(),
            mtu,
            acked: None,
        })
    }
}

/// A controller that ignores the loss of packets sent before the last outage,
/// and starts anew on another network.
struct OutageBlind {
    controller: Box<dyn Controller>,
    factory: Arc<dyn ControllerFactory + Send + Sync>,
    /// Told of what quinn sends, loses and lacks.
    link: Link,
    network: u64,
    mtu: u16,
    /// The newest packet of the acks at hand: when it was sent, and the round trip.
    acked: Option<(std::time::Instant, RoundTrip)>,
}

impl OutageBlind {
    /// What was learnt of one network does not hold on another (DESIGN D3).
    fn check_network(&mut self, now: std::time::Instant) {
        let network = self.link.clock.network();
        if self.network != network {
            self.network = network;
            self.controller = self.factory.clone().build(now, self.mtu);
        }
    }
}

impl Controller for OutageBlind {
    fn on_sent(&mut self, now: std::time::Instant, bytes: u64, last_packet_number: u64) {
        self.check_network(now);
        self.controller.on_sent(now, bytes, last_packet_number);
        self.link.gate.on_sent(bytes, self.mtu.into(), self.window());
    }

    fn on_ack(
        &mut self,
        now: std::time::Instant,
        sent: std::time::Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.check_network(now);
        let rtt_now = RoundTrip { smoothed: rtt.get(), lowest: rtt.min() };
        let newest = self.acked.map_or(sent, |(newest, _)| newest.max(sent));
        self.acked = Some((newest, rtt_now));
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: std::time::Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let mut smoothed = std::time::Duration::ZERO;
        if let Some((newest, rtt)) = self.acked.take() {
            self.link.adapter.on_acked(newest, rtt);
            smoothed = rtt.smoothed;
        }
        let is_limited = app_limited && !self.link.gate.has_held_back(smoothed);
        self.controller.on_end_acks(now, in_flight, is_limited, largest_packet_num_acked);
        self.link.gate.on_acked(self.window(), in_flight);
        if app_limited {
            self.link.gate.on_dry();
        }
        if in_flight == 0 {
            self.link.adapter.on_all_answered();
        }
    }

    fn on_congestion_event(
        &mut self,
        now: std::time::Instant,
        sent: std::time::Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.link.gate.on_lost(lost_bytes);
        if self.link.clock.last_interruption().is_some_and(|at| sent <= at) {
            return;
        }
        self.controller.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> quinn::congestion::ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            factory: self.factory.clone(),
            link: self.link.clone(),
            network: self.network,
            mtu: self.mtu,
            acked: None,
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}
