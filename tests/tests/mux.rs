//! Connection sharing: one login, and everybody's sessions on it, ours and stock OpenSSH's.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use e2e::net::{Echo, connect, exchange, free_port};
use e2e::{HOST, Mode, Pattern, PtyClient, Running, Stdin, World, in_modes, wait_until};
use rustix::process::Signal;

/// The option that names the socket.
fn at_socket(world: &World) -> String {
    format!("-oControlPath={}", world.path("control").display())
}

/// The mode's client, holding a connection for others.
fn master(world: &World) -> Running {
    let master = world.ssh(["-M", "-N", &at_socket(world)]).start();
    wait_until("the master listens", || world.path("control").exists());
    master
}

fn end(world: &World, master: Running) {
    master.signal(Signal::TERM);
    let _ = master.wait();
    world.wait_until_nothing_runs();
    assert!(!world.path("control").exists(), "the socket goes with its owner");
}

/// Waits until the shell of a guest answers and its terminal is raw, which a client can only make
/// it when it hears that the session runs.
fn settle(shell: &mut PtyClient) {
    shell.insist("echo set''tled", "settled\r\n");
    shell.sync();
}

fn logins(world: &World) -> usize {
    world.sshd_log().matches("Accepted publickey").count()
}

in_modes!(everywhere, openssh_s_client_runs_programs_on_a_shared_connection);
fn openssh_s_client_runs_programs_on_a_shared_connection(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let socket = std::fs::metadata(world.path("control")).expect("it is there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let shared = at_socket(&world);
    let run = world.openssh([&shared]).command(["echo out; echo err >&2; exit 7"]).output();
    run.assert_status(7);
    assert_eq!((run.out(), run.err()), ("out\n".into(), "err\n".into()));
    let pattern = Pattern::new(41, 4 << 20);
    let run = world.openssh([&shared]).stdin(Stdin::Pattern(pattern.clone()));
    let run = run.command(["cat"]).output();
    assert!(run.stdout == pattern.bytes(), "all of it comes back");
    let run = world.openssh([&shared]).command(["kill -9 $$"]).output();
    run.assert_status(255);
    let run = world.openssh([&*shared, "-oSetEnv=LC_SENT=seen"]).command(["echo $LC_SENT"]);
    let seen = run.output();
    seen.assert_status(0);
    assert_eq!(logins(&world), 1);
    end(&world, master);
}

in_modes!(everywhere, stock_programs_copy_files_and_clone_on_a_shared_connection);
fn stock_programs_copy_files_and_clone_on_a_shared_connection(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    ride(&world, || {});
    end(&world, master);
}

in_modes!(link, stock_programs_ride_a_connection_that_roams);
fn stock_programs_ride_a_connection_that_roams(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let master = master(&world);
    ride(&world, || relay.change_address());
    assert!(relay.paths() > 2, "programs found other paths");
    end(&world, master);
}

/// Runs stock programs on the shared connection, each after what is done `in_between`.
fn ride(world: &World, in_between: impl Fn()) {
    let (config, shared) = (world.path("config").display().to_string(), at_socket(world));
    let bytes = Pattern::new(42, 1 << 20).bytes();
    let source = world.write("source", &bytes).display().to_string();
    let ssh = format!("ssh -F {config} {shared}");
    let copied = |name: &str| std::fs::read(world.path(name)).expect("it was copied");

    in_between();
    let run = world.openssh([&*shared, "-O", "check"]).output();
    assert!(run.err().starts_with("Master running (pid="), "{run:?}");
    let socket = world.path("control").display().to_string();
    world.openssh(["-S", &socket]).command(["echo", "here"]).output().assert_prints("here\n");

    in_between();
    let to = format!("{HOST}:{}", world.path("by_scp").display());
    let run = world.program("scp").command(["-q", "-F", &config, &shared, &source, &to]).output();
    run.assert_prints("");
    assert!(copied("by_scp") == bytes);

    in_between();
    let to = format!("{HOST}:{}", world.path("by_rsync").display());
    if has(world, "rsync") {
        world.program("rsync").command(["-e", &ssh, &source, &to]).output().assert_prints("");
        assert!(copied("by_rsync") == bytes);
    }

    in_between();
    let git = |words: &[&str]| {
        let run = world.program("git").command(words).env("GIT_SSH_COMMAND", &ssh).output();
        run.assert_status(0);
        run.out()
    };
    git(&["init", "-q", "repo"]);
    let who = ["-c", "user.name=n", "-c", "user.email=e"];
    let commit = ["-C", "repo", "commit", "-q", "--allow-empty", "-m", "m"];
    git(&[&who[..], &commit].concat());
    let from = format!("{HOST}:{}", world.path("repo").display());
    git(&["clone", "-q", &from, "clone"]);
    let head = |name| git(&["-C", name, "rev-parse", "HEAD"]);
    assert_eq!(head("clone"), head("repo"));

    in_between();
    // It takes long, and what it does is no different elsewhere.
    if matches!(world.mode(), Mode::OpenSsh | Mode::Plain | Mode::Udp) && has(world, "ansible") {
        let inventory = world.write("inventory", format!("{HOST}\n"));
        let run = world
            .program("ansible")
            .command(["-i".as_ref(), inventory.as_os_str(), HOST.as_ref()])
            .command(["-m", "raw", "-a", "echo by ansible"])
            .env("ANSIBLE_SSH_ARGS", format!("-F {config} {shared}"))
            .env("ANSIBLE_LOCAL_TEMP", world.path("tmp").join("ansible"))
            .output();
        run.assert_status(0);
        assert!(run.out().contains("by ansible"), "{run:?}");
    }
    assert_eq!(logins(world), 1);
}

/// Returns whether a program is installed, after saying so if it is not.
fn has(world: &World, program: &str) -> bool {
    let found = world.program("sh").command(["-c", &format!("command -v {program}")]).output();
    if !found.status.success() {
        e2e::say_skipped(&format!("{program} is not installed"));
    }
    found.status.success()
}

in_modes!(tssh, the_connection_protocol_of_ssh_itself_is_not_lent);
fn the_connection_protocol_of_ssh_itself_is_not_lent(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let shared = at_socket(&world);
    for run in [world.ssh([&*shared, "-O", "proxy"]), world.openssh([&*shared, "-O", "proxy"])] {
        let run = run.output();
        run.assert_status(255);
        assert_eq!(run.out(), "");
        assert!(run.err().contains("-O proxy is not supported by tssh"), "{run:?}");
    }
    world.openssh([&shared]).command(["echo", "well"]).output().assert_prints("well\n");
    end(&world, master);
}

in_modes!(tssh, our_client_runs_programs_on_openssh_s_connection);
fn our_client_runs_programs_on_openssh_s_connection(mode: Mode) {
    let world = World::new(mode);
    let shared = at_socket(&world);
    let master = world.openssh(["-M", "-N", &shared]).start();
    wait_until("the master listens", || world.path("control").exists());
    let run = world.ssh([&shared]).command(["echo out; echo err >&2; exit 7"]).output();
    run.assert_status(7);
    assert_eq!((run.out(), run.err()), ("out\n".into(), "err\n".into()));
    let pattern = Pattern::new(43, 4 << 20);
    let run = world.ssh([&shared]).stdin(Stdin::Pattern(pattern.clone())).command(["cat"]).output();
    assert!(run.stdout == pattern.clone().bytes(), "all of it comes back");
    let echo = Echo::start();
    let to = format!("127.0.0.1:{}", echo.port());
    let run = world.ssh([&*shared, "-W", &to]).stdin(Stdin::Pattern(pattern.clone())).output();
    assert!(run.stdout == pattern.bytes(), "all of it comes back");
    let mut shell = world.pty([&shared]).start();
    settle(&mut shell);
    shell.resize(31, 97);
    shell.insist("stty size", "31 97\r\n");
    shell.line("exit 6");
    shell.assert_ends(6);
    assert_eq!(logins(&world), 1);
    end(&world, master);
}

in_modes!(everywhere, a_master_is_asked_and_answers_as_ssh_does);
fn a_master_is_asked_and_answers_as_ssh_does(mode: Mode) {
    let world = World::new(mode);
    let shared = at_socket(&world);
    let told = |ours: bool, options: &[&str]| {
        let options = [&[&*shared][..], options].concat();
        let run = if ours { world.ssh(options) } else { world.openssh(options) };
        let run = run.output();
        (run.status.code(), run.out(), run.err())
    };
    let same = |options: &[&str]| {
        let (ours, theirs) = (told(true, options), told(false, options));
        assert_eq!(ours, theirs, "{options:?}");
        ours
    };
    let nobody = same(&["-O", "check"]);
    assert!(nobody.2.ends_with("No such file or directory\r\n"), "{nobody:?}");
    let master = master(&world);
    let check = same(&["-O", "check"]);
    assert!(check.2.starts_with("Master running (pid="), "{check:?}");
    let echo = Echo::start();
    let (near, target) = (free_port(), echo.port());
    let forward = format!("{near}:127.0.0.1:{target}");
    assert_eq!(same(&["-O", "forward", "-L", &forward]).0, Some(0));
    assert_eq!(exchange(connect(near), b"near"), b"near");
    assert_eq!(told(false, &["-O", "cancel", "-L", &forward]).0, Some(0));
    wait_until("nobody listens here", || TcpStream::connect(("127.0.0.1", near)).is_err());
    same(&["-O", "cancel", "-L", &forward]);
    for ours in [true, false] {
        let dynamic = format!("0:127.0.0.1:{target}");
        let (status, port, _) = told(ours, &["-O", "forward", "-R", &dynamic]);
        assert_eq!(status, Some(0));
        let port: u16 = port.trim().parse().expect("the port is printed");
        assert_eq!(exchange(connect(port), b"far"), b"far");
    }
    let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let port = free_port();
    // In both families, as far as the machine has them.
    let _taken = both.map(|address| TcpListener::bind((address, port)));
    let taken = format!("{port}:127.0.0.1:{target}");
    assert_eq!(same(&["-O", "forward", "-R", &taken]).0, Some(255));
    assert_eq!(same(&["-W", &format!("127.0.0.1:{}", free_port())]).0, Some(255));
    let to = format!("127.0.0.1:{target}");
    let run = world.openssh([&*shared, "-W", &to]).stdin(Stdin::Pattern(Pattern::new(44, 99)));
    assert!(run.output().stdout == Pattern::new(44, 99).bytes());
    let exit = told(true, &["-O", "exit"]);
    assert_eq!(exit, (Some(0), String::new(), "Exit request sent.\r\n".into()));
    let _ = master.wait();
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, who_is_told_to_stop_takes_nobody_else_and_keeps_its_guests);
fn who_is_told_to_stop_takes_nobody_else_and_keeps_its_guests(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let shared = at_socket(&world);
    let mut guest = world.openssh([&shared]).stdin(Stdin::Open).command(["echo up; cat"]).start();
    guest.wait_for_stdout("up\n");
    let run = world.ssh([&*shared, "-O", "stop"]).output();
    assert_eq!((run.status.code(), &*run.err()), (Some(0), "Stop listening request sent.\r\n"));
    wait_until("the socket is gone", || !world.path("control").exists());
    guest.write(b"still here\n");
    guest.wait_for_stdout("still here\n");
    guest.close_stdin();
    guest.wait().assert_status(0);
    end(&world, master);
}

in_modes!(everywhere, a_guest_s_terminal_has_its_size_and_escapes);
fn a_guest_s_terminal_has_its_size_and_escapes(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let shared = at_socket(&world);
    for ours in [true, false] {
        let pty = if ours { world.pty([&shared]) } else { world.openssh_pty([&shared]) };
        let mut shell = pty.size(33, 99).start();
        settle(&mut shell);
        shell.insist("stty size", "33 99\r\n");
        shell.resize(31, 97);
        shell.insist("stty size", "31 97\r\n");
        shell.send("\r~#");
        shell.expect("The following connections are open:");
        shell.send("\r~&");
        shell.expect("not available to multiplexed sessions");
        shell.sync();
        shell.line("exit 6");
        let end = String::from_utf8_lossy(&shell.assert_ends(6)).into_owned();
        assert!(end.contains("Shared connection to 127.0.0.1 closed."), "{end:?}");

        let pty = if ours { world.pty([&shared]) } else { world.openssh_pty([&shared]) };
        let mut shell = pty.start();
        settle(&mut shell);
        shell.send("\r~.");
        shell.assert_ends(255);
    }
    assert_eq!(logins(&world), 1);
    end(&world, master);
}

in_modes!(everywhere, a_guest_that_is_killed_takes_its_program_with_it);
fn a_guest_that_is_killed_takes_its_program_with_it(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let shared = at_socket(&world);
    let runs = || world.server_processes().iter().any(|process| process.command == "cat");
    let guest = world.ssh([&shared]).stdin(Stdin::Open).command(["echo up; exec cat"]).start();
    guest.wait_for_stdout("up\n");
    wait_until("its program runs", runs);
    guest.signal(Signal::KILL);
    let _ = guest.wait();
    wait_until("its program has ended", || !runs());
    world.openssh([&shared]).command(["echo and others go on"]).output().assert_status(0);
    end(&world, master);
}

in_modes!(everywhere, the_first_client_s_connection_stays_for_the_next);
fn the_first_client_s_connection_stays_for_the_next(mode: Mode) {
    let world = World::new(mode);
    let shared = at_socket(&world);
    let options = ["-oControlMaster=auto", "-oControlPersist=yes", &shared];
    // That its output ends shows that nobody in the background holds on to it.
    let run = world.ssh(options).command(["echo first; exit 3"]).output();
    run.assert_status(3);
    assert_eq!((run.out(), run.err()), ("first\n".into(), String::new()));
    let run = world.ssh(options).stdin(Stdin::Open).command(["echo second; cat"]);
    let mut second = run.start();
    second.wait_for_stdout("second\n");
    world.openssh(options).command(["echo third"]).output().assert_prints("third\n");
    let mut shell = world.pty(options).start();
    settle(&mut shell);
    shell.line("exit 4");
    shell.assert_ends(4);
    second.close_stdin();
    second.wait().assert_status(0);
    assert_eq!(logins(&world), 1);
    world.openssh([&*shared, "-O", "exit"]).output().assert_status(0);
    world.wait_until_nothing_runs();

    let options = ["-oControlMaster=auto", "-oControlPersist=1", &shared];
    world.ssh(options).command(["echo once"]).output().assert_prints("once\n");
    world.wait_until_nothing_runs();
    assert!(!world.path("control").exists());
}

in_modes!(everywhere, a_lender_with_a_session_of_its_own_waits_for_its_guests);
fn a_lender_with_a_session_of_its_own_waits_for_its_guests(mode: Mode) {
    let world = World::new(mode);
    let shared = at_socket(&world);
    let run = world.ssh(["-oControlMaster=auto", &shared]).stdin(Stdin::Open);
    let mut lender = run.command(["echo up; cat"]).start();
    lender.wait_for_stdout("up\n");
    let mut guest = world.openssh([&shared]).stdin(Stdin::Open).command(["echo up; cat"]).start();
    guest.wait_for_stdout("up\n");
    lender.close_stdin();
    wait_until("the lender's program has ended", || {
        world.server_processes().iter().filter(|process| process.command == "cat").count() == 1
    });
    guest.write(b"still here\n");
    guest.wait_for_stdout("still here\n");
    guest.close_stdin();
    guest.wait().assert_status(0);
    lender.wait().assert_prints("up\n");
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, a_socket_left_by_a_lender_that_was_killed_is_replaced);
fn a_socket_left_by_a_lender_that_was_killed_is_replaced(mode: Mode) {
    let world = World::new(mode);
    let shared = at_socket(&world);
    drop(UnixListener::bind(world.path("control")).expect("a socket"));
    let run = world.ssh(["-oControlMaster=auto", &shared]).stdin(Stdin::Open);
    let mut lender = run.command(["echo up; cat"]).start();
    lender.wait_for_stdout("up\n");
    world.openssh([&shared]).command(["echo guest"]).output().assert_prints("guest\n");
    assert_eq!(logins(&world), 1);
    lender.close_stdin();
    lender.wait().assert_prints("up\n");
}

in_modes!(tssh, a_lender_that_does_not_answer_is_passed_by);
fn a_lender_that_does_not_answer_is_passed_by(mode: Mode) {
    let world = World::new(mode);
    let shared = at_socket(&world);
    let _silent = UnixListener::bind(world.path("control")).expect("a socket");
    for master in ["-oControlMaster=no", "-oControlMaster=auto"] {
        let run = world.ssh([master, &shared]).command(["echo alone"]).output();
        run.assert_status(0);
        assert_eq!(run.out(), "alone\n");
        assert!(run.err().contains("no answer within 2 s"), "{run:?}");
    }
    assert_eq!(logins(&world), 2);
    assert_eq!(world.ssh([&*shared, "-O", "check"]).output().status.code(), Some(255));
}

in_modes!(tssh, guests_of_a_lender_that_is_killed_end);
fn guests_of_a_lender_that_is_killed_end(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let shared = at_socket(&world);
    let guest = world.ssh([&shared]).stdin(Stdin::Open).command(["echo up; cat"]).start();
    guest.wait_for_stdout("up\n");
    master.signal(Signal::KILL);
    let _ = master.wait();
    guest.wait().assert_status(255);
}

in_modes!(link, a_guest_of_stock_ssh_survives_roaming_and_an_outage);
fn a_guest_of_stock_ssh_survives_roaming_and_an_outage(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let master = master(&world);
    let size = 48 << 20;
    let pattern = Pattern::new(45, size);
    let target = world.path("target");
    let run = world.openssh([&at_socket(&world)]).stdin(Stdin::Pattern(pattern.clone()));
    let run = run.command([format!("cat > {}", target.display())]).start();
    let arrived = |target: &Path| std::fs::metadata(target).map_or(0, |meta| meta.len());
    for part in 1..=2 {
        wait_until("the next part has arrived", || arrived(&target) >= size * part / 5);
        relay.change_address();
    }
    wait_until("the next part has arrived", || arrived(&target) >= size * 3 / 5);
    relay.cut();
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(arrived(&target) < size, "the outage came in the middle of it");
    relay.mend();
    run.wait().assert_prints("");
    pattern.assert_equals("transfer", std::fs::File::open(target).expect("the target"));
    assert!(relay.paths() > 2);
    let run = world.openssh([&at_socket(&world)]).command(["echo after"]).output();
    run.assert_prints("after\n");
    end(&world, master);
}

in_modes!(everywhere, a_forward_asked_for_by_a_guest_stays_with_the_lender);
fn a_forward_asked_for_by_a_guest_stays_with_the_lender(mode: Mode) {
    let world = World::new(mode);
    let master = master(&world);
    let echo = Echo::start();
    let port = free_port();
    let forward = format!("{port}:127.0.0.1:{}", echo.port());
    let run = world.ssh([&*at_socket(&world), "-L", &forward]).command(["true"]).output();
    run.assert_prints("");
    let mut stream = connect(port);
    stream.write_all(b"x").expect("the forward takes it");
    stream.read_exact(&mut [0]).expect("it comes back");
    drop(stream);
    end(&world, master);
}
