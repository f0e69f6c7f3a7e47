//! Ends nobody asked for politely: signals and kill -9, on either side.

use e2e::net::{Echo, connect, exchange, free_port};
use e2e::{Mode, Stdin, World, in_modes, wait_until};
use rustix::process::Signal;

in_modes!(everywhere, a_client_that_is_terminated_ends_its_command);
fn a_client_that_is_terminated_ends_its_command(mode: Mode) {
    let world = World::new(mode);
    let mut run = world.ssh([] as [&str; 0]).stdin(Stdin::Open).command(["cat"]).start();
    run.write(b"up\n");
    run.wait_for_stdout("up\n");
    run.signal(Signal::TERM);
    let ended = run.wait();
    ended.assert_status(255);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, with_big_n_there_is_a_connection_but_no_program);
fn with_big_n_there_is_a_connection_but_no_program(mode: Mode) {
    let world = World::new(mode);
    let (echo, port) = (Echo::start(), free_port());
    let forward = format!("{port}:127.0.0.1:{}", echo.port());
    let run = world.ssh(["-N", "-L", &forward]).stdin(Stdin::Open).start();
    // Who carries this is past the login, and knows what to do at a signal.
    assert_eq!(exchange(connect(port), b"ping"), b"ping");
    let shells = || world.server_processes().into_iter().filter(|p| p.is_program("-bash"));
    assert_eq!(shells().count(), 0);
    run.signal(Signal::TERM);
    // The orderly end of a connection without a program, for OpenSSH as well.
    let ended = run.wait();
    ended.assert_status(0);
    assert_eq!(ended.out() + &ended.err(), "", "{ended:?}");
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_client_that_is_killed_leaves_nothing_running_on_the_server);
fn a_client_that_is_killed_leaves_nothing_running_on_the_server(mode: Mode) {
    let world = World::new(mode);
    // No goodbye can be relied on against every server; this bounds the wait without one.
    let options = if mode.is_link() { vec!["-o", "UdpAliveTimeout=20"] } else { vec![] };
    let mut shell = world.pty(options).start();
    shell.sync();
    shell.signal(Signal::KILL);
    let _ = shell.wait();
    world.wait_until_nothing_runs();
}

in_modes!(link, a_client_that_is_killed_says_goodbye_through_its_guard);
fn a_client_that_is_killed_says_goodbye_through_its_guard(mode: Mode) {
    let world = World::new(mode);
    // With the default of ten days only a goodbye can end the server.
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.signal(Signal::KILL);
    let _ = shell.wait();
    world.wait_until_nothing_runs();
}

in_modes!(link, the_terminal_is_restored_even_after_kill_9);
fn the_terminal_is_restored_even_after_kill_9(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty(["-o", "UdpAliveTimeout=20"]).start();
    shell.sync();
    assert_ne!(&shell.modes(), shell.modes_before(), "the terminal is raw meanwhile");
    shell.signal(Signal::KILL);
    wait_until("the guard restores the terminal", || &shell.modes() == shell.modes_before());
}

in_modes!(link, a_server_that_is_killed_ends_the_session_with_255);
fn a_server_that_is_killed_ends_the_session_with_255(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    kill_servers(&world);
    shell.assert_ends(255);
    world.wait_until_nothing_runs();
}

in_modes!(link, a_server_that_is_killed_ends_a_command_with_255);
fn a_server_that_is_killed_ends_a_command_with_255(mode: Mode) {
    let world = World::new(mode);
    let mut run = world.ssh([] as [&str; 0]).stdin(Stdin::Open).command(["cat"]).start();
    run.write(b"up\n");
    run.wait_for_stdout("up\n");
    kill_servers(&world);
    let ended = run.wait();
    ended.assert_status(255);
    assert_ne!(ended.err(), "", "a failure of ours is explained: {ended:?}");
    world.wait_until_nothing_runs();
}

in_modes!(link, the_escape_works_while_the_server_is_away);
fn the_escape_works_while_the_server_is_away(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    relay.cut();
    shell.send("\r~.");
    shell.assert_ends(255);
}

in_modes!(link, a_server_that_is_asked_to_stop_ends_the_session_at_once);
fn a_server_that_is_asked_to_stop_ends_the_session_at_once(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    for server in world.tsshds() {
        server.signal(Signal::TERM);
    }
    // Without its word the client would take a minute to notice.
    shell.expect("told to end by SIGTERM");
    shell.assert_ends(255);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_sshd_that_is_killed_ends_plain_sessions_only);
fn a_sshd_that_is_killed_ends_plain_sessions_only(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    for process in world.server_processes() {
        if process.command.starts_with("sshd") {
            process.signal(Signal::KILL);
        }
    }
    if mode.is_link() {
        shell.sync();
        shell.line("exit 6");
        shell.assert_ends(6);
    } else {
        shell.assert_ends(255);
    }
}

/// Kills every tsshd of the world with a signal it cannot answer.
fn kill_servers(world: &World) {
    let servers = world.tsshds();
    assert!(!servers.is_empty(), "tsshd runs: {:#?}", world.processes());
    for server in servers {
        server.signal(Signal::KILL);
    }
}
