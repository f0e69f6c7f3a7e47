//! The environment of the remote program.

use std::collections::BTreeMap;

use e2e::{Mode, World, in_modes};

in_modes!(everywhere, accepted_variables_arrive_and_others_do_not);
fn accepted_variables_arrive_and_others_do_not(mode: Mode) {
    let world = World::builder(mode)
        .client_config("SendEnv LC_* OTHER\nSetEnv LC_SET=\"set value\" REFUSED=x")
        .start();
    let run = world.ssh([] as [&str; 0]).env("LC_ONE", "one  ü").env("OTHER", "x");
    let command = "echo \"[$LC_ONE] [$LC_SET] [${OTHER-unset}] [${REFUSED-unset}]\"";
    let expected = "[one  ü] [set value] [unset] [unset]\n";
    run.command([command]).output().assert_prints(expected);
}

in_modes!(everywhere, nothing_is_sent_that_was_not_asked_for);
fn nothing_is_sent_that_was_not_asked_for(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh([] as [&str; 0]).env("LC_ONE", "one").env("LANG", "de_DE.UTF-8");
    let run = run.command(["echo \"${LC_ONE-unset} ${LANG-unset}\""]).output();
    run.assert_status(0);
    assert!(run.out().starts_with("unset "), "{run:?}");
    assert!(!run.out().contains("de_DE"), "{run:?}");
}

in_modes!(everywhere, term_goes_with_the_terminal_and_only_with_it);
fn term_goes_with_the_terminal_and_only_with_it(mode: Mode) {
    let world = World::new(mode);
    let command = ["echo \"term=${TERM-unset}.\""];
    let mut client = world.pty(["-t"]).env("TERM", "tmux-256color").command(command).start();
    client.expect("term=tmux-256color.");
    client.assert_ends(0);
    let run = world.ssh([] as [&str; 0]).env("TERM", "tmux-256color").command(command).output();
    assert!(!run.out().contains("tmux"), "no terminal was asked for: {run:?}");
}

in_modes!(everywhere, a_program_can_tell_that_it_was_reached_by_ssh);
fn a_program_can_tell_that_it_was_reached_by_ssh(mode: Mode) {
    let world = World::new(mode);
    let command = "set -- $SSH_CONNECTION; echo \"$# $1 $3 $4\"; echo ${SSH_TTY-none}";
    let expected = format!("4 127.0.0.1 127.0.0.1 {}\nnone\n", world.port());
    world.ssh([] as [&str; 0]).command([command]).output().assert_prints(&expected);
    let command = "test \"$SSH_TTY\" = \"$(tty)\" && echo same || echo \"$SSH_TTY, not $(tty)\"";
    let mut client = world.pty(["-t"]).command([command]).start();
    let screen = client.assert_ends(0);
    assert!(screen.starts_with(b"same\r\n"), "{}", String::from_utf8_lossy(&screen));
}

in_modes!(tssh, the_environment_is_the_one_openssh_gives);
fn the_environment_is_the_one_openssh_gives(mode: Mode) {
    let world = World::builder(mode).client_config("SendEnv LANG LC_*").start();
    let compare = |ours: Vec<u8>, expected: Vec<u8>, what: &str| {
        assert_eq!(variables(&ours), variables(&expected), "environment of {what}");
    };
    let command = ["env -0"];
    let ours = world.ssh([] as [&str; 0]).command(command).output();
    let expected = world.openssh([] as [&str; 0]).command(command).output();
    compare(ours.stdout, expected.stdout, "a command");
    let ours = world.ssh(["-tt"]).command(command).output();
    let expected = world.openssh(["-tt"]).command(command).output();
    compare(ours.stdout, expected.stdout, "a command with a terminal");
    let script = || e2e::Stdin::Bytes(b"exec env -0\n".to_vec());
    let ours = world.ssh(["-T"]).stdin(script()).output();
    let expected = world.openssh(["-T"]).stdin(script()).output();
    compare(ours.stdout, expected.stdout, "a shell");
}

/// Splits the output of `env -0`, without what differs from one session to the next.
fn variables(output: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(output);
    let entries = text.split('\0').filter_map(|entry| entry.split_once('='));
    entries
        .map(|(name, value)| match name {
            // Ports and terminals are each session's own.
            "SSH_CLIENT" | "SSH_CONNECTION" | "SSH_TTY" => (name.to_owned(), "…".to_owned()),
            _ => (name.to_owned(), value.to_owned()),
        })
        .collect()
}
