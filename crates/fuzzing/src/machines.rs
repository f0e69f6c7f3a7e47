//! Targets for the proxy's machines: the input is a script of what happens to one.
//!
//! One byte says what, the following ones with which argument. Packets are
//! garbage, copies of what the machine itself sent, or sealed with the right
//! key under any serial: an attacker has the first two, a confused peer the
//! last. After every step the machine is drained as its contract says, and
//! what it gives out per step must be bounded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use proto::path_auth::{PathAck, PathAuth};
use proto::{ClientId, PathSerial, ServerId};
use proxy::client::{self, Client, RenewReason};
use proxy::seal::Sealer;
use proxy::server::{self, Server};
use proxy::{Carrier, Means, PathId, ProxyKey, Route, SocketId};

/// The client machine under any course of events.
pub fn proxy_client(data: &[u8]) {
    let mut script = Script::new(data);
    let addresses = (1..=3).map(address).collect();
    let key = ProxyKey::new([7; 32]);
    let mut config = client::Config::new(ClientId(1), ServerId(2), key, addresses);
    if script.byte() & 1 == 1 {
        config.means = vec![Means::UDP, Means::TCP];
    }
    let mut machine = Client::new(config);
    while let Some(step) = script.next() {
        let id = script.byte();
        let path = PathId(u64::from(id % 8));
        let now = script.now;
        match step % 11 {
            0 => machine.start(now),
            1 => {
                let packet =
                    script.packet(|serial| PathAck { server: ServerId(2), serial }.encode());
                let _ = machine.handle_packet(now, SocketId(path.0), &packet);
            }
            2 => machine.handle_accepted(now, path),
            3 => machine.handle_heartbeat(now, script.start + Duration::from_millis(id.into())),
            4 => machine.handle_opened(now, path, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            5 => machine.handle_failed(now, path, "refused".into()),
            6 => machine.renew(now, RenewReason::Requested),
            7 => machine.handle_clock_jump(now, Duration::from_secs(id.into())),
            8 => machine.handle_copied(path, u64::from(id) * 100),
            9 => machine.set_candidates((0..id % 3).map(address).collect()),
            _ => {
                script.pass(machine.poll_timeout(), id);
                machine.handle_timeout(script.now);
            }
        }
        let mut buf = Vec::new();
        let now = script.now;
        drain(|| {
            machine.poll_transmit(now, &mut |bytes| bytes.fill(9), &mut buf)?;
            script.keep(&buf);
            Some(())
        });
        drain(|| {
            // A driver that always succeeds opens what it is asked for.
            let event = machine.poll_event()?;
            if let (client::Event::Open { path, .. }, true) = (event, id & 128 == 0) {
                machine.handle_opened(now, path, None);
            }
            Some(())
        });
    }
}

/// The server machine under any course of events.
pub fn proxy_server(data: &[u8]) {
    let mut script = Script::new(data);
    let mut machine = Server::new(server::Config {
        client_id: ClientId(1),
        server_id: ServerId(2),
        proxy_key: ProxyKey::new([7; 32]),
    });
    let mut highest = PathSerial(0);
    while let Some(step) = script.next() {
        let id = script.byte();
        let route = if id & 64 == 0 {
            Route::udp(SocketId(0), address(id % 8), None)
        } else {
            Route::tcp(SocketId(u64::from(id % 8)), address(id % 4), None)
        };
        let path = PathId(u64::from(id % 8));
        let now = script.now;
        let mut serial = None;
        match step % 7 {
            0 | 1 => {
                let packet = script.packet(|of_script| {
                    serial = Some(of_script);
                    PathAuth { client: ClientId(1), serial: of_script }.encode()
                });
                let _ = machine.handle_packet(now, &route, &packet);
            }
            2 => machine.handle_accepted(now, path),
            3 => machine.set_bus_up(now, Duration::from_secs(u64::from(id % 8) + 1), id & 8 != 0),
            4 => machine.handle_failed(&route),
            5 => machine.handle_copied(path, u64::from(id) * 100),
            _ => {
                script.pass(machine.poll_timeout(), id);
                machine.handle_timeout(script.now);
            }
        }
        let mut buf = Vec::new();
        let mut acks = 0;
        let now = script.now;
        drain(|| {
            machine.poll_transmit(now, &mut |bytes| bytes.fill(9), &mut buf)?;
            acks += 1;
            script.keep(&buf);
            Some(())
        });
        // Nothing unauthenticated gets a reply (DESIGN D10).
        let answers = acks == 0 || serial.is_some();
        assert!(answers, "an ack without an auth packet");
        highest = highest.max(serial.unwrap_or_default());
        drain(|| machine.poll_event().map(|_| ()));
        // A TCP connection proves its address by itself; a datagram's sender may be made up.
        let pending = machine.routes().pending;
        let udp = pending.filter(|pending| pending.path.route.carrier == Carrier::Udp);
        let bounded = udp.is_none_or(|pending| pending.allowance_bytes <= MAX_BYTES);
        assert!(bounded, "much may go to an address that proved nothing");
    }
}

/// An input read as steps and their arguments, with a clock that only goes forward.
struct Script<'a> {
    rest: &'a [u8],
    start: Instant,
    now: Instant,
    /// The last packet the machine sent: an attacker may send it back.
    seen: Vec<u8>,
    sealer: Sealer,
}

impl<'a> Script<'a> {
    fn new(data: &'a [u8]) -> Self {
        let start = Instant::now();
        let sealer = Sealer::new(&ProxyKey::new([7; 32]));
        // A bound on the steps keeps one input from taking all the time.
        let rest = data.get(..4096).unwrap_or(data);
        Self { rest, start, now: start, seen: Vec::new(), sealer }
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// Returns the next byte, and 0 once there is none.
    fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// Moves the clock to a deadline, or a little on where there is none or `id` says so.
    fn pass(&mut self, deadline: Option<Instant>, id: u8) {
        let step = self.now + Duration::from_millis(u64::from(id) * 10);
        self.now = match deadline {
            Some(deadline) if id < 200 => deadline.max(self.now),
            _ => step,
        };
    }

    fn keep(&mut self, packet: &[u8]) {
        packet.clone_into(&mut self.seen);
    }

    /// Returns a packet: garbage, an echo, or one that is properly sealed.
    fn packet(&mut self, plaintext: impl FnOnce(PathSerial) -> [u8; 16]) -> Vec<u8> {
        match self.byte() % 4 {
            0 => vec![5; usize::from(self.byte()) * 6],
            1 => self.seen.clone(),
            2 => {
                let serial = PathSerial(self.byte().into());
                self.sealer.seal([1; 12], plaintext(serial)).to_vec()
            }
            _ => {
                let serial = PathSerial(u64::MAX - u64::from(self.byte()));
                self.sealer.seal([2; 12], plaintext(serial)).to_vec()
            }
        }
    }
}

/// Calls `next` until there is nothing more; fails when that takes too long.
fn drain(mut next: impl FnMut() -> Option<()>) {
    for _ in 0..MAX_PER_STEP {
        if next().is_none() {
            return;
        }
    }
    panic!("the machine does not run dry");
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, n), 61001))
}

/// More than any single event of a machine has a reason to cause.
const MAX_PER_STEP: usize = 64;

/// No input is longer than this, and an allowance is at most three times what was received.
const MAX_BYTES: u64 = 3 * 4096 * 1536;
