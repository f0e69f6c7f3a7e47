//! KCP as a bulk flow: the real machines at both ends, without the encryption.

use std::time::Instant;

use tssh_transport::kcp::{Config, Control, Kcp, Origin, Uncontrolled};

use super::world::{Flow, Way};

/// What crypt, FEC, UDP and IPv4 add to a packet of KCP.
const OVERHEAD: u64 = 12 + 8 + 16 + 8 + 20;

pub struct KcpFlow {
    sender: Kcp,
    receiver: Kcp,
    received: u64,
}

impl KcpFlow {
    pub fn new(now: Instant, control: Box<dyn Control>) -> Self {
        let config = Config::for_packets(1400);
        let sender = Kcp::new(now, 1, config, control);
        Self { sender, receiver: Kcp::new(now, 1, config, Box::new(Uncontrolled)), received: 0 }
    }
}

impl Flow for KcpFlow {
    fn take(&mut self, now: Instant, way: Way, packet: Vec<u8>) {
        let end = if way == Way::There { &mut self.receiver } else { &mut self.sender };
        end.handle_packet(now, &packet, Origin::Received).expect("honest");
        let mut buf = [0; 1 << 14];
        while let count @ 1.. = self.receiver.recv(&mut buf) {
            self.received += count as u64;
        }
    }

    fn work(&mut self, now: Instant, send: &mut dyn FnMut(Way, u64, Vec<u8>)) {
        while self.sender.send(now, &[0; 1 << 14]) > 0 {}
        for (end, way) in [(&mut self.sender, Way::There), (&mut self.receiver, Way::Back)] {
            end.handle_timeout(now);
            let mut packet = Vec::new();
            while end.poll_transmit(now, &mut packet) {
                send(way, packet.len() as u64 + OVERHEAD, std::mem::take(&mut packet));
            }
        }
    }

    fn due_at(&self) -> Option<Instant> {
        [self.sender.poll_timeout(), self.receiver.poll_timeout()].into_iter().flatten().min()
    }

    fn received(&self) -> u64 {
        self.received
    }
}
