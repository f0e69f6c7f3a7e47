//! The client's address changes; nothing above notices.

use e2e::{Mode, Pattern, Stdin, World, in_modes, wait_until};
use rustix::process::Signal;

in_modes!(link, a_shell_survives_changes_of_the_clients_address);
fn a_shell_survives_changes_of_the_clients_address(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line("mark=kept");
    shell.sync();
    for change in 1..=3 {
        let before = relay.paths();
        relay.change_address();
        shell.insist(&format!("echo $mark-{change}-o''k"), &format!("kept-{change}-ok\r\n"));
        assert!(relay.paths() > before, "the session goes by a new path");
    }
    shell.sync();
    shell.insist_on_the_end("exit 3");
    shell.assert_ends(3);
    world.wait_until_nothing_runs();
}

in_modes!(link, output_that_comes_after_a_change_of_address_is_not_lost);
fn output_that_comes_after_a_change_of_address_is_not_lost(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let go = world.path("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let command = format!("echo before; {wait}; seq 10000");
    let run = world.ssh([] as [&str; 0]).command([command]).start();
    run.wait_for_stdout("before\n");
    relay.change_address();
    world.write("go", "");
    let lines: String = (1..=10_000).map(|n| format!("{n}\n")).collect();
    run.wait().assert_prints(&format!("before\n{lines}"));
}

in_modes!(link, a_transfer_survives_changes_of_address_without_losing_a_byte);
fn a_transfer_survives_changes_of_address_without_losing_a_byte(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let size = 64 << 20;
    let pattern = Pattern::new(9, size);
    let target = world.path("target");
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Pattern(pattern.clone()));
    let run = run.command([format!("cat > {}", target.display())]).start();
    for part in 1..=3 {
        let mark = size * part / 5;
        e2e::wait_until("the next part has arrived", || arrived(&target) >= mark);
        relay.change_address();
    }
    assert!(arrived(&target) < size, "the changes came in the middle of it");
    run.wait().assert_prints("");
    assert!(relay.paths() > 3, "{} paths", relay.paths());
    pattern.assert_equals("transfer", std::fs::File::open(target).expect("the target"));
}

fn arrived(target: &std::path::Path) -> u64 {
    std::fs::metadata(target).map_or(0, |metadata| metadata.len())
}

in_modes!(link, an_address_that_changes_before_the_first_session_costs_nothing);
fn an_address_that_changes_before_the_first_session_costs_nothing(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let socket = world.path("control").display().to_string();
    let shared = ["-S", &socket];
    let master = world.ssh([&["-M", "-N"][..], &shared].concat()).start();
    wait_until("the master listens", || world.path("control").exists());
    // The server's first answers may be on their way to the old one.
    relay.change_address();
    let run = world.openssh(shared).command(["echo", "here"]).output();
    run.assert_prints("here\n");
    master.signal(Signal::TERM);
    let _ = master.wait();
    world.wait_until_nothing_runs();
}
