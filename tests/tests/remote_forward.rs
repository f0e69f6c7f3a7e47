//! Remote forwards: `-R` in its forms, and what the server's configuration says to them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use e2e::net::{self, Echo, connect, exchange, free_port};
use e2e::{Mode, Pattern, Running, World, in_modes, wait_until};
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

in_modes!(everywhere, a_remote_forward_leads_back_to_this_side);
fn a_remote_forward_leads_back_to_this_side(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let client = hold(&world, &["-R", &format!("{port}:127.0.0.1:{}", echo.port())]);
    let sent = Pattern::new(31, 3 << 20).bytes();
    assert!(exchange(connect(port), &sent) == sent, "what was sent comes back whole");
    let mut many: Vec<TcpStream> = (0..100).map(|_| connect(port)).collect();
    for stream in &mut many {
        stream.write_all(b"x").expect("the forward takes it");
    }
    for stream in &mut many {
        stream.read_exact(&mut [0]).expect("it comes back");
    }
    drop(many);
    wait_until("all are closed", || echo.open() == 0);
    assert!(TcpStream::connect((Ipv4Addr::from([127, 0, 0, 2]), port)).is_err(), "GatewayPorts no");
    let_go(&world, client);
    wait_until("the port is given up", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

in_modes!(everywhere, port_0_is_chosen_by_the_far_side_and_told);
fn port_0_is_chosen_by_the_far_side_and_told(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let client = hold(&world, &["-R", &format!("0:localhost:{}", echo.port())]);
    client.wait_for_stderr(&format!(" for remote forward to localhost:{}", echo.port()));
    let said = client.stderr();
    let port = said.strip_prefix("Allocated port ").and_then(|rest| rest.split(' ').next());
    let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(exchange(connect(port), b"there"), b"there");
    let_go(&world, client);
}

in_modes!(everywhere, a_remote_forward_without_a_destination_is_a_socks_proxy);
fn a_remote_forward_without_a_destination_is_a_socks_proxy(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let permits = format!("PermitRemoteOpen=localhost:{}", echo.port());
    let client = hold(&world, &["-R", &port.to_string(), "-o", &permits]);
    let ask = |target: u16| {
        let mut stream = connect(port);
        stream.write_all(&[5, 1, 0]).expect("the proxy reads");
        let mut method = [0; 2];
        stream.read_exact(&mut method).expect("the proxy answers");
        let [high, low] = target.to_be_bytes();
        let request = [&[5, 1, 0, 3, 9][..], b"localhost", &[high, low]].concat();
        stream.write_all(&request).expect("the proxy reads");
        stream
    };
    let mut stream = ask(echo.port());
    let mut told = [0; 10];
    stream.read_exact(&mut told).expect("the proxy answers");
    assert_eq!(told[1], 0);
    assert_eq!(exchange(stream, b"there"), b"there");

    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    other.set_nonblocking(true).expect("a socket option");
    let mut rest = Vec::new();
    let _ = ask(other.local_addr().expect("an address").port()).read_to_end(&mut rest);
    assert!(rest.get(1).is_none_or(|code| *code != 0), "not permitted: {rest:?}");
    assert!(other.accept().is_err(), "nobody connected");
    let_go(&world, client);
}

in_modes!(everywhere, unix_sockets_stand_at_either_end_of_a_remote_forward);
fn unix_sockets_stand_at_either_end_of_a_remote_forward(mode: Mode) {
    let world = World::new(mode);
    let (far, near) = (world.path("far.sock"), world.path("near.sock"));
    Echo::start_unix(&near);
    let spec = format!("{}:{}", far.display(), near.display());
    let client = hold(&world, &["-R", &spec]);
    let sent = Pattern::new(33, 100_000).bytes();
    assert!(exchange(net::connect_unix(&far), &sent) == sent);
    let_go(&world, client);
}

in_modes!(everywhere, a_remote_port_that_is_taken_ends_everything_only_if_that_is_asked_for);
fn a_remote_port_that_is_taken_ends_everything_only_if_that_is_asked_for(mode: Mode) {
    let world = World::new(mode);
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    // The other family would do otherwise.
    let spec = format!("127.0.0.1:{port}:localhost:1");
    let complaint = format!("remote port forwarding failed for listen port {port}\r\n");
    let run = world.ssh(["-R", &spec]).command(["echo", "here; sleep 1"]).output();
    run.assert_status(0);
    assert_eq!((run.out().as_str(), run.err()), ("here\n", format!("Warning: {complaint}")));
    let run = world.ssh(["-oExitOnForwardFailure=yes", "-R", &spec]).command(["sleep", "9"]);
    let run = run.output();
    run.assert_status(255);
    assert_eq!(run.err(), format!("Error: {complaint}"), "{run:?}");
}

in_modes!(everywhere, the_server_s_configuration_decides_what_may_be_forwarded);
fn the_server_s_configuration_decides_what_may_be_forwarded(mode: Mode) {
    let (port, echo) = (free_port(), Echo::start());
    let to_echo = format!("127.0.0.1:{}", echo.port());
    let listen = |spec: &str| ["-R".to_owned(), format!("{spec}{port}:{to_echo}")];
    let dial = || ["-W".to_owned(), to_echo.clone()];
    let socket = |world: &World| {
        let path = world.path("policy.sock").display().to_string();
        ["-R".to_owned(), format!("{path}:{to_echo}")]
    };
    for (config, may_listen, may_dial, may_bind_socket) in [
        ("", true, true, true),
        ("AllowTcpForwarding no", false, false, false),
        ("AllowTcpForwarding local", false, true, false),
        ("AllowTcpForwarding remote", true, false, true),
        ("AllowStreamLocalForwarding local", true, true, false),
        ("DisableForwarding yes", false, false, false),
        ("PermitListen 1", false, true, true),
        (&format!("PermitListen localhost:{port}"), true, true, true),
        ("PermitOpen 127.0.0.1:1", true, false, true),
        (&format!("PermitOpen {to_echo}"), true, true, true),
        ("Match user nobody-else\nAllowTcpForwarding no", true, true, true),
    ] {
        let world = World::builder(mode).sshd_config(config).start();
        if mode.is_link() && !world.show_tsshd_this_sshd_config() {
            return;
        }
        let works = |options: [String; 2]| {
            let run = world.ssh(["-oExitOnForwardFailure=yes".to_owned()].iter().chain(&options));
            // Without -W a command says that all was set up.
            let command: &[&str] = if options[0] == "-W" { &[] } else { &["true"] };
            run.command(command).output().status.code() == Some(0)
        };
        assert_eq!(works(listen("")), may_listen, "listening under {config:?}");
        assert_eq!(works(dial()), may_dial, "connecting under {config:?}");
        assert_eq!(works(socket(&world)), may_bind_socket, "a socket under {config:?}");
    }
}

in_modes!(everywhere, gateway_ports_of_the_server_decides_who_may_connect);
fn gateway_ports_of_the_server_decides_who_may_connect(mode: Mode) {
    let echo = Echo::start();
    for (config, spec, open) in [
        ("GatewayPorts no", "*:", false),
        ("GatewayPorts yes", "", true),
        ("GatewayPorts clientspecified", "", false),
        ("GatewayPorts clientspecified", "*:", true),
    ] {
        let world = World::builder(mode).sshd_config(config).start();
        if mode.is_link() && !world.show_tsshd_this_sshd_config() {
            return;
        }
        let port = free_port();
        let client = hold(&world, &["-R", &format!("{spec}{port}:127.0.0.1:{}", echo.port())]);
        drop(connect(port));
        let elsewhere = TcpStream::connect((Ipv4Addr::from([127, 0, 0, 2]), port));
        assert_eq!(elsewhere.is_ok(), open, "{config} {spec}");
        let_go(&world, client);
    }
}
