//! [`Stack`]: the layers of KCP put together, from streams and datagrams to sealed packets.
//!
//! ```text
//!   streams ─▶ smux ─▶ kcp ─▶ fec ─▶ crypt ─▶ packets
//!   datagrams ───────────────▶ ┘
//! ```
//! Sans-IO, driven by the five verbs. In: [`Stack::handle_packet`],
//! [`Stack::handle_link`], [`Stack::handle_timeout`], and what is done with
//! streams. Out: [`Stack::poll_transmit`], [`Stack::poll_timeout`],
//! [`Stack::poll_event`]. After any way in, drain `poll_transmit` while packets can
//! be sent, then arm one timer with `poll_timeout`.
//!
//! All times are real. The stack lives by transport time below (DESIGN D3), so
//! an outage of any length is no time to KCP, and what was in flight goes out
//! again as soon as there is a path. Keys are renewed by real time.
//!
//! Not here: sockets, tasks and wakers (`driver::kcp`), and who carries
//! the messages of a key exchange (the bus, above).
//!
//! Invariants: a packet that does not open changes nothing; memory is bounded by
//! the windows of KCP and smux and by [`DATAGRAM_QUEUE`]; smux is asked for bytes only when
//! KCP is about to send them, so that what is urgent overtakes what is not.
//! Wire: `docs/protocol.md` §4, §5.

mod keys;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use proxy::LinkChange;
use zeroize::Zeroizing;

use crate::crypt::{self, Crypt, NONCE_LEN, SECRET_LEN, TAG_LEN};
use crate::fec::{self, Decoder, Encoder, Order, Parity, Shard};
use crate::kcp::{self, Control, Kcp, Origin, conv_of};
use crate::smux::{OpenError, Session, SessionError, StreamError, StreamId};
use crate::time::{TransportTime, Wait};

pub use keys::KeyExchangeError;

/// What a datagram's packet needs beside its payload (PROTOCOL §4.6).
pub const DATAGRAM_OVERHEAD: usize = NONCE_LEN + fec::DATAGRAM_HEADER_LEN + TAG_LEN;
/// Datagrams that wait, each way; of those that come the further ones are
/// dropped (PROTOCOL §4.6), of those that go the oldest.
pub const DATAGRAM_QUEUE: usize = 1024;

/// Bytes of a bulk stream that may wait if the window is large enough: two of
/// the largest bursts.
const BULK_WAITING: usize = 32 * 1024;

/// The only timer.
const TIMER: u64 = 0;
/// Most bytes taken from smux at a time: frames of several segments.
const GULP: usize = 16 * 1024;
/// Bytes taken from smux at a time on a narrow link.
const SIP: usize = 2 * 1024;
/// What is moved from KCP to smux at a time.
const CHUNK: usize = 16 * 1024;

/// How a stack is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Size in bytes of the packets sent.
    pub packet_size: u16,
    /// How many streams may be open at a time.
    pub max_streams: usize,
}

/// What both sides know before the first packet: `Pass` and `Salt` of the
/// server information (PROTOCOL §1.5). Wiped when dropped, and `Debug` hides it.
#[derive(Clone)]
pub struct Secrets {
    /// The initial secret.
    pub pass: Zeroizing<[u8; SECRET_LEN]>,
    /// The salt of every key.
    pub salt: Zeroizing<[u8; SECRET_LEN]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(hidden)")
    }
}

/// Random numbers that one side draws for one connection.
#[derive(Clone)]
pub struct Entropy {
    /// For the nonces; see [`Crypt::new`].
    pub seed: Zeroizing<[u8; 32]>,
    /// The conversation's number; the client's choice.
    pub conv: u32,
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entropy").field("conv", &self.conv).finish_non_exhaustive()
    }
}

/// What happened. `Debug` shows no data.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The client was heard for the first time; servers only.
    Established,
    /// Something happened to a stream.
    Stream(crate::smux::Event),
    /// The peer has everything that was written to a stream, the end included.
    Delivered(StreamId),
    /// A datagram came.
    Datagram(Vec<u8>),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Established => f.write_str("Established"),
            Self::Stream(event) => event.fmt(f),
            Self::Delivered(id) => f.debug_tuple("Delivered").field(id).finish(),
            Self::Datagram(payload) => write!(f, "Datagram({} bytes)", payload.len()),
        }
    }
}

