//! Local forwards: `-L`, `-D`, `-W`, unix sockets, and what goes through them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::net::{self, Duplex, Echo, connect, exchange, free_port};
use e2e::{Mode, Pattern, Running, Stdin, World, in_modes, wait_until};
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

in_modes!(everywhere, a_local_forward_carries_both_directions_and_their_ends);
fn a_local_forward_carries_both_directions_and_their_ends(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let client = hold(&world, &["-L", &format!("{port}:127.0.0.1:{}", echo.port())]);
    let sent = Pattern::new(21, 3 << 20).bytes();
    // What comes after our end shows that the other direction outlived it.
    assert!(exchange(connect(port), &sent) == sent, "what was sent comes back whole");
    assert_eq!(exchange(connect(port), b""), b"");
    wait_until("the far connections are closed", || echo.open() == 0);
    let_go(&world, client);
}

// Not with OpenSSH's own client, which now and then does not end after such a refusal.
in_modes!(tssh, a_forward_to_a_closed_port_ends_and_says_why);
fn a_forward_to_a_closed_port_ends_and_says_why(mode: Mode) {
    let world = World::new(mode);
    let port = free_port();
    let client = hold(&world, &["-L", &format!("{port}:127.0.0.1:{}", free_port())]);
    let mut got = Vec::new();
    // As from ssh: an end of data, or a reset where data was under way.
    let _ = connect(port).read_to_end(&mut got);
    assert_eq!(got, b"");
    client.wait_for_stderr("open failed: ");
    let_go(&world, client);
}

in_modes!(everywhere, a_socks_proxy_speaks_4_4a_and_5);
fn a_socks_proxy_speaks_4_4a_and_5(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let client = hold(&world, &["-D", &port.to_string()]);
    let [high, low] = echo.port().to_be_bytes();
    let four = [4, 1, high, low, 127, 0, 0, 1, b'x', 0];
    let four_a = [&[4, 1, high, low, 0, 0, 0, 1, 0][..], b"localhost\0"].concat();
    let five = [&[5, 1, 0, 3, 9][..], b"localhost", &[high, low]].concat();
    for (greeting, request, answer) in
        [(&b""[..], &four[..], 8), (b"", &four_a, 8), (b"\x05\x01\x00", &five, 10)]
    {
        let mut stream = connect(port);
        if !greeting.is_empty() {
            stream.write_all(greeting).expect("the proxy reads");
            let mut method = [0; 2];
            stream.read_exact(&mut method).expect("the proxy answers");
            assert_eq!(method, [5, 0]);
        }
        stream.write_all(request).expect("the proxy reads");
        let mut told = vec![0; answer];
        stream.read_exact(&mut told).expect("the proxy answers");
        assert!(told[1] == 0 || told[1] == 90, "{told:?}");
        let sent = Pattern::new(22, 100_000).bytes();
        assert!(exchange(stream, &sent) == sent);
    }
    let_go(&world, client);
}

in_modes!(everywhere, unix_sockets_stand_at_either_end_of_a_forward);
fn unix_sockets_stand_at_either_end_of_a_forward(mode: Mode) {
    let world = World::new(mode);
    let (near, far) = (world.path("near.sock"), world.path("far.sock"));
    Echo::start_unix(&far);
    let port = free_port();
    let through = format!("{}:{}", near.display(), far.display());
    let from_port = format!("{port}:{}", far.display());
    let client = hold(&world, &["-L", &through, "-L", &from_port]);
    let sent = Pattern::new(23, 100_000).bytes();
    assert!(exchange(net::connect_unix(&near), &sent) == sent);
    assert!(exchange(connect(port), &sent) == sent);
    let_go(&world, client);
}

in_modes!(everywhere, standard_streams_lead_to_a_port_with_w);
fn standard_streams_lead_to_a_port_with_w(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let to = format!("127.0.0.1:{}", echo.port());
    let pattern = Pattern::new(24, 1 << 20);
    let run = world.ssh(["-W", &to]).stdin(Stdin::Pattern(pattern.clone())).output();
    run.assert_status(0);
    assert!(run.stdout == pattern.bytes(), "all of it comes back");
    assert_eq!(run.err(), "", "{run:?}");

    let to = format!("127.0.0.1:{}", free_port());
    let run = world.ssh(["-W", &to]).output();
    run.assert_status(255);
    assert!(run.err().contains("open failed: "), "{run:?}");
    assert!(run.err().contains("stdio forwarding failed"), "{run:?}");
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_port_that_is_taken_ends_everything_only_if_that_is_asked_for);
fn a_port_that_is_taken_ends_everything_only_if_that_is_asked_for(mode: Mode) {
    let world = World::new(mode);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let forward = format!("127.0.0.1:{port}:127.0.0.1:1");
    let complaint = format!(
        "bind [127.0.0.1]:{port}: Address already in use\r\n\
         channel_setup_fwd_listener_tcpip: cannot listen to port: {port}\r\n\
         Could not request local forwarding.\r\n"
    );
    let run = world.ssh(["-L", &forward]).command(["echo", "here"]).output();
    run.assert_status(0);
    assert_eq!((run.out().as_str(), run.err()), ("here\n", complaint.clone()), "{run:?}");
    let run = world.ssh(["-oExitOnForwardFailure=yes", "-L", &forward]).command(["echo"]).output();
    run.assert_status(255);
    assert_eq!((run.out().as_str(), run.err()), ("", complaint), "{run:?}");
    let run = world.ssh(["-oClearAllForwardings=yes", "-L", &forward]).command(["true"]).output();
    run.assert_prints("");
}

