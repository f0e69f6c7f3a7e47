//! Bulk flows through one bottleneck, in virtual time.
#![allow(dead_code, reason = "each program uses its part")]

use std::time::{Duration, Instant};

use testkit::{Bottleneck, Clock, Conditions, Link};

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With data, through the bottleneck.
    There,
    /// With acks, on a link that is never full.
    Back,
}

/// A sender with more data than it can ever send, and its receiver.
pub trait Flow {
    /// Takes a packet at the end that `way` leads to.
    fn take(&mut self, now: Instant, way: Way, packet: Vec<u8>);

    /// Does what is due, and hands out what both ends send with its size on the wire.
    fn work(&mut self, now: Instant, send: &mut dyn FnMut(Way, u64, Vec<u8>));

    /// Returns when there is something to do, if nothing comes before.
    fn due_at(&self) -> Option<Instant>;

    /// Returns how many bytes the receiving application has.
    fn received(&self) -> u64;
}

/// A link to be filled.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bits per second.
    pub rate: u64,
    /// Round trip without queues.
    pub rtt: Duration,
    /// Probability of loss, each way.
    pub loss: f64,
    /// Packets that wait, at most.
    pub queue: usize,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Mbit/s that each flow's application received.
    pub goodput: Vec<f64>,
    /// The time packets waited in the queue, in milliseconds: mean and 95th percentile.
    pub queued: (f64, f64),
    /// Share of packets that found the queue full.
    pub dropped: f64,
}

/// Flows, and the time since when each is running.
pub struct World {
    clock: Clock,
    there: Bottleneck<(usize, Vec<u8>)>,
    back: Link<(usize, Vec<u8>)>,
    flows: Vec<(Instant, Box<dyn Flow>)>,
    waits: Vec<Duration>,
}

impl World {
    pub fn new(path: Path, seed: u64) -> Self {
        let conditions = Conditions::perfect(path.rtt / 2).with_loss(path.loss);
        Self {
            clock: Clock::new(),
            there: Bottleneck::new(path.rate / 8, path.queue, conditions, 2 * seed),
            back: Link::new(conditions, 2 * seed + 1),
            flows: Vec::new(),
            waits: Vec::new(),
        }
    }

    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Adds a flow that starts after some time.
    pub fn add(&mut self, after: Duration, flow: Box<dyn Flow>) {
        self.flows.push((self.now() + after, flow));
    }

    /// Changes the link's rate, in bits per second.
    pub fn set_rate(&mut self, rate: u64) {
        self.there.rate = rate / 8;
    }

    /// Runs for some time; returns what happened in it.
    pub fn run(&mut self, time: Duration) -> Outcome {
        let end = self.now() + time;
        let before: Vec<u64> = self.flows.iter().map(|(_, flow)| flow.received()).collect();
        let dropped_before = self.there.dropped();
        self.waits.clear();
        while self.now() < end {
            let next = self.step(end);
            self.clock.advance_to(next);
        }
        let mbits = |bytes: u64| bytes as f64 * 8e-6 / time.as_secs_f64();
        let goodput = self.flows.iter().zip(before);
        let goodput = goodput.map(|((_, flow), before)| mbits(flow.received() - before)).collect();
        let dropped = (self.there.dropped() - dropped_before) as f64;
        let dropped = dropped / (self.waits.len() as f64 + dropped).max(1.0);
        Outcome { goodput, queued: self.waited(), dropped }
    }

    /// Does what is due; returns when the next thing is.
    fn step(&mut self, end: Instant) -> Instant {
        let now = self.now();
        while let Some((flow, packet)) = self.there.link.receive(now) {
            self.flows[flow].1.take(now, Way::There, packet);
        }
        while let Some((flow, packet)) = self.back.receive(now) {
            self.flows[flow].1.take(now, Way::Back, packet);
        }
        let mut next = end;
        for (index, (starts_at, flow)) in self.flows.iter_mut().enumerate() {
            if *starts_at > now {
                next = next.min(*starts_at);
                continue;
            }
            flow.work(now, &mut |way, bytes, packet| match way {
                Way::There => self.waits.extend(self.there.send(now, bytes, (index, packet))),
                Way::Back => self.back.send(now, (index, packet)),
            });
            // A program's timers are good to a millisecond.
            let late = flow.due_at().map(|at| at.max(now) + Duration::from_micros(700));
            next = late.map_or(next, |at| next.min(at));
        }
        let arrivals = [self.there.link.next_arrival(), self.back.next_arrival()];
        arrivals.into_iter().flatten().fold(next, Instant::min)
    }

    fn waited(&mut self) -> (f64, f64) {
        self.waits.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mean = self.waits.iter().copied().map(ms).sum::<f64>() / self.waits.len().max(1) as f64;
        let at = self.waits.len() * 95 / 100;
        (mean, self.waits.get(at).copied().map_or(0.0, ms))
    }
}
