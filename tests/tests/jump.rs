//! Jump hosts and proxy commands: chains, prompts, and what is said when a link of them fails.
//!
//! All hosts of a chain are one sshd under several names, each with its own configuration.

use std::fs;
use std::path::Path;

use e2e::net::free_port;
use e2e::{Mode, Stdin, World, in_modes, say_skipped, wait_until};
use rustix::process::Signal;

/// A world with three jump hosts.
fn chain(mode: Mode) -> World {
    let world = World::new(mode);
    for name in ["gate", "yard", "door"] {
        world.add_host(name, "");
    }
    world
}

in_modes!(everywhere, a_command_runs_behind_one_two_and_three_jump_hosts);
fn a_command_runs_behind_one_two_and_three_jump_hosts(mode: Mode) {
    let world = chain(mode);
    for hosts in ["gate", "gate,yard", "gate,yard,door"] {
        let run = world.ssh(["-J", hosts]).command(["echo in; exit 7"]).output();
        run.assert_status(7);
        assert_eq!(run.out(), "in\n", "{run:?}");
        assert_eq!(run.err(), "", "{run:?}");
    }
    world.wait_until_nothing_runs();
    let log = world.sshd_log();
    assert_eq!(log.matches("Accepted publickey").count(), 2 + 3 + 4, "a login on each host");
    assert!(world.stray_files().is_empty(), "{:?}", world.stray_files());
}

in_modes!(link, a_login_by_the_systems_ssh_has_a_link_through_its_jump_host);
fn a_login_by_the_systems_ssh_has_a_link_through_its_jump_host(mode: Mode) {
    let world = chain(mode);
    let run = world.ssh(["--via-ssh", "-J", "gate,yard"]).command(["echo in; exit 7"]).output();
    run.assert_status(7);
    assert_eq!(run.out(), "in\n", "{run:?}");
    // Three for the login, and two more for the packets, which take the same way.
    let log = world.sshd_log();
    assert!(log.matches("Accepted publickey").count() >= 3 + 2, "{log}");
    assert!(!log.contains("tssh_"), "we did not log in: {log}");
    world.wait_until_nothing_runs();
}

in_modes!(login, a_jump_host_goes_by_its_own_configuration);
fn a_jump_host_goes_by_its_own_configuration(mode: Mode) {
    let world = chain(mode);
    // Its ProxyJump counts, and neither the options nor the user of the destination do.
    world.add_host("inner", "ProxyJump gate");
    let jump = ["-o", "ProxyJump=inner", "-o", "SetEnv=LC_X=1"];
    let run = world.ssh(jump).command(["echo $LC_X"]).output();
    run.assert_prints("1\n");
    assert_eq!(world.sshd_log().matches("Accepted publickey").count(), 3);
    // Hosts before it on the line count instead of it.
    world.ssh(["-J", "yard,inner"]).command(["echo in"]).output().assert_prints("in\n");
    assert_eq!(world.sshd_log().matches("Accepted publickey").count(), 6);
}

in_modes!(@ jump_hosts_in_a_circle_are_refused plain Plain);
fn jump_hosts_in_a_circle_are_refused(mode: Mode) {
    let world = World::new(mode);
    world.add_host("egg", "ProxyJump hen");
    world.add_host("hen", "ProxyJump egg");
    let run = world.ssh(["-J", "egg"]).command(["echo in"]).output();
    run.assert_status(255);
    assert_eq!(run.err(), "jumphost loop via egg\n", "{run:?}");
}

in_modes!(everywhere, standard_input_and_output_pass_through_a_chain);
fn standard_input_and_output_pass_through_a_chain(mode: Mode) {
    let world = chain(mode);
    let to = format!("127.0.0.1:{}", world.port());
    let run = world.ssh(["-J", "gate,yard", "-W", &to]).output();
    assert!(run.out().starts_with("SSH-2.0-"), "{run:?}");
}

in_modes!(everywhere, a_terminal_works_behind_a_jump_host);
fn a_terminal_works_behind_a_jump_host(mode: Mode) {
    let world = chain(mode);
    let mut shell = world.pty(["-J", "gate"]).start();
    shell.sync();
    shell.line("exit 7");
    shell.assert_ends(7);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_jump_host_that_is_down_is_named);
