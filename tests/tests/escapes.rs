//! The escape character: what the client keeps for itself, and what it passes on.

use e2e::{HOST, Mode, PtyClient, World, in_modes};

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
