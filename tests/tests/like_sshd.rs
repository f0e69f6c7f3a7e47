//! The same sshd_config before both: what sshd lets stock ssh do, tsshd lets tssh do over a
//! link, and nothing else.
//!
//! Here nobody says what is expected: each probe is made twice and the two have to see the same.
//! The tables of `policy`, `remote_forward`, `agent` and `x11` say it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::net::{Echo, connect_unix, free_port};
use e2e::{Mode, Outcome, Run, Stdin, World, in_modes, say_skipped, wait_until};
use rustix::process::Signal;

use crate::agent::Agent;

/// One of the two clients: stock ssh over sshd, or tssh over tsshd.
#[derive(Clone, Copy)]
struct Client<'w> {
    world: &'w World,
    is_ours: bool,
}

impl<'w> Client<'w> {
    fn run(&self, options: &[&str]) -> Run<'w> {
        if self.is_ours { self.world.ssh(options) } else { self.world.openssh(options) }
    }

    fn output(&self, options: &[&str], command: &str) -> Outcome {
        self.run(options).command([command]).output()
    }

    /// Whether `-R spec` is granted, and what a command prints meanwhile.
    fn listen(&self, spec: &str, command: &str) -> String {
        let run = self.output(&["-oExitOnForwardFailure=yes", "-R", spec], command);
        // A command may have begun before the refusal came.
        let out = if run.status.success() { run.out() } else { "refused".to_owned() };
        format!("{:?} {out:?}", run.status.code())
    }
}

/// What can be seen of forwards.
fn forwards(client: Client<'_>, port: u16, echo: &Echo) -> String {
    let (world, mut seen) = (client.world, String::new());
    let mut note = |what: &str, value: String| {
        let _ = writeln!(seen, "{what}: {value}");
    };
    for host in ["127.0.0.1", "localhost"] {
        let to = format!("{host}:{}", echo.port());
        let run = client.run(&["-W", &to]).stdin(Stdin::Bytes(b"sent".to_vec())).output();
        note(&format!("-W {host}"), format!("{:?} {:?}", run.status.code(), run.out()));
    }
    let to = format!("127.0.0.1:{}", echo.port());
    for bind in ["", "localhost:", "127.0.0.1:", "*:"] {
        // Who may connect is told by the command itself: the listener ends with it.
        let reach = format!("ss -Hltn 'sport = :{port}' | awk '{{print $4}}' | sort");
        note(&format!("-R {bind}"), client.listen(&format!("{bind}{port}:{to}"), &reach));
    }
    let far = world.path("policy.sock");
    let far_shown = far.display();
    let listened = client.listen(&format!("{far_shown}:{to}"), &format!("stat -c %a {far_shown}"));
    note("-R socket", listened);
    let _ = std::fs::remove_file(&far);
    world.write("policy.sock", "in the way");
    note("-R socket over a file", client.listen(&format!("{far_shown}:{to}"), "true"));
    let _ = std::fs::remove_file(&far);
    note("-L to a socket", dial_socket(client));
    seen
}

/// What comes back from a unix socket of the far host.
fn dial_socket(client: Client<'_>) -> String {
    let [near, far] = ["near.sock", "far.sock"].map(|name| client.world.path(name));
    if !far.exists() {
        Echo::start_unix(&far);
    }
    let _ = std::fs::remove_file(&near);
    let spec = format!("{}:{}", near.display(), far.display());
    let running = client.run(&["-N", "-L", &spec]).start();
    let mut stream = connect_unix(&near);
    let mut got = String::new();
    // A refusal may come before or after what is sent.
    let _ = stream.write_all(b"sent");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_string(&mut got);
    // Stock ssh now and then does not end by itself after a refusal.
    running.signal(if client.is_ours { Signal::TERM } else { Signal::KILL });
    let _ = running.wait();
    format!("{got:?}")
}

