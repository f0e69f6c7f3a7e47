//! Flags of the command line that change how the program runs, not what.

use std::fs;

use e2e::{Mode, World, in_modes};

in_modes!(everywhere, to_the_background_only_after_the_login_and_the_command_runs_on);
fn to_the_background_only_after_the_login_and_the_command_runs_on(mode: Mode) {
    let world = World::new(mode);
    let [go, done] = ["go", "done"].map(|name| world.path(name));
    let command = format!(
        "until [ -e {go} ]; do sleep 0.05; done; echo out; touch {done}",
        go = go.display(),
        done = done.display()
    );
    let script = world.client_script();
    // What stays in the background keeps its output open.
    let line = format!("'{}' -f world '{command}' >'{}' 2>&1", script.display(), "printed");
    let run = world.program("sh").command(["-c", &line]).output();
    run.assert_status(0);
    assert!(!done.exists(), "it was not waited for");
    fs::write(&go, "").expect("the world is writable");
    e2e::wait_until("the command in the background has ended", || done.exists());
    e2e::wait_until("its output has come", || {
        fs::read_to_string(world.path("printed")).is_ok_and(|text| text == "out\n")
    });
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_login_that_fails_does_not_go_to_the_background);
fn a_login_that_fails_does_not_go_to_the_background(mode: Mode) {
    let world = World::new(mode);
    world.write("authorized_keys", "");
    let run = world.ssh(["-f"]).command(["true"]).output();
    run.assert_status(255);
    assert!(run.err().contains("Permission denied"), "{run:?}");
    let run = world.ssh(["-f"]).output();
    run.assert_status(255);
    let text = "Cannot fork into background without a command to execute.";
    assert!(run.err().contains(text), "{run:?}");
}

in_modes!(everywhere, errors_go_to_the_log_file_and_not_to_the_terminal);
fn errors_go_to_the_log_file_and_not_to_the_terminal(mode: Mode) {
    let world = World::new(mode);
    let log = world.path("log");
    let run = world.ssh(["-E".as_ref(), log.as_os_str(), "-p1".as_ref()]).output();
    run.assert_status(255);
    assert_eq!(run.err(), "", "{run:?}");
    let text = fs::read_to_string(&log).expect("the log is written");
    assert!(text.contains("port 1: Connection refused"), "{text}");
    let bad = world.write("bad", "No 1\n");
    let options = ["-E".as_ref(), log.as_os_str(), "-F".as_ref(), bad.as_os_str()];
    let run = world.program(mode.client()).command(options).command(["world"]).output();
    run.assert_status(255);
    assert_eq!(run.err(), "", "{run:?}");
    let text = fs::read_to_string(&log).expect("the log is written");
    assert!(text.contains("Bad configuration option: no"), "{text}");
}

in_modes!(login, mistakes_on_the_command_line_are_told_at_the_terminal_even_with_a_log_file);
fn mistakes_on_the_command_line_are_told_at_the_terminal_even_with_a_log_file(mode: Mode) {
    let world = World::new(mode);
    let log = world.path("log");
    let option = ["-E".as_ref(), log.as_os_str(), "-oNo=1".as_ref()];
    let run = world.ssh(option).output();
    run.assert_status(255);
    assert!(run.err().contains("Bad configuration option: no"), "{run:?}");
    assert!(!log.exists() || fs::read(&log).expect("readable").is_empty(), "nothing is logged");
}

#[test]
fn every_algorithm_we_list_is_one_of_opensshs() {
    if e2e::skip() {
        return;
    }
    let world = World::new(Mode::Plain);
    let list = |program: &std::path::Path, question: &str| {
        let run = world.program(program).command(["-Q", question]).output();
        run.assert_status(0);
        run.out().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (ours, theirs) = (Mode::Plain.client(), Mode::OpenSsh.client());
    for question in list(&ours, "help") {
        let known = list(&theirs, &question);
        let listed = list(&ours, &question);
        assert!(!listed.is_empty(), "{question}");
        for name in listed {
            // Newer than the OpenSSH of some distributions.
            assert!(known.contains(&name) || name.starts_with("mlkem768"), "{question}: {name}");
        }
    }
    let run = world.program(&ours).command(["-Q", "nonsense"]).output();
    run.assert_status(255);
    assert_eq!(run.err(), "Unsupported query \"nonsense\"\n");
}

in_modes!(tssh, the_systems_ssh_may_log_in_instead);
fn the_systems_ssh_may_log_in_instead(mode: Mode) {
    let world = World::builder(mode).server_config("LogLevel DEBUG1").start();
    let run = world.ssh(["--via-ssh"]).command(["echo \"$0 ran\"; exit 7"]).output();
    run.assert_status(7);
    assert!(run.out().ends_with("ran\n"), "{run:?}");
    assert!(world.sshd_log().contains("OpenSSH_"), "it logged in: {}", world.sshd_log());
    assert!(!world.sshd_log().contains("tssh_"), "we did not: {}", world.sshd_log());
    world.wait_until_nothing_runs();
}

#[test]
fn a_company_wrapper_may_log_in_by_configuration() {
    if e2e::skip() {
        return;
    }
    let world = World::builder(Mode::Udp).client_config("#!! LoginCommand ./wrapper first").start();
    world.script("wrapper", "echo \"$1\" >>wrapped; shift; exec ssh \"$@\"\n");
    world.ssh([] as [&str; 0]).command(["echo in"]).output().assert_prints("in\n");
    assert_eq!(fs::read_to_string(world.path("wrapped")).expect("it ran"), "first\n");
}
