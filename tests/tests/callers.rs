//! Programs that call ssh: rsync, git, Ansible. (scp and sftp have a file of their own.)
//!
//! Each is told to call the client under test by a script, as users tell it.

use std::fs;
use std::path::Path;

use e2e::{Mode, Pattern, World, in_modes};

/// Returns whether a program is there, after saying so if it is not.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    if !found {
        e2e::say_skipped(&format!("{program} is not installed"));
    }
    found
}

in_modes!(everywhere, rsync_copies_trees_there_and_back);
fn rsync_copies_trees_there_and_back(mode: Mode) {
    if !has("rsync") {
        return;
    }
    let world = World::new(mode);
    let [tree, there, back] = ["tree", "there", "back"].map(|name| world.path(name));
    fs::create_dir_all(tree.join("a/b")).expect("writable");
    let content = Pattern::new(3, 3_000_000).bytes();
    fs::write(tree.join("a/b/big"), &content).expect("writable");
    fs::write(tree.join("a/with space"), "x").expect("writable");
    let shell = world.client_script();
    let copy = |from: String, to: String| {
        let arguments = ["-a", "-e", &shell.display().to_string(), &from, &to].map(str::to_owned);
        let run = world.program("rsync").command(arguments).output();
        run.assert_status(0);
        assert_eq!(run.err(), "", "{run:?}");
    };
    copy(format!("{}/", tree.display()), format!("world:{}/", there.display()));
    copy(format!("world:{}/", there.display()), format!("{}/", back.display()));
    assert!(fs::read(back.join("a/b/big")).expect("copied") == content);
    assert_eq!(fs::read(back.join("a/with space")).expect("copied"), b"x");
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, git_clones_and_pushes);
fn git_clones_and_pushes(mode: Mode) {
    if !has("git") {
        return;
    }
    let world = World::new(mode);
    let shell = world.client_script();
    let git = |arguments: &[&str]| {
        let run = world
            .program("git")
            .command(["-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"])
            .command(arguments)
            .env("GIT_SSH", &shell)
            .output();
        run.assert_status(0);
        run.out()
    };
    git(&["init", "-q", "--bare", "far repo"]);
    let url = format!("world:{}", world.path("far repo").display());
    git(&["clone", "-q", &url, "near"]);
    let big = world.path("near/big");
    fs::write(&big, Pattern::new(5, 2_000_000).bytes()).expect("writable");
    git(&["-C", "near", "add", "big"]);
    git(&["-C", "near", "commit", "-q", "-m", "one"]);
    git(&["-C", "near", "push", "-q", "origin", "HEAD:main"]);
    git(&["clone", "-q", "-b", "main", &url, "again"]);
    let again = fs::read(world.path("again/big")).expect("cloned");
    assert!(again == fs::read(&big).expect("there"));
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, ansible_pings);
fn ansible_pings(mode: Mode) {
    if !has("ansible") {
        return;
    }
    let world = World::new(mode);
    let shell = world.client_script();
    let python = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter();
    let python = python.into_iter().find(|path| Path::new(path).exists()).unwrap_or("python3");
    let inventory = format!(
        "world ansible_ssh_executable={} ansible_python_interpreter={python}\n",
        shell.display()
    );
    let inventory = world.write("inventory", inventory);
    let run = world
        .program("ansible")
        .command(["-i".as_ref(), inventory.as_os_str(), "world".as_ref()])
        .command(["-m", "ping"])
        // Connections that outlive the test are not what is tested.
        .env("ANSIBLE_SSH_ARGS", "-C")
        .env("ANSIBLE_HOST_KEY_CHECKING", "True")
        .env("ANSIBLE_LOCAL_TEMP", world.path("tmp").join("ansible"))
        .output();
    run.assert_status(0);
    assert!(run.out().contains("\"ping\": \"pong\""), "{run:?}");
}
