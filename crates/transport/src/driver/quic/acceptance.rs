//! Tells the proxy which packets were genuine, and by which path they came (DESIGN D2, D10).
//!
//! quinn decrypts each packet with a [`PacketKey`] that we hand it, so wrapping
//! that key shows exactly which packets verify. A packet is found again among
//! those delivered by its last 16 bytes, the AEAD tag: nobody can make a
//! tag that verifies without the key, and who copies a genuine packet's tag could
//! as well copy the packet.
//!
//! A packet counts as accepted when it verifies, when its number is higher than all
//! before it (so a replayed or late one proves nothing), and when the handshake
//! has verified the peer's certificate. Keys of Initial packets are public and
//! those of the handshake unauthenticated; a path that carried the packet which
//! completes the handshake is reported at that moment.
//!
//! Locks: decryption happens under quinn's connection lock, delivery under its
//! endpoint lock; the lock here is never held while calling out.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use proxy::{PacketSocket, PathId};
use quinn::crypto::{
    self, CryptoError, ExportKeyingMaterialError, KeyPair, Keys, PacketKey, Session,
    UnsupportedVersion,
};
use quinn::{ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

/// Bytes of an AEAD tag, the same for all cipher suites of QUIC v1 (RFC 9001 §5.3).
const TAG_LEN: usize = 16;
/// Delivered packets remembered at most; beyond it the oldest is forgotten,
/// which costs one report. Two of quinn's batches of 32 full GRO buffers.
const MAX_PENDING: usize = 4096;

type Tag = [u8; TAG_LEN];

/// Delivered packets that quinn has not yet tried, oldest first.
pub(super) struct Acceptance {
    socket: Arc<dyn PacketSocket>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    packets: VecDeque<Delivered>,
    /// Counts calls of [`Acceptance::deliver`].
    batch: u64,
    /// The last thing reported, so that one batch is reported once.
    reported: Option<Origin>,
}

struct Delivered {
    tag: Tag,
    origin: Origin,
}

/// Where and when a packet came in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Origin {
    path: PathId,
    batch: u64,
}

impl Acceptance {
    /// Makes a witness that reports to `socket`.
    pub(super) fn new(socket: Arc<dyn PacketSocket>) -> Self {
        Self { socket, pending: Mutex::new(Pending::default()) }
    }

    /// Remembers packets about to be given to quinn, in the same order.
    pub(super) fn deliver<'a>(&self, packets: impl Iterator<Item = (PathId, &'a [u8])>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.batch += 1;
        let batch = pending.batch;
        for (path, packet) in packets {
            if let Some(tag) = packet.last_chunk::<TAG_LEN>() {
                if pending.packets.len() == MAX_PENDING {
                    pending.packets.pop_front();
                }
                pending.packets.push_back(Delivered { tag: *tag, origin: Origin { path, batch } });
            }
        }
    }

    /// Finds the packet with this tag and forgets it. `in_order`: so are all before it.
    fn take(&self, tag: &Tag, in_order: bool) -> Option<Origin> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let index = pending.packets.iter().position(|packet| packet.tag == *tag)?;
        let found = pending.packets.remove(index)?;
        if in_order {
            pending.packets.drain(..index);
        }
        Some(found.origin)
    }

    fn report(&self, origin: Origin) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = pending.reported.replace(origin) != Some(origin);
        drop(pending);
        if is_news {
            self.socket.packet_accepted(origin.path);
        }
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptance").finish_non_exhaustive()
    }
}

/// A TLS configuration, client's or server's, whose sessions are watched.
pub(super) struct Watched<T> {
    inner: Arc<T>,
    acceptance: Arc<Acceptance>,
}

impl<T> Watched<T> {
    /// Wraps a configuration.
    pub(super) fn new(inner: T, acceptance: Arc<Acceptance>) -> Self {
        Self { inner: Arc::new(inner), acceptance }
    }
}

impl<T: crypto::ClientConfig> crypto::ClientConfig for Watched<T> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, quinn::ConnectError> {
        let inner = self.inner.clone().start_session(version, server_name, params)?;
        Ok(Box::new(WatchedSession::new(inner, &self.acceptance)))
    }
}

impl<T: crypto::ServerConfig> crypto::ServerConfig for Watched<T> {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.inner.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.inner.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let inner = self.inner.clone().start_session(version, params);
        Box::new(WatchedSession::new(inner, &self.acceptance))
    }
}

/// What the keys of one connection have in common.
struct Witness {
    acceptance: Arc<Acceptance>,
    /// Whether the peer's certificate was verified.
    authenticated: AtomicBool,
    /// The origin of the latest good packet before that.
    unconfirmed: Mutex<Option<Origin>>,
}

impl Witness {
    fn on_decrypted(&self, tag: &Tag, is_newest: bool) {
        let authenticated = self.authenticated.load(Ordering::Acquire);
        let Some(origin) = self.acceptance.take(tag, authenticated) else { return };
        if !is_newest {
            return;
        }
        if authenticated {
            self.acceptance.report(origin);
        } else {
            *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = Some(origin);
        }
    }

    fn on_authenticated(&self) {
        if !self.authenticated.swap(true, Ordering::AcqRel) {
            let mut unconfirmed = self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner);
            let origin = unconfirmed.take();
            drop(unconfirmed);
            if let Some(origin) = origin {
                self.acceptance.report(origin);
            }
        }
    }
}

/// A TLS session whose keys for receiving are watched.
struct WatchedSession {
    inner: Box<dyn Session>,
    witness: Arc<Witness>,
    /// The packet number space of the keys last handed out: handshake, then
    /// application data, which all key updates share.
    space: Arc<Space>,
}

/// One more than the highest packet number seen in a packet number space.
#[derive(Default)]
struct Space(AtomicU64);

impl Space {
    fn is_newest(&self, packet_number: u64) -> bool {
        let next = packet_number.saturating_add(1);
        self.0.fetch_max(next, Ordering::AcqRel) < next
    }
}

impl WatchedSession {
    fn new(inner: Box<dyn Session>, acceptance: &Arc<Acceptance>) -> Self {
        let witness = Witness {
            acceptance: acceptance.clone(),
            authenticated: AtomicBool::new(false),
            unconfirmed: Mutex::new(None),
        };
        Self { inner, witness: Arc::new(witness), space: Arc::default() }
    }

    fn watch(&self, keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let remote = WatchedKey {
            inner: keys.remote,
            witness: self.witness.clone(),
            space: self.space.clone(),
        };
        KeyPair { local: keys.local, remote: Box::new(remote) }
    }
}

impl Session for WatchedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn crypto::HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let has_data = self.inner.read_handshake(buf)?;
        if !self.inner.is_handshaking() {
            self.witness.on_authenticated();
        }
        Ok(has_data)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(buf)?;
        self.space = Arc::default();
        Some(Keys { header: keys.header, packet: self.watch(keys.packet) })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.inner.next_1rtt_keys()?;
        Some(self.watch(keys))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

/// A key for receiving that tells of each packet it verified.
struct WatchedKey {
    inner: Box<dyn PacketKey>,
    witness: Arc<Witness>,
    space: Arc<Space>,
}

impl PacketKey for WatchedKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        // Decrypting overwrites the payload and cuts the tag off.
        let tag = payload.last_chunk::<TAG_LEN>().copied();
        self.inner.decrypt(packet, header, payload)?;
        if let Some(tag) = tag {
            self.witness.on_decrypted(&tag, self.space.is_newest(packet));
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
