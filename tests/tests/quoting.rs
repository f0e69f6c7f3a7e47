//! What a remote command means: one string for the user's shell, as OpenSSH sends it.

use e2e::{Mode, Stdin, World, in_modes};

in_modes!(tssh, words_mean_to_the_remote_shell_what_they_mean_with_openssh);
fn words_mean_to_the_remote_shell_what_they_mean_with_openssh(mode: Mode) {
    let world = World::new(mode);
    let long = format!("echo {}", "x".repeat(100_000));
    let table: &[&[&str]] = &[
        &["echo", "two  blanks", "are", "joined"],
        &["echo 'single  quoted' \"double  quoted\""],
        &["echo", "'split", "  quotes'"],
        &["echo $HOME $0 ${#} $#; pwd"],
        &["echo \\$HOME '$HOME' \"\\\"$HOME\\\"\""],
        &["cd / && pwd; (exit 3); echo $?"],
        &["false || echo or; true && echo and; ! true; echo $?"],
        &["printf '%s|' a\\ b 'c\td' \"e\nf\"; echo"],
        &["echo one\necho two\n\necho three"],
        &["echo /etc/host*s ~root {a,b}{1,2}"],
        &["echo a | tr a b > /dev/stderr; echo `echo back` $(echo quoted)"],
        &["cat <<'END'\n$HOME `here`\nEND"],
        &["echo 'it'\\''s'", "'", "still quoted", "'"],
        &["for i in 1 2 3; do echo $i; done; x=5; echo $x"],
        &["echo \u{fc}ml\u{e4}ut \u{1f980}"],
        &["# only a comment"],
        &["true;", "exit", "9"],
        &["echo trailing backslash \\"],
        &["echo 'unterminated"],
        &["exec sh -c 'echo $0 $1' zero one"],
        &["-n"],
        &["--", "echo", "dashes"],
        &["echo", "-n", "-e", "--udp", "-p", "1"],
        &["sh", "-c", "echo not what you think"],
        &["cd"],
        &["ls -d ~/"],
        &["echo *"],
        &["no-such-command", "~/x"],
        &[" "],
        &["!"],
        &[&long],
    ];
    let mut wrong = Vec::new();
    for words in table {
        let with_openssh = world.openssh([] as [&str; 0]).command(*words).start();
        let ours = world.ssh([] as [&str; 0]).command(*words).start();
        let (with_openssh, ours) = (with_openssh.wait(), ours.wait());
        let same = with_openssh.status.code() == ours.status.code()
            && with_openssh.stdout == ours.stdout
            && with_openssh.stderr == ours.stderr;
        if !same {
            wrong.push((with_openssh, ours));
        }
    }
    assert!(wrong.is_empty(), "OpenSSH's outcome, then ours: {wrong:#?}");
}

in_modes!(everywhere, bytes_that_are_not_utf8_reach_the_remote_shell);
fn bytes_that_are_not_utf8_reach_the_remote_shell(mode: Mode) {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new(mode);
    let command = std::ffi::OsStr::from_bytes(b"printf %s '\xff\xfe\xe4'");
    let run = world.ssh([] as [&str; 0]).command([command]).output();
    run.assert_status(0);
    assert_eq!(run.stdout, b"\xff\xfe\xe4");
}

in_modes!(everywhere, options_after_the_host_are_options_until_the_command_begins);
fn options_after_the_host_are_options_until_the_command_begins(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Open);
    run.command(["-n", "cat;", "echo", "-n", "end"]).output().assert_prints("end");
}

in_modes!(everywhere, the_configured_remote_command_runs_when_none_is_given);
fn the_configured_remote_command_runs_when_none_is_given(mode: Mode) {
    let world = World::builder(mode).client_config("RemoteCommand echo configured").start();
    world.ssh([] as [&str; 0]).output().assert_prints("configured\n");
}
