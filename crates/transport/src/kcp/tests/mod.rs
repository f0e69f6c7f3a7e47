//! Two conversations joined by bad links, in virtual time.
#![expect(clippy::cast_possible_truncation, reason = "random numbers, cut to the size they need")]

mod hostile;
mod loss;
mod oracle;
mod outage;
mod recorded;
mod single;
mod window;

use std::time::Duration;

use testkit::{Clock, Conditions, Link, Prng, with_seeds};

use super::*;

const CONV: u32 = 0x1122_3344;
const DELAY: Duration = Duration::from_millis(25);
const A: usize = 0;
const B: usize = 1;

/// As the reference has it.
fn config() -> Config {
    Config { send_window: 1024, receive_window: 1024, ..Config::for_packets(1400) }
}

fn new_kcp(clock: &Clock, config: Config) -> Kcp {
    Kcp::new(clock.now(), CONV, config, Box::new(Uncontrolled))
}

/// One end, with what its application wants to say and has heard.
struct End {
    kcp: Kcp,
    to_send: Vec<u8>,
    queued: usize,
    received: Vec<u8>,
    reads: bool,
}

impl End {
    fn new(kcp: Kcp) -> Self {
        Self { kcp, to_send: Vec::new(), queued: 0, received: Vec::new(), reads: true }
    }
}

/// Two ends and the link from each to the other.
struct Pair {
    clock: Clock,
    ends: [End; 2],
    links: [Link<Vec<u8>>; 2],
    packets: u64,
    seed: u64,
}

impl Pair {
    fn new(config: Config, conditions: Conditions, seed: u64) -> Self {
        let clock = Clock::new();
        let ends = [new_kcp(&clock, config), new_kcp(&clock, config)].map(End::new);
        let links = [Link::new(conditions, 2 * seed), Link::new(conditions, 2 * seed + 1)];
        Self { clock, ends, links, packets: 0, seed }
    }

    fn perfect() -> Self {
        Self::new(config(), Conditions::perfect(DELAY), 0)
    }

    /// Lets `end`'s application say that many more random bytes.
    fn say(&mut self, end: usize, bytes: usize) {
        let mut data = vec![0; bytes];
        Prng::new(self.seed ^ self.ends[end].to_send.len() as u64).fill(&mut data);
        self.ends[end].to_send.extend(data);
        self.settle();
    }

    /// Does all that can be done without time passing.
    fn settle(&mut self) {
        let now = self.clock.now();
        for from in [A, B] {
            while let Some(packet) = self.links[1 - from].receive(now) {
                self.ends[from].kcp.handle_packet(now, &packet, Origin::Received).unwrap();
                self.work(from);
            }
            self.ends[from].kcp.handle_timeout(now);
            self.work(from);
        }
    }

    /// Lets one end write, read and send.
    fn work(&mut self, index: usize) {
        let now = self.clock.now();
        let end = &mut self.ends[index];
        loop {
            end.queued += end.kcp.send(now, &end.to_send[end.queued..]);
            let mut buf = [0; 1000];
            let read = if end.reads { end.kcp.recv(&mut buf) } else { 0 };
            end.received.extend_from_slice(&buf[..read]);
            let mut packet = Vec::new();
            let sent = end.kcp.poll_transmit(now, &mut packet);
            if sent {
                assert!(packet.len() <= 1364, "{} bytes in a packet", packet.len());
                self.packets += 1;
                self.links[index].send(now, packet);
            }
            if read == 0 && !sent {
                break;
            }
        }
        self.check_prefix(1 - index);
    }

    fn check_prefix(&self, from: usize) {
        let (sent, got) = (&self.ends[from].to_send, &self.ends[1 - from].received);
        assert!(sent.starts_with(got), "seed {}: not what end {from} sent", self.seed);
    }

    /// Goes to the next time at which something happens; `false` if nothing will.
    fn step(&mut self) -> bool {
        let next = [self.links[A].next_arrival(), self.links[B].next_arrival()]
            .into_iter()
            .chain([self.ends[A].kcp.poll_timeout(), self.ends[B].kcp.poll_timeout()])
            .flatten()
            .min();
        if let Some(at) = next {
            self.clock.advance_to(at);
            self.settle();
        }
        next.is_some()
    }

    /// Runs until nothing will ever happen by itself.
    fn run_until_idle(&mut self) {
        for _ in 0..3_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("seed {}: not idle after {:?}", self.seed, self.clock.elapsed());
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        let next = |pair: &Self| {
            let timers = pair.ends.iter().filter_map(|end| end.kcp.poll_timeout());
            let links = pair.links.iter().filter_map(Link::next_arrival);
            timers.chain(links).min()
        };
        while next(self).is_some_and(|at| at <= end) {
            self.step();
        }
        self.clock.advance_to(end);
    }

    fn all_delivered(&self) -> bool {
        [A, B].iter().all(|&i| self.ends[i].to_send == self.ends[1 - i].received)
    }

    fn assert_all_delivered(&self) {
        assert!(
            self.all_delivered(),
            "seed {}: {} of {} and {} of {} bytes after {:?}",
            self.seed,
            self.ends[B].received.len(),
            self.ends[A].to_send.len(),
            self.ends[A].received.len(),
            self.ends[B].to_send.len(),
            self.clock.elapsed(),
        );
    }

    fn set_blackout(&mut self, blackout: bool) {
        self.links.iter_mut().for_each(|link| link.conditions.blackout = blackout);
    }
}
