//! Logging in to a real OpenSSH server, and what runs over the login.
//!
//! Skipped, with a word, where there is no sshd or we are not root.

mod support;

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Script, SshAgent, Sshd, chmod, keygen};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tssh::login::{Login, LoginError, connect};
use tssh::remote::{
    Program, PtyRequest, Remote, RemoteError, SessionEnd, SessionRequest, TerminalSize,
};

/// Nothing here takes as long; a hang shows as this, not as a silent CI.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("no hang")
}

/// A server that knows `id` and that is known.
fn ready() -> Option<Sshd> {
    let sshd = Sshd::start()?;
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    sshd.be_known();
    Some(sshd)
}

async fn log_in(sshd: &Sshd) -> Login {
    let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes"]);
    let ui = Script::default();
    match within(connect(&settings, &ui)).await {
        Ok(login) => login,
        Err(error) => panic!("{error}\n{}\n{}", ui.heard(), sshd.log()),
    }
}

fn refusal(result: Result<Login, LoginError>) -> LoginError {
    result.err().expect("the login is refused")
}

fn exec(command: &str) -> SessionRequest {
    SessionRequest {
        program: Program::Exec(command.into()),
        pty: None,
        env: Vec::new(),
        agent: false,
        x11: false,
    }
}

/// Runs a command without input; its output, its errors and how it ended.
async fn run(remote: &impl Remote, request: SessionRequest) -> (String, String, SessionEnd) {
    let session = within(remote.open_session(request)).await.expect("it starts");
    drop(session.input);
    let error = async {
        match session.error {
            Some(error) => text(error).await,
            None => String::new(),
        }
    };
    let (output, error, end) =
        within(async { tokio::join!(text(session.output), error, session.end) }).await;
    (output, error, end)
}

async fn text(mut from: impl AsyncRead + Unpin) -> String {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.expect("readable");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_key_logs_in_and_a_command_gives_output_errors_and_status() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    assert_eq!(login.peer_addr(), Some(sshd.address));
    assert!(login.server_version().starts_with("SSH-2.0-OpenSSH_"));

    for status in [0, 7] {
        let command = format!("echo out; echo err >&2; exit {status}");
        let ran = run(&login, exec(&command)).await;
        assert_eq!(ran, ("out\n".into(), "err\n".into(), SessionEnd::Exited(status)));
    }
    let (_, _, end) = run(&login, exec("kill -TERM $$")).await;
    assert_eq!(end, SessionEnd::Signaled("TERM".into()));
}

#[tokio::test]
async fn a_shell_gets_a_terminal_with_our_size_and_follows_it() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    let size = |cols, rows| TerminalSize { cols, rows, width_px: 0, height_px: 0 };
    let request = SessionRequest {
        program: Program::Shell,
        pty: Some(PtyRequest {
            term: "vt100".into(),
            size: size(91, 33),
            modes: vec![(3, 8), (53, 0)], // erase is ^H, no echo
        }),
        env: vec![("TSSH_TEST".into(), "sent".into())],
        agent: false,
        x11: false,
    };
    let mut session = within(login.open_session(request)).await.expect("a shell");
    assert!(session.error.is_none(), "a terminal mixes the two");
    session
        .input
        .write_all(b"stty size; stty -a; echo $TERM $TSSH_TEST; echo go\n")
        .await
        .expect("it listens");
    let mut seen = String::new();
    within(read_until(&mut session.output, &mut seen, "\ngo\r\n")).await;
    assert!(seen.contains("33 91"), "{seen}");
    assert!(seen.contains("erase = ^H") && seen.contains("-echo"), "{seen}");
    assert!(seen.contains("vt100 sent"), "{seen}");

    session.control.resize(size(120, 40));
    // Asked for, not told by a trap: when a shell runs one at its prompt is its own affair.
    let wait = b"until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo re''sized\n";
    session.input.write_all(wait).await.expect("it listens");
    within(read_until(&mut session.output, &mut seen, "resized")).await;
    session.input.write_all(b"exit 3\n").await.expect("it listens");
    within(text(&mut session.output)).await;
    assert_eq!(within(session.end).await, SessionEnd::Exited(3));
}

