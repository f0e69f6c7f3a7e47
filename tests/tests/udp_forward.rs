//! Forwards of datagrams: `-L udp/`, `-R udp/`, their keywords, and what the server says to them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::net::free_port;
use e2e::{Mode, Running, World, in_modes, wait_for, wait_until};
use rustix::process::Signal;

/// A client that runs nothing and forwards.
fn hold(world: &World, options: &[&str]) -> Running {
    let options = [&["-N"], options].concat();
    world.ssh(options).start()
}

fn let_go(world: &World, client: Running) {
    client.signal(Signal::TERM);
    let _ = client.wait();
    world.wait_until_nothing_runs();
}

/// Answers every datagram with itself, and remembers who asked.
struct Answers {
    port: u16,
    peers: Arc<Mutex<HashSet<SocketAddr>>>,
}

impl Answers {
    fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let peers = Arc::new(Mutex::new(HashSet::new()));
        let seen = Arc::clone(&peers);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            // A port that has gone shows in the next call; the one after is good again.
            loop {
                if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                    seen.lock().expect("nobody panics with it").insert(peer);
                    let _ = socket.send_to(&buffer[..len], peer);
                }
            }
        });
        Self { port, peers }
    }

    fn peers(&self) -> usize {
        self.peers.lock().expect("nobody panics with it").len()
    }
}

/// Somebody who asks a forward, again and again where nothing comes back, as programs do.
struct Asker {
    socket: UdpSocket,
    asked: u32,
}

impl Asker {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
        Self { socket, asked: 0 }
    }

    fn ask(&mut self, port: u16, size: usize) {
        wait_for(&format!("{size} bytes come back"), || self.try_once(port, size).then_some(()));
    }

    /// Asks once; returns whether the very same came back.
    fn try_once(&mut self, port: u16, size: usize) -> bool {
        self.asked += 1;
        let mut question = self.asked.to_be_bytes().to_vec();
        question.extend((0..size.saturating_sub(4)).map(|at| u8::try_from(at % 251).unwrap_or(0)));
        // Nobody listens there yet, or no more: that is an answer, too.
        if self.socket.send_to(&question, (Ipv4Addr::LOCALHOST, port)).is_err() {
            return false;
        }
        let mut answer = vec![0; 65_536];
        // Late answers to earlier questions are passed over.
        while let Ok(len) = self.socket.recv(&mut answer) {
            if answer[..len] == question {
                return true;
            }
        }
        false
    }
}

in_modes!(link, datagrams_of_every_size_pass_through_a_forward_and_back);
fn datagrams_of_every_size_pass_through_a_forward_and_back(mode: Mode) {
    let world = World::new(mode);
    let answers = Answers::start();
    let (near, far) = (free_port(), free_port());
    let client = hold(
        &world,
        &[
            "-L",
            &format!("udp/{near}:127.0.0.1:{}", answers.port),
            "-o",
            &format!("UdpRemoteForward=127.0.0.1:{far} localhost:{}", answers.port),
        ],
    );
    let mut asker = Asker::new();
    // The last ones are larger than any packet of ours and take the stream.
    for size in [4, 60, 1300, 1400, 9000, 60_000] {
        asker.ask(near, size);
        asker.ask(far, size);
    }
    assert_eq!(answers.peers(), 2, "one flow for each forward");
    let mut other = Asker::new();
    other.ask(near, 100);
    assert_eq!(answers.peers(), 3, "and one for each who asks");
    let_go(&world, client);
}

in_modes!(link, a_flow_outlives_an_outage);
fn a_flow_outlives_an_outage(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let answers = Answers::start();
    let port = free_port();
    let client = hold(&world, &["-L", &format!("udp/{port}:127.0.0.1:{}", answers.port)]);
    let mut asker = Asker::new();
    asker.ask(port, 100);
    relay.cut();
    for size in [4, 1300, 9000] {
        assert!(!asker.try_once(port, size), "nothing passes");
    }
    relay.mend();
    asker.ask(port, 1300);
    assert_eq!(answers.peers(), 1, "it is still the same flow");
    let_go(&world, client);
}

in_modes!(link, an_idle_flow_is_given_up_and_another_takes_its_place);
fn an_idle_flow_is_given_up_and_another_takes_its_place(mode: Mode) {
    let world = World::new(mode);
    let answers = Answers::start();
    let port = free_port();
    let spec = format!("udp/{port}/127.0.0.1/{}", answers.port);
    let client = hold(&world, &["-oForwardUdpTimeout=1", "-L", &spec]);
    let mut asker = Asker::new();
    asker.ask(port, 100);
    wait_until("the server closes its socket", || connected_to(answers.port) == 0);
    asker.ask(port, 100);
    assert_eq!(answers.peers(), 2, "it is another socket that asks");
    wait_until("and the next one", || connected_to(answers.port) == 0);
    let_go(&world, client);
}

/// Returns how many sockets of UDP are connected to a port of 127.0.0.1.
fn connected_to(port: u16) -> usize {
    let all = std::fs::read_to_string("/proc/net/udp").expect("Linux shows its sockets");
    let remote = format!("0100007F:{port:04X}");
    all.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote)).count()
}