/// What can be seen of sessions.
fn sessions(client: Client<'_>) -> String {
    let (world, mut seen) = (client.world, String::new());
    let mut note = |what: &str, run: &Outcome| {
        let _ = writeln!(seen, "{what}: {:?} {:?}", run.status.code(), run.out());
    };
    let agent = Agent::start(world);
    let run = client.run(&["-A", "-oIdentityAgent=SSH_AUTH_SOCK"]);
    let run = run.env("SSH_AUTH_SOCK", &agent.socket);
    let has_agent = "test -S \"$SSH_AUTH_SOCK\" && echo agent || echo none";
    note("-A", &run.command([has_agent]).output());
    let x11 = client.run(&["-Y"]).env("DISPLAY", ":987").env("XAUTHORITY", "/dev/null");
    // Which display is free may change from one to the other.
    let display = "echo \"[${DISPLAY#$(uname -n)}]\" | sed 's/[0-9][0-9]*/N/'";
    note("-Y", &x11.command([display]).output());
    let env = client.run(&["-oSetEnv=E2E_A=1 E2E_BC=2 LC_X=3 OTHER=4"]);
    let show = "echo \"[$E2E_A][$E2E_BC][$LC_X][$OTHER][$FROM_KEY][$FROM_CONFIG]\"";
    note("environment", &env.command([show]).output());
    note("-tt", &client.output(&["-tt"], "test -t 0 && echo tty || echo none"));
    note("command", &client.output(&[], "echo \"<$SSH_ORIGINAL_COMMAND>\"; exit 3"));
    let run = client.run(&["-T"]).stdin(Stdin::Bytes(b"echo in a shell\n".to_vec()));
    note("shell", &run.output());
    for name in ["extra", "unknown"] {
        let run = client.run(&["-s"]).command([name]).stdin(Stdin::Bytes(b"x".to_vec()));
        note(&format!("subsystem {name}"), &run.output());
    }
    seen
}

/// A configuration: lines before all others, and lines behind them, where `Match` can stand.
type Config<'a> = (&'a str, &'a str);

/// Compares both clients under each configuration; all of them in the soak test only.
fn compare(mode: Mode, configs: &[Config<'_>], observe: impl Fn(Client<'_>) -> String) {
    let full = std::env::var_os("E2E_FULL").is_some_and(|full| full == "1");
    for (first, last) in configs.iter().step_by(if full { 1 } else { 4 }) {
        let world = World::builder(mode).server_config(first).sshd_config(last).start();
        let path = world.path("authorized_keys");
        let key = std::fs::read_to_string(&path).expect("the key is there");
        let line = format!("environment=\"FROM_KEY=key\" {key}");
        std::fs::write(&path, line).expect("the file can be written");
        let mode_of = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode_of & 0o022, 0, "sshd believes it");
        if !world.show_tsshd_this_sshd_config() {
            return;
        }
        let theirs = observe(Client { world: &world, is_ours: false });
        wait_until("the first client's sessions are gone", || world.server_processes().is_empty());
        let ours = observe(Client { world: &world, is_ours: true });
        assert_eq!(ours, theirs, "ours and theirs under {first:?} {last:?}");
    }
}