async fn read_until(from: &mut (impl AsyncRead + Unpin), seen: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let read = from.read(&mut buffer).await.expect("readable");
        assert_ne!(read, 0, "ended before {wanted:?}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn a_hundred_mebibytes_arrive_whole_both_ways() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    const SIZE: usize = 100 * 1024 * 1024;
    let session = within(login.open_session(exec("tee >(sha256sum >&2)"))).await;
    let session = session.expect("it starts");
    let (mut input, mut output) = (session.input, session.output);
    let send = async {
        let mut chunk = Noise(1);
        for _ in 0..SIZE / CHUNK {
            input.write_all(&chunk.next()).await.expect("it listens");
        }
        input.shutdown().await.expect("end of input");
    };
    let receive = async {
        let mut expected = Noise(1);
        let mut buffer = vec![0; CHUNK];
        for number in 0..SIZE / CHUNK {
            output.read_exact(&mut buffer).await.expect("not ended yet");
            assert!(buffer == expected.next(), "chunk {number} differs");
        }
        assert_eq!(output.read(&mut buffer).await.expect("readable"), 0);
    };
    within(async { tokio::join!(send, receive) }).await;
    assert_eq!(within(session.end).await, SessionEnd::Exited(0));
}

const CHUNK: usize = 64 * 1024;

/// The same noise for both ends (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.extend(self.0.to_le_bytes());
        }
        chunk
    }
}

#[tokio::test]
async fn a_session_nobody_reads_does_not_stop_another() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    // As much as the queue takes: well beyond what russh keeps by itself.
    let flood = exec("head -c 4000000 /dev/zero; echo done >&2; sleep 60");
    let unread = within(login.open_session(flood)).await.expect("it starts");
    let mut said = String::new();
    let mut error = unread.error.expect("no terminal");
    within(read_until(&mut error, &mut said, "done")).await;
    let (output, _, end) = run(&login, exec("echo still here")).await;
    assert_eq!((output.as_str(), end), ("still here\n", SessionEnd::Exited(0)));
}

#[tokio::test]
async fn output_after_the_end_of_input_still_arrives() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    let session = within(login.open_session(exec("cat >/dev/null; echo late"))).await;
    let mut session = session.expect("it starts");
    session.input.shutdown().await.expect("end of input");
    assert_eq!(within(text(session.output)).await, "late\n");
}

#[tokio::test]
async fn a_subsystem_runs_and_an_unknown_one_is_refused_without_harm() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    let subsystem = |name: &str| SessionRequest {
        program: Program::Subsystem(name.into()),
        pty: None,
        env: Vec::new(),
        agent: false,
        x11: false,
    };
    match within(login.open_session(subsystem("nonsense"))).await {
        Err(RemoteError::Refused { reason, .. }) => {
            assert_eq!(reason, "subsystem request failed on channel 0");
        }
        other => panic!("{:?}", other.map(|_| "a session")),
    }
    let mut session = within(login.open_session(subsystem("tester"))).await.expect("it runs");
    session.input.write_all(b"to and fro").await.expect("it listens");
    session.input.shutdown().await.expect("end of input");
    assert_eq!(within(text(session.output)).await, "to and fro");
}

#[tokio::test]
async fn a_session_without_a_terminal_where_one_is_refused_keeps_its_errors_apart() {
    let Some(sshd) = Sshd::with_config("PermitTTY no") else { return };
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    sshd.be_known();
    let login = log_in(&sshd).await;
    let mut request = exec("echo err >&2; tty");
    request.pty =
        Some(PtyRequest { term: "vt100".into(), size: TerminalSize::default(), modes: vec![] });
    let (output, error, _) = run(&login, request).await;
    assert_eq!((output.as_str(), error.as_str()), ("not a tty\n", "err\n"));
}

