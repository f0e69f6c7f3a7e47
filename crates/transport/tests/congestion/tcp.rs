//! The flow to be polite to: TCP with CUBIC (RFC 9438) and perfect knowledge of
//! what arrived, without delayed acks. A model, of the window only.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::world::{Flow, Way};

const PACKET: u64 = 1500;
const PAYLOAD: u64 = 1448;
const BETA: f64 = 0.7;
const C: f64 = 0.4;

pub struct TcpFlow {
    window: f64,
    threshold: f64,
    /// The window before the last loss, and when that was.
    most: f64,
    since: Option<Instant>,
    /// What Reno would have.
    reno: f64,
    rtt: Duration,
    next: u64,
    in_flight: BTreeMap<u64, Instant>,
    /// Losses of what was sent before this are one event.
    recovery: u64,
    to_ack: Vec<u64>,
    received: u64,
    back_off: u32,
}

impl TcpFlow {
    pub fn new() -> Self {
        Self {
            window: 10.0,
            threshold: f64::MAX,
            most: 0.0,
            since: None,
            reno: 0.0,
            rtt: Duration::from_millis(100),
            next: 0,
            in_flight: BTreeMap::new(),
            recovery: 0,
            to_ack: Vec::new(),
            received: 0,
            back_off: 0,
        }
    }

    fn on_ack(&mut self, now: Instant, number: u64) {
        let Some(sent_at) = self.in_flight.remove(&number) else { return };
        self.back_off = 0;
        self.rtt = self.rtt * 7 / 8 + (now - sent_at) / 8;
        self.grow(now);
        // Three later ones have arrived.
        while let Some((&first, _)) = self.in_flight.first_key_value()
            && first + 3 <= number
        {
            self.in_flight.remove(&first);
            if first >= self.recovery {
                self.on_loss();
            }
        }
    }

    fn grow(&mut self, now: Instant) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let since = *self.since.get_or_insert(now);
        let k = (self.most * (1.0 - BETA) / C).cbrt();
        let t = (now - since + self.rtt).as_secs_f64();
        let target = C * (t - k).powi(3) + self.most;
        self.reno += 3.0 * (1.0 - BETA) / (1.0 + BETA) / self.window;
        let cubic =
            self.window + (target.min(self.window * 1.5) - self.window).max(0.0) / self.window;
        self.window = cubic.max(self.reno);
    }

    fn on_loss(&mut self) {
        self.recovery = self.next;
        // Fast convergence: room for others when the window shrinks.
        self.most =
            if self.window < self.most { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(2.0);
        (self.threshold, self.reno, self.since) = (self.window, self.window, None);
    }
}

impl Flow for TcpFlow {
    fn take(&mut self, now: Instant, way: Way, packet: Vec<u8>) {
        let number = u64::from_le_bytes(packet.try_into().expect("ours"));
        match way {
            Way::There => {
                self.received += PAYLOAD;
                self.to_ack.push(number);
            }
            Way::Back => self.on_ack(now, number),
        }
    }

    fn work(&mut self, now: Instant, send: &mut dyn FnMut(Way, u64, Vec<u8>)) {
        if self.due_at().is_some_and(|at| at <= now) {
            self.on_loss();
            (self.window, self.back_off) = (1.0, self.back_off + 1);
            self.in_flight.clear();
        }
        while (self.in_flight.len() as f64) < self.window {
            self.in_flight.insert(self.next, now);
            send(Way::There, PACKET, self.next.to_le_bytes().to_vec());
            self.next += 1;
        }
        for number in self.to_ack.drain(..) {
            send(Way::Back, 60, number.to_le_bytes().to_vec());
        }
    }

    fn due_at(&self) -> Option<Instant> {
        let (_, newest) = self.in_flight.last_key_value()?;
        let timeout = self.rtt * 2 + Duration::from_millis(200);
        Some(*newest + timeout * 2_u32.pow(self.back_off.min(6)))
    }

    fn received(&self) -> u64 {
        self.received
    }
}
