//! Roaming between real interfaces: two hosts, links that come and go.
//!
//! `roam.rs` has the cases that a change of source port shows; here the
//! client's own system takes part: interfaces, addresses, routes. Needs root.

use std::time::Duration;

use e2e::{Mode, World, in_modes};
use netlab::{Conditions, Direction, Lab, LinkConfig, LinkId, NatConfig};

const FIRST: LinkId = LinkId(0);
const SECOND: LinkId = LinkId(1);

/// How often the network changes in one session: in `cargo xtask soak` two
/// hundred times over the four stacks, here a few.
fn rounds() -> u32 {
    if is_full() { 50 } else { 4 }
}

fn is_full() -> bool {
    std::env::var_os("E2E_FULL").is_some_and(|full| full == "1")
}

/// A link of 40 ms there and back.
fn link() -> LinkConfig {
    LinkConfig::both(Conditions::delayed(Duration::from_millis(20)))
}

/// Starts a shell, changes the network again and again, and expects the same
/// shell to answer each time.
fn a_shell_survives(world: &World, change: impl Fn(&Lab, u32)) {
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line("mark=kept");
    shell.sync();
    for round in 1..=rounds() {
        change(world.lab(), round);
        shell.insist(&format!("echo $mark-{round}-o''k"), &format!("kept-{round}-ok\r\n"));
    }
    shell.insist_on_the_end("exit 3");
    shell.assert_ends(3);
    world.wait_until_nothing_runs();
}

/// Runs a command that prints all the time while the network changes, and
/// expects every line of it.
fn output_survives(world: &World, change: impl Fn(&Lab, u32)) {
    let (lines, go) = (100 * rounds(), world.path("go"));
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let command =
        format!("i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); sleep 0.01; done; {wait}");
    let run = world.ssh([] as [&str; 0]).command([command]).start();
    for round in 1..=rounds() {
        run.wait_for_stdout(&format!("\n{}\n", round * 50));
        change(world.lab(), round);
    }
    run.wait_for_stdout(&format!("\n{}\n", lines - 1));
    world.write("go", "");
    let all: String = (0..lines).map(|line| format!("{line}\n")).collect();
    run.wait().assert_prints(&all);
}

/// Leaves the client with the link it does not use.
fn hand_over(lab: &Lab, round: u32) {
    let (from, to) = if round % 2 == 1 { (FIRST, SECOND) } else { (SECOND, FIRST) };
    lab.plug(to).expect("the link is plugged in");
    lab.unplug(from).expect("the link is unplugged");
}

in_modes!(link, a_session_survives_hard_handovers_between_two_interfaces);
fn a_session_survives_hard_handovers_between_two_interfaces(mode: Mode) {
    let Some(world) = World::builder(mode).links([link(), link()]) else { return };
    let world = world.start();
    a_shell_survives(&world, hand_over);
    output_survives(&world, hand_over);
}

in_modes!(link, a_session_survives_changes_of_the_interfaces_address);
fn a_session_survives_changes_of_the_interfaces_address(mode: Mode) {
    let Some(world) = World::builder(mode).links([link()]) else { return };
    let world = world.start();
    let change = |lab: &Lab, _| lab.change_address(FIRST).expect("the address changes");
    a_shell_survives(&world, change);
    output_survives(&world, change);
}

in_modes!(link, a_session_survives_a_nat_that_forgets_without_a_word);
fn a_session_survives_a_nat_that_forgets_without_a_word(mode: Mode) {
    let nat = Some(NatConfig { timeout: Duration::from_secs(300) });
    let Some(world) = World::builder(mode).links([LinkConfig { nat, ..link() }]) else { return };
    let world = world.start();
    a_shell_survives(&world, |lab, _| lab.rebind(FIRST));
    output_survives(&world, |lab, _| lab.rebind(FIRST));
}

