//! Who we are: keys, passphrases, the agent.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;

use e2e::{Mode, World, in_modes, wait_until};
use rustix::process::Signal;

in_modes!(everywhere, a_key_that_is_not_authorised_is_denied);
fn a_key_that_is_not_authorised_is_denied(mode: Mode) {
    let world = World::new(mode);
    world.write("authorized_keys", "");
    let run = world.ssh([] as [&str; 0]).command(["echo reached"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "", "{run:?}");
    assert!(run.err().contains("Permission denied (publickey)."), "{run:?}");
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, the_passphrase_of_a_key_is_asked_for_and_not_shown);
fn the_passphrase_of_a_key_is_asked_for_and_not_shown(mode: Mode) {
    let world = World::new(mode);
    let key = with_key(&world, "locked", "open sesame");
    let mut client = world.pty([] as [&str; 0]).command(["echo in"]).start();
    let question = format!("Enter passphrase for key '{}': ", key.display());
    client.expect(&question);
    client.line("wrong guess");
    client.expect(&question);
    client.line("open sesame");
    client.expect("in\r\n");
    let screen = String::from_utf8_lossy(&client.assert_ends(0)).into_owned();
    assert!(!screen.contains("sesame") && !screen.contains("guess"), "{screen:?}");
}

in_modes!(everywhere, a_locked_key_is_not_used_when_nobody_can_be_asked);
fn a_locked_key_is_not_used_when_nobody_can_be_asked(mode: Mode) {
    let world = World::new(mode);
    with_key(&world, "locked", "open sesame");
    let run = world.ssh(["-o", "BatchMode=yes"]).command(["echo reached"]).output();
    run.assert_status(255);
    assert!(run.err().contains("Permission denied (publickey)."), "{run:?}");
}

in_modes!(everywhere, the_agent_signs_for_a_key_it_holds);
fn the_agent_signs_for_a_key_it_holds(mode: Mode) {
    let world = World::new(mode);
    let socket = world.path("agent");
    let agent =
        world.program("ssh-agent").command(["-D".as_ref(), "-a".as_ref(), socket.as_os_str()]);
    let agent = agent.start();
    wait_until("the agent listens", || UnixStream::connect(&socket).is_ok());
    let add = world.program("ssh-add").env("SSH_AUTH_SOCK", &socket);
    add.command([world.path("id")]).output().assert_status(0);
    // Only the agent can do it now.
    std::fs::remove_file(world.path("id")).expect("the private key was there");
    let option = format!("IdentityAgent={}", socket.display());
    let run = world.ssh(["-o", &option, "-o", "IdentitiesOnly=no"]).command(["echo in"]).output();
    run.assert_prints("in\n");
    agent.signal(Signal::TERM);
    let _ = agent.wait();
}

in_modes!(everywhere, keys_of_all_common_types_log_in);
fn keys_of_all_common_types_log_in(mode: Mode) {
    let world = World::new(mode);
    let types: [(&str, &[&str]); 4] = [
        ("ed25519", &[]),
        ("ecdsa", &["-b", "256"]),
        ("rsa", &["-b", "2048"]),
        ("rsa", &["-b", "2048", "-m", "PEM"]),
    ];
    for (number, (kind, options)) in types.into_iter().enumerate() {
        let name = format!("key{number}");
        let make = world.program("ssh-keygen").command(["-q", "-N", "", "-t", kind, "-f", &name]);
        make.command(options).output().assert_status(0);
        authorise(&world, &name);
        let key = world.path(&name);
        let identity = ["-i".as_ref(), key.as_os_str()];
        world.ssh(identity).command(["echo in"]).output().assert_prints("in\n");
    }
}

in_modes!(tssh, a_client_that_is_killed_at_a_question_leaves_the_terminal_as_it_was);
fn a_client_that_is_killed_at_a_question_leaves_the_terminal_as_it_was(mode: Mode) {
    let world = World::new(mode);
    with_key(&world, "locked", "open sesame");
    for signal in [Signal::HUP, Signal::INT, Signal::TERM, Signal::KILL] {
        let mut client = world.pty([] as [&str; 0]).command(["echo in"]).start();
        client.expect("Enter passphrase for key");
        assert_ne!(&client.modes(), client.modes_before(), "nothing would show");
        client.signal(signal);
        let (status, _) = client.wait();
        assert_eq!(status.signal(), Some(signal.as_raw()), "it ends as the signal says");
        client.assert_restored();
    }
}

/// Makes a key the only one that is authorised, under the name the configuration offers.
fn with_key(world: &World, name: &str, passphrase: &str) -> std::path::PathBuf {
    let key = world.keygen(name, passphrase);
    authorise(world, name);
    let configured = world.path("id");
    std::fs::rename(&key, &configured).expect("the key can be moved");
    std::fs::rename(key.with_extension("pub"), configured.with_extension("pub"))
        .expect("the public key can be moved");
    configured
}

fn authorise(world: &World, name: &str) {
    let public = std::fs::read(world.path(format!("{name}.pub"))).expect("the public key");
    world.write("authorized_keys", public);
}
