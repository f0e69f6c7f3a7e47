//! What runs over a login: commands, shells, subsystems, and how they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

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
async fn two_sessions_asked_for_at_once_both_run() {
    let Some(sshd) = ready() else { return };
    let login = Arc::new(log_in(&sshd).await);
    let (one, two) = tokio::join!(run(&*login, exec("echo 1")), run(&*login, exec("echo 2")));
    assert_eq!((one.0.as_str(), two.0.as_str()), ("1\n", "2\n"));
}
