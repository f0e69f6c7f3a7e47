//! The whole lab: real namespaces, real sockets, the machine in between.
//!
//! What a link does to packets is tested in virtual time, beside the machine;
//! here it is whether the hosts see it. Needs root, and says so when skipped.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netlab::{Conditions, Direction, Lab, LinkConfig, LinkId, NatConfig, Side};

const FIRST: LinkId = LinkId(0);
const SECOND: LinkId = LinkId(1);
const MS: Duration = Duration::from_millis(1);
/// How long a packet is waited for that is expected to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns whether there can be no lab here, after saying why.
#[expect(clippy::print_stderr, reason = "the reason for a skip belongs in the test's output")]
fn skip() -> bool {
    let reason = netlab::why_not();
    if let Some(reason) = reason {
        let root = rustix::process::geteuid().is_root();
        assert!(!root || std::env::var_os("CI").is_none(), "{reason} (CI must not skip this)");
        eprintln!("skipped: {reason}");
    }
    reason.is_some()
}

fn lab(links: &[LinkConfig]) -> Lab {
    let builder = links.iter().fold(Lab::builder().seed(1), |lab, link| lab.link(*link));
    builder.start().expect("a lab can be made by root")
}

/// Opens a socket in a host; the server's has the port that clients know.
fn udp(lab: &Lab, side: Side, any: IpAddr) -> UdpSocket {
    let port = if side == Side::Server { PORT } else { 0 };
    let socket = lab.host(side).enter(|| UdpSocket::bind((any, port)));
    let socket = socket.expect("the host can be entered").expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket can have a timeout");
    socket
}

const PORT: u16 = 7000;
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn server() -> SocketAddr {
    (netlab::SERVER_V4, PORT).into()
}

/// Sends a packet to the server and returns where that saw it come from.
fn seen_from(client: &UdpSocket, server_socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    client.send_to(b"who am I?", to).expect("there is a route");
    let mut packet = [0; 2000];
    let (length, from) = server_socket.recv_from(&mut packet).expect("the packet arrives");
    assert_eq!(packet[..length], *b"who am I?");
    server_socket.send_to(b"you", from).expect("there is a way back");
    let (length, _) = client.recv_from(&mut packet).expect("the answer arrives");
    assert_eq!(packet[..length], *b"you");
    from
}

