//! Whom we talk to: known, unknown and changed host keys.

use e2e::{Mode, World, in_modes};

in_modes!(everywhere, a_changed_host_key_is_refused_with_a_warning);
fn a_changed_host_key_is_refused_with_a_warning(mode: Mode) {
    let world = World::new(mode);
    world.keygen("other_host", "");
    world.write("known_hosts", world.known_hosts_line("other_host"));
    for strictness in ["yes", "ask", "accept-new"] {
        let option = format!("StrictHostKeyChecking={strictness}");
        let run = world.ssh(["-o", &option]).command(["echo reached"]).output();
        run.assert_status(255);
        assert_eq!(run.out(), "", "{run:?}");
        assert!(run.err().contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{run:?}");
        assert!(run.err().contains("Host key verification failed."), "{run:?}");
        let offending = format!("{}:1", world.path("known_hosts").display());
        assert!(run.err().contains(&offending), "where the old key is: {run:?}");
    }
    assert!(!world.sshd_log().contains("Accepted"), "no login was tried: {}", world.sshd_log());
}

in_modes!(everywhere, an_unknown_host_key_is_refused_when_nobody_can_be_asked);
fn an_unknown_host_key_is_refused_when_nobody_can_be_asked(mode: Mode) {
    let world = World::new(mode);
    world.write("known_hosts", "");
    for option in ["StrictHostKeyChecking=yes", "BatchMode=yes", "StrictHostKeyChecking=ask"] {
        let options = ["-o", option, "-o", "StrictHostKeyChecking=ask"];
        let run = world.ssh(options).command(["echo reached"]).output();
        run.assert_status(255);
        assert_eq!(run.out(), "", "{run:?}");
        assert!(run.err().contains("Host key verification failed."), "{run:?}");
    }
    assert!(!world.sshd_log().contains("Accepted"), "no login was tried: {}", world.sshd_log());
}

in_modes!(everywhere, an_unknown_host_key_is_asked_about_and_remembered);
fn an_unknown_host_key_is_asked_about_and_remembered(mode: Mode) {
    let world = World::new(mode);
    world.write("known_hosts", "");
    let mut client = world.pty(["-o", "StrictHostKeyChecking=ask"]).command(["echo in"]).start();
    client.expect("The authenticity of host '");
    client.expect(&fingerprint(&world));
    client.expect("Are you sure you want to continue connecting (yes/no/[fingerprint])? ");
    client.line("perhaps");
    client.expect("Please type 'yes', 'no' or the fingerprint: ");
    client.line("yes");
    client.expect("Permanently added '");
    client.expect("in\r\n");
    client.assert_ends(0);
    // The world's configuration says StrictHostKeyChecking yes.
    world.ssh([] as [&str; 0]).command(["echo again"]).output().assert_prints("again\n");
}

in_modes!(everywhere, an_unknown_host_key_is_accepted_by_its_fingerprint);
fn an_unknown_host_key_is_accepted_by_its_fingerprint(mode: Mode) {
    let world = World::new(mode);
    world.write("known_hosts", "");
    let mut client = world.pty(["-o", "StrictHostKeyChecking=ask"]).command(["echo in"]).start();
    client.expect("[fingerprint])? ");
    client.line(&fingerprint(&world));
    client.expect("in\r\n");
    client.assert_ends(0);
}

in_modes!(everywhere, an_unknown_host_key_that_is_declined_is_not_remembered);
fn an_unknown_host_key_that_is_declined_is_not_remembered(mode: Mode) {
    let world = World::new(mode);
    world.write("known_hosts", "");
    let mut client = world.pty(["-o", "StrictHostKeyChecking=ask"]).command(["echo in"]).start();
    client.expect("[fingerprint])? ");
    client.line("no");
    client.expect("Host key verification failed.");
    client.assert_ends(255);
    let known = std::fs::read_to_string(world.path("known_hosts")).expect("known_hosts");
    assert_eq!(known, "");
    assert!(!world.sshd_log().contains("Accepted"), "no login was tried: {}", world.sshd_log());
}

in_modes!(everywhere, with_accept_new_an_unknown_key_is_added_without_a_question);
fn with_accept_new_an_unknown_key_is_added_without_a_question(mode: Mode) {
    let world = World::new(mode);
    world.write("known_hosts", "");
    let options = ["-o", "StrictHostKeyChecking=accept-new"];
    let run = world.ssh(options).command(["echo in"]).output();
    run.assert_status(0);
    assert!(run.err().contains("Permanently added"), "{run:?}");
    world.ssh([] as [&str; 0]).command(["echo again"]).output().assert_prints("again\n");
}

in_modes!(everywhere, a_hashed_known_hosts_line_is_found);
fn a_hashed_known_hosts_line_is_found(mode: Mode) {
    let world = World::new(mode);
    let known = world.path("known_hosts");
    let hash =
        world.program("ssh-keygen").command(["-H".as_ref(), "-f".as_ref(), known.as_os_str()]);
    hash.output().assert_status(0);
    let hashed = std::fs::read_to_string(&known).expect("known_hosts");
    assert!(hashed.starts_with("|1|"), "{hashed}");
    world.ssh([] as [&str; 0]).command(["echo in"]).output().assert_prints("in\n");
}

fn fingerprint(world: &World) -> String {
    let key = world.path("host_key.pub");
    let shown = world.program("ssh-keygen").command(["-lf".as_ref(), key.as_os_str()]).output();
    shown.out().split(' ').nth(1).expect("the fingerprint is the second word").to_owned()
}