in_modes!(everywhere, other_addresses_are_listened_at_only_when_asked_for);
fn other_addresses_are_listened_at_only_when_asked_for(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let ports = [free_port(), free_port(), free_port()];
    let to = |bind: &str, port: u16| format!("{bind}{port}:127.0.0.1:{}", echo.port());
    let specs = [to("", ports[0]), to("*:", ports[1]), to("127.0.0.3:", ports[2])];
    let client = hold(&world, &["-L", &specs[0], "-L", &specs[1], "-L", &specs[2]]);
    let reach = |address: [u8; 4], port| TcpStream::connect((Ipv4Addr::from(address), port));
    drop(connect(ports[0]));
    assert!(reach([127, 0, 0, 2], ports[0]).is_err(), "the loopback address only");
    reach([127, 0, 0, 2], ports[1]).expect("every address");
    reach([127, 0, 0, 3], ports[2]).expect("the address that was named");
    assert!(reach([127, 0, 0, 1], ports[2]).is_err());
    let_go(&world, client);

    let port = free_port();
    let client = hold(&world, &["-g", "-L", &to("", port)]);
    drop(connect(port));
    reach([127, 0, 0, 2], port).expect("-g opens it to all");
    let_go(&world, client);
}

in_modes!(everywhere, the_client_outlives_its_session_for_connections_that_are_open);
fn the_client_outlives_its_session_for_connections_that_are_open(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let forward = format!("{port}:127.0.0.1:{}", echo.port());
    let run = world.ssh(["-L", &forward]).stdin(Stdin::Open).command(["cat"]);
    let mut client = run.start();
    let mut stream = connect(port);
    stream.write_all(b"before").expect("the forward takes it");
    let mut got = [0; 6];
    stream.read_exact(&mut got).expect("it comes back");
    client.close_stdin();
    wait_until("the session has ended", || {
        !world.server_processes().iter().any(|process| process.command == "cat")
    });
    assert_eq!(exchange(stream, b"after"), b"after");
    let run = client.wait();
    run.assert_prints("");
}

in_modes!(tssh, hundreds_of_connections_at_once_and_thousands_in_a_row_leave_nothing);
fn hundreds_of_connections_at_once_and_thousands_in_a_row_leave_nothing(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let (local, dynamic) = (free_port(), free_port());
    let to_echo = format!("{local}:127.0.0.1:{}", echo.port());
    let client = hold(&world, &["-L", &to_echo, "-D", &dynamic.to_string()]);
    let by_local = || connect(local);
    let by_dynamic = || by_socks(dynamic, echo.port());
    for reach in [&by_local as &dyn Fn() -> TcpStream, &by_dynamic] {
        assert_eq!(exchange(reach(), b"first"), b"first");
    }
    wait_until("the first are closed", || echo.open() == 0);
    let files = |world: &World| -> usize { world.processes().iter().map(net::open_files).sum() };
    let before = files(&world);

    for reach in [&by_local as &dyn Fn() -> TcpStream, &by_dynamic] {
        let mut many: Vec<TcpStream> = (0..500).map(|_| reach()).collect();
        for (number, stream) in many.iter_mut().enumerate() {
            write!(stream, "{number:04}").expect("the forward takes it");
        }
        for (number, stream) in many.iter_mut().enumerate().rev() {
            let mut got = [0; 4];
            stream.read_exact(&mut got).expect("it comes back");
            assert_eq!(got, format!("{number:04}").as_bytes());
        }
        assert_eq!(echo.open(), 500);
        drop(many);
        wait_until("all are closed", || echo.open() == 0);
    }

    let short = match (mode, is_full()) {
        (_, true) => 10_000,
        // sshd without a terminal leaves Nagle's algorithm on, which costs 40 ms each time.
        (Mode::Plain, false) => 100,
        (_, false) => 2_000,
    };
    let exchange_each = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let text = format!("{number}");
            let stream = if number % 2 == 0 { by_local() } else { by_dynamic() };
            assert_eq!(exchange(stream, text.as_bytes()), text.as_bytes());
        }
        wait_until("no descriptor is left open", || files(&world) <= before);
        let sizes = world.processes().into_iter().filter(is_ours).map(|p| net::resident_bytes(&p));
        sizes.sum::<usize>()
    };
    let halfway = exchange_each(0..short / 2);
    let afterwards = exchange_each(short / 2..short);
    let grown = afterwards.saturating_sub(halfway);
    // What the allocator keeps of a few connections is as much as that; of thousands it is a leak.
    assert!(
        !is_full() || grown < 4 << 20,
        "{grown} bytes more after {} more connections",
        short / 2
    );
    let_go(&world, client);
}