#[test]
fn a_round_trip_takes_as_long_as_asked_also_after_a_change() {
    if skip() {
        return;
    }
    let lab = lab(&[LinkConfig::both(Conditions::delayed(5 * MS))]);
    let (client, server_socket) = (udp(&lab, Side::Client, ANY), udp(&lab, Side::Server, ANY));
    for delay in [5 * MS, 20 * MS] {
        lab.set_both(FIRST, Conditions::delayed(delay));
        let mut times: Vec<Duration> = (0..30)
            .map(|_| {
                let start = Instant::now();
                seen_from(&client, &server_socket, server());
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[0] >= 2 * delay, "{:?} for twice {delay:?}", times[0]);
        // Usually 0.3 ms more; a busy machine may be late, but not by much, or
        // no figure measured here would mean anything.
        assert!(times[15] < 2 * delay + 10 * MS, "{:?} for twice {delay:?}", times[15]);
    }
}

#[test]
fn what_is_lost_is_lost_to_the_hosts_and_counted() {
    if skip() {
        return;
    }
    let lossy = Conditions { loss: 0.2, ..Conditions::default() };
    let lab = lab(&[LinkConfig { up: lossy, ..LinkConfig::default() }]);
    let (client, server_socket) = (udp(&lab, Side::Client, ANY), udp(&lab, Side::Server, ANY));
    let mut arrived = Vec::new();
    for first in (0..1000_u32).step_by(100) {
        // Few enough at a time for a socket's buffer.
        lab.set_both(FIRST, lossy);
        for n in first..first + 100 {
            client.send_to(&n.to_be_bytes(), server()).expect("there is a route");
        }
        let offered = || lab.counters(FIRST, Direction::Up).offered;
        let sent = u64::from(first + 100 + first / 100);
        while offered() < sent {
            thread::yield_now();
        }
        lab.set_both(FIRST, Conditions::default());
        client.send_to(b"the last of them", server()).expect("there is a route");
        let mut packet = [0; 100];
        while let Ok(4) = server_socket.recv(&mut packet) {
            arrived.push(packet[..4].to_vec());
        }
    }
    assert!(arrived.is_sorted(), "order is kept");
    assert!((750..850).contains(&arrived.len()), "{} of 1000 arrived", arrived.len());
    let counters = lab.counters(FIRST, Direction::Up);
    assert_eq!(counters.lost, 1000 - arrived.len() as u64);
}

#[test]
fn the_client_goes_by_the_link_that_is_plugged_in_and_then_by_another_address() {
    if skip() {
        return;
    }
    let lab = lab(&[LinkConfig::default(), LinkConfig::default()]);
    let server_socket = udp(&lab, Side::Server, ANY);
    // A new socket each time: one that is not bound takes the route's address.
    let from = || seen_from(&udp(&lab, Side::Client, ANY), &server_socket, server()).ip();
    assert_eq!(from(), Ipv4Addr::new(10, 77, 0, 1));
    lab.unplug(FIRST).expect("unplug");
    assert_eq!(from(), Ipv4Addr::new(10, 77, 1, 1));
    lab.plug(FIRST).expect("plug");
    assert_eq!(from(), Ipv4Addr::new(10, 77, 0, 1));
    lab.prefer(SECOND).expect("prefer");
    assert_eq!(from(), Ipv4Addr::new(10, 77, 1, 1));
    lab.change_address(SECOND).expect("change the address");
    assert_eq!(from(), Ipv4Addr::new(10, 77, 1, 2));
    lab.unplug(SECOND).expect("unplug");
    lab.unplug(FIRST).expect("unplug");
    let error = udp(&lab, Side::Client, ANY).send_to(b"x", server()).expect_err("no route");
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

#[test]
fn the_server_is_reached_by_ipv6_as_well() {
    if skip() {
        return;
    }
    let lab = lab(&[LinkConfig::both(Conditions::delayed(MS))]);
    let any = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    let (client, server_socket) = (udp(&lab, Side::Client, any), udp(&lab, Side::Server, any));
    let from = seen_from(&client, &server_socket, (netlab::SERVER_V6, PORT).into());
    assert_eq!(from.ip().to_string(), "fd77::1");
}

#[test]
fn a_nat_that_forgets_gives_the_client_another_port() {
    if skip() {
        return;
    }
    let nat = Some(NatConfig { timeout: Duration::from_secs(300) });
    let lab = lab(&[LinkConfig { nat, ..LinkConfig::default() }]);
    let (client, server_socket) = (udp(&lab, Side::Client, ANY), udp(&lab, Side::Server, ANY));
    let from = || seen_from(&client, &server_socket, server());
    let before = from();
    assert_eq!(before.ip(), Ipv4Addr::new(10, 78, 0, 1));
    assert_eq!(from(), before);
    lab.rebind(FIRST);
    let after = from();
    assert_eq!(after.ip(), before.ip());
    assert_ne!(after.port(), before.port());
    // TCP goes through it too, checksums and all.
    assert_eq!(transfer(&lab, 100_000), 100_000);
}

#[test]
fn a_narrow_link_splits_what_may_be_split_and_tells_tcp_about_the_rest() {
    if skip() {
        return;
    }
    let narrow = Conditions { mtu: Some(1280), ..Conditions::default() };
    let lab = lab(&[LinkConfig::both(narrow)]);
    assert_eq!(transfer(&lab, 1_000_000), 1_000_000);
    assert!(lab.counters(FIRST, Direction::Up).refused > 0, "TCP had to be told");

    let (client, server_socket) = (udp(&lab, Side::Client, ANY), udp(&lab, Side::Server, ANY));
    allow_splitting(&client);
    let long: Vec<u8> = (0..1400_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.send_to(&long, server()).expect("there is a route");
    let mut packet = [0; 2000];
    let length = server_socket.recv(&mut packet).expect("it arrives in pieces");
    assert_eq!(packet[..length], long);
}

/// Lets the kernel and routers split what the socket sends.
fn allow_splitting(socket: &UdpSocket) {
    let value = rustix::net::sockopt::Ipv4PathMtuDiscovery::DONT;
    rustix::net::sockopt::set_ip_mtu_discover(socket, value).expect("the kernel can split");
}

/// Sends bytes from client to server over TCP; returns how many arrived.
fn transfer(lab: &Lab, bytes: usize) -> usize {
    let listener = lab.host(Side::Server).enter(|| TcpListener::bind((ANY, 0)));
    let listener = listener.expect("the host can be entered").expect("a port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let to = (netlab::SERVER_V4, port);
    let stream = lab.host(Side::Client).enter(|| TcpStream::connect(to));
    let mut stream = stream.expect("the host can be entered").expect("the server is there");
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).map(|_| received.len())
    });
    stream.write_all(&vec![7; bytes]).expect("the server reads");
    drop(stream);
    reader.join().expect("no panic").expect("the client writes")
}

#[test]
fn a_lab_made_by_hand_obeys_its_socket_and_leaves_nothing_behind() {
    if skip() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("netlab-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let socket = dir.join("socket");
    let netlab = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netlab"));
        command.arg("-S").arg(&socket).args(words);
        command
    };
    let say = |words: &[&str]| {
        let output = netlab(words).output().expect("netlab runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut running = start(netlab(&["start", "--links", "2", "delay=3ms"]));
    assert_eq!(say(&["set", "1", "down", "loss=0.5", "burst=4"]), (true, String::new()));
    let (fine, shown) = say(&["show"]);
    assert!(fine && shown.contains("link 1 down  delay=3ms loss=0.5 burst=4\n"), "{shown}");
    assert!(!say(&["set", "1", "down", "loss=2"]).0);
    assert!(!say(&["plug", "2"]).0);
    let (fine, addresses) = say(&["exec", "client", "ip", "-br", "address"]);
    assert!(fine && addresses.contains("10.77.1.1"), "{addresses}");
    assert!(!netlab(&["start"]).output().expect("netlab runs").status.success(), "one is running");
    let (_, namespace) = say(&["host", "client"]);
    let namespace = std::fs::read_link(namespace.trim()).expect("the host's namespace");

    // Killed, not stopped: nobody can clean up, and nobody has to.
    running.kill().expect("it runs");
    running.wait().expect("it has been killed");
    let processes = std::fs::read_dir("/proc").expect("proc").filter_map(Result::ok);
    let inside = |process: &std::fs::DirEntry| {
        std::fs::read_link(process.path().join("ns/net")).is_ok_and(|own| own == namespace)
    };
    assert_eq!(processes.filter(inside).count(), 0);

    let mut running = start(netlab(&["start"]));
    assert_eq!(say(&["stop"]), (true, String::new()));
    assert!(running.wait().expect("it ends").success());
    assert!(!socket.exists());
    let output = netlab(&["start", "--", "sh", "-c", "ip -br link; exit 7"]).output();
    let output = output.expect("netlab runs");
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stdout).contains("lab0"));
    std::fs::remove_dir_all(&dir).expect("the directory can be removed");
}

/// Starts a lab and waits until it says that it is there.
fn start(mut command: Command) -> Child {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("netlab runs");
    let mut line = String::new();
    let stderr = child.stderr.take().expect("stderr is a pipe");
    BufReader::new(stderr).read_line(&mut line).expect("it speaks");
    assert!(line.starts_with("two hosts"), "{line}");
    child
}
