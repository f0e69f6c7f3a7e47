//! KCP: reliable, ordered bytes over packets that may be lost, repeated or
//! reordered.
//!
//! Sans-IO. In: [`Kcp::handle_packet`], [`Kcp::handle_timeout`], and the
//! commands [`Kcp::send`], [`Kcp::recv`], [`Kcp::reset_rto`]. Out:
//! [`Kcp::poll_transmit`], [`Kcp::poll_timeout`]. After any way in, drain
//! `poll_transmit`, read what there is, then arm one timer with `poll_timeout`.
//! There is no `poll_event`: the machine has no events beyond "there are bytes"
//! and "there is room", which `recv` and `send` answer by what they return.
//!
//! ```text
//!   send ──▶ unsent ──▶ outstanding ──▶ packets ──▶ in order ──▶ recv
//!               (send.rs; control.rs limits)      (receive.rs)
//!                           ▲   acks, una, window     │
//!                           └─────────────────────────┘
//! ```
//!
//! Not here: encryption, FEC, out-of-band datagrams, and the streams above.
//! KCP has no closing either: a conversation ends when its owner drops it.
//!
//! Invariants: memory is bounded by the two windows, the queue of unsent bytes
//! and nothing else; a conversation never ends by itself; with nothing
//! outstanding there is no timer; `now` never goes backwards (when it is the
//! paused clock of DESIGN D3, it is that for every call).
//! Wire: `docs/protocol.md` §4.4; 24-byte little-endian header, as in kcp-go v5.

mod control;
mod receive;
mod rto;
mod segment;
mod send;
#[cfg(test)]
mod tests;
mod wrapping;

use std::time::{Duration, Instant};

pub use control::{Acked, Control, LossSign, Lost, Sent, Uncontrolled};
pub use segment::{
    Command, HEADER_LEN, MAX_DATA, Segment, SegmentError, Segments, conv_of, segments,
};
pub use wrapping::{Sn, Ts};

use receive::{Ack, AckBatch, Receiver};
use send::{Limits, Report, Sender};
use wrapping::WireClock;

/// How long an ack may wait for company; the reference's tick.
const INTERVAL: Duration = Duration::from_millis(10);

/// How a conversation is set up. [`Config::for_packets`] has what the reference
/// uses, but for larger windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most bytes of a packet as KCP sees it: without nonce, FEC header, size
    /// and tag. Taken as 50 if less, as [`MAX_DATA`] with a header if more.
    pub mtu: usize,
    /// Most segments outstanding. Default 4096; a reference peer offers 1024.
    pub send_window: u16,
    /// Most segments received and not read; costs up to 1500 bytes each, and
    /// bounds the throughput to itself per round trip, and to half of it where
    /// a lost one holds up the others for another. Default 4096.
    pub receive_window: u16,
    /// Most bytes that wait to be sent for the first time; past it [`Kcp::send`]
    /// takes nothing. Default 128 KiB: two of the largest smux frames, so that
    /// the layer above, which knows what is urgent, decides late.
    pub unsent_bytes: usize,
    /// The first segment number, both ways, and the time on the wire now. Zero
    /// with every known peer; tests start just before the wrap.
    pub start: (Sn, Ts),
}

impl Config {
    /// Returns the reference's settings for packets of `mtu` bytes on the
    /// carrier (default 1400).
    #[must_use]
    pub fn for_packets(mtu: u16) -> Self {
        Self {
            mtu: usize::from(mtu).min(1500).saturating_sub(OVERHEAD),
            send_window: 4096,
            receive_window: 4096,
            unsent_bytes: 128 * 1024,
            start: (Sn(0), Ts(0)),
        }
    }
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the peer, just now.
    Received,
    /// From FEC parity: it may be old, so that its window and its times say
    /// nothing about the present (`docs/protocol.md` §4.3).
    Recovered,
}

/// Why a packet was refused. Nothing of it was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It holds no segment at all.
    #[error("packet of {0} bytes holds no segment")]
    Empty(usize),
    /// A segment of another conversation.
    #[error("segment of conversation {got:#010x}, ours is {ours:#010x}")]
    ForeignConversation {
        /// The one in the packet.
        got: u32,
        /// The one of this machine.
        ours: u32,
    },
    /// It is malformed.
    #[error(transparent)]
    Malformed(#[from] SegmentError),
}

/// One conversation; see the module's description.
#[derive(Debug)]
pub struct Kcp {
    conv: u32,
    mtu: usize,
    clock: WireClock,
    sender: Sender,
    receiver: Receiver,
    /// Room for the acks of one packet, kept between packets.
    acks: Vec<Ack>,
}

