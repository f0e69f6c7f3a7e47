//! Nothing stays: no process, no socket, no file.

use e2e::{Mode, Stdin, World, in_modes};

in_modes!(everywhere, many_commands_in_a_row_leave_nothing_behind);
fn many_commands_in_a_row_leave_nothing_behind(mode: Mode) {
    let world = World::new(mode);
    let count = match mode {
        Mode::OpenSsh => 20,
        Mode::Plain | Mode::Tcp | Mode::KcpTcp => 50,
        Mode::Udp | Mode::Kcp => 200,
    };
    for number in 0..count {
        let run = world.ssh([] as [&str; 0]).command([format!("echo {number}")]);
        run.output().assert_prints(&format!("{number}\n"));
    }
    world.wait_until_nothing_runs();
    assert_eq!(world.stray_files(), [] as [std::path::PathBuf; 0]);
}

in_modes!(everywhere, a_shell_leaves_nothing_behind);
fn a_shell_leaves_nothing_behind(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell.line("exit");
    shell.assert_ends(0);
    world.wait_until_nothing_runs();
    assert_eq!(world.stray_files(), [] as [std::path::PathBuf; 0]);
}

in_modes!(link, a_session_does_not_keep_the_login_open);
fn a_session_does_not_keep_the_login_open(mode: Mode) {
    let world = World::new(mode);
    let mut run = world.ssh([] as [&str; 0]).stdin(Stdin::Open).command(["cat"]).start();
    run.write(b"up\n");
    run.wait_for_stdout("up\n");
    e2e::wait_until("the login's sshd has ended", || {
        !world.server_processes().iter().any(|process| process.command.starts_with("sshd"))
    });
    run.write(b"still up\n");
    run.wait_for_stdout("still up\n");
    run.close_stdin();
    run.wait().assert_prints("up\nstill up\n");
    world.wait_until_nothing_runs();
}

in_modes!(link, no_secret_is_visible_in_command_lines_or_environments);
fn no_secret_is_visible_in_command_lines_or_environments(mode: Mode) {
    let world = World::new(mode);
    // The script that stands in for tsshd keeps what it printed, keys included.
    let printed = world.capture_server_info();
    let mut run = world.ssh([] as [&str; 0]).stdin(Stdin::Open).command(["cat"]).start();
    run.write(b"up\n");
    run.wait_for_stdout("up\n");
    let info = std::fs::read_to_string(printed).expect("the server's line");
    let names = if mode.is_kcp() { ["ProxyKey", "Pass"] } else { ["ProxyKey", "ClientKey"] };
    let secrets = names.map(|name| field(&info, name));
    for process in world.processes() {
        let read =
            |name| std::fs::read(format!("/proc/{}/{name}", process.pid)).unwrap_or_default();
        let visible = [read("cmdline"), read("environ")].concat();
        let visible = String::from_utf8_lossy(&visible);
        assert!(!secrets.iter().any(|secret| visible.contains(secret)), "{process:?}");
    }
    run.close_stdin();
    run.wait().assert_prints("up\n");
}

/// Returns a string field of the ServerInfo line (hexadecimal or base64, so nothing is escaped).
fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let start = info.split_once(&format!("\"{name}\":\"")).expect("the field is there").1;
    let value = start.split('"').next().unwrap_or_default();
    assert!(value.len() >= 64, "{name} is a key");
    value
}
