//! When tsshd is not there, cannot get a port, or cannot be reached: one clear word, or plain ssh.

use std::net::{TcpListener, UdpSocket};

use e2e::{Mode, World, in_modes};

in_modes!(link, missing_tsshd_asked_for_by_flag_is_an_error_with_a_next_step);
fn missing_tsshd_asked_for_by_flag_is_an_error_with_a_next_step(mode: Mode) {
    let world = World::new(mode);
    let absent = world.path("nowhere/tsshd");
    let path = ["--tsshd-path".as_ref(), absent.as_os_str()];
    let run = world.ssh(path).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "the command must not run by another way: {run:?}");
    assert!(run.err().contains(&absent.display().to_string()), "what is missing: {run:?}");
    assert!(run.err().to_lowercase().contains("install"), "the next step: {run:?}");
    assert!(run.err().lines().count() <= 3, "said in a few words: {run:?}");
    world.wait_until_nothing_runs();
}

/// The plain client, whose configuration asks for UDP: what `Host *` does to every host.
fn world_configured_for_udp(tsshd: &str) -> World {
    let lines = format!("#!! UdpMode yes\n#!! TsshdPath {tsshd}");
    World::builder(Mode::Plain).client_config(&lines).start()
}

#[test]
fn missing_tsshd_asked_for_by_configuration_leaves_plain_ssh_to_scripts() {
    if e2e::skip() {
        return;
    }
    let world = world_configured_for_udp("/nowhere/tsshd");
    let run = world.ssh([] as [&str; 0]).command(["cat; echo $((40 + 2))"]);
    run.stdin(e2e::Stdin::Bytes(b"in\n".to_vec())).output().assert_prints("in\n42\n");
    world.ssh([] as [&str; 0]).command(["exit 9"]).output().assert_status(9);
    let logins = world.sshd_log().matches("Accepted publickey").count();
    assert_eq!(logins, 2, "the login already open is used: {}", world.sshd_log());
    world.wait_until_nothing_runs();
}

#[test]
fn missing_tsshd_asked_for_by_configuration_is_said_in_one_line_to_a_person() {
    if e2e::skip() {
        return;
    }
    let world = world_configured_for_udp("/nowhere/tsshd");
    let mut shell = world.pty([] as [&str; 0]).start();
    let said = shell.expect("tsshd");
    assert!(said.lines().count() <= 1, "{said:?}");
    shell.sync();
    shell.line("exit 4");
    shell.assert_ends(4);
}

#[test]
fn a_host_that_runs_its_own_command_works_though_udp_is_configured() {
    if e2e::skip() {
        return;
    }
    // A forge: whatever is asked for, its own program answers.
    let world = world_configured_for_udp("tsshd");
    let key = std::fs::read_to_string(world.path("authorized_keys")).expect("the key");
    let forced = format!("command=\"echo forced; exit 3\" {key}");
    world.write("authorized_keys", forced);
    let run = world.ssh([] as [&str; 0]).command(["git-upload-pack x"]).output();
    run.assert_status(3);
    assert_eq!((run.out().as_str(), run.err().as_str()), ("forced\n", ""), "{run:?}");
}

#[test]
fn tsshd_found_by_configuration_is_used() {
    if e2e::skip() {
        return;
    }
    let world = World::builder(Mode::Plain).client_config("#!! UdpMode yes").start();
    let mut run = world.ssh([] as [&str; 0]).stdin(e2e::Stdin::Open).command(["cat"]).start();
    run.write(b"up\n");
    run.wait_for_stdout("up\n");
    assert!(!world.tsshds().is_empty(), "{:#?}", world.processes());
    run.close_stdin();
    run.wait().assert_prints("up\n");
}

in_modes!(link, an_occupied_port_range_is_named);
fn an_occupied_port_range_is_named(mode: Mode) {
    let world = World::new(mode);
    let (port, _udp, _tcp) = occupied_port();
    let run = world.ssh(["--tsshd-port", &port.to_string()]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    assert!(run.err().contains(&port.to_string()), "the range that was tried: {run:?}");
    world.wait_until_nothing_runs();
}

in_modes!(link, a_free_port_of_the_range_is_found_among_occupied_ones);
fn a_free_port_of_the_range_is_found_among_occupied_ones(mode: Mode) {
    let world = World::new(mode);
    let (port, _udp, _tcp) = occupied_port();
    // The next port may be taken by chance; a range of some is enough.
    let range = format!("{port},{port}-{}", port.saturating_add(20));
    let run = world.ssh(["--tsshd-port", &range]).command(["echo in"]).output();
    run.assert_prints("in\n");
}

in_modes!(link, a_blocked_port_is_named);
fn a_blocked_port_is_named(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    relay.cut();
    let run = world.ssh([] as [&str; 0]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    let protocol = if mode.is_tcp() { "TCP" } else { "UDP" };
    assert!(run.err().contains(protocol), "which protocol: {run:?}");
    assert!(run.err().contains(&relay.port().to_string()), "which port: {run:?}");
    // The server that nobody reached must not stay either.
    world.wait_until_nothing_runs();
}

in_modes!(link, a_server_of_another_kind_is_an_error);
fn a_server_of_another_kind_is_an_error(mode: Mode) {
    let world = World::new(mode);
    world.script("tsshd", "echo 'something else entirely'\n");
    let run = world.ssh([] as [&str; 0]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    assert!(run.err().contains("something else entirely"), "what it said: {run:?}");
}

in_modes!(link, interrupt_works_while_the_server_is_waited_for);
fn interrupt_works_while_the_server_is_waited_for(mode: Mode) {
    let world = World::new(mode);
    let started = world.path("started");
    world.script("tsshd", &format!("echo > {}\nexec sleep 1000\n", started.display()));
    let mut client = world.pty([] as [&str; 0]).start();
    e2e::wait_until("the server has been started", || started.exists());
    client.send("\x03");
    let (status, _) = client.wait();
    assert!(matches!(status.code(), None | Some(130 | 255)), "{status:?}");
    client.assert_restored();
    world.wait_until_nothing_runs();
}

/// Takes a port for both protocols, on loopback as tsshd would.
fn occupied_port() -> (u16, UdpSocket, TcpListener) {
    for _ in 0..50 {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).expect("a TCP port");
        let port = tcp.local_addr().expect("its address").port();
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)) {
            return (port, udp, tcp);
        }
    }
    panic!("no port is free for both protocols");
}
