//! The whole stack of KCP over bad links, in virtual time: of every stream a
//! prefix of what was written arrives, and all of it in the end.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::time::Duration;

use testkit::{Clock, Conditions, Link, Prng, with_seeds};
use tssh_transport::congestion::Paced;
use tssh_transport::smux::{self, StreamId};
use tssh_transport::stack::{Config, Entropy, Event, Secrets, Stack};

/// One direction of one stream, seen from the end that writes it.
struct Flow {
    id: StreamId,
    data: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    ended: bool,
}

/// Both ends; the flows are those that the end of the same index writes.
struct Pair {
    clock: Clock,
    stacks: [Stack; 2],
    links: [Link<Vec<u8>>; 2],
    flows: [Vec<Flow>; 2],
    prng: Prng,
}

/// A link that is bad in a way that `prng` decides: up to 30 % loss.
fn bad_link(prng: &mut Prng) -> Conditions {
    let mut percent = |most: u64| prng.below(most + 1) as f64 / 100.0;
    let (loss, duplication, reordering) = (percent(30), percent(20), percent(30));
    let (delay, jitter) = (prng.below(80), prng.below(40));
    Conditions {
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        loss,
        duplication,
        reordering,
        blackout: false,
    }
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (clock, mut prng) = (Clock::new(), Prng::new(seed));
        let conditions = bad_link(&mut prng);
        let secrets = Secrets { pass: [7; 48].into(), salt: [9; 48].into() };
        let entropy = |fill: u8| Entropy { seed: [fill; 32].into(), conv: 5 };
        let config = Config { packet_size: 1400, max_streams: 100 };
        let control = || Box::new(Paced::new(clock.now(), 1400));
        let stacks = [
            Stack::client(clock.now(), &secrets, entropy(1), config, control()),
            Stack::server(&secrets, entropy(2), config, control()),
        ];
        let links = [0, 1].map(|end| Link::new(conditions, 2 * seed + end));
        Self { clock, stacks, links, flows: [Vec::new(), Vec::new()], prng }
    }

    fn data(&mut self, most: u64) -> Vec<u8> {
        let mut data = vec![0; usize::try_from(self.prng.below(most)).unwrap()];
        self.prng.fill(&mut data);
        data
    }

    /// Adds a stream that both ends write to; it begins with a byte, or the
    /// server would never hear of it.
    fn open(&mut self) {
        let id = self.stacks[0].open().unwrap();
        let mut up = self.data(40_000);
        up.push(1);
        let down = self.data(40_000);
        for (end, data) in [up, down].into_iter().enumerate() {
            self.flows[end].push(Flow { id, data, written: 0, read: Vec::new(), ended: false });
        }
    }

    /// Does all that can be done now, at both ends.
    fn work(&mut self) {
        let now = self.clock.now();
        for end in [0, 1] {
            while let Some(mut packet) = self.links[1 - end].receive(now) {
                // A copy is refused, as it has to be.
                let _ = self.stacks[end].handle_packet(now, &mut packet);
            }
            self.stacks[end].handle_timeout(now);
            while let Some(event) = self.stacks[end].poll_event() {
                let opened = matches!(event, Event::Stream(smux::Event::Opened(_)));
                assert!(end == 1 || !opened, "the server opens no streams");
            }
            self.write(end);
            self.read(end);
            let mut packet = Vec::new();
            while self.stacks[end].poll_transmit(now, &mut packet) {
                self.links[end].send(now, std::mem::take(&mut packet));
            }
        }
    }

    fn write(&mut self, end: usize) {
        for flow in &mut self.flows[end] {
            // Of a stream the server has not heard of, this does nothing.
            if let Ok(taken) = self.stacks[end].write(flow.id, &flow.data[flow.written..]) {
                flow.written += taken;
                if flow.written == flow.data.len() {
                    self.stacks[end].finish(flow.id);
                }
            }
        }
    }

    fn read(&mut self, end: usize) {
        for flow in self.flows[1 - end].iter_mut().filter(|flow| !flow.ended) {
            let mut buf = [0; 3000];
            while let Ok(count) = self.stacks[end].read(flow.id, &mut buf) {
                flow.read.extend_from_slice(&buf[..count]);
                if count == 0 {
                    flow.ended = true;
                    break;
                }
            }
            assert!(flow.data.starts_with(&flow.read), "not what was written to {:?}", flow.id);
        }
    }

    fn is_over(&self) -> bool {
        self.flows.iter().flatten().all(|flow| flow.ended)
    }

    /// Goes to the next time at which something happens.
    fn step(&mut self) {
        let now = self.clock.now();
        let timers = self.stacks.iter_mut().filter_map(|stack| stack.poll_timeout(now, false));
        let next = timers.chain(self.links.iter().filter_map(Link::next_arrival)).min();
        let next = next.expect("something is under way until all has arrived");
        self.clock.advance_to(next.max(now + Duration::from_micros(1)));
    }
}

#[test]
fn every_stream_arrives_whole_over_any_link() {
    with_seeds(0..40, |seed| {
        let mut pair = Pair::new(seed);
        for _ in 0..=pair.prng.below(4) {
            pair.open();
        }
        pair.work();
        while !pair.is_over() {
            assert!(pair.clock.elapsed() < Duration::from_secs(600), "stuck");
            pair.step();
            pair.work();
        }
        assert!(pair.flows.iter().flatten().all(|flow| flow.read == flow.data), "not all");
    });
}
