//! Keywords of the server's configuration, one by one, as the real sshd takes them.
//!
//! Those about forwarding connections are in `remote_forward`, the agent's in `agent`, X11's
//! first ones in `x11`.

use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::net::Echo;
use e2e::{Mode, Stdin, World, in_modes, say_skipped};

/// A world with that configuration; `None` where it cannot be shown to tsshd.
fn world(mode: Mode, config: &str) -> Option<World> {
    let world = World::builder(mode).sshd_config(config).start();
    (!mode.is_link() || world.show_tsshd_this_sshd_config()).then_some(world)
}

in_modes!(everywhere, permit_tty_decides_about_terminals);
fn permit_tty_decides_about_terminals(mode: Mode) {
    for (config, permitted) in [("PermitTTY yes", true), ("PermitTTY no", false)] {
        let Some(world) = world(mode, config) else { return };
        let run = world.ssh(["-tt"]).command(["tty; true"]).output();
        assert_eq!(run.out().contains("/dev/"), permitted, "{config}: {run:?}");
    }
}

in_modes!(everywhere, accept_env_decides_about_variables);
fn accept_env_decides_about_variables(mode: Mode) {
    for (config, shown) in [("AcceptEnv E2E_A*", "[yes][]\n"), ("", "[][]\n")] {
        let Some(world) = world(mode, config) else { return };
        let run = world.ssh(["-oSendEnv=E2E_AB", "-oSetEnv=E2E_B=no"]).env("E2E_AB", "yes");
        let run = run.command(["echo \"[$E2E_AB][$E2E_B]\""]).output();
        assert_eq!(run.out(), shown, "{config}: {run:?}");
    }
}

in_modes!(everywhere, stream_local_bind_mask_and_unlink_are_kept_to);
fn stream_local_bind_mask_and_unlink_are_kept_to(mode: Mode) {
    let echo = Echo::start();
    for (config, bits, replaces) in [
        ("", 0o600, false),
        ("StreamLocalBindMask 0111", 0o666, false),
        ("StreamLocalBindUnlink yes", 0o600, true),
    ] {
        let Some(world) = world(mode, config) else { return };
        let path = world.path("far.sock");
        let spec = format!("{}:127.0.0.1:{}", path.display(), echo.port());
        let run = |show: String| {
            let run = world.ssh(["-oExitOnForwardFailure=yes", "-R", &spec]);
            run.command([show]).output()
        };
        let shown = run(format!("stat -c %a {}", path.display()));
        assert_eq!(shown.out(), format!("{bits:o}\n"), "{config}: {shown:?}");
        let _ = std::fs::remove_file(&path);
        world.write("far.sock", "in the way");
        let again = run("true".to_owned());
        assert_eq!(again.status.code() == Some(0), replaces, "{config}: {again:?}");
        if !replaces {
            let mode = path.metadata().expect("it is still there").permissions().mode();
            assert_ne!(mode & 0o170_000, 0o140_000, "nothing was put in its place");
        }
    }
}

in_modes!(everywhere, x11_use_localhost_decides_who_may_connect_to_a_display);
fn x11_use_localhost_decides_who_may_connect_to_a_display(mode: Mode) {
    if !Path::new("/usr/bin/xauth").exists() {
        return say_skipped("/usr/bin/xauth is missing");
    }
    for (config, is_local) in [("X11UseLocalhost yes", true), ("X11UseLocalhost no", false)] {
        let config = format!("X11Forwarding yes\nX11DisplayOffset 70\n{config}");
        let dir = tempfile::tempdir().expect("a directory");
        let cookies = dir.path().join("far").display().to_string();
        let Some(world) = world(mode, &format!("{config}\nSetEnv XAUTHORITY={cookies}")) else {
            return;
        };
        let run = world.ssh(["-Y"]).env("DISPLAY", ":987").env("XAUTHORITY", "/dev/null");
        let run = run.stdin(Stdin::Open);
        let mut client = run.command(["echo \"at $DISPLAY.\"; cat"]).start();
        client.wait_for_stdout(".\n");
        let said = client.stdout();
        let display = said.strip_prefix("at ").and_then(|rest| rest.strip_suffix(".\n"));
        let (host, rest) =
            display.and_then(|d| d.rsplit_once(':')).unwrap_or_else(|| panic!("{said}"));
        assert_eq!(host == "localhost", is_local, "{said}");
        let number: u16 = rest.trim_end_matches(".0").parse().expect("a display number");
        let elsewhere = TcpStream::connect((Ipv4Addr::from([127, 0, 0, 2]), 6000 + number));
        assert_eq!(elsewhere.is_err(), is_local, "{config}");
        drop(elsewhere);
        client.close_stdin();
        let _ = client.wait();
    }
}