#[tokio::test]
async fn letting_go_of_a_session_ends_its_program() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    let mark = sshd.path("ended");
    let command =
        format!("trap 'echo > {}; exit' HUP PIPE; while sleep 0.05; do echo; done", mark.display());
    let mut session = within(login.open_session(exec(&command))).await.expect("it starts");
    session.output.read_u8().await.expect("it runs");
    drop(session);
    within(async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_signal_reaches_the_server() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    let mut session = within(login.open_session(exec("echo ready; sleep 60"))).await;
    let session = session.as_mut().expect("it starts");
    session.output.read_u8().await.expect("it runs");
    assert!(session.control.signal("USR1"));
    // sshd passes signals on only where it has a monitor, which root's sessions lack.
    within(async {
        while !sshd.log().contains("session signalling requires privilege separation") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_ends_the_session_and_says_so() {
    let Some(sshd) = ready() else { return };
    let login = log_in(&sshd).await;
    let session = within(login.open_session(exec("kill -9 $PPID; sleep 60"))).await;
    let session = session.expect("it starts");
    assert_eq!(within(session.end).await, SessionEnd::Unknown);
    let reason = within(login.closed()).await.to_string();
    assert_eq!(reason, "Connection to 127.0.0.1 closed by remote host.");
    match within(login.open_session(exec("true"))).await {
        Err(RemoteError::Lost { .. }) => {}
        other => panic!("{:?}", other.map(|_| "a session")),
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_after_the_alive_messages() {
    let Some(sshd) = ready() else { return };
    let options = ["IdentityFile=@/id", "ServerAliveInterval=1", "ServerAliveCountMax=1"];
    let login = within(connect(&sshd.settings(&options), &Script::default())).await;
    let login = login.expect("a login");
    // The shell outlives its stopped server and wakes it in the end.
    let command = "kill -STOP $PPID; sleep 10; kill -CONT $PPID";
    let opened = login.open_session(exec(command));
    let (_session, reason) = within(async { tokio::join!(opened, login.closed()) }).await;
    assert_eq!(reason.to_string(), "Timeout, server 127.0.0.1 not responding.");
}

#[tokio::test]
async fn an_encrypted_key_is_asked_for_only_when_the_server_takes_it() {
    let Some(sshd) = ready() else { return };
    sshd.make_key("secret", "ed25519", "open sesame");
    let settings = sshd.settings(&["IdentityFile=@/secret"]);

    let ui = Script::new(&["open sesame"]);
    let denied = refusal(within(connect(&settings, &ui)).await);
    assert_eq!(denied.to_string(), "root@127.0.0.1: Permission denied (publickey).");
    assert_eq!(ui.heard(), "", "no passphrase is asked for in vain");

    sshd.authorize("secret");
    let ui = Script::new(&["wrong", "open sesame"]);
    within(connect(&settings, &ui)).await.expect("the second answer is right");
    let prompt = format!("Enter passphrase for key '{}': \n", sshd.path("secret").display());
    assert_eq!(ui.heard(), prompt.repeat(2));

    let settings = sshd.settings(&["IdentityFile=@/secret", "BatchMode=yes"]);
    let ui = Script::new(&["open sesame"]);
    refusal(within(connect(&settings, &ui)).await);
    assert_eq!(ui.heard(), "", "batch mode asks nothing");
}

#[tokio::test]
async fn old_key_formats_and_kinds_log_in() {
    let Some(sshd) = ready() else { return };
    let cases: [(&str, &str, &[&str]); 4] = [
        ("rsa", "rsa", &[]),
        ("ecdsa", "ecdsa", &[]),
        ("pem", "rsa", &["-m", "PEM"]),
        ("pkcs8", "ecdsa", &["-m", "PKCS8"]),
    ];
    for (name, kind, format) in cases {
        let path = sshd.path(name);
        let mut arguments = vec!["-t", kind, "-N", "", "-C", name];
        arguments.extend(format);
        arguments.push("-f");
        keygen(&arguments, &path);
        sshd.authorize(name);
        let settings = sshd.settings(&[&format!("IdentityFile=@/{name}"), "BatchMode=yes"]);
        let ui = Script::default();
        let result = within(connect(&settings, &ui)).await;
        if let Err(error) = result {
            panic!("{name}: {error}\n{}", ui.heard());
        }
    }
}

#[tokio::test]
async fn a_certificate_beside_the_key_logs_in() {
    for kind in ["ed25519", "rsa"] {
        let Some(sshd) = Sshd::with_config("TrustedUserCAKeys @/ca.pub") else { return };
        sshd.make_key("ca", "ed25519", "");
        sshd.make_key("id", kind, "");
        let ca = sshd.path("ca");
        let ca = ca.to_str().expect("ASCII");
        keygen(&["-s", ca, "-I", "someone", "-n", "root"], &sshd.path("id.pub"));
        sshd.be_known();
        log_in(&sshd).await;
    }
}

#[tokio::test]
async fn a_key_others_can_read_is_not_used() {
    let Some(sshd) = ready() else { return };
    chmod(&sshd.path("id"), 0o644);
    let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes"]);
    let ui = Script::default();
    refusal(within(connect(&settings, &ui)).await);
    let heard = ui.heard();
    assert!(heard.contains("WARNING: UNPROTECTED PRIVATE KEY FILE!"), "{heard}");
    assert!(heard.contains("Permissions 0644 for '"), "{heard}");
    assert!(heard.trim_end().ends_with("bad permissions"), "{heard}");
}

/// An agent of our own, killed with its guard.

#[tokio::test]
async fn the_agents_keys_log_in_and_a_key_it_will_not_use_does_not_end_the_login() {
    let Some(sshd) = ready() else { return };
    let agent = SshAgent::start(&sshd);
    sshd.make_key("held", "ed25519", "");
    agent.add(&sshd.path("held"));
    std::fs::remove_file(sshd.path("held")).expect("just made");
    sshd.authorize("held");

    let options = ["IdentityAgent=@/agent", "BatchMode=yes"];
    let settings = sshd.settings(&options);
    within(connect(&settings, &Script::default())).await.expect("the agent signs");

    // Told apart by its public half alone, as IdentitiesOnly wants it.
    let only =
        sshd.settings(&[options[0], options[1], "IdentitiesOnly=yes", "IdentityFile=@/held.pub"]);
    within(connect(&only, &Script::default())).await.expect("named by its .pub");
    let other = sshd.settings(&[options[0], options[1], "IdentitiesOnly=yes"]);
    refusal(within(connect(&other, &Script::default())).await);

    // `-c` asks a person, and there is none: the agent refuses to sign.
    sshd.make_key("asks", "ed25519", "");
    let status = Command::new("ssh-add")
        .args(["-q", "-c"])
        .arg(sshd.path("asks"))
        .env("SSH_AUTH_SOCK", &agent.socket)
        .status()
        .expect("ssh-add comes with ssh");
    assert!(status.success());
    std::fs::write(sshd.path("authorized_keys"), "").expect("writable");
    sshd.authorize("asks");
    sshd.authorize("id");
    let settings = sshd.settings(&[options[0], options[1], "IdentityFile=@/id"]);
    within(connect(&settings, &Script::default())).await.expect("the file's key is next");
}

#[tokio::test]
async fn an_unknown_host_is_asked_about_and_remembered() {
    let Some(sshd) = ready() else { return };
    std::fs::remove_file(sshd.path("known_hosts")).expect("written by ready");
    let settings = sshd.settings(&["IdentityFile=@/id"]);
    let ui = Script::new(&["perhaps", "yes"]);
    within(connect(&settings, &ui)).await.expect("agreed to");

    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let print = Command::new("ssh-keygen")
        .args(["-lf"])
        .arg(sshd.path("host_ed25519.pub"))
        .output()
        .expect("ssh-keygen");
    let print = String::from_utf8(print.stdout).expect("text");
    let print = print.split_whitespace().nth(1).expect("size, fingerprint, comment");
    assert_eq!(
        ui.heard(),
        format!(
            "The authenticity of host '{name} ({name})' can't be established.\n\
             ED25519 key fingerprint is {print}.\n\
             This key is not known by any other names.\n\
             Are you sure you want to continue connecting (yes/no/[fingerprint])? \n\
             Please type 'yes', 'no' or the fingerprint: \n\
             Warning: Permanently added '{name}' (ED25519) to the list of known hosts.\n"
        )
    );
    let public = sshd.public("host_ed25519");
    let key = public.split_whitespace().nth(1).expect("kind, key, comment");
    assert_eq!(sshd.known_hosts(), format!("{name} ssh-ed25519 {key}\n"));

    let ui = Script::default();
    within(connect(&settings, &ui)).await.expect("known now");
    assert_eq!(ui.heard(), "");
}

#[tokio::test]
async fn an_unknown_host_is_refused_when_nobody_agrees() {
    let Some(sshd) = ready() else { return };
    std::fs::remove_file(sshd.path("known_hosts")).expect("written by ready");
    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let strict = format!(
        "No ED25519 host key is known for {name} and you have requested strict checking.\n"
    );
    for (options, answers) in [
        (&["StrictHostKeyChecking=ask"][..], &["no"][..]),
        (&["StrictHostKeyChecking=ask"], &[]),
        (&["StrictHostKeyChecking=ask", "BatchMode=yes"], &["yes"]),
        (&["StrictHostKeyChecking=yes"], &["yes"]),
    ] {
        let mut all = vec!["IdentityFile=@/id"];
        all.extend(options);
        let ui = Script::new(answers);
        let error = refusal(within(connect(&sshd.settings(&all), &ui)).await);
        assert_eq!(error.to_string(), "Host key verification failed.");
        if answers == ["yes"] {
            assert_eq!(ui.heard(), strict);
        }
        assert_eq!(sshd.known_hosts(), "");
    }
    let ui = Script::new(&["^C"]);
    let error = refusal(within(connect(&sshd.settings(&["IdentityFile=@/id"]), &ui)).await);
    assert!(matches!(error, LoginError::Interrupted));

    let new = sshd.settings(&["IdentityFile=@/id", "StrictHostKeyChecking=accept-new"]);
    within(connect(&new, &Script::default())).await.expect("new is accepted");
    assert!(sshd.known_hosts().starts_with(&name));
}

#[tokio::test]
async fn a_changed_host_key_is_refused_with_the_place_of_the_old_one() {
    let Some(sshd) = ready() else { return };
    sshd.make_key("impostor", "ecdsa", "");
    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let file = sshd.path("known_hosts");
    let text = format!("# mine\n{name} {}", sshd.public("impostor"));
    std::fs::write(&file, &text).expect("writable");

    for mode in ["yes", "ask", "accept-new"] {
        let mode = format!("StrictHostKeyChecking={mode}");
        let ui = Script::new(&["yes"]);
        let settings = sshd.settings(&["IdentityFile=@/id", &mode]);
        let error = refusal(within(connect(&settings, &ui)).await);
        assert_eq!(error.to_string(), "Host key verification failed.");
        let heard = ui.heard();
        assert!(heard.contains("REMOTE HOST IDENTIFICATION HAS CHANGED!"), "{heard}");
        assert!(heard.contains(&format!("Offending ECDSA key in {}:2", file.display())), "{heard}");
        assert!(heard.contains("you have requested strict checking."), "{heard}");
    }

    // Off: keys still log in, passwords are never sent.
    let off = ["StrictHostKeyChecking=off", "IdentityFile=@/id"];
    let ui = Script::default();
    within(connect(&sshd.settings(&off), &ui)).await.expect("a key gives nothing away");
    let heard = ui.heard();
    assert!(heard.contains("Password authentication is disabled to avoid"), "{heard}");
    assert_eq!(sshd.known_hosts(), text, "nothing is overwritten");
}

#[tokio::test]
async fn a_revoked_host_key_is_refused_whatever_the_mode() {
    let Some(sshd) = ready() else { return };
    let text = format!("@revoked * {}{}", sshd.public("host_ed25519"), sshd.known_hosts());
    std::fs::write(sshd.path("known_hosts"), text).expect("writable");
    let settings = sshd.settings(&["IdentityFile=@/id", "StrictHostKeyChecking=off"]);
    let ui = Script::default();
    refusal(within(connect(&settings, &ui)).await);
    assert!(ui.heard().contains("REVOKED HOST KEY DETECTED!"), "{}", ui.heard());
}

#[tokio::test]
async fn the_kind_of_key_the_host_is_known_by_is_asked_for_first() {
    let Some(sshd) = Sshd::with_config("HostKey @/host_ecdsa") else { return };
    sshd.make_key("host_ecdsa", "ecdsa", "");
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    let line = format!("[127.0.0.1]:{} {}", sshd.address.port(), sshd.public("host_ecdsa"));
    std::fs::write(sshd.path("known_hosts"), line).expect("writable");
    log_in(&sshd).await;
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_told_as_ssh_tells_them() {
    let Some(sshd) = ready() else { return };
    let mut settings = sshd.settings(&["IdentityFile=@/id"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    settings.port = free.local_addr().expect("bound").port();
    drop(free);
    let error = refusal(within(connect(&settings, &Script::default())).await).to_string();
    let port = settings.port;
    assert_eq!(error, format!("ssh: connect to host 127.0.0.1 port {port}: Connection refused"));

    settings.host_name = "no-such-host.invalid".into();
    let error = refusal(within(connect(&settings, &Script::default())).await).to_string();
    assert!(error.starts_with("ssh: Could not resolve hostname no-such-host.invalid: "), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_meets_the_connect_timeout() {
    let Some(sshd) = ready() else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = sshd.settings(&["ConnectTimeout=1"]);
    settings.port = silent.local_addr().expect("bound").port();
    let error = refusal(within(connect(&settings, &Script::default())).await);
    assert_eq!(error.to_string(), "Connection timed out during banner exchange");
}

#[tokio::test]
async fn a_banner_is_shown_without_its_escape_sequences() {
    let Some(sshd) = Sshd::with_config("Banner @/banner") else { return };
    std::fs::write(sshd.path("banner"), "be nice\n\x1b[2Jplease\n").expect("writable");
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    sshd.be_known();
    let settings = sshd.settings(&["IdentityFile=@/id"]);
    let ui = Script::default();
    within(connect(&settings, &ui)).await.expect("a login");
    assert_eq!(ui.heard(), "be nice\n\\033[2Jplease\n\n");
}

#[tokio::test]
async fn too_many_keys_are_told_in_the_servers_words() {
    let Some(sshd) = Sshd::with_config("MaxAuthTries 1") else { return };
    sshd.be_known();
    sshd.make_key("a", "ed25519", "");
    sshd.make_key("b", "ed25519", "");
    let settings = sshd.settings(&["IdentityFile=@/a", "IdentityFile=@/b"]);
    let error = refusal(within(connect(&settings, &Script::default())).await).to_string();
    assert!(
        error.contains("Received disconnect from 127.0.0.1 port")
            && error.contains(":2: Too many authentication failures"),
        "{error}"
    );
}

#[tokio::test]
async fn two_sessions_asked_for_at_once_both_run() {
    let Some(sshd) = ready() else { return };
    let login = Arc::new(log_in(&sshd).await);
    let (one, two) = tokio::join!(run(&*login, exec("echo 1")), run(&*login, exec("echo 2")));
    assert_eq!((one.0.as_str(), two.0.as_str()), ("1\n", "2\n"));
}

#[tokio::test]
async fn a_server_that_wants_two_proofs_gets_both() {
    let Some(sshd) = Sshd::with_config("AuthenticationMethods publickey,publickey") else { return };
    for name in ["a", "b", "c"] {
        sshd.make_key(name, "ed25519", "");
    }
    sshd.authorize("a");
    sshd.authorize("c");
    sshd.be_known();
    let options = ["IdentityFile=@/a", "IdentityFile=@/b", "IdentityFile=@/c"];
    let ui = Script::default();
    within(connect(&sshd.settings(&options), &ui)).await.expect("a, then c");
    let one = sshd.settings(&options[..2]);
    let error = refusal(within(connect(&one, &ui)).await).to_string();
    assert_eq!(error, "root@127.0.0.1: Permission denied (publickey).");
}

/// docs/decisions/0010-login-round-trips.md: a round trip less, and two unwritten properties of
/// russh that an update may change.
#[tokio::test]
async fn the_first_sessions_requests_travel_with_its_channel() {
    let Some(sshd) = ready() else { return };
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || Log(Arc::clone(&writer)))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let login = log_in(&sshd).await;
    let mut request = exec("tty -s; echo $? $TSSH_TEST");
    request.env.push(("TSSH_TEST".into(), "sent".into()));
    request.pty =
        Some(PtyRequest { term: "vt100".into(), size: TerminalSize::default(), modes: vec![] });
    let (output, _, end) = run(&login, request).await;
    assert_eq!((output.as_str(), end), ("0 sent\r\n", SessionEnd::Exited(0)));

    let text = String::from_utf8_lossy(&log.lock().expect("no panic")).into_owned();
    assert!(text.contains("sent with the channel's opening"), "{text}");
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_connection_comes_from_the_address_or_interface_asked_for() {
    let Some(sshd) = ready() else { return };
    let from = |options: &[&str]| {
        let settings = sshd.settings(&[&["IdentityFile=@/id", "BatchMode=yes"], options].concat());
        async move {
            let login = within(connect(&settings, &Script::default())).await?;
            Ok::<_, LoginError>(run(&login, exec("echo ${SSH_CONNECTION%% *}")).await.0)
        }
    };
    for (options, address) in [
        (&["BindAddress=127.0.0.9"][..], "127.0.0.9\n"),
        (&["BindAddress=localhost"], "127.0.0.1\n"),
        (&["BindInterface=lo"], "127.0.0.1\n"),
        (&["BindInterface=lo", "BindAddress=127.0.0.9"], "127.0.0.9\n"),
    ] {
        assert_eq!(from(options).await.expect("a login"), address, "{options:?}");
    }
    for (option, text) in [
        ("BindAddress=192.0.2.1", "bind 192.0.2.1: Cannot assign requested address"),
        ("BindInterface=none0", "bind none0: no suitable addresses"),
        ("BindAddress=::1", "bind ::1: Address family for hostname not supported"),
    ] {
        assert_eq!(from(&[option]).await.expect_err("refused").to_string(), text);
    }
}

#[tokio::test]
async fn the_keys_of_the_connection_are_renewed_when_rekey_limit_says_so() {
    let Some(sshd) = ready() else { return };
    let given = ["IdentityFile=@/id", "BatchMode=yes", "RekeyLimit=1M"];
    let settings = sshd.settings(&given);
    let login = within(connect(&settings, &Script::default())).await.expect("a login");
    let (output, _, end) = run(&login, exec("head -c 8000000 /dev/zero | tr '\\0' x")).await;
    assert_eq!((output.len(), end), (8_000_000, SessionEnd::Exited(0)));
    let exchanges = sshd.log().matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 3, "{exchanges} key exchanges");
}

#[tokio::test]
async fn compression_is_used_when_it_is_asked_for_and_not_otherwise() {
    for (option, used) in [("Compression=yes", true), ("Compression=no", false)] {
        let Some(sshd) = ready() else { return };
        let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes", option]);
        let login = within(connect(&settings, &Script::default())).await.expect("a login");
        let (output, _, _) = run(&login, exec("head -c 1000000 /dev/zero | tr '\\0' x")).await;
        assert_eq!(output.len(), 1_000_000);
        let log = sshd.log();
        assert_eq!(log.contains("compression: zlib@openssh.com"), used, "{log}");
    }
}
