//! The escape character: what the client keeps for itself, and what it passes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use e2e::net::{Echo, connect, exchange, free_port};
use e2e::{HOST, Mode, PtyClient, World, in_modes, wait_until};

fn shell(world: &World) -> PtyClient {
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.sync();
    shell
}

in_modes!(everywhere, tilde_dot_ends_the_session);
fn tilde_dot_ends_the_session(mode: Mode) {
    let world = World::new(mode);
    let mut shell = shell(&world);
    shell.send("\r~.");
    shell.assert_ends(255);
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, tilde_question_mark_lists_the_escapes_and_the_session_goes_on);
fn tilde_question_mark_lists_the_escapes_and_the_session_goes_on(mode: Mode) {
    let world = World::new(mode);
    let mut shell = shell(&world);
    shell.send("\r~?");
    for escape in [" ~.", " ~^Z", " ~?", " ~~"] {
        shell.expect(escape);
    }
    shell.sync();
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, two_tildes_send_one);
fn two_tildes_send_one(mode: Mode) {
    let world = World::new(mode);
    let mut shell = shell(&world);
    shell.line("stty -echo; echo no-e''cho; cat");
    shell.expect("no-echo\r\n");
    shell.send("~~tilde\r");
    assert_eq!(shell.expect("tilde\r\n"), "~");
    shell.send("\x04");
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, a_tilde_elsewhere_or_before_another_key_is_just_a_tilde);
fn a_tilde_elsewhere_or_before_another_key_is_just_a_tilde(mode: Mode) {
    let world = World::new(mode);
    let mut shell = shell(&world);
    shell.line("stty -echo; echo no-e''cho; cat");
    shell.expect("no-echo\r\n");
    shell.send("a~.b~?\r");
    assert_eq!(shell.expect("b~?\r\n"), "a~.");
    shell.send("~/path\r");
    assert_eq!(shell.expect("path\r\n"), "~/");
    shell.send("\x04");
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, without_an_escape_character_nothing_is_kept);
fn without_an_escape_character_nothing_is_kept(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty(["-o", "EscapeChar=none"]).start();
    shell.sync();
    shell.line("stty -echo; echo no-e''cho; cat");
    shell.expect("no-echo\r\n");
    shell.send("~.\r");
    shell.expect("~.\r\n");
    shell.send("\x04");
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, another_escape_character_can_be_chosen);
fn another_escape_character_can_be_chosen(mode: Mode) {
    let world = World::new(mode);
    let mut shell = world.pty(["-o", "EscapeChar=%"]).start();
    shell.sync();
    shell.line("stty -echo; echo no-e''cho; cat");
    shell.expect("no-echo\r\n");
    shell.send("~.\r");
    shell.expect("~.\r\n");
    shell.send("%.");
    shell.assert_ends(255);
}

in_modes!(everywhere, tilde_control_z_suspends_the_client_and_fg_brings_it_back);
fn tilde_control_z_suspends_the_client_and_fg_brings_it_back(mode: Mode) {
    let world = World::new(mode);
    let client = world.client_script();
    let bash = world.program_pty("bash").env("PS1", "local> ");
    let mut local = bash.command(["--norc", "--noprofile", "-i"]).start();
    local.line("where=here; stty -a > before; echo at-$where.");
    local.expect("at-here.\r\n");
    local.line(&format!("{} {HOST}", client.display()));
    local.sync();
    local.line("where=there; echo at-$where.");
    local.expect("at-there.\r\n");
    for _ in 0..3 {
        local.send("\r~\x1a");
        local.expect("Stopped");
        local.expect("local> ");
        local.line("echo at-$where.; stty -a > after; cmp before after && echo un''changed");
        local.expect("at-here.\r\n");
        local.expect("unchanged\r\n");
        local.line("fg");
        local.expect("client.sh");
        local.line("echo at-$where.");
        local.expect("at-there.\r\n");
    }
    local.line("exit 5");
    local.expect("local> ");
    local.line("echo status=$?, at-$where.");
    local.expect("status=5, at-here.");
    local.line("exit");
    local.assert_ends(0);
}

