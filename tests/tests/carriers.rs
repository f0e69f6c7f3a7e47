//! `UdpProxyMode auto`: whatever gets through carries the session.
//!
//! Two hosts and a link with a firewall. Needs root.

use std::time::Duration;

use e2e::{Mode, World};
use netlab::{Conditions, LinkConfig, LinkId};

const LINK: LinkId = LinkId(0);

/// Both transports, with the carrier left to the program.
const STACKS: [&str; 2] = ["--quic", "--kcp"];

fn open() -> Conditions {
    Conditions::delayed(Duration::from_millis(10))
}

fn world(sshd_config: &str) -> Option<World> {
    let world = World::builder(Mode::Plain).links([LinkConfig::both(open())])?;
    Some(world.sshd_config(sshd_config).start())
}

/// Runs a shell through this firewall and expects a link, and the shell's own end.
fn a_link_comes_up(world: &World, conditions: Conditions) {
    for stack in STACKS {
        world.lab().set_both(LINK, conditions);
        let mut shell = world.pty([stack]).start();
        shell.sync();
        assert_eq!(world.tsshds().len(), 1, "{stack}: by the server half");
        shell.insist_on_the_end("exit 3");
        shell.assert_ends(3);
        world.wait_until_nothing_runs();
    }
}

#[test]
fn a_session_comes_up_where_udp_is_dropped() {
    let Some(world) = world("") else { return };
    a_link_comes_up(&world, Conditions { udp: false, ..open() });
}

#[test]
fn a_session_comes_up_where_only_the_port_of_ssh_is_open() {
    let Some(world) = world("") else { return };
    a_link_comes_up(&world, Conditions { udp: false, only: Some(world.port()), ..open() });
}

#[test]
fn a_session_goes_on_when_udp_is_dropped_and_when_it_is_back() {
    let Some(world) = world("") else { return };
    for stack in STACKS {
        world.lab().set_both(LINK, open());
        let mut shell = world.pty([stack]).start();
        shell.sync();
        shell.line("mark=kept");
        shell.sync();
        for (round, udp) in [false, true, false].into_iter().enumerate() {
            world.lab().set_both(LINK, Conditions { udp, ..open() });
            shell.insist(&format!("echo $mark-{round}-o''k"), &format!("kept-{round}-ok\r\n"));
        }
        shell.insist_on_the_end("exit 3");
        shell.assert_ends(3);
        world.wait_until_nothing_runs();
    }
}

#[test]
fn every_byte_arrives_while_the_carrier_changes() {
    let Some(world) = world("") else { return };
    for stack in STACKS {
        world.lab().set_both(LINK, open());
        let go = world.path(format!("go{stack}"));
        let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
        let command =
            format!("i=0; while [ $i -lt 600 ]; do echo $i; i=$((i+1)); sleep 0.01; done; {wait}");
        let run = world.ssh([stack]).command([command]).start();
        for (line, udp) in [(50, false), (300, true)] {
            run.wait_for_stdout(&format!("\n{line}\n"));
            world.lab().set_both(LINK, Conditions { udp, ..open() });
        }
        run.wait_for_stdout("\n599\n");
        world.write(&format!("go{stack}"), "");
        let all: String = (0..600).map(|line| format!("{line}\n")).collect();
        run.wait().assert_prints(&all);
        world.wait_until_nothing_runs();
    }
}

#[test]
fn plain_ssh_with_one_line_is_left_where_nothing_else_gets_through() {
    let Some(world) = world("AllowTcpForwarding no") else { return };
    let conditions = Conditions { udp: false, only: Some(world.port()), ..open() };
    world.lab().set_both(LINK, conditions);
    let mut shell = world.pty(["--quic", "-o", "ConnectTimeout=6"]).start();
    shell.expect("going on over plain ssh");
    shell.sync();
    shell.insist_on_the_end("exit 3");
    shell.assert_ends(3);
}
