//! Subsystems, sftp above all: the client is what `sftp` and `scp` start.

use std::fs::File;
use std::path::Path;

use e2e::{Mode, Outcome, Pattern, World, in_modes};

const SIZE: u64 = 20 << 20;

in_modes!(everywhere, sftp_puts_and_gets_files);
fn sftp_puts_and_gets_files(mode: Mode) {
    put_and_get(&World::new(mode));
}

in_modes!(everywhere, sftp_works_where_sshd_serves_it_itself);
fn sftp_works_where_sshd_serves_it_itself(mode: Mode) {
    let world = World::builder(mode).sftp("internal-sftp").start();
    if mode.is_link() && !world.show_tsshd_this_sshd_config() {
        return;
    }
    put_and_get(&world);
}

in_modes!(everywhere, scp_copies_there_and_back);
fn scp_copies_there_and_back(mode: Mode) {
    let world = World::new(mode);
    let pattern = Pattern::new(5, SIZE);
    let [local, remote, back] = ["local", "remote", "back"].map(|name| world.path(name));
    world.write("local", pattern.clone().bytes());
    let at_host = |path: &Path| format!("{}:{}", e2e::HOST, path.display()).into();
    let copy = |from, to| {
        let client = world.client_script().into_os_string();
        world.program("scp").command(["-q".into(), "-S".into(), client, from, to]).output()
    };
    copy(local.into_os_string(), at_host(&remote)).assert_prints("");
    copy(at_host(&remote), back.clone().into_os_string()).assert_prints("");
    pattern.assert_equals("scp", File::open(back).expect("the copy"));
}

in_modes!(everywhere, an_unknown_subsystem_is_an_error);
fn an_unknown_subsystem_is_an_error(mode: Mode) {
    let world = World::new(mode);
    let run = world.ssh(["-s"]).command(["no-such-subsystem"]).output();
    assert_ne!(run.status.code(), Some(0), "{run:?}");
    assert!(run.err().contains("subsystem"), "{run:?}");
    assert_eq!(run.out(), "", "{run:?}");
}

fn put_and_get(world: &World) {
    let pattern = Pattern::new(4, SIZE);
    world.write("local", pattern.clone().bytes());
    let batch = "put local remote\nrename remote moved\nget moved back\nls -l moved\nrm moved\n";
    let run = sftp(world, batch);
    run.assert_status(0);
    assert!(run.out().contains(&SIZE.to_string()), "the listing: {run:?}");
    assert!(!world.path("moved").exists(), "the file was removed again");
    pattern.assert_equals("sftp", File::open(world.path("back")).expect("the fetched file"));
    let run = sftp(world, "get no-such-file\n");
    assert_ne!(run.status.code(), Some(0), "{run:?}");
    world.wait_until_nothing_runs();
}

/// Runs an sftp batch, both sides in the world's directory.
fn sftp(world: &World, batch: &str) -> Outcome {
    let here = world.path("");
    let batch = world.write("batch", format!("cd {}\n{batch}", here.display()));
    let client = world.client_script();
    let words = ["-S".as_ref(), client.as_os_str(), "-b".as_ref(), batch.as_os_str()];
    world.program("sftp").command(words).command([e2e::HOST]).output()
}
