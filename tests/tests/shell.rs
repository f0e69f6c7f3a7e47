//! The interactive shell: what a person sees first.

use e2e::{Mode, World, in_modes};

in_modes!(everywhere, a_shell_shows_a_prompt_echoes_and_ends_with_its_status);
fn a_shell_shows_a_prompt_echoes_and_ends_with_its_status(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.expect_prompt();
    shell.line("echo answer-$((6 * 7))");
    shell.expect("echo answer-$((6 * 7))\r\n");
    shell.expect("answer-42\r\n");
    shell.expect_prompt();
    shell.line("exit 3");
    shell.assert_ends(3);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, the_shell_is_a_login_shell_in_the_home_directory);
fn the_shell_is_a_login_shell_in_the_home_directory(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line("echo \"name=$0.\"; echo \"at=$PWD, $(eval echo ~$(id -un)).\"");
    shell.expect("name=-");
    let name = shell.expect(".\r\nat=");
    assert!(!name.contains('/'), "argv[0] is a dash and the shell's base name, not {name}");
    let directories = shell.expect(".\r\n");
    let (at, home) = directories.split_once(", ").expect("both directories");
    assert_eq!(at, home, "the shell starts in the home directory");
    shell.line("exit");
    shell.assert_ends(0);
}

in_modes!(everywhere, end_of_file_typed_at_the_prompt_ends_the_shell);
fn end_of_file_typed_at_the_prompt_ends_the_shell(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.expect_prompt();
    shell.send("\x04");
    shell.assert_ends(0);
}

in_modes!(everywhere, interrupt_typed_reaches_the_program_and_not_the_client);
fn interrupt_typed_reaches_the_program_and_not_the_client(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line(
        "sh -c 'trap \"echo caught-it; exit 9\" INT; echo wait''ing; while :; do sleep 1; done'",
    );
    shell.expect("waiting\r\n");
    shell.send("\x03");
    shell.expect("caught-it\r\n");
    shell.line("echo status=$?.");
    shell.expect("status=9.");
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, a_shell_without_a_terminal_reads_its_commands_from_the_pipe);
fn a_shell_without_a_terminal_reads_its_commands_from_the_pipe(mode: Mode) {
    let world = World::new(mode);
    let script = b"echo one\ntty\necho two >&2\nexit 5\n".to_vec();
    let run = world.ssh(["-T"]).stdin(e2e::Stdin::Bytes(script)).output();
    run.assert_status(5);
    // A motd may come first, as with sshd.
    assert!(run.out().ends_with("one\nnot a tty\n"), "{run:?}");
    assert!(run.err().contains("two\n"), "{run:?}");
}

in_modes!(everywhere, five_sessions_at_once_do_not_disturb_each_other);
fn five_sessions_at_once_do_not_disturb_each_other(mode: Mode) {
    let world = World::new(mode);
    let mut shells: Vec<_> = (0..5).map(|_| world.pty([] as [&str; 0]).start()).collect();
    for (number, shell) in shells.iter_mut().enumerate() {
        shell.line(&format!("mine={number}"));
    }
    for shell in &mut shells {
        shell.sync();
        shell.line("echo mine-is-$mine.");
    }
    for (number, shell) in shells.iter_mut().enumerate().rev() {
        shell.expect(&format!("mine-is-{number}.\r\n"));
        shell.line(&format!("exit {number}"));
        shell.assert_ends(i32::try_from(number).expect("small"));
    }
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_session_outlives_the_time_allowed_for_connecting);
fn a_session_outlives_the_time_allowed_for_connecting(mode: Mode) {
    let world = World::new(mode);
    // The limit for the UDP login is ten seconds at both ends.
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line("mark=kept; sleep 12");
    shell.line("echo mark-$mark.");
    shell.expect("mark-kept.\r\n");
    shell.line("exit 0");
    shell.assert_ends(0);
}
