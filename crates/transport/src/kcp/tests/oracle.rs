//! Our machine talks to another implementation: the crate `kcp`, a port of the
//! C original. It checks what two of ours cannot: that a misunderstanding of
//! the wire is not merely shared. Only honest, un-wrapped times are shown to
//! it, since its arithmetic overflows on others (`docs/decisions/0002-own-kcp.md`).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::*;

/// Collects each packet of the other implementation.
#[derive(Clone, Default)]
struct Packets(Rc<RefCell<Vec<Vec<u8>>>>);

impl io::Write for Packets {
    fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().push(packet.to_vec());
        Ok(packet.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other implementation with the settings of the reference.
struct Other {
    kcp: kcp::Kcp<Packets>,
    out: Packets,
}

impl Other {
    fn new() -> Self {
        let out = Packets::default();
        let mut kcp = kcp::Kcp::new(CONV, out.clone());
        kcp.set_nodelay(true, 10, 2, true);
        kcp.set_wndsize(1024, 1024);
        kcp.set_mtu(1364).unwrap();
        kcp.set_maximum_resend_times(u32::MAX);
        Self { kcp, out }
    }

    fn read(&mut self, received: &mut Vec<u8>) {
        let mut buf = [0; 2000];
        while let Ok(read) = self.kcp.recv(&mut buf) {
            received.extend_from_slice(&buf[..read]);
        }
    }
}

/// Both talk over a bad link until each has all; returns the time it took.
fn talk_to_other(conditions: Conditions, seed: u64, bytes: [usize; 2]) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let clock = Clock::new();
    let (mut ours, mut other) = (new_kcp(&clock, config()), Other::new());
    let mut links: [Link<Vec<u8>>; 2] =
        [Link::new(conditions, 2 * seed), Link::new(conditions, 2 * seed + 1)];
    let mut prng = Prng::new(seed);
    let to_send = bytes.map(|len| {
        let mut data = vec![0; len];
        prng.fill(&mut data);
        data
    });
    let (mut queued, mut received) = ([0; 2], [Vec::<u8>::new(), Vec::new()]);
    while received[B] != to_send[A] || received[A] != to_send[B] {
        let now = clock.now();
        queued[A] += ours.send(now, &to_send[A][queued[A]..]);
        while other.kcp.wait_snd() < 1024 && queued[B] < to_send[B].len() {
            let end = to_send[B].len().min(queued[B] + 1 + prng.below(1340) as usize);
            other.kcp.send(&to_send[B][queued[B]..end]).unwrap();
            queued[B] = end;
        }
        while let Some(packet) = links[A].receive(now) {
            other.kcp.input(&packet).unwrap();
        }
        while let Some(packet) = links[B].receive(now) {
            ours.handle_packet(now, &packet, Origin::Received).unwrap();
        }
        other.read(&mut received[B]);
        let mut buf = [0; 5000];
        while let read @ 1.. = ours.recv(&mut buf) {
            received[A].extend_from_slice(&buf[..read]);
        }
        ours.handle_timeout(now);
        let mut packet = Vec::new();
        while ours.poll_transmit(now, &mut packet) {
            links[A].send(now, std::mem::take(&mut packet));
        }
        other.kcp.update(clock.elapsed().as_millis() as u32).unwrap();
        other.out.0.borrow_mut().drain(..).for_each(|packet| links[B].send(now, packet));
        assert!(to_send[A].starts_with(&received[B]), "seed {seed}: other got what we did not say");
        assert!(to_send[B].starts_with(&received[A]), "seed {seed}: we got what it did not say");
        assert!(clock.elapsed() < Duration::from_secs(600), "seed {seed}: stuck");
        clock.advance(TICK);
    }
    assert!(ours.rto() < Duration::from_secs(1), "seed {seed}: {:?}", ours.rto());
    clock.elapsed()
}

#[test]
fn another_implementation_understands_us_and_we_it_over_bad_links() {
    with_seeds(0..20, |seed| {
        let conditions = Conditions {
            jitter: Duration::from_millis(20),
            loss: 0.015 * (seed % 20) as f64,
            duplication: 0.1,
            reordering: 0.1,
            ..Conditions::perfect(DELAY)
        };
        talk_to_other(conditions, seed, [100_000, 60_000]);
    });
}

#[test]
fn a_window_of_data_each_way_reaches_the_other_implementation_in_a_few_round_trips() {
    let took = talk_to_other(Conditions::perfect(DELAY), 1, [1_300_000, 600_000]);
    assert!(took < 12 * DELAY, "{took:?}");
}