/// Returns whether a process is one of the two programs.
fn is_ours(process: &e2e::Process) -> bool {
    process.is_program("tssh") || process.is_program("tsshd")
}

fn is_full() -> bool {
    std::env::var_os("E2E_FULL").is_some_and(|full| full == "1")
}

/// Connects through a SOCKS proxy to a port of 127.0.0.1.
fn by_socks(proxy: u16, to: u16) -> TcpStream {
    let mut stream = connect(proxy);
    let [high, low] = to.to_be_bytes();
    stream.write_all(&[4, 1, high, low, 127, 0, 0, 1, 0]).expect("the proxy reads");
    let mut told = [0; 8];
    stream.read_exact(&mut told).expect("the proxy answers");
    assert_eq!(told[1], 90);
    stream
}

in_modes!(quic, a_reset_travels_through_a_forward_behind_the_data);
fn a_reset_travels_through_a_forward_behind_the_data(mode: Mode) {
    let world = World::new(mode);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = listener.local_addr().expect("an address").port();
    let port = free_port();
    let client = hold(&world, &["-L", &format!("{port}:127.0.0.1:{target}")]);

    let mut near = connect(port);
    let (mut far, _) = listener.accept().expect("the forward connects");
    far.write_all(b"last words").expect("the forward takes it");
    let mut got = [0; 10];
    near.read_exact(&mut got).expect("the words arrive");
    net::reset(far);
    let error = near.read(&mut got).expect_err("a reset, not an end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let near = connect(port);
    let (mut far, _) = listener.accept().expect("the forward connects");
    net::reset(near);
    let error = far.read(&mut got).expect_err("a reset, not an end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let_go(&world, client);
}

in_modes!(link, a_forward_waits_through_an_outage_and_loses_nothing);
fn a_forward_waits_through_an_outage_and_loses_nothing(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let echo = Echo::start();
    let port = free_port();
    let client = hold(&world, &["-L", &format!("{port}:127.0.0.1:{}", echo.port())]);
    let mut stream = connect(port);
    let mut writer = stream.twin();
    let pattern = Pattern::new(25, 64 << 20);
    let mut source = pattern.clone();
    let sender = std::thread::spawn(move || {
        std::io::copy(&mut source, &mut writer).expect("the forward takes it all");
        writer.finish();
    });
    let mut part = vec![0; 8 << 20];
    stream.read_exact(&mut part).expect("a part comes back");
    relay.cut();
    std::thread::sleep(Duration::from_secs(if is_full() { 600 } else { 15 }));
    relay.mend();
    stream.read_to_end(&mut part).expect("the rest comes back");
    assert!(part == pattern.bytes(), "not a byte is lost or changed");
    sender.join().expect("the sender is done");
    let_go(&world, client);
}

in_modes!(link, forwards_nobody_reads_do_not_hold_up_the_session);
fn forwards_nobody_reads_do_not_hold_up_the_session(mode: Mode) {
    let world = World::new(mode);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = listener.local_addr().expect("an address").port();
    let port = free_port();
    let mut shell = world.pty(["-L", &format!("{port}:127.0.0.1:{target}")]).start();
    shell.sync();
    let mut stalled = Vec::new();
    for _ in 0..12 {
        let near = connect(port);
        let (mut far, _) = listener.accept().expect("the forward connects");
        far.set_nonblocking(true).expect("a socket");
        let mut full = 0;
        // Full once nothing more was taken for a while.
        while full < 20 {
            match far.write(&[0; 65536]) {
                Ok(taken) => full = usize::from(taken == 0),
                Err(_) => {
                    full += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
        stalled.push((near, far));
    }
    shell.insist("echo th''ere", "there\r\n");
    drop(stalled);
    shell.line("exit 3");
    shell.assert_ends(3);
}