in_modes!(everywhere, forwards_are_added_and_cancelled_from_the_command_line);
fn forwards_are_added_and_cancelled_from_the_command_line(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let (near, far) = (free_port(), free_port());
    let mut shell = world.pty(["-o", "EnableEscapeCommandline=yes"]).start();
    shell.sync();
    let mut command = |line: &str, answer: &str| {
        shell.send("\r~C");
        shell.expect("ssh> ");
        shell.send(format!("{line}\r"));
        shell.expect(answer);
    };
    command("?", "Commands:");
    command("-Lnonsense", "Bad local forwarding specification.");
    command(&format!("-L {near}:127.0.0.1:{}", echo.port()), "Forwarding port.");
    assert_eq!(exchange(connect(near), b"near"), b"near");
    command(&format!("-R {far}:127.0.0.1:{}", echo.port()), "Forwarding port.");
    // OpenSSH does not wait for the far host's answer.
    assert_eq!(exchange(connect(far), b"far"), b"far");
    command(&format!("-KL {near}"), "Canceled forwarding.");
    wait_until("nobody listens here", || TcpStream::connect(("127.0.0.1", near)).is_err());
    command(&format!("-KR {far}"), "Canceled forwarding.");
    wait_until("nobody listens there", || TcpStream::connect(("127.0.0.1", far)).is_err());
    command("-KD 1", "Unknown port forwarding.");
    command("!echo no", "Invalid command.");
    shell.sync();
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, without_leave_there_is_no_command_line);
fn without_leave_there_is_no_command_line(mode: Mode) {
    let world = World::new(mode);
    let mut shell = shell(&world);
    shell.send("\r~C");
    shell.expect("commandline disabled");
    shell.sync();
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(tssh, a_command_is_run_here_where_that_is_permitted);
fn a_command_is_run_here_where_that_is_permitted(mode: Mode) {
    let world = World::new(mode);
    let options = ["-oEnableEscapeCommandline=yes", "-oPermitLocalCommand=yes"];
    let mark = world.path("mark");
    let local = format!("LocalCommand=echo %h %% > {}", mark.display());
    let mut shell = world.pty(options).command([] as [&str; 0]).start();
    shell.sync();
    shell.line("where=there");
    shell.sync();
    shell.send("\r~C");
    shell.expect("ssh> ");
    shell.send("!stty -a | grep -c ' icanon'; echo where=$where.\r");
    shell.expect("1\r\nwhere=.\r\n");
    shell.line("echo where=$where.");
    shell.expect("where=there.\r\n");
    shell.line("exit 0");
    shell.assert_ends(0);

    let run = world.ssh([options[1], "-o", &local]).command(["echo up"]).output();
    run.assert_prints("up\n");
    assert_eq!(std::fs::read_to_string(mark).expect("it was run"), "127.0.0.1 %\n");
}

in_modes!(tssh, keys_are_renewed_and_connections_listed_and_the_session_goes_on);
fn keys_are_renewed_and_connections_listed_and_the_session_goes_on(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let forward = format!("{port}:127.0.0.1:{}", echo.port());
    let mut shell = world.pty(["-L", &forward]).start();
    shell.sync();
    let mut stream = connect(port);
    stream.write_all(b"x").expect("the forward takes it");
    stream.read_exact(&mut [0]).expect("it comes back");
    shell.send("\r~R");
    shell.sync();
    shell.send("\r~#");
    shell.expect("The following connections are open:\r\n  #0 client-session");
    shell.expect("direct-tcpip: listening ");
    shell.expect(&port.to_string());
    shell.sync();
    assert_eq!(exchange(stream, b"y"), b"y");
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, the_client_says_more_and_less_as_told);
fn the_client_says_more_and_less_as_told(mode: Mode) {
    let world = World::new(mode);
    let mut shell = shell(&world);
    for (key, level) in [("v", "VERBOSE"), ("v", "DEBUG"), ("V", "VERBOSE"), ("V", "INFO")] {
        shell.send(format!("\r~{key}"));
        shell.expect(&format!("[LogLevel {level}]"));
    }
    shell.sync();
    shell.line("exit 0");
    shell.assert_ends(0);
}

in_modes!(everywhere, tilde_ampersand_leaves_the_terminal_and_open_connections_go_on);
fn tilde_ampersand_leaves_the_terminal_and_open_connections_go_on(mode: Mode) {
    let world = World::new(mode);
    let echo = Echo::start();
    let port = free_port();
    let client = world.client_script();
    let bash = world.program_pty("bash").env("PS1", "local> ");
    let mut local = bash.command(["--norc", "--noprofile", "-i"]).start();
    local.line("where=here; stty -a > before; echo at-$where.");
    local.expect("at-here.\r\n");
    let forward = format!("-L {port}:127.0.0.1:{}", echo.port());
    local.line(&format!("{} {forward} {HOST}", client.display()));
    local.sync();
    let mut stream = connect(port);
    stream.write_all(b"before").expect("the forward takes it");
    stream.read_exact(&mut [0; 6]).expect("it comes back");
    local.send("\r~&");
    // The shell's prompt may come before or after that.
    local.expect("[backgrounded]");
    local.insist("echo at-$where.", "at-here.\r\n");
    local.insist("stty -a > after; cmp before after && echo un''changed", "unchanged\r\n");
    wait_until("the shell over there has ended", || {
        !world.server_processes().iter().any(|process| process.command.starts_with("-"))
    });
    wait_until("no further connection is taken", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    assert_eq!(exchange(stream, b"after"), b"after");
    local.line("exit");
    local.assert_ends(0);
    world.wait_until_nothing_runs();
}