in_modes!(@ forwards_are_granted_as_by_sshd udp Udp);
fn forwards_are_granted_as_by_sshd(mode: Mode) {
    // Without it both would see nothing, and be alike.
    if std::process::Command::new("ss").arg("-V").output().is_err() {
        return say_skipped("no ss (install iproute2)");
    }
    let (port, echo) = (free_port(), Echo::start());
    let dir = tempfile::tempdir().expect("a directory");
    let included = dir.path().join("included.conf");
    std::fs::write(&included, "AllowTcpForwarding remote\n").expect("writable");
    let opens = |host: &str| format!("PermitOpen {host}:{}", echo.port());
    let listens = |host: &str| format!("PermitListen {host}{port}");
    let include = format!("Include {}", included.display());
    let [at_ip, at_name, at_any, any_port] = [
        opens("127.0.0.1"),
        opens("localhost"),
        opens("*"),
        format!("PermitOpen 10.0.0.1:1 127.0.0.1:* localhost:{}", echo.port()),
    ];
    let listen = ["", "localhost:", "127.0.0.1:", "*:"].map(listens);
    compare(
        mode,
        &[
            ("", ""),
            ("AllowTcpForwarding yes", ""),
            ("AllowTcpForwarding all", ""),
            ("AllowTcpForwarding no", ""),
            ("AllowTcpForwarding local", ""),
            ("AllowTcpForwarding remote", ""),
            ("AllowStreamLocalForwarding no", ""),
            ("AllowStreamLocalForwarding local", ""),
            ("AllowStreamLocalForwarding remote", ""),
            ("DisableForwarding yes", ""),
            ("AllowTcpForwarding local\nAllowTcpForwarding no", ""),
            ("allowtcpforwarding=No", ""),
            ("GatewayPorts yes", ""),
            ("GatewayPorts clientspecified", ""),
            ("GatewayPorts no", ""),
            (&at_ip, ""),
            (&at_name, ""),
            ("PermitOpen none", ""),
            (&any_port, ""),
            (&at_any, ""),
            ("PermitOpen any", ""),
            (&listen[0], ""),
            ("PermitListen none", ""),
            ("PermitListen any", ""),
            (&listen[1], ""),
            (&listen[2], ""),
            (&listen[3], "GatewayPorts clientspecified"),
            ("StreamLocalBindMask 0117", ""),
            ("StreamLocalBindUnlink yes", ""),
            ("StreamLocalBindUnlink no", ""),
            (&include, "AllowTcpForwarding no"),
            ("", "Match user *\nAllowTcpForwarding no"),
            ("", "Match user nobody-else\nAllowTcpForwarding no"),
            ("AllowTcpForwarding no", "Match all\nAllowTcpForwarding local"),
            ("", "Match address 127.0.0.0/8\nDisableForwarding yes"),
            ("", "Match address 10.0.0.0/8 user *\nPermitOpen none"),
            ("", "Match localaddress 127.0.0.1\nPermitOpen none\nMatch all\nPermitOpen any"),
            ("", &format!("Match user !nobody,*\n{include}")),
        ],
        |client| forwards(client, port, &echo),
    );
}

in_modes!(@ sessions_have_what_sshd_gives_them udp Udp);
fn sessions_have_what_sshd_gives_them(mode: Mode) {
    let has_xauth = Path::new("/usr/bin/xauth").exists();
    let x11 = if has_xauth { "X11Forwarding yes\nX11DisplayOffset 130" } else { "" };
    let with = |more: &str| format!("{x11}\n{more}");
    let everywhere = with("X11UseLocalhost no");
    let disabled = with("DisableForwarding yes");
    let no_program = with("XAuthLocation /no/xauth");
    let by_match = format!("Match user *\n{x11}");
    // What is forced has to start tsshd as well, or there are no sessions to look at.
    let dir = tempfile::tempdir().expect("a directory");
    let wrapper = dir.path().join("wrapper");
    let script = "case \"$SSH_ORIGINAL_COMMAND\" in\n\
         *--ext*) exec sh -c \"$SSH_ORIGINAL_COMMAND\" ;;\n\
         *) echo \"forced: $SSH_ORIGINAL_COMMAND\"; test -t 0 || cat ;;\nesac\n";
    std::fs::write(&wrapper, script).expect("writable");
    let forced = format!("ForceCommand sh {}", wrapper.display());
    let by_block = format!("Match user *\n{forced}");
    let by_another = format!("Match user nobody-else\n{forced}");
    let with_subsystem = format!("{forced}\nSubsystem extra sed s/x/y/");
    compare(
        mode,
        &[
            (x11, ""),
            (&everywhere, ""),
            (&disabled, ""),
            ("AcceptEnv E2E_A OTH*", ""),
            ("AcceptEnv E2E_?", "AcceptEnv *C"),
            ("AcceptEnv E2E_A", "Match all\nAcceptEnv OTHER"),
            ("PermitTTY no", ""),
            ("AllowAgentForwarding no", ""),
            ("DisableForwarding yes", ""),
            (&with_subsystem, ""),
            ("ForceCommand none", &by_block),
            ("", &by_another),
            ("Subsystem extra sed s/x/y/", ""),
            ("Subsystem extra cat", "Match user *\nPermitTTY no"),
            ("Subsystem other cat", ""),
            ("PermitUserEnvironment yes", ""),
            ("PermitUserEnvironment no", ""),
            ("PermitUserEnvironment FROM_*", ""),
            ("SetEnv FROM_CONFIG=config", ""),
            (&no_program, ""),
            ("X11Forwarding no", &by_match),
        ],
        sessions,
    );
}
