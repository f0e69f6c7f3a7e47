//! Options of authorized_keys: they bind the sessions of a server that the key's login starts,
//! where sshd says which key it was.

use std::fs;

use e2e::net::{Echo, free_port};
use e2e::{Mode, World, in_modes};

/// A world whose key has `options`; `None` where the configuration cannot be shown to tsshd.
fn world(mode: Mode, options: &str) -> Option<World> {
    let world = World::builder(mode).sshd_config("ExposeAuthInfo yes").start();
    let path = world.path("authorized_keys");
    let key = fs::read_to_string(&path).expect("the key is there");
    fs::write(&path, format!("{options} {key}")).expect("the file can be written");
    (!mode.is_link() || world.show_tsshd_this_sshd_config()).then_some(world)
}

in_modes!(everywhere, the_options_of_a_key_decide_what_may_be_forwarded);
fn the_options_of_a_key_decide_what_may_be_forwarded(mode: Mode) {
    let (port, echo) = (free_port(), Echo::start());
    let to_echo = format!("127.0.0.1:{}", echo.port());
    for (options, may_listen, may_dial) in [
        ("no-pty", true, true),
        ("restrict", false, false),
        ("no-port-forwarding", false, false),
        ("restrict,port-forwarding", true, true),
        ("permitopen=\"127.0.0.1:1\"", true, false),
        (&format!("permitopen=\"127.0.0.1:1\",permitopen=\"{to_echo}\""), true, true),
        ("permitlisten=\"1\"", false, true),
        (&format!("permitlisten=\"localhost:{port}\""), true, true),
    ] {
        let Some(world) = world(mode, options) else { return };
        let works = |option: &str, value: &str| {
            let run = world.ssh(["-oExitOnForwardFailure=yes", option, value]);
            // Without -W a command says that all was set up.
            let command: &[&str] = if option == "-W" { &[] } else { &["true"] };
            run.command(command).output().status.code() == Some(0)
        };
        let remote = format!("{port}:{to_echo}");
        assert_eq!(works("-R", &remote), may_listen, "listening under {options}");
        assert_eq!(works("-W", &to_echo), may_dial, "connecting under {options}");
    }
}

in_modes!(everywhere, a_key_without_a_terminal_or_an_agent_gets_neither);
fn a_key_without_a_terminal_or_an_agent_gets_neither(mode: Mode) {
    let Some(world) = world(mode, "no-pty,no-agent-forwarding") else { return };
    let agent = world.path("agent.sock");
    let _socket = std::os::unix::net::UnixListener::bind(&agent).expect("a socket");
    let run = world.ssh(["-A"]).env("SSH_AUTH_SOCK", &agent);
    let run = run.command(["echo \"[$SSH_AUTH_SOCK]\""]).output();
    run.assert_status(0);
    assert_eq!(run.out(), "[]\n");
    let run = world.ssh(["-tt"]).command(["tty; true"]).output();
    assert!(!run.out().contains("/dev/"), "{run:?}");
}

in_modes!(everywhere, the_command_of_a_key_is_run_in_place_of_every_session);
fn the_command_of_a_key_is_run_in_place_of_every_session(mode: Mode) {
    let world = World::builder(mode).sshd_config("ExposeAuthInfo yes").start();
    let log = world.path("log");
    let body = format!(
        "echo \"$SSH_ORIGINAL_COMMAND\" >> {}; exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        log.display()
    );
    let wrapper = world.script("wrapper", &body);
    let path = world.path("authorized_keys");
    let key = fs::read_to_string(&path).expect("the key is there");
    let line = format!("command=\"{}\" {key}", wrapper.display());
    fs::write(&path, line).expect("the file can be written");
    if mode.is_link() && !world.show_tsshd_this_sshd_config() {
        return;
    }
    let run = world.ssh([] as [&str; 0]).command(["echo 'a  b'; exit 5"]).output();
    run.assert_status(5);
    assert_eq!(run.out(), "a  b\n", "{run:?}");
    let seen = fs::read_to_string(log).expect("the wrapper has written it down");
    assert_eq!(seen.lines().last(), Some("echo 'a  b'; exit 5"), "{seen}");
}