fn a_jump_host_that_is_down_is_named(mode: Mode) {
    let world = chain(mode);
    let port = free_port();
    world.add_host("ruin", &format!("Port {port}"));
    for hosts in ["ruin", "gate,ruin", "ruin,gate"] {
        let run = world.ssh(["-J", hosts]).command(["echo reached"]).output();
        run.assert_status(255);
        assert_eq!(run.out(), "", "{run:?}");
        if mode.is_tssh() {
            assert!(run.err().contains(&format!("port {port}")), "{hosts}: {run:?}");
            assert!(run.err().contains("jump host ruin"), "{hosts}: {run:?}");
            assert_eq!(run.err().lines().count(), 1, "{hosts}: {run:?}");
        }
        world.wait_until_nothing_runs();
    }
}

in_modes!(everywhere, a_jump_host_that_does_not_forward_is_named);
fn a_jump_host_that_does_not_forward_is_named(mode: Mode) {
    let world = World::builder(mode).sshd_config("AllowTcpForwarding no").start();
    world.add_host("gate", "");
    if mode.is_link() && !world.show_tsshd_this_sshd_config() {
        return;
    }
    let run = world.ssh(["-J", "gate"]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    let why = if mode.is_link() { "AllowTcpForwarding" } else { "administratively prohibited" };
    assert!(run.err().contains(why), "{run:?}");
    if mode.is_tssh() {
        assert!(run.err().contains("jump host gate"), "{run:?}");
        assert_eq!(run.err().lines().count(), 1, "{run:?}");
    }
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_wrong_key_of_a_jump_host_stops_everything);
fn a_wrong_key_of_a_jump_host_stops_everything(mode: Mode) {
    let world = World::new(mode);
    world.keygen("other_key", "");
    let known = fs::read_to_string(world.path("known_hosts")).expect("known hosts");
    let other = world.known_hosts_line("other_key").replacen("world ", "gate ", 1);
    world.write("known_hosts", format!("{known}{other}"));
    world.add_host("gate", "HostKeyAlias gate");
    let run = world.ssh(["-J", "gate"]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    assert!(run.err().contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{run:?}");
    assert!(run.err().contains("Host key verification failed."), "{run:?}");
    assert!(!world.sshd_log().contains("Accepted"), "nothing was logged in to");
}

in_modes!(everywhere, every_host_of_a_chain_asks_about_its_own_key);
fn every_host_of_a_chain_asks_about_its_own_key(mode: Mode) {
    let world = World::builder(mode).client_config("StrictHostKeyChecking ask").start();
    world.add_host("gate", "HostKeyAlias gate\nStrictHostKeyChecking ask");
    world.write("known_hosts", "");
    let mut shell = world.pty(["-J", "gate"]).start();
    for name in ["gate", "world"] {
        shell.expect(&format!("The authenticity of host '{name}"));
        shell.expect("Are you sure you want to continue connecting");
        shell.line("yes");
        shell.expect(&format!("Permanently added '{name}'"));
    }
    shell.sync();
    shell.line("exit 3");
    shell.assert_ends(3);
}

in_modes!(everywhere, a_proxy_command_connects_and_ends_with_the_client);
fn a_proxy_command_connects_and_ends_with_the_client(mode: Mode) {
    let world = World::new(mode);
    world.add_host("gate", "");
    let told = world.path("told");
    let script = world.script(
        "proxy.sh",
        &format!(
            "echo \"$@\" >>'{}'\nexec ssh -F '{}' -W \"$1:$2\" gate\n",
            told.display(),
            world.path("config").display()
        ),
    );
    let relay = format!("ProxyCommand={} %h %p %r %n", script.display());
    let run = world.ssh(["-o", &relay]).command(["echo in"]).output();
    run.assert_prints("in\n");
    let words = fs::read_to_string(&told).expect("the command ran");
    let words: Vec<_> = words.split_whitespace().collect();
    let port = world.port().to_string();
    assert_eq!([words[0], words[1], words[3]], ["127.0.0.1", &port, "world"]);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, what_a_proxy_command_says_reaches_the_terminal);
fn what_a_proxy_command_says_reaches_the_terminal(mode: Mode) {
    let world = World::new(mode);
    let run = world
        .ssh(["-o", "ProxyCommand=sh -c 'echo no way >&2; exit 1'"])
        .command(["echo reached"])
        .output();
    run.assert_status(255);
    assert!(run.err().contains("no way\n"), "{run:?}");
    // Whether we were still writing when it went is a matter of time.
    assert!(["closed", "Broken pipe"].iter().any(|word| run.err().contains(word)), "{run:?}");
    wait_until("the command is gone", || world.processes().is_empty());
}

in_modes!(everywhere, a_proxy_command_may_hand_over_its_connection);
fn a_proxy_command_may_hand_over_its_connection(mode: Mode) {
    if !Path::new("/usr/bin/python3").exists() {
        return say_skipped("handing over a connection needs /usr/bin/python3");
    }
    let world = World::new(mode);
    let script = "import socket,sys,array\n\
                  s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n\
                  o=socket.socket(fileno=1)\n\
                  o.sendmsg([b'x'],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[s.fileno()]))])\n\
                  o.detach()\n";
    let script = world.write("hand_over.py", script);
    let command = format!("ProxyCommand=/usr/bin/python3 {} %h %p", script.display());
    let run = world.ssh(["-o", &command, "-o", "ProxyUseFdpass=yes"]).command(["echo in"]).output();
    run.assert_prints("in\n");
    world.wait_until_nothing_runs();
}

in_modes!(udp, packets_of_each_host_fit_into_those_of_the_one_before);
fn packets_of_each_host_fit_into_those_of_the_one_before(mode: Mode) {
    let world = chain(mode);
    let told = world.path("told");
    let tsshd = fs::read_to_string(world.path("tsshd")).expect("the script of the world");
    let body = tsshd.replacen("#!/bin/sh\n", &format!("echo \"$@\" >>'{}'\n", told.display()), 1);
    world.script("tsshd", &body);
    let run = world.ssh(["-J", "gate,yard,door"]).command(["head -c 3000000 /dev/zero"]).output();
    run.assert_status(0);
    assert_eq!(run.out().len(), 3_000_000);
    let told = fs::read_to_string(&told).expect("tsshd ran");
    let sizes: Vec<_> = told
        .lines()
        .map(|line| {
            let mut words = line.split(' ').skip_while(|word| *word != "--mtu").skip(1);
            words.next().unwrap_or("usual")
        })
        .collect();
    // 1400 bytes less what a datagram of the host before costs.
    let want = match mode.is_kcp() {
        false => ["usual", "1355", "1310", "1265"],
        true => ["usual", "1352", "1304", "1256"],
    };
    assert_eq!(sizes, want);
    assert!(!told.contains("--tcp"), "all of them over UDP: {told}");
}

in_modes!(udp, packets_that_no_longer_fit_take_the_stream);
fn packets_that_no_longer_fit_take_the_stream(mode: Mode) {
    let world = chain(mode);
    // QUIC packets have at least 1200 bytes, more than go into a datagram of such a link.
    world.add_host("narrow", "#!! UdpMTU 1200");
    let run = world.ssh(["-J", "narrow,yard"]).command(["head -c 3000000 /dev/zero"]).output();
    run.assert_status(0);
    assert_eq!(run.out().len(), 3_000_000);
}

in_modes!(udp, a_chain_goes_on_through_a_host_without_tsshd_and_says_so_once);
fn a_chain_goes_on_through_a_host_without_tsshd_and_says_so_once(mode: Mode) {
    let world = chain(mode);
    world.add_host("bare", "#!! TsshdPath /no/tsshd");
    // Not to a script.
    let run = world.ssh(["-J", "gate,bare"]).command(["echo in"]).output();
    run.assert_prints("in\n");
    let mut shell = world.pty(["-J", "gate,bare"]).start();
    let said = shell.expect("going on over plain ssh");
    assert!(said.contains("jump host bare"), "{said}");
    shell.sync();
    shell.line("exit 4");
    shell.assert_ends(4);
    world.wait_until_nothing_runs();
}

in_modes!(link, a_session_ends_with_the_link_it_leads_through);
fn a_session_ends_with_the_link_it_leads_through(mode: Mode) {
    let world = chain(mode);
    let run = world.ssh(["-J", "gate"]).command(["echo in; sleep 1000"]).start();
    run.wait_for_stdout("in\n");
    let servers = world.tsshds();
    let nearest = servers.iter().min_by_key(|server| server.pid).expect("two servers run");
    nearest.signal(Signal::TERM);
    let outcome = run.wait();
    outcome.assert_status(255);
    assert!(outcome.err().contains("the jump host before it is gone"), "{outcome:?}");
}

in_modes!(link, a_client_that_is_killed_leaves_nothing_on_any_host_of_a_chain);
fn a_client_that_is_killed_leaves_nothing_on_any_host_of_a_chain(mode: Mode) {
    let world = chain(mode);
    let run = world.ssh(["-J", "gate,yard"]).stdin(Stdin::Open).command(["echo up; cat"]).start();
    run.wait_for_stdout("up\n");
    assert_eq!(world.tsshds().len(), 3, "one on each host");
    run.signal(Signal::KILL);
    let _ = run.wait();
    world.wait_until_nothing_runs();
}