/// Why a packet was dropped. Nothing of it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Dropped {
    /// It does not open.
    #[error(transparent)]
    Refused(#[from] crypt::Refused),
    /// It opened, and its framing is wrong.
    #[error(transparent)]
    Malformed(#[from] fec::Malformed),
    /// It opened, and its segments are wrong or those of another conversation.
    #[error(transparent)]
    Segments(#[from] kcp::Refused),
    /// It opened, but is so old that somebody must have kept it.
    #[error("packet is too old")]
    Stale,
    /// It opened, but holds no segment that could begin a conversation.
    #[error("packet belongs to no conversation")]
    NoConversation,
}

/// One side of a connection over KCP; see the [module's description](self).
pub struct Stack {
    config: Config,
    crypt: Crypt,
    keys: keys::Keys,
    encoder: Encoder,
    decoder: Decoder,
    /// None on a server that has not heard its client.
    kcp: Option<Kcp>,
    /// For the conversation to come, on a server.
    control: Option<Box<dyn Control>>,
    smux: Session,
    /// KCP's bytes can be read no further.
    failure: Option<SessionError>,
    datagrams: VecDeque<Vec<u8>>,
    /// The last packet sent held a datagram: the next one is KCP's, if it has one.
    datagram_sent: bool,
    /// Ends of streams that the peer has not acknowledged: where they are among
    /// KCP's bytes, in order.
    fins: VecDeque<(u64, StreamId)>,
    time: TransportTime,
    /// The peer is heard again after a silence: what was in flight is due.
    going_on: bool,
    events: VecDeque<Event>,
    /// Bytes from KCP that smux has not taken.
    unread: Vec<u8>,
    /// Room for the bytes from smux to KCP, kept between packets.
    scratch: Vec<u8>,
}

impl Stack {
    /// Returns the side that opens streams. It sends nothing by itself.
    #[must_use]
    pub fn client(
        now: Instant,
        secrets: &Secrets,
        entropy: Entropy,
        config: Config,
        control: Box<dyn Control>,
    ) -> Self {
        let conv = entropy.conv;
        let smux = Session::client(smux_config(config));
        let mut stack = Self::new(secrets, entropy, config, smux, keys::Keys::client(now));
        let now = stack.time.now(now);
        stack.kcp =
            Some(Kcp::new(now, conv, kcp::Config::for_packets(config.packet_size), control));
        stack
    }

    /// Returns the side that accepts streams, and waits for the client.
    #[must_use]
    pub fn server(
        secrets: &Secrets,
        entropy: Entropy,
        config: Config,
        control: Box<dyn Control>,
    ) -> Self {
        let smux = Session::server(smux_config(config));
        let mut stack = Self::new(secrets, entropy, config, smux, keys::Keys::server());
        stack.control = Some(control);
        stack
    }

    fn new(
        secrets: &Secrets,
        entropy: Entropy,
        config: Config,
        smux: Session,
        keys: keys::Keys,
    ) -> Self {
        Self {
            config,
            crypt: Crypt::new(&secrets.pass, &secrets.salt, entropy.seed),
            keys,
            encoder: Encoder::new(Parity::Never),
            decoder: Decoder::new(),
            kcp: None,
            control: None,
            smux,
            failure: None,
            datagrams: VecDeque::new(),
            datagram_sent: false,
            fins: VecDeque::new(),
            // KCP sends again by itself what was in flight when time stood still.
            time: TransportTime::new(0),
            going_on: false,
            events: VecDeque::new(),
            unread: Vec::new(),
            scratch: Vec::new(),
        }
    }

    // ---- ways in -----------------------------------------------------------

    /// Takes a packet, which is opened in place. Returns whether it proves the
    /// path it came by: it is genuine and newer than all before. One that was
    /// overtaken proves nothing, for somebody may have kept it back (DESIGN D10).
    ///
    /// # Errors
    /// [`Dropped`], without consequences; go on.
    pub fn handle_packet(&mut self, now: Instant, packet: &mut [u8]) -> Result<bool, Dropped> {
        let plaintext = self.crypt.open(packet)?;
        let shard = self.decoder.decode(plaintext)?;
        let proves = match self.decoder.order() {
            Order::Newest | Order::Bare => true,
            Order::Late | Order::Unnumbered => false,
            Order::Stale => return Err(Dropped::Stale),
        };
        if proves && self.time.on_received(now) {
            self.going_on = true;
        }
        let (segments, origin) = match shard {
            Shard::Data(segments) => (segments, Origin::Received),
            Shard::Recovered(segments) => (segments, Origin::Recovered),
            Shard::Spent => return Ok(proves),
            Shard::Datagram { conv, payload } => {
                if self.kcp.as_ref().is_some_and(|kcp| kcp.conv() == conv) {
                    self.events.push_back(Event::Datagram(payload.to_vec()));
                }
                return Ok(proves);
            }
        };
        let transport_now = self.time.now(now);
        if self.kcp.is_none() {
            let conv = conv_of(segments).ok_or(Dropped::NoConversation)?;
            let control = self.control.take().ok_or(Dropped::NoConversation)?;
            let config = kcp::Config::for_packets(self.config.packet_size);
            self.kcp = Some(Kcp::new(transport_now, conv, config, control));
            self.events.push_back(Event::Established);
        }
        let Some(kcp) = self.kcp.as_mut() else { return Err(Dropped::NoConversation) };
        if std::mem::take(&mut self.going_on) {
            kcp.reset_rto(transport_now);
        }
        kcp.handle_packet(transport_now, segments, origin)?;
        self.read_pipe();
        self.note_delivered();
        Ok(proves)
    }

    /// Follows a change of the link below.
    pub fn handle_link(&mut self, now: Instant, change: LinkChange) {
        self.time.on_link(now, change);
        match change {
            LinkChange::Lost => {}
            LinkChange::Restored { same_network } | LinkChange::Moved { same_network } => {
                let transport_now = self.time.now(now);
                if let Some(kcp) = self.kcp.as_mut().filter(|_| !same_network) {
                    kcp.on_other_network(transport_now);
                }
                self.go_on(now);
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.time.now(now);
        if let Some(kcp) = self.kcp.as_mut()
            && kcp.poll_timeout().is_some_and(|at| at <= now)
        {
            kcp.handle_timeout(now);
        }
    }

    /// Sends what was in flight again, now that the peer can be reached.
    fn go_on(&mut self, now: Instant) {
        let now = self.time.now(now);
        if let Some(kcp) = self.kcp.as_mut() {
            kcp.reset_rto(now);
        }
    }

    // ---- ways out ----------------------------------------------------------

    /// Appends the next packet to `packets`; returns whether there was one.
    pub fn poll_transmit(&mut self, now: Instant, packets: &mut Vec<u8>) -> bool {
        let prefer_segments = std::mem::take(&mut self.datagram_sent);
        if prefer_segments && self.transmit_segments(now, packets) {
            return true;
        }
        self.transmit_datagram(packets)
            || (!prefer_segments && self.transmit_segments(now, packets))
    }

    fn transmit_datagram(&mut self, packets: &mut Vec<u8>) -> bool {
        let Some(conv) = self.kcp.as_ref().map(Kcp::conv) else { return false };
        let Some(payload) = self.datagrams.pop_front() else { return false };
        let start = packets.len();
        packets.resize(start + NONCE_LEN, 0);
        fec::encode_datagram(conv, &payload, packets);
        self.crypt.seal_from(packets, start);
        self.datagram_sent = true;
        true
    }

    fn transmit_segments(&mut self, now: Instant, packets: &mut Vec<u8>) -> bool {
        let now = self.time.now(now);
        self.fill_pipe(now);
        let Some(kcp) = self.kcp.as_mut() else { return false };
        let start = packets.len();
        packets.resize(start + NONCE_LEN + fec::HEADER_LEN, 0);
        if !kcp.poll_transmit(now, packets) {
            packets.truncate(start);
            return false;
        }
        if let Some(plaintext) = packets.get_mut(start + NONCE_LEN..) {
            self.encoder.encode_data(now, plaintext);
        }
        self.crypt.seal_from(packets, start);
        true
    }

    /// Returns when to call [`Stack::handle_timeout`] and then
    /// [`Stack::poll_transmit`] next, if nothing else happens before.
    ///
    /// `blocked`: packets cannot be sent at the moment, so that what is due
    /// already has to wait for that anyway.
    pub fn poll_timeout(&mut self, now: Instant, blocked: bool) -> Option<Instant> {
        let Some(deadline) = self.kcp.as_ref().and_then(Kcp::poll_timeout) else {
            self.time.rest();
            return None;
        };
        match self.time.check(TIMER, deadline, now, blocked) {
            Wait::Until(real) => Some(real),
            Wait::Stopped => None,
            Wait::Due => (!blocked).then_some(now),
            Wait::Early => {
                let probed_at = self.time.now(now);
                if let Some(kcp) = self.kcp.as_mut() {
                    kcp.probe(probed_at);
                }
                Some(now)
            }
        }
    }

    /// Returns what happened next, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| {
            self.collect_stream_events();
            self.events.pop_front()
        })
    }

    fn collect_stream_events(&mut self) {
        while let Some(event) = self.smux.poll_event() {
            match event {
                crate::smux::Event::FinSent { id, end } => self.fins.push_back((end, id)),
                event => self.events.push_back(Event::Stream(event)),
            }
        }
        self.note_delivered();
    }

    // ---- between smux and KCP ----------------------------------------------

    /// Gives KCP what it is about to send.
    fn fill_pipe(&mut self, now: Instant) {
        let Some(kcp) = self.kcp.as_mut() else { return };
        // Little where it would wait long for its turn, behind the pacing.
        let gulp = (kcp.window_bytes() / 16).clamp(SIP, GULP);
        let wanted = kcp.wanted().min(gulp);
        if wanted == 0 {
            return;
        }
        self.scratch.clear();
        self.smux.poll_transmit(wanted, &mut self.scratch);
        if !self.scratch.is_empty() {
            let taken = kcp.send(now, &self.scratch);
            debug_assert_eq!(taken, self.scratch.len(), "KCP takes what it wanted");
        }
    }

    /// Gives smux what KCP has put in order, as far as it takes it.
    fn read_pipe(&mut self) {
        let Some(kcp) = self.kcp.as_mut() else { return };
        while self.failure.is_none() {
            if self.unread.is_empty() && !kcp.is_readable() {
                return;
            }
            if self.unread.is_empty() {
                self.unread.resize(CHUNK, 0);
                let len = kcp.recv(&mut self.unread);
                self.unread.truncate(len);
            }
            match self.smux.handle_bytes(&self.unread) {
                Ok(taken) => drop(self.unread.drain(..taken)),
                Err(error) => self.failure = Some(error),
            }
            if !self.unread.is_empty() {
                return; // The rest waits for readers, and KCP makes the peer wait.
            }
        }
    }

    fn note_delivered(&mut self) {
        let Some(delivered) = self.kcp.as_ref().map(Kcp::delivered) else { return };
        while let Some((end, id)) = self.fins.front().copied()
            && end <= delivered
        {
            self.fins.pop_front();
            self.events.push_back(Event::Delivered(id));
        }
    }

    // ---- streams and datagrams ---------------------------------------------

    /// See [`Session::open`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        self.smux.open()
    }

    /// See [`Session::write`].
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn write(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, StreamError> {
        self.smux.write(id, bytes)
    }

    /// As [`Stack::write`], for a stream of which no more is to wait than can
    /// soon be sent: a quarter of a round trip's worth, or half of one where that
    /// is little.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn write_bulk(
        &mut self,
        now: Instant,
        id: StreamId,
        bytes: &[u8],
    ) -> Result<usize, StreamError> {
        let window = self.kcp.as_ref().map_or(usize::MAX, Kcp::window_bytes);
        let most = (window / 4).max(BULK_WAITING.min(window / 2));
        let written = self.smux.write_within(id, bytes, most);
        if written == Err(StreamError::Blocked) {
            let now = self.time.now(now);
            self.kcp.iter_mut().for_each(|kcp| kcp.on_held_back(now));
        }
        written
    }

    /// See [`Session::read`].
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn read(&mut self, id: StreamId, to: &mut [u8]) -> Result<usize, StreamError> {
        let read = self.smux.read(id, to);
        if read.is_ok() {
            // There may be room now for what waited in KCP.
            self.read_pipe();
        }
        read
    }

    /// See [`Session::finish`].
    pub fn finish(&mut self, id: StreamId) {
        self.smux.finish(id);
    }

    /// See [`Session::reset`].
    pub fn reset(&mut self, id: StreamId) {
        self.smux.reset(id);
    }

    /// See [`Session::stop`].
    pub fn stop(&mut self, id: StreamId) {
        self.smux.stop(id);
        self.read_pipe();
    }

    /// See [`Session::tell_stops`].
    pub fn tell_stops(&mut self) {
        self.smux.tell_stops();
    }

    /// See [`Session::set_priority`].
    pub fn set_priority(&mut self, id: StreamId, priority: i32) {
        self.smux.set_priority(id, priority);
    }

    /// Queues a datagram of at most [`Stack::max_datagram_size`] bytes; where
    /// the queue is full the oldest is dropped.
    pub fn send_datagram(&mut self, payload: Vec<u8>) {
        if self.datagrams.len() >= DATAGRAM_QUEUE {
            self.datagrams.pop_front();
        }
        self.datagrams.push_back(payload);
    }

    /// Returns how many datagrams wait to be sent.
    #[must_use]
    pub fn queued_datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// Says goodbye as far as the wire can: every stream ends, and the acks
    /// that are owed leave. Drain [`Stack::poll_transmit`] once afterwards.
    pub fn close(&mut self, now: Instant) {
        self.smux.close_all();
        let now = self.time.now(now);
        if let Some(kcp) = self.kcp.as_mut() {
            kcp.hurry_acks(now);
        }
    }

    // ---- questions ---------------------------------------------------------

    /// Returns the size in bytes of the largest datagram that fits a packet.
    #[must_use]
    pub fn max_datagram_size(&self) -> usize {
        usize::from(self.config.packet_size).saturating_sub(DATAGRAM_OVERHEAD)
    }

    /// Returns why nothing more can be read, if so: the connection is over.
    #[must_use]
    pub const fn failure(&self) -> Option<SessionError> {
        self.failure
    }

    /// Returns the smoothed round trip; the first timeout before one was measured.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.kcp.as_ref().map_or(Duration::ZERO, |kcp| kcp.rtt().unwrap_or_else(|| kcp.rto()))
    }

    /// Returns whether the peer has acknowledged anything: our packets reach it.
    #[must_use]
    pub fn was_heard(&self) -> bool {
        self.kcp.as_ref().is_some_and(|kcp| kcp.delivered() > 0)
    }

    /// Returns whether the peer has acknowledged all that was sent.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.kcp.as_ref().is_some_and(Kcp::is_flushed)
    }

    /// Returns whether [`Stack::poll_transmit`] or [`Stack::poll_event`] should be
    /// drained after a read, which may make room for others' bytes.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.events.is_empty()
            || self.smux.has_news()
            || self.kcp.as_ref().is_some_and(Kcp::has_window_news)
    }

    /// Returns how many streams exist.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.smux.stream_count()
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("conv", &self.kcp.as_ref().map(Kcp::conv))
            .field("crypt", &self.crypt)
            .field("streams", &self.smux.stream_count())
            .finish_non_exhaustive()
    }
}

const fn smux_config(config: Config) -> crate::smux::Config {
    crate::smux::Config { max_streams: config.max_streams }
}