in_modes!(link, a_session_survives_a_time_without_any_interface);
fn a_session_survives_a_time_without_any_interface(mode: Mode) {
    let Some(world) = World::builder(mode).links([link()]) else { return };
    let world = world.start();
    let cut = |lab: &Lab, round| {
        lab.unplug(FIRST).expect("the link is unplugged");
        // Shorter and longer than what counts as an outage.
        std::thread::sleep(Duration::from_secs(if round % 2 == 1 { 1 } else { 4 }));
        lab.plug(FIRST).expect("the link is plugged in");
    };
    a_shell_survives(&world, cut);
    output_survives(&world, cut);
}

in_modes!(link, a_session_survives_a_link_that_is_down_without_a_word);
fn a_session_survives_a_link_that_is_down_without_a_word(mode: Mode) {
    let Some(world) = World::builder(mode).links([link()]) else { return };
    let world = world.start();
    let cut = |lab: &Lab, round| {
        lab.set_both(FIRST, Conditions { down: true, ..link().up });
        std::thread::sleep(Duration::from_secs(if round % 2 == 1 { 1 } else { 4 }));
        lab.set_both(FIRST, link().up);
    };
    a_shell_survives(&world, cut);
    output_survives(&world, cut);
}

in_modes!(link, a_session_survives_a_server_that_is_reached_by_one_family_of_addresses_alone);
fn a_session_survives_a_server_that_is_reached_by_one_family_of_addresses_alone(mode: Mode) {
    let Some(world) = World::builder(mode).links([link()]) else { return };
    let world = world.by_ipv6().start();
    // The login was by IPv6; what the server says of its other addresses is all the client knows.
    let turn_away = |lab: &Lab, round| {
        let ipv6 = round % 2 == 0;
        lab.set_both(FIRST, Conditions { ipv4: !ipv6, ipv6, ..link().up });
    };
    a_shell_survives(&world, turn_away);
    turn_away(world.lab(), 2);
    output_survives(&world, turn_away);
}

in_modes!(udp, what_is_printed_after_idle_minutes_comes_through_a_nat_that_forgets_soon);
fn what_is_printed_after_idle_minutes_comes_through_a_nat_that_forgets_soon(mode: Mode) {
    // An idle client speaks after 25 s, or a third of the alive timeout if that is less.
    let (timeout, options, idle) = match is_full() {
        true => (30, vec![], 300),
        false => (8, vec!["-o", "UdpAliveTimeout=9"], 20),
    };
    let nat = Some(NatConfig { timeout: Duration::from_secs(timeout) });
    let Some(world) = World::builder(mode).links([LinkConfig { nat, ..link() }]) else { return };
    let world = world.start();
    let go = world.path("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let command = [format!("echo up; {wait}; echo shown")];
    let run = world.ssh(options).command(command).start();
    run.wait_for_stdout("up\n");
    let refused = || world.lab().counters(FIRST, Direction::Down).refused;
    let before = refused();
    std::thread::sleep(Duration::from_secs(idle));
    world.write("go", "");
    run.wait().assert_prints("up\nshown\n");
    assert_eq!(refused(), before, "the mapping was there whenever the server had something to say");
}

in_modes!(link, output_goes_on_when_the_link_becomes_narrower);
fn output_goes_on_when_the_link_becomes_narrower(mode: Mode) {
    for icmp in [true, false] {
        let Some(world) = World::builder(mode).links([link()]) else { return };
        let world = world.start();
        let go = world.path("go");
        let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
        let command = format!("echo ready; {wait}; head -c 10485760 /dev/zero | tr '\\0' x");
        let run = world.ssh([] as [&str; 0]).command([command]).start();
        run.wait_for_stdout("ready\n");
        let narrow = Conditions { mtu: Some(1280), icmp, ..link().up };
        world.lab().set_both(FIRST, narrow);
        world.write("go", "");
        let whole = format!("ready\n{}", "x".repeat(10_485_760));
        run.wait().assert_prints(&whole);
    }
}
