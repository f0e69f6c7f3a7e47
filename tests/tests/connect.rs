//! Reaching the host, or saying clearly why not.

use e2e::{Mode, World, in_modes};

in_modes!(everywhere, a_refused_connection_is_named);
fn a_refused_connection_is_named(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh(["-p", "1"]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    assert!(run.err().contains("127.0.0.1"), "where: {run:?}");
    assert!(run.err().contains("port 1"), "where: {run:?}");
    assert!(run.err().contains("Connection refused"), "why: {run:?}");
}

in_modes!(everywhere, a_name_that_does_not_resolve_is_named);
fn a_name_that_does_not_resolve_is_named(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh(["-o", "HostName=no-such-host.invalid"]).command(["echo in"]).output();
    run.assert_status(255);
    assert!(run.err().contains("Could not resolve hostname no-such-host.invalid"), "{run:?}");
}

in_modes!(everywhere, a_host_of_the_other_address_family_is_not_reached);
fn a_host_of_the_other_address_family_is_not_reached(mode: Mode) {
    let world = World::new(mode);
    world.ssh(["-4"]).command(["echo in"]).output().assert_prints("in\n");
    let run = world.ssh(["-6"]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
}

in_modes!(everywhere, a_session_works_over_ipv6);
fn a_session_works_over_ipv6(mode: Mode) {
    let Some(builder) = World::builder(mode).ipv6() else { return };
    let world = builder.start();
    let command = ["set -- $SSH_CONNECTION; echo $1 $3"];
    world.ssh([] as [&str; 0]).command(command).output().assert_prints("::1 ::1\n");
    let mut shell = world.pty(["-6"]).start();
    shell.sync();
    shell.line("exit 7");
    shell.assert_ends(7);
}

in_modes!(everywhere, a_server_that_says_nothing_is_given_up_on);
fn a_server_that_says_nothing_is_given_up_on(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_login();
    relay.cut();
    let run = world.ssh(["-o", "ConnectTimeout=1"]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    assert!(run.err().contains("timed out"), "{run:?}");
}