impl Kcp {
    /// Creates a conversation, in which nothing was sent yet.
    ///
    /// `conv` is drawn at random by the client; the server takes it from the
    /// first packet ([`conv_of`]).
    #[must_use]
    pub fn new(now: Instant, conv: u32, config: Config, control: Box<dyn Control>) -> Self {
        let mtu = config.mtu.clamp(MIN_MTU, HEADER_LEN + MAX_DATA);
        let (first, ts) = config.start;
        let limits = Limits {
            mss: mtu - HEADER_LEN,
            window: config.send_window.max(1),
            unsent_bytes: config.unsent_bytes,
        };
        Self {
            conv,
            mtu,
            clock: WireClock::new(now, ts),
            sender: Sender::new(limits, first, control),
            receiver: Receiver::new(config.receive_window.max(1), first),
            acks: Vec::new(),
        }
    }

    // ---- ways in -----------------------------------------------------------

    /// Takes the segments of a packet.
    ///
    /// # Errors
    /// [`Refused`], always the peer's fault: drop the packet and go on.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
        origin: Origin,
    ) -> Result<(), Refused> {
        self.check(packet)?;
        let batch = AckBatch((self.mtu / HEADER_LEN).max(1));
        let mut acks = std::mem::take(&mut self.acks);
        let mut latest: Option<(Sn, u16)> = None;
        for segment in segments(packet).flatten() {
            let ack = Ack { sn: segment.sn, ts: segment.ts };
            match segment.command {
                Command::Push => self.receiver.on_push(now, ack, segment.data, &batch),
                Command::Ack => acks.push(ack),
                Command::WindowAsk => self.receiver.on_window_ask(),
                Command::WindowTell => {}
            }
            if latest.is_none_or(|(una, _)| segment.una.since(una) >= 0) {
                latest = Some((segment.una, segment.window));
            }
        }
        if let Some((una, window)) = latest {
            let recovered = origin == Origin::Recovered;
            let report = Report { acks: &mut acks, una, window, recovered };
            self.sender.on_report(now, self.clock.at(now), report);
        }
        acks.clear();
        self.acks = acks;
        Ok(())
    }

    fn check(&self, packet: &[u8]) -> Result<(), Refused> {
        if packet.len() < HEADER_LEN {
            return Err(Refused::Empty(packet.len()));
        }
        for segment in segments(packet) {
            let (got, ours) = (segment?.conv, self.conv);
            if got != ours {
                return Err(Refused::ForeignConversation { got, ours });
            }
        }
        Ok(())
    }

    /// Does what is due; call it when the time of [`Kcp::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sender.on_timeout(now);
    }

    /// Queues as much of `data` as there is room for; returns how many bytes.
    ///
    /// When it takes less than all, try again after a packet has come in.
    pub fn send(&mut self, now: Instant, data: &[u8]) -> usize {
        self.sender.write(now, data)
    }

    /// Moves received bytes to `buf`; returns how many, zero if there are none.
    ///
    /// Drain [`Kcp::poll_transmit`] afterwards: a window that was full is told
    /// to be open again.
    pub fn recv(&mut self, buf: &mut [u8]) -> usize {
        self.receiver.read(buf)
    }

    /// Takes the news that there is a path again: all that is outstanding is
    /// sent once more without waiting, back-off is forgotten, and the question
    /// for a closed window leaves at once. So does what we have received, for
    /// acks that were lost are not sent again by themselves.
    ///
    /// The round-trip estimate and the controller are left as they are: an
    /// outage is no congestion (`docs/protocol.md` §2.7, DESIGN D3).
    pub fn reset_rto(&mut self, now: Instant) {
        self.sender.reset_rto(now);
        self.receiver.hurry_acks(now);
        self.receiver.on_window_ask();
    }

    /// Takes the news that the path is another one: the controller starts anew.
    pub fn on_other_network(&mut self, now: Instant) {
        self.sender.on_other_network(now);
    }

    /// Sends the oldest outstanding segment once more, to find out whether the
    /// peer can be reached; nothing else changes.
    pub fn probe(&mut self, now: Instant) {
        self.sender.probe(now);
    }

    /// Notes that the layer above has a writer with more wait, to decide late what
    /// goes first: running dry is then no sign of an application with little to send.
    pub fn on_held_back(&mut self, now: Instant) {
        self.sender.on_held_back(now);
    }

    /// Makes the acks owed leave with the next packet.
    pub const fn hurry_acks(&mut self, now: Instant) {
        self.receiver.hurry_acks(now);
    }

    // ---- ways out ----------------------------------------------------------

    /// Appends the next packet to `packet`; returns whether there was one.
    ///
    /// At most [`Config::mtu`] bytes; what is in the buffer already, a header
    /// of the layer below for example, is left alone.
    pub fn poll_transmit(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        let data = self.sender.may_send(now);
        let acks = self.receiver.acks_due_at().is_some_and(|at| at <= now);
        let (tell, ask) = (self.receiver.wants_to_tell(), self.sender.wants_to_ask());
        if !(data || acks || tell || ask) {
            return false;
        }
        let start = packet.len();
        // Acks wait for company, and every other reason to send is company.
        for ack in self.receiver.take_acks(self.mtu / HEADER_LEN) {
            self.segment(Command::Ack, ack.sn, ack.ts).encode(packet);
        }
        for (command, wanted) in [(Command::WindowAsk, ask), (Command::WindowTell, tell)] {
            if wanted && packet.len() - start + HEADER_LEN <= self.mtu {
                self.segment(command, Sn(0), Ts(0)).encode(packet);
                if command == Command::WindowAsk {
                    self.sender.on_asked();
                }
            }
        }
        if data {
            self.write_data(now, packet, start);
        }
        if packet.len() == start {
            return false;
        }
        self.receiver.on_told();
        true
    }

    fn write_data(&mut self, now: Instant, packet: &mut Vec<u8>, start: usize) {
        let ts = self.clock.at(now);
        loop {
            let blank = self.segment(Command::Push, Sn(0), ts);
            let room = self.mtu.saturating_sub(packet.len() - start);
            let Some(next) = self.sender.next_segment(now, ts, room) else { return };
            Segment { sn: next.sn, data: next.data, ..blank }.encode(packet);
        }
    }

    /// Returns a segment without data, with what each says about the receiver.
    const fn segment(&self, command: Command, sn: Sn, ts: Ts) -> Segment<'static> {
        Segment {
            conv: self.conv,
            command,
            fragment: 0,
            window: self.receiver.free(),
            ts,
            sn,
            una: self.receiver.next(),
            data: &[],
        }
    }

    /// Returns when [`Kcp::handle_timeout`] and then [`Kcp::poll_transmit`]
    /// must be called next; `None` when nothing is due until something comes in.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.sender.wake_at(), self.receiver.acks_due_at()].into_iter().flatten().min()
    }

    // ---- questions ---------------------------------------------------------

    /// Returns whether [`Kcp::recv`] has something.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.receiver.is_readable()
    }

    /// Returns how many bytes [`Kcp::send`] would take.
    #[must_use]
    pub fn send_room(&self) -> usize {
        self.sender.room()
    }

    /// Returns how many bytes to give to [`Kcp::send`] before the next packet:
    /// as many as the windows let through, and a little more, so that what opens
    /// them finds something. Who has to choose what goes first gives no more.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.sender.wanted()
    }

    /// Returns how many bytes the peer has acknowledged, from the first without a gap.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.sender.delivered()
    }

    /// Returns whether the peer has acknowledged all that was sent.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.sender.is_flushed()
    }

    /// Returns whether the peer has to hear that a window it found closed is open.
    #[must_use]
    pub const fn has_window_news(&self) -> bool {
        self.receiver.wants_to_tell()
    }

    /// Returns the conversation's number.
    #[must_use]
    pub const fn conv(&self) -> u32 {
        self.conv
    }

    /// Returns the smoothed round trip, once one was measured.
    #[must_use]
    pub const fn rtt(&self) -> Option<Duration> {
        self.sender.rtt().smoothed()
    }

    /// Returns the retransmission timeout a segment starts with.
    #[must_use]
    pub fn rto(&self) -> Duration {
        self.sender.rtt().rto()
    }

    /// Returns how many bytes the controller lets be in flight.
    #[must_use]
    pub fn window_bytes(&self) -> usize {
        self.sender.window_bytes()
    }

    /// Returns the bytes sent and neither acknowledged nor taken as lost.
    #[must_use]
    pub const fn in_flight_bytes(&self) -> usize {
        self.sender.in_flight()
    }
}

/// Nonce, FEC header with size, and tag around KCP's part of a packet (§4.5).
const OVERHEAD: usize = 12 + 8 + 16;
/// Least MTU, as in kcp-go v5.
const MIN_MTU: usize = 50;
