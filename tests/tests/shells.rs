//! The server starts whatever the remote user's shell is, and whatever its start-up files do.
//!
//! sshd runs the shell by `ForceCommand`, as it would run that of the passwd entry.

use std::path::Path;

use e2e::{Mode, World};

/// Each shell, the start-up file it reads for a command, and one that makes noise: a megabyte,
/// colours, half a line, and a word on standard error.
const SHELLS: &[(&str, &str, &str)] = &[
    ("/bin/bash -c", ".bashrc", NOISE),
    ("/bin/dash -c", ".none", ""),
    ("/usr/bin/zsh -c", ".zshenv", NOISE),
    ("/usr/bin/fish -c", ".config/fish/config.fish", FISH_NOISE),
    ("/usr/bin/tcsh -c", ".tcshrc", CSH_NOISE),
    ("/bin/busybox ash -c", ".none", ""),
];

const NOISE: &str = "head -c 1000000 /dev/zero | tr '\\0' x; printf '\\033[31mred\\033[0m\\r'; \
                     echo complaint >&2; printf 'no line end'\n";
const FISH_NOISE: &str = "head -c 1000000 /dev/zero | tr '\\0' x; printf '\\033[31mred\\033[0m\\r'; \
                          echo complaint >&2; printf 'no line end'\n";
const CSH_NOISE: &str = "head -c 1000000 /dev/zero | tr '\\0' x\nprintf '\\033[31mred\\033[0m\\r'\n\
                         printf 'no line end'\n";

/// A world whose user has this shell and start-up file; `None`, after saying so, without it.
fn world_of(shell: &str, file: &str, content: &str) -> Option<World> {
    let program = shell.split(' ').next().unwrap_or_default();
    if !Path::new(program).exists() {
        e2e::say_skipped(&format!("{program} is not installed"));
        return None;
    }
    let world = World::builder(Mode::Udp).server_config("ForceCommand @/shell").start();
    let home = world.path("rc");
    let file = home.join(file);
    std::fs::create_dir_all(file.parent().expect("in the home")).expect("writable");
    std::fs::write(&file, content).expect("writable");
    world.script(
        "shell",
        &format!(
            "export HOME='{home}' BASH_ENV='{home}/.bashrc'\n\
             exec {shell} \"$SSH_ORIGINAL_COMMAND\"\n",
            home = home.display()
        ),
    );
    Some(world)
}

#[test]
fn noisy_start_up_files_of_every_shell_do_not_hide_the_server() {
    if e2e::skip() {
        return;
    }
    for (shell, file, noise) in SHELLS {
        let Some(world) = world_of(shell, file, noise) else { continue };
        let run = world.ssh([] as [&str; 0]).command(["echo reached"]).output();
        run.assert_status(0);
        // The command's own shell may make its noise, as it would with ssh.
        assert!(run.out().ends_with("reached\n"), "{shell}");
        world.wait_until_nothing_runs();
    }
}

#[test]
fn a_start_up_file_that_ends_the_shell_is_named_by_its_own_words() {
    if e2e::skip() {
        return;
    }
    for (shell, file, _) in SHELLS {
        for end in ["exit 3", "exec true"] {
            // Some shells read no file for a command, and some ignore `exit` in it.
            let goes_on = shell.contains("fish") || shell.contains("tcsh");
            if *file == ".none" || (end == "exit 3" && goes_on) {
                continue;
            }
            let Some(world) = world_of(shell, file, &format!("echo not today\n{end}\n")) else {
                continue;
            };
            let run = world.ssh([] as [&str; 0]).command(["echo reached"]).output();
            assert_eq!(run.out(), "", "{shell}, {end}: {run:?}");
            run.assert_status(255);
            assert!(run.err().contains("not today"), "{shell}, {end}: {run:?}");
            assert!(run.err().lines().count() <= 3, "{shell}: {run:?}");
            world.wait_until_nothing_runs();
        }
    }
}
