//! Chains of jump hosts whose first link roams and fails under a running forward.
//!
//! Two hosts; every jump host and the destination are the far one's sshd under several names, so
//! that each link of a chain but the first stays within that host. Needs root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::net::{free_port, serve_echo};
use e2e::{DEADLINE, Mode, Pattern, World, in_modes, wait_until};
use netlab::{Conditions, LinkConfig, LinkId, Side};
use rustix::process::Signal;

const FIRST: LinkId = LinkId(0);
const SECOND: LinkId = LinkId(1);

/// A jump host by its name; one without tsshd is only logged in to.
#[derive(Clone, Copy)]
struct Hop(&'static str, bool);

const GATE: Hop = Hop("gate", true);
const YARD: Hop = Hop("yard", true);
const DOOR: Hop = Hop("door", true);
const BARE: Hop = Hop("bare", false);

fn link() -> LinkConfig {
    LinkConfig::both(Conditions::delayed(Duration::from_millis(20)))
}

fn outage() -> Duration {
    let full = std::env::var_os("E2E_FULL").is_some_and(|full| full == "1");
    Duration::from_secs(if full { 30 } else { 7 })
}

/// A connection whose bytes come back and are compared, until it is told to end.
struct Checked {
    stream: TcpStream,
    good: Arc<AtomicU64>,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Checked {
    fn start(stream: TcpStream, seed: u64) -> Self {
        let good = Arc::new(AtomicU64::new(0));
        let block = Pattern::new(seed, 64 * 1024).bytes();
        let mut writing = stream.try_clone().expect("a descriptor is free");
        let sent = block.clone();
        let writer = std::thread::spawn(move || {
            // Our own end of the stream ends it.
            while writing.write_all(&sent).is_ok() {}
        });
        let mut reading = stream.try_clone().expect("a descriptor is free");
        let count = Arc::clone(&good);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 16 * 1024];
            let mut place = 0;
            loop {
                let read = reading.read(&mut got).expect("the connection lives on");
                if read == 0 {
                    return;
                }
                for byte in &got[..read] {
                    assert_eq!(*byte, block[place], "what was sent comes back unchanged");
                    place = (place + 1) % block.len();
                }
                count.fetch_add(read as u64, Ordering::SeqCst);
            }
        });
        Self { stream, good, writer, reader }
    }

    /// Waits until what is sent from now on has come back.
    fn wait_for_more(&self, what: &str) {
        // More than could be under way.
        let enough = self.good.load(Ordering::SeqCst) + (8 << 20);
        wait_until(what, || self.good.load(Ordering::SeqCst) > enough || self.reader.is_finished());
        assert!(!self.reader.is_finished(), "{what}: the connection lives on");
    }

    fn end(self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is there");
        self.writer.join().expect("the writer stops");
        self.reader.join().expect("everything comes back, and then the end");
    }
}

fn a_forward_survives(mode: Mode, hops: &[Hop]) {
    // sshd does not learn by itself that a login's address is gone.
    let builder = World::builder(mode).sshd_config("ClientAliveInterval 2\nClientAliveCountMax 3");
    let Some(world) = builder.links([link(), link()]) else { return };
    let world = world.start();
    for Hop(name, has_tsshd) in hops {
        world.add_host(name, if *has_tsshd { "" } else { "#!! TsshdPath /no/tsshd" });
    }
    let lab = world.lab();
    let echo = lab.host(Side::Server).enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let echo = echo.expect("a namespace").expect("a port on loopback");
    let to = echo.local_addr().expect("a bound socket has an address");
    serve_echo(echo);
    let names: Vec<_> = hops.iter().map(|Hop(name, _)| *name).collect();
    let (names, port) = (names.join(","), free_port());
    let client = world.ssh(["-N", "-J", &names, "-L", &format!("{port}:{to}")]).start();
    let mut stream = None;
    wait_until("the forward is there", || {
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        stream = lab.host(Side::Client).enter(connect).expect("a namespace").ok();
        stream.is_some()
    });
    let stream = stream.expect("just connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    let checked = Checked::start(stream, 61);
    checked.wait_for_more("the forward works");

    lab.plug(SECOND).expect("the link is plugged in");
    lab.unplug(FIRST).expect("the link is unplugged");
    checked.wait_for_more("the forward goes on over the other link");

    lab.set_both(SECOND, Conditions { down: true, ..link().up });
    std::thread::sleep(outage());
    lab.set_both(SECOND, link().up);
    checked.wait_for_more("the forward goes on after the outage");

    checked.end();
    client.signal(Signal::TERM);
    let _ = client.wait();
    world.wait_until_nothing_runs();
}

in_modes!(link, a_forward_behind_one_jump_host_survives);
fn a_forward_behind_one_jump_host_survives(mode: Mode) {
    a_forward_survives(mode, &[GATE]);
}

in_modes!(link, a_forward_behind_two_jump_hosts_survives);
fn a_forward_behind_two_jump_hosts_survives(mode: Mode) {
    a_forward_survives(mode, &[GATE, YARD]);
}

in_modes!(udp, a_forward_behind_three_jump_hosts_survives);
fn a_forward_behind_three_jump_hosts_survives(mode: Mode) {
    a_forward_survives(mode, &[GATE, YARD, DOOR]);
}

in_modes!(udp, a_forward_behind_a_host_without_tsshd_survives);
fn a_forward_behind_a_host_without_tsshd_survives(mode: Mode) {
    a_forward_survives(mode, &[BARE]);
}

in_modes!(udp, a_forward_through_a_host_without_tsshd_in_the_middle_survives);
fn a_forward_through_a_host_without_tsshd_in_the_middle_survives(mode: Mode) {
    a_forward_survives(mode, &[GATE, BARE, YARD]);
}
