//! The remote terminal: when there is one, its size, its modes.

use e2e::{Mode, Stdin, World, in_modes};
use rustix::termios::{InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios};

const WARNING: &str = "Pseudo-terminal will not be allocated because stdin is not a terminal.";

in_modes!(everywhere, a_command_gets_a_terminal_only_when_openssh_would_ask_for_one);
fn a_command_gets_a_terminal_only_when_openssh_would_ask_for_one(mode: Mode) {
    let world = World::new(mode);
    // Options; whether the client's input is a terminal; whether the program's is.
    let table: &[(&[&str], bool, bool)] = &[
        (&[], true, false),
        (&["-t"], true, true),
        (&["-tt"], true, true),
        (&["-T"], true, false),
        (&["-o", "RequestTTY=yes"], true, true),
        (&["-o", "RequestTTY=no"], true, false),
        (&["-t"], false, false),
        (&["-tt"], false, true),
        (&["-t", "-t"], false, true),
        (&["-o", "RequestTTY=force"], false, true),
        (&["-o", "RequestTTY=yes"], false, false),
    ];
    for (options, local, remote) in table {
        let mut client = world.pty(*options).command(["tty; echo end"]);
        if !local {
            client = client.stdin(std::process::Stdio::null());
        }
        let screen = String::from_utf8_lossy(&client.start().assert_ends(0)).into_owned();
        assert!(screen.contains("end"), "{options:?}: {screen:?}");
        let got = screen.contains("/dev/pts/");
        assert_eq!(got, *remote, "{options:?}, input is a terminal: {local}: {screen:?}");
        let refused = !local && !remote;
        assert_eq!(screen.contains(WARNING), refused, "{options:?}: {screen:?}");
    }
}

in_modes!(everywhere, a_shell_gets_a_terminal_only_when_there_is_one_here);
fn a_shell_gets_a_terminal_only_when_there_is_one_here(mode: Mode) {
    let world = World::new(mode);
    let script = || Stdin::Bytes(b"tty\nexit\n".to_vec());
    let run = world.ssh([] as [&str; 0]).stdin(script()).output();
    assert!(run.out().ends_with("not a tty\n"), "{run:?}");
    assert!(run.err().contains(WARNING), "{run:?}");
    let run = world.ssh(["-T"]).stdin(script()).output();
    assert!(run.out().ends_with("not a tty\n"), "{run:?}");
    assert!(!run.err().contains(WARNING), "asked for with -T: {run:?}");
    let run = world.ssh(["-tt"]).stdin(script()).output();
    assert!(run.out().contains("/dev/pts/"), "{run:?}");

    let mut shell = world.pty(["-T"]).start();
    shell.line("tty; exit 2");
    shell.expect("not a tty");
    shell.assert_ends(2);
}

in_modes!(everywhere, the_program_sees_the_size_of_the_local_terminal);
fn the_program_sees_the_size_of_the_local_terminal(mode: Mode) {
    let world = World::new(mode);
    let mut client = world.pty(["-t"]).size(37, 123).command(["stty size"]).start();
    client.expect("37 123\r\n");
    client.assert_ends(0);
}

in_modes!(everywhere, the_program_is_told_of_each_change_of_size);
fn the_program_is_told_of_each_change_of_size(mode: Mode) {
    let world = World::new(mode);
    let stop = world.path("stop");
    // The sizes are polled, because bash forgets a signal that comes during its trap.
    let poll = "s=$(stty size); [ \"$s\" = \"$t\" ] || echo \"size $s\"; t=$s; sleep 0.1";
    let until_stopped = format!("while [ ! -e {} ]; do {poll}; done", stop.display());
    let command = format!("trap 'echo signalled' WINCH; {until_stopped}");
    let mut client = world.pty(["-t"]).command([command]).start();
    client.expect("size 24 80\r\n");
    for (rows, cols) in [(50, 132), (10, 40), (200, 500)] {
        client.resize(rows, cols);
        client.expect(&format!("size {rows} {cols}\r\n"));
    }
    world.write("stop", "");
    let screen = String::from_utf8_lossy(&client.assert_ends(0)).into_owned();
    assert!(screen.contains("signalled\r\n"), "{screen:?}");
}

in_modes!(tssh, the_terminal_has_the_modes_it_has_with_openssh);
fn the_terminal_has_the_modes_it_has_with_openssh(mode: Mode) {
    let world = World::new(mode);
    let unusual: [fn(&mut Termios); 3] = [
        |_| {},
        |termios| {
            termios.special_codes[SpecialCodeIndex::VERASE] = 0x08;
            termios.special_codes[SpecialCodeIndex::VINTR] = 0x07;
            termios.special_codes[SpecialCodeIndex::VSUSP] = 0;
            termios.input_modes.remove(InputModes::IXON);
            termios.input_modes.insert(InputModes::IUTF8 | InputModes::IXANY);
        },
        |termios| {
            termios.local_modes.remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::IEXTEN);
            termios.input_modes.remove(InputModes::ICRNL | InputModes::IUTF8);
            termios.output_modes.remove(OutputModes::ONLCR);
        },
    ];
    for (number, adjust) in unusual.into_iter().enumerate() {
        let modes = |client: e2e::PtyBuilder| {
            let mut client = client.modes(adjust).command(["echo; stty -a; echo END"]).start();
            client.expect("speed");
            let shown = client.expect("END");
            client.assert_ends(0);
            shown
        };
        let expected = modes(world.openssh_pty(["-t"]));
        assert_eq!(modes(world.pty(["-t"])), expected, "local terminal number {number}");
    }
}

in_modes!(everywhere, with_a_terminal_both_outputs_are_one);
fn with_a_terminal_both_outputs_are_one(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh(["-tt"]).command(["echo out; echo err >&2; exit 8"]).output();
    run.assert_status(8);
    assert_eq!(run.out(), "out\r\nerr\r\n", "{run:?}");
}

in_modes!(everywhere, the_terminal_is_as_before_after_every_kind_of_end);
fn the_terminal_is_as_before_after_every_kind_of_end(mode: Mode) {
    use rustix::process::Signal;
    let world = World::new(mode);
    for signal in [Signal::TERM, Signal::HUP] {
        let mut shell = world.pty([] as [&str; 0]).start();
        shell.sync();
        assert_ne!(&shell.modes(), shell.modes_before(), "the terminal is raw meanwhile");
        shell.signal(signal);
        let (status, _) = shell.wait();
        assert_ne!(status.code(), Some(0), "ended by {signal:?}");
        shell.assert_restored();
    }
    // Ended from the far side, by its own shell's death.
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line("kill -9 $$");
    shell.assert_ends(255);
    // Ended before it began.
    let mut refused = world.pty(["-p", "1"]).start();
    refused.assert_ends(255);
    world.wait_until_nothing_runs();
}
