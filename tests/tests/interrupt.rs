//! The interrupt key ends whatever is under way, at once, and leaves nothing.

use std::net::{TcpListener, TcpStream};

use e2e::{Mode, PtyClient, World, in_modes, wait_for, wait_until};

/// Presses the key; the program is gone as if by the signal, and the terminal as it was.
fn interrupt(mut client: PtyClient) {
    client.send("\x03");
    let (status, _) = client.wait();
    assert!(matches!(status.code(), None | Some(130 | 255)), "{status:?}");
    client.assert_restored();
}

/// Waits for a connection.
fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("a listener");
    wait_for("it connects", || listener.accept().ok()).0
}

in_modes!(everywhere, while_a_server_says_nothing);
fn while_a_server_says_nothing(mode: Mode) {
    let world = World::new(mode);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port().to_string();
    let client = world.pty(["-p", &port]).command(["echo in"]).start();
    let connection = accepted(&silent);
    interrupt(client);
    drop(connection);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, while_a_proxy_command_says_nothing);
fn while_a_proxy_command_says_nothing(mode: Mode) {
    let world = World::new(mode);
    let started = world.path("started");
    let script = world.script("proxy", &format!("echo >{}\nexec sleep 1000\n", started.display()));
    // A link needs the port in it.
    let option = format!("ProxyCommand={} %p", script.display());
    let client = world.pty(["-o", &option]).command(["echo in"]).start();
    wait_until("the command runs", || started.exists());
    interrupt(client);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, at_the_question_about_a_host_key);
fn at_the_question_about_a_host_key(mode: Mode) {
    let world = World::new(mode);
    world.write("known_hosts", "");
    let mut client = world.pty(["-o", "StrictHostKeyChecking=ask"]).command(["echo in"]).start();
    client.expect("[fingerprint])? ");
    interrupt(client);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, at_the_question_for_a_passphrase);
fn at_the_question_for_a_passphrase(mode: Mode) {
    let world = World::new(mode);
    let key = world.keygen("locked", "open sesame");
    std::fs::copy(key.with_extension("pub"), world.path("authorized_keys")).expect("writable");
    let identity = key.display().to_string();
    let options = ["-o", "IdentityFile=none", "-i", &identity];
    let mut client = world.pty(options).command(["echo in"]).start();
    client.expect("Enter passphrase for key");
    interrupt(client);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, while_a_local_command_runs);
fn while_a_local_command_runs(mode: Mode) {
    let world = World::new(mode);
    let started = world.path("started");
    let script = world.script("local", &format!("echo >{}\nexec sleep 1000\n", started.display()));
    let option = format!("LocalCommand={}", script.display());
    let options = ["-o", "PermitLocalCommand=yes", "-o", &option];
    let client = world.pty(options).command(["echo in"]).start();
    wait_until("the command runs", || started.exists());
    interrupt(client);
    world.wait_until_nothing_runs();
}

in_modes!(link, while_no_path_to_the_server_is_found);
fn while_no_path_to_the_server_is_found(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    relay.cut();
    let client = world.pty([] as [&str; 0]).command(["echo in"]).start();
    wait_until("the server has said where it listens", || world.path("tsshd.port").exists());
    interrupt(client);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, while_a_jump_host_says_nothing);
fn while_a_jump_host_says_nothing(mode: Mode) {
    let world = World::new(mode);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    world.add_host("gate", &format!("Port {port}"));
    let client = world.pty(["-J", "gate"]).command(["echo in"]).start();
    let connection = accepted(&silent);
    interrupt(client);
    drop(connection);
    world.wait_until_nothing_runs();
}
