//! Agent forwarding: programs on the far host use the agent of this side.

use std::os::unix::net::UnixStream;

use e2e::{HOST, Mode, Stdin, World, in_modes, wait_until};

/// An agent with one key in it, for as long as the value lives.
pub(crate) struct Agent {
    /// Where it listens.
    pub(crate) socket: std::path::PathBuf,
    process: std::process::Child,
}

impl Agent {
    pub(crate) fn start(world: &World) -> Self {
        let socket = world.path("agent.sock");
        let _ = std::fs::remove_file(&socket);
        let process = std::process::Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("ssh-agent starts");
        wait_until("the agent listens", || UnixStream::connect(&socket).is_ok());
        let key = world.path("in_agent");
        if !key.exists() {
            world.keygen("in_agent", "");
        }
        let added = world.program("ssh-add").command([key]).env("SSH_AUTH_SOCK", &socket).output();
        added.assert_status(0);
        Self { socket, process }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Prints the fingerprints that the agent over there has.
const LIST: &str = "ssh-add -l 2>&1 | cut -d' ' -f2; test -n \"$SSH_AUTH_SOCK\"";

in_modes!(everywhere, programs_over_there_use_the_agent_here_only_when_asked_for);
fn programs_over_there_use_the_agent_here_only_when_asked_for(mode: Mode) {
    let world = World::new(mode);
    let agent = Agent::start(&world);
    let fingerprint = world.program("ssh-keygen").command(["-lf", "in_agent.pub"]).output().out();
    let fingerprint = fingerprint.split(' ').nth(1).expect("a fingerprint").to_owned();
    let by_path = format!("ForwardAgent={}", agent.socket.display());
    for options in [&["-A"][..], &["-o", &by_path], &["-oForwardAgent=$OTHER_SOCK"], &["-a", "-A"]]
    {
        // ssh forwards none if it has none itself, whichever is named.
        let options = [options, &["-oIdentityAgent=SSH_AUTH_SOCK"]].concat();
        let run = world.ssh(options).command([LIST]);
        let run = run.env("SSH_AUTH_SOCK", &agent.socket).env("OTHER_SOCK", &agent.socket);
        // OpenSSH 9.2 forwards the agent of a variable and complains all the same.
        let run = run.output();
        run.assert_status(0);
        assert_eq!(run.out(), format!("{fingerprint}\n"), "{run:?}");
    }
    for options in [&["-oIdentityAgent=SSH_AUTH_SOCK"][..], &["-A", "-a"]] {
        let run = world.ssh(options).command(["echo \"<$SSH_AUTH_SOCK>\""]);
        run.env("SSH_AUTH_SOCK", &agent.socket).output().assert_prints("<>\n");
    }
    world.wait_until_nothing_runs();
}

in_modes!(everywhere, an_agent_that_is_gone_is_an_end_and_no_wait);
fn an_agent_that_is_gone_is_an_end_and_no_wait(mode: Mode) {
    let world = World::new(mode);
    let agent = Agent::start(&world);
    let by_path = format!("ForwardAgent={}", agent.socket.display());
    let run = world.ssh(["-o", &by_path, "-oIdentityAgent=SSH_AUTH_SOCK"]).stdin(Stdin::Open);
    let run = run.env("SSH_AUTH_SOCK", &agent.socket);
    let ask = "ssh-add -l > /dev/null 2>&1 || echo failed";
    let mut client = run.command([format!("{ask}; echo up; read line; {ask}")]).start();
    client.wait_for_stdout("up\n");
    drop(agent);
    client.write(b"\n");
    client.close_stdin();
    assert_eq!(client.wait().out(), "up\nfailed\n");
}

in_modes!(link, a_program_that_asks_for_an_agent_during_an_outage_is_refused_at_once);
fn a_program_that_asks_for_an_agent_during_an_outage_is_refused_at_once(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let agent = Agent::start(&world);
    let by_path = format!("ForwardAgent={}", agent.socket.display());
    let (go, done) = (world.path("go"), world.path("done"));
    let script = format!(
        "echo $SSH_AUTH_SOCK; while [ ! -e {go} ]; do sleep 0.1; done; \
         until ! timeout 60 ssh-add -l; do sleep 0.1; done; touch {done}; \
         read line; ssh-add -l > /dev/null; echo $? $SSH_AUTH_SOCK",
        go = go.display(),
        done = done.display(),
    );
    let run = world.ssh(["-o", &by_path]).stdin(Stdin::Open);
    let mut client = run.command([format!("exec 2> /dev/null; {{ {script}; }}")]).start();
    client.wait_for_stdout("agent-");
    relay.cut();
    world.write("go", "");
    wait_until("it was refused while the client was away", || done.exists());
    relay.mend();
    client.write(b"\n");
    client.close_stdin();
    let out = client.wait().out();
    let mut lines = out.lines();
    let socket = lines.next().expect("the socket's path").to_owned();
    assert_eq!(lines.last(), Some(&*format!("0 {socket}")), "same path, and it works again");
}

in_modes!(everywhere, the_server_s_configuration_may_forbid_the_agent);
fn the_server_s_configuration_may_forbid_the_agent(mode: Mode) {
    for config in ["AllowAgentForwarding no", "DisableForwarding yes"] {
        let world = World::builder(mode).sshd_config(config).start();
        if mode.is_link() && !world.show_tsshd_this_sshd_config() {
            return;
        }
        let agent = Agent::start(&world);
        let by_path = format!("ForwardAgent={}", agent.socket.display());
        let run = world.ssh(["-o", &by_path, "-oIdentityAgent=SSH_AUTH_SOCK"]);
        let run = run.env("SSH_AUTH_SOCK", &agent.socket);
        let run = run.command(["echo \"<$SSH_AUTH_SOCK>\""]).output();
        run.assert_status(0);
        assert_eq!(run.out(), "<>\n", "{config}: {run:?}");
    }
}

in_modes!(tssh, the_agent_of_a_terminal_s_session_ends_with_it);
fn the_agent_of_a_terminal_s_session_ends_with_it(mode: Mode) {
    let world = World::new(mode);
    let agent = Agent::start(&world);
    let by_path = format!("ForwardAgent={}", agent.socket.display());
    let mut shell = world.pty(["-o", &by_path]).start();
    shell.sync();
    shell.insist("ssh-add -l | grep -c ED25519", "1\r\n");
    let socket = world.path("socket");
    shell.insist(
        &format!("echo $SSH_AUTH_SOCK > {}; echo wr''itten", socket.display()),
        "written\r\n",
    );
    shell.line("exit 4");
    shell.assert_ends(4);
    let path = std::fs::read_to_string(socket).expect("the path was written");
    wait_until("the socket is gone", || !std::path::Path::new(path.trim()).exists());
}

in_modes!(everywhere, git_over_there_logs_in_with_a_key_that_is_only_here);
fn git_over_there_logs_in_with_a_key_that_is_only_here(mode: Mode) {
    let world = World::new(mode);
    let agent = Agent::start(&world);
    let allowed = std::fs::read_to_string(world.path("authorized_keys")).expect("it is there");
    let key = std::fs::read_to_string(world.path("in_agent.pub")).expect("it was made");
    world.write("authorized_keys", format!("{allowed}{key}"));
    // Over there is no key, so that git has but the agent.
    let known_hosts = world.path("known_hosts").display().to_string();
    let ssh = format!(
        "ssh -F none -i /dev/null -o UserKnownHostsFile={known_hosts} -o HostKeyAlias={HOST} \
         -o BatchMode=yes -p {}",
        world.port()
    );
    let (from, to) = (world.path("repo"), world.path("clone"));
    let git = "git -c user.name=n -c user.email=e";
    let script = format!(
        "export GIT_SSH_COMMAND='{ssh}'; \
         {git} init -q {from} && {git} -C {from} commit -q --allow-empty -m m && \
         git clone -q 127.0.0.1:{from} {to} && git -C {to} log --format=%s",
        from = from.display(),
        to = to.display(),
    );
    let by_path = format!("ForwardAgent={}", agent.socket.display());
    let options = ["-o", &by_path, "-oIdentityAgent=SSH_AUTH_SOCK"];
    let run = world.ssh(options).env("SSH_AUTH_SOCK", &agent.socket).command([script]).output();
    run.assert_status(0);
    assert_eq!(run.out(), "m\n", "{run:?}");
    let run = world.ssh(["-a", "-oIdentityAgent=SSH_AUTH_SOCK"]);
    let run = run.command([format!("{ssh} 127.0.0.1 true")]).output();
    run.assert_status(255);
}
