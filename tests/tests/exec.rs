//! One remote command: its status, its streams, its end.

use e2e::{Mode, Stdin, World, in_modes};

in_modes!(everywhere, the_status_of_the_command_is_the_clients);
fn the_status_of_the_command_is_the_clients(mode: Mode) {
    let world = World::new(mode);
    for status in [0, 1, 7, 254, 255] {
        let run = world.ssh([] as [&str; 0]).command([format!("exit {status}")]).output();
        run.assert_status(status);
        assert_eq!((run.out(), run.err()), (String::new(), String::new()), "{run:?}");
    }
}

in_modes!(everywhere, a_command_ended_by_a_signal_gives_255);
fn a_command_ended_by_a_signal_gives_255(mode: Mode) {
    let world = World::new(mode);
    for signal in ["KILL", "TERM", "SEGV"] {
        let command = format!("ulimit -c 0; kill -{signal} $$");
        world.ssh([] as [&str; 0]).command([command]).output().assert_status(255);
    }
}

in_modes!(everywhere, a_command_that_does_not_exist_gives_127);
fn a_command_that_does_not_exist_gives_127(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh([] as [&str; 0]).command(["no-such-command-here"]).output();
    run.assert_status(127);
    assert!(run.err().contains("no-such-command-here"), "the shell's own words: {run:?}");
}

in_modes!(everywhere, standard_error_stays_apart_from_standard_output);
fn standard_error_stays_apart_from_standard_output(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh([] as [&str; 0]).command(["echo out; echo err >&2; echo out2"]).output();
    run.assert_status(0);
    assert_eq!((run.out().as_str(), run.err().as_str()), ("out\nout2\n", "err\n"), "{run:?}");
}

in_modes!(everywhere, much_on_both_outputs_arrives_whole);
fn much_on_both_outputs_arrives_whole(mode: Mode) {
    let world = World::new(mode);
    let command = "seq 300000 & seq 300000 >&2; wait";
    let run = world.ssh([] as [&str; 0]).command([command]).output();
    run.assert_status(0);
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(run.out() == expected, "standard output has {} bytes", run.stdout.len());
    assert!(run.err() == expected, "standard error has {} bytes", run.stderr.len());
}

in_modes!(everywhere, output_after_the_end_of_input_arrives);
fn output_after_the_end_of_input_arrives(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Bytes(vec![b'x'; 100_000]));
    run.command(["sh -c 'cat >/dev/null; echo done'"]).output().assert_prints("done\n");
}

in_modes!(everywhere, input_from_a_file_and_from_a_pipe_reaches_the_command);
fn input_from_a_file_and_from_a_pipe_reaches_the_command(mode: Mode) {
    let world = World::new(mode);
    let file = world.write("input", "from a file\n");
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::File(file));
    run.command(["cat"]).output().assert_prints("from a file\n");
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Bytes(b"from a pipe\n".to_vec()));
    run.command(["cat"]).output().assert_prints("from a pipe\n");
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Null);
    run.command(["cat; echo end"]).output().assert_prints("end\n");
}

in_modes!(everywhere, every_byte_value_passes_unchanged);
fn every_byte_value_passes_unchanged(mode: Mode) {
    let world = World::new(mode);
    // Newline and tilde pairs too: without a terminal there is no escape character.
    let bytes: Vec<u8> = (0..=255).chain(*b"\n~.\n~?\n\r\n\x04\x03").collect();
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Bytes(bytes.clone()));
    let run = run.command(["cat"]).output();
    run.assert_status(0);
    assert_eq!(run.stdout, bytes);
}

in_modes!(everywhere, input_is_passed_on_while_it_comes);
fn input_is_passed_on_while_it_comes(mode: Mode) {
    let world = World::new(mode);
    let mut run = world.ssh([] as [&str; 0]).stdin(Stdin::Open).command(["cat"]).start();
    for word in ["one\n", "two\n", "three\n"] {
        run.write(word.as_bytes());
        run.wait_for_stdout(word);
    }
    run.close_stdin();
    run.wait().assert_prints("one\ntwo\nthree\n");
}

in_modes!(everywhere, a_command_that_does_not_read_ends_though_input_stays_open);
fn a_command_that_does_not_read_ends_though_input_stays_open(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Open).command(["echo hi; exit 4"]).start();
    let ended = run.wait();
    ended.assert_status(4);
    assert_eq!(ended.out(), "hi\n");
}

in_modes!(everywhere, with_n_the_clients_input_is_not_touched);
fn with_n_the_clients_input_is_not_touched(mode: Mode) {
    let world = World::new(mode);
    // The classic: a loop over lines that runs ssh in its body.
    let client = world.client_script();
    let input = world.write("lines", "a\nb\nc\n");
    let body = format!(
        "while read -r line; do '{}' -n {} \"cat; echo got $line\"; done",
        client.display(),
        e2e::HOST
    );
    let run = world.program("sh").command(["-c", &body]).stdin(Stdin::File(input)).output();
    run.assert_prints("got a\ngot b\ngot c\n");
}

in_modes!(everywhere, a_background_child_that_holds_the_output_is_waited_for);
fn a_background_child_that_holds_the_output_is_waited_for(mode: Mode) {
    let world = World::new(mode);
    let release = world.path("release");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", release.display());
    let command = format!("({wait}; echo late) & echo started; exit 6");
    let run = world.ssh([] as [&str; 0]).command([command]).start();
    run.wait_for_stdout("started\n");
    // The shell itself must be gone before its child is let go, or nothing is shown.
    e2e::wait_until("the shell ends while its child goes on", || {
        let shells = world.server_processes();
        shells.iter().filter(|shell| shell.command.contains("echo late")).count() == 1
    });
    world.write("release", "");
    let ended = run.wait();
    assert_eq!(ended.out(), "started\nlate\n", "{ended:?}");
    ended.assert_status(6);
}

in_modes!(everywhere, a_background_child_that_lets_go_of_the_output_is_not_waited_for);
fn a_background_child_that_lets_go_of_the_output_is_not_waited_for(mode: Mode) {
    let world = World::new(mode);
    let command = "sh -c 'while :; do sleep 1; done' </dev/null >/dev/null 2>&1 & echo started";
    world.ssh([] as [&str; 0]).command([command]).output().assert_prints("started\n");
    let left = world.server_processes();
    let still = left.iter().any(|process| process.command.contains("while :"));
    assert!(still, "the child goes on without its session, as with sshd: {left:#?}");
}

in_modes!(everywhere, a_session_with_a_terminal_ends_with_its_shell);
fn a_session_with_a_terminal_ends_with_its_shell(mode: Mode) {
    let world = World::new(mode);
    let command = "(trap '' HUP; while :; do sleep 1; done) & echo started; exit 6";
    let mut client = world.pty(["-t"]).command([command]).start();
    let screen = client.assert_ends(6);
    assert!(String::from_utf8_lossy(&screen).contains("started\r\n"));
}