in_modes!(link, a_flow_may_lead_to_a_unix_socket_at_either_end);
fn a_flow_may_lead_to_a_unix_socket_at_either_end(mode: Mode) {
    let world = World::new(mode);
    let path = world.path("answers.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let to = peer.as_pathname().expect("who asks has a name");
            let _ = socket.send_to(&buffer[..len], to);
        }
    });
    let (near, far) = (free_port(), free_port());
    let local = format!("udp/{near}:{}", path.display());
    let remote = format!("udp/{far}:{}", path.display());
    let client = hold(&world, &["-L", &local, "-R", &remote]);
    let mut asker = Asker::new();
    asker.ask(near, 500);
    asker.ask(far, 500);
    let_go(&world, client);
}

in_modes!(link, a_flow_may_begin_at_a_unix_socket_at_either_end);
fn a_flow_may_begin_at_a_unix_socket_at_either_end(mode: Mode) {
    let world = World::new(mode);
    let answers = Answers::start();
    let (near, far) = (world.path("near.sock"), world.path("far.sock"));
    let [local, remote] =
        [&near, &far].map(|path| format!("udp/{}:127.0.0.1:{}", path.display(), answers.port));
    let client = hold(&world, &["-L", &local, "-R", &remote]);
    for (path, name) in [(&near, "one"), (&far, "other")] {
        let asker = UnixDatagram::bind(world.path(name)).expect("a socket");
        asker.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
        let mut answer = [0; 2000];
        wait_for("an answer comes back", || {
            asker.send_to(b"question", path).ok()?;
            asker.recv(&mut answer).ok().filter(|len| answer[..*len] == *b"question")
        });
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let_go(&world, client);
    wait_until("the sockets' files are gone", || !near.exists() && !far.exists());
}

#[test]
fn without_a_link_forwards_of_datagrams_are_refused_and_the_way_out_named() {
    if e2e::skip() {
        return;
    }
    let world = World::new(Mode::Plain);
    let forward = format!("udp/{}:127.0.0.1:53", free_port());
    for option in ["-L", "-R"] {
        let run = world.ssh(["-oExitOnForwardFailure=yes", option, &forward]).command(["true"]);
        let run = run.output();
        run.assert_status(255);
        assert!(run.err().contains("UDP forwarding needs UDP mode: use --udp"), "{run:?}");
        let run = world.ssh([option, &forward]).command(["echo", "here"]).output();
        run.assert_status(0);
        assert_eq!(run.out(), "here\n");
        assert!(run.err().contains("UDP forwarding needs UDP mode: use --udp"), "{run:?}");
    }
}

in_modes!(udp, the_server_s_configuration_judges_datagrams_as_connections);
fn the_server_s_configuration_judges_datagrams_as_connections(mode: Mode) {
    let answers = Answers::start();
    let target = format!("127.0.0.1:{}", answers.port);
    let far = free_port();
    for (config, may_dial, may_listen) in [
        ("AllowTcpForwarding no", false, false),
        ("AllowTcpForwarding local", true, false),
        ("AllowTcpForwarding remote", false, true),
        ("DisableForwarding yes", false, false),
        (&format!("PermitOpen {target}"), true, true),
        ("PermitOpen 127.0.0.1:1", false, true),
        ("PermitListen 1", true, false),
        (&format!("PermitListen localhost:{far}"), true, true),
    ] {
        let world = World::builder(mode).sshd_config(config).start();
        if !world.show_tsshd_this_sshd_config() {
            return;
        }
        let remote = format!("udp/{far}:{target}");
        let run = world.ssh(["-oExitOnForwardFailure=yes", "-R", &remote]).command(["true"]);
        let run = run.output();
        assert_eq!(run.status.code() == Some(0), may_listen, "listening under {config}: {run:?}");

        let near = free_port();
        let client = hold(&world, &["-L", &format!("udp/{near}:{target}")]);
        let mut asker = Asker::new();
        let complaint = "UDP forward failed: ";
        if may_dial {
            asker.ask(near, 100);
        } else {
            wait_for(&format!("the refusal under {config}"), || {
                assert!(!asker.try_once(near, 100), "connecting under {config}");
                client.stderr().contains(complaint).then_some(())
            });
            // What comes now is refused just so, and that is known already.
            for _ in 0..3 {
                assert!(!asker.try_once(near, 100), "connecting under {config}");
            }
            assert_eq!(client.stderr().matches(complaint).count(), 1, "it is said once");
        }
        let_go(&world, client);
    }
}

in_modes!(udp, what_waits_through_a_long_outage_is_not_sent_after_it);
fn what_waits_through_a_long_outage_is_not_sent_after_it(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let answers = Answers::start();
    let (open, late) = (free_port(), free_port());
    let [open_spec, late_spec] =
        [open, late].map(|port| format!("udp/{port}:127.0.0.1:{}", answers.port));
    let options = ["-oForwardUdpTimeout=1", "-L", &open_spec, "-L", &late_spec];
    let client = hold(&world, &options);
    let mut asker = Asker::new();
    asker.ask(open, 100);
    relay.cut();
    let mut asker = Asker::new();
    assert!(!asker.try_once(late, 100), "nothing passes");
    // Longer than a flow may be idle.
    std::thread::sleep(Duration::from_secs(3));
    relay.mend();
    let mut other = Asker::new();
    other.ask(late, 100);
    assert!(asker.socket.recv(&mut [0; 200]).is_err(), "nobody was asked for the first one");
    let_go(&world, client);
}
