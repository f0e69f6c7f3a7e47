//! Sessions: what a program gets, and what comes back from it.

mod common;

use common::{Client, command, on_pty};
use proto::bus::{Exit, Resize, Signal, ToServer};
use proto::json::Bytes;
use proto::open::{StartMessage, encode_modes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn a_login_shell_runs_on_a_terminal() {
    let mut client = Client::start().await;
    let start = StartMessage { shell: true, command: Bytes::default(), ..on_pty(1, "") };
    let mut shell = client.session(start).await;
    shell.input.write_all(b"echo $((40+2)) \"$0\" \"$TERM\" $(stty size)\n").await.unwrap();
    let seen = shell.read_until("xterm 24 80").await;
    assert!(seen.contains("42 -"), "a login shell's name begins with a dash: {seen}");
    shell.input.write_all(b"exit 3\n").await.unwrap();
    assert_eq!(client.exit(1).await.exit_code, 3);
    shell.outputs().await;
}

#[tokio::test]
async fn only_a_login_shell_on_a_terminal_begins_with_the_message_of_the_day() {
    let Ok(motd) = std::fs::read_to_string("/etc/motd") else { return };
    let hushed = std::path::Path::new(&passwd_home()).join(".hushlogin").exists();
    let Some(first) = motd.lines().find(|line| !line.is_empty()).filter(|_| !hushed) else {
        return;
    };
    let mut client = Client::start().await;
    let shell = StartMessage { shell: true, command: Bytes::default(), ..on_pty(1, "") };
    let mut shell = client.session(shell).await;
    shell.read_until(first).await;
    let mut other = client.session(on_pty(2, "echo out")).await;
    assert_eq!(other.outputs().await.0, "out\r\n");
}

#[tokio::test]
async fn statuses_and_signals_come_back() {
    let mut client = Client::start().await;
    for (id, line, code, signal) in
        [(1, "true", 0, ""), (2, "exit 7", 7, ""), (3, "kill -TERM $$", -1, "TERM")]
    {
        let mut session = client.session(command(id, line)).await;
        session.outputs().await;
        let exit = client.exit(id).await;
        assert_eq!((exit.exit_code, exit.signal.as_str()), (code, signal), "{line}");
    }
}

#[tokio::test]
async fn a_client_without_extensions_is_not_told_the_signal() {
    let mut client = Client::reference().await;
    let start = StartMessage {
        id: 1,
        name: "sh".into(),
        args: vec!["-c".into(), "kill -TERM $$".into()],
        ..StartMessage::default()
    };
    client.session(start).await;
    assert_eq!(client.exit(1).await, Exit { id: 1, exit_code: -1, signal: String::new() });
}

#[tokio::test]
async fn output_after_the_end_of_input_is_whole() {
    let mut client = Client::start().await;
    let mut session = client.session(command(1, "wc -c; echo behind")).await;
    let input = vec![b'x'; 3_000_000];
    session.input.write_all(&input).await.unwrap();
    session.input.shutdown().await.unwrap();
    let (out, _) = session.outputs().await;
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["3000000", "behind"]);
    assert_eq!(client.exit(1).await.exit_code, 0);
}

#[tokio::test]
async fn standard_error_comes_apart() {
    let mut client = Client::start().await;
    let mut session = client.session(command(1, "echo out; echo err >&2")).await;
    assert_eq!(session.outputs().await, ("out\n".into(), "err\n".into()));
}

#[tokio::test]
async fn a_program_sees_its_terminal_resized() {
    let mut client = Client::start().await;
    let line = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut session = client.session(on_pty(1, line)).await;
    session.read_until("ready").await;
    let resize = Resize { id: 1, cols: 101, rows: 33, ..Resize::default() };
    client.order(&ToServer::Resize(resize)).await;
    session.read_until("33 101").await;
    assert_eq!(client.exit(1).await.exit_code, 0);
}

#[tokio::test]
async fn a_repaint_is_announced_by_its_marker() {
    let mut client = Client::start().await;
    let line = "trap 'echo painted' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut session = client.session(on_pty(1, line)).await;
    session.read_until("ready").await;
    let marker = Bytes(b"[TSSHD-MARKER-x]".to_vec());
    let resize = Resize { id: 1, cols: 80, rows: 24, redraw: true, marker, ..Resize::default() };
    client.order(&ToServer::Resize(resize)).await;
    let seen = session.read_until("[TSSHD-MARKER-x]").await;
    let (_, behind) = seen.split_once("[TSSHD-MARKER-x]").unwrap();
    if !behind.contains("painted") {
        session.read_until("painted").await;
    }
}

#[tokio::test]
async fn modes_of_the_terminal_are_the_client_s() {
    let mut client = Client::start().await;
    let modes = encode_modes(&[(3, 8), (53, 0)]);
    let mut session = client.session(StartMessage { modes, ..on_pty(1, "stty -a") }).await;
    let (out, _) = session.outputs().await;
    assert!(out.contains("erase = ^H") && out.contains("-echo "), "{out}");
}

#[tokio::test]
async fn signals_reach_the_program_in_the_foreground() {
    let mut client = Client::start().await;
    for (id, start) in [
        (1, on_pty(1, "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done")),
        (2, command(2, "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done")),
    ] {
        let mut session = client.session(start).await;
        session.read_until("ready").await;
        // Its children get it as well, so that it may be needed twice.
        client.order(&ToServer::Signal(Signal { id, signal: "USR1".into() })).await;
        assert_eq!(client.exit(id).await.exit_code, 5);
    }
}

#[tokio::test]
async fn without_a_terminal_a_session_lasts_as_long_as_its_output() {
    let mut client = Client::start().await;
    let mut session = client.session(command(1, "(read go; echo late) <&0 & exit 4")).await;
    // The program itself is over at some time here; its child still holds the pipes.
    session.input.write_all(b"go\n").await.unwrap();
    let (out, _) = session.outputs().await;
    assert_eq!(out, "late\n");
    assert_eq!(client.exit(1).await.exit_code, 4);
}

#[tokio::test]
async fn with_a_terminal_a_session_ends_with_its_shell() {
    let mut client = Client::start().await;
    let line = "trap '' HUP; sleep 1000 & echo job $!; printf %50000s. x";
    let mut session = client.session(on_pty(1, line)).await;
    let (out, _) = session.outputs().await;
    assert_eq!(client.exit(1).await.exit_code, 0);
    assert!(out.ends_with("x."), "what was printed before the end is whole");
    assert!(out.len() > 50_000);
    let job = out.split_whitespace().nth(1).unwrap().parse().unwrap();
    let job = rustix::process::Pid::from_raw(job).unwrap();
    rustix::process::kill_process(job, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn the_end_of_input_hangs_up_a_terminal() {
    let mut client = Client::start().await;
    let mut session = client.session(on_pty(1, "echo ready; exec sleep 1000")).await;
    session.read_until("ready").await;
    session.input.shutdown().await.unwrap();
    assert_eq!(client.exit(1).await.signal, "HUP");
}

#[tokio::test]
async fn a_client_can_kill_a_session_that_does_not_want_to_go() {
    let mut client = Client::start().await;
    let line = "trap '' HUP PIPE; echo ready; while :; do sleep 0.05; done";
    for (id, start) in [(1, on_pty(1, line)), (2, command(2, line))] {
        let mut session = client.session(start).await;
        session.read_until("ready").await;
        client.order(&ToServer::Exit(Exit { id, ..Exit::default() })).await;
        assert_eq!(client.exit(id).await.signal, "KILL");
    }
}

#[tokio::test]
async fn a_program_gets_the_limits_of_the_login_and_not_the_server_s() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut client = Client::start().await;
    // Changed after the login, as the server changes its own; by one, which
    // disturbs no other test.
    let login = getrlimit(Resource::Nofile);
    let lower = login.current.map_or(1 << 20, |n| n - 1);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lower), ..login }).unwrap();
    let expected = login.current.map_or("unlimited".into(), |n| n.to_string());
    for start in [command(1, "ulimit -Sn"), on_pty(2, "ulimit -Sn")] {
        let mut session = client.session(start).await;
        assert_eq!(session.outputs().await.0.trim(), expected);
    }
}

#[tokio::test]
async fn sftp_answers() {
    let mut client = Client::start().await;
    let start = StartMessage { id: 1, subsystem: "sftp".into(), ..StartMessage::default() };
    let mut session = client.session(start).await;
    // SSH_FXP_INIT, version 3; the answer is SSH_FXP_VERSION (2).
    session.input.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).await.unwrap();
    let mut head = [0; 9];
    common::soon("version", session.output.read_exact(&mut head)).await.unwrap();
    assert_eq!(head[4..], [2, 0, 0, 0, 3]);
    session.input.shutdown().await.unwrap();
    session.outputs().await;
    assert_eq!(client.exit(1).await.exit_code, 0);
}

#[tokio::test]
async fn what_cannot_start_is_refused_with_a_reason() {
    let mut client = Client::start().await;
    let none = StartMessage { id: 1, subsystem: "nonsense".into(), ..StartMessage::default() };
    let refused = client.try_session(none).await.err().unwrap();
    assert!(refused.msg.contains("nonsense"), "{refused:?}");
    client.session(command(2, "true")).await;
    let again = client.try_session_without_stderr(command(2, "true")).await.err().unwrap();
    assert!(again.msg.contains("used before"), "{again:?}");
}

#[tokio::test]
async fn a_reference_client_s_words_run_in_the_home_directory() {
    let mut client = Client::reference().await;
    let start = StartMessage { id: 1, name: "pwd".into(), ..StartMessage::default() };
    let mut session = client.session(start).await;
    let (out, _) = session.outputs().await;
    let home = std::fs::canonicalize(passwd_home()).unwrap();
    assert_eq!(std::fs::canonicalize(out.trim()).unwrap(), home);
}

/// The home directory of this account, as the passwd file says.
fn passwd_home() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let table = std::fs::read_to_string("/etc/passwd").expect("a passwd file");
    let mut entries = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry =
        entries.find(|entry| entry.get(2) == Some(&uid.as_str())).expect("an entry of ours");
    entry[5].to_owned()
}

#[tokio::test]
async fn a_reference_client_s_words_that_need_a_shell_get_one() {
    let mut client = Client::reference().await;
    for (id, (name, args, expected)) in [
        ("cd", vec!["/", "&&", "pwd"], "/\n".to_owned()),
        ("echo", vec!["~/x", "&&", "echo", "y"], format!("{}/x\ny\n", home_of_programs())),
        ("no-such-program", vec!["||", "echo", "in a shell"], "in a shell\n".to_owned()),
        ("echo", vec!["a", "&&", "$HOME"], "a && $HOME\n".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let args = args.into_iter().map(str::to_owned).collect();
        let id = id as u64 + 1;
        let start = StartMessage { id, name: name.into(), args, ..StartMessage::default() };
        assert_eq!(client.session(start).await.outputs().await.0, expected);
    }
}

/// The home directory that programs are told of.
fn home_of_programs() -> String {
    std::env::var("HOME").unwrap_or_else(|_| passwd_home())
}

#[tokio::test]
async fn without_a_stderr_stream_errors_are_dropped_and_block_nobody() {
    let mut client = Client::start().await;
    let line = "head -c 1000000 /dev/zero >&2; echo out";
    let mut session = client.try_session_without_stderr(command(1, line)).await.unwrap();
    assert_eq!(session.outputs().await.0, "out\n");
    assert_eq!(client.exit(1).await.exit_code, 0);
}

#[tokio::test]
async fn with_a_terminal_the_stderr_stream_ends_at_once() {
    let mut client = Client::start().await;
    let mut session = client.session(on_pty(1, "read -r line; echo err >&2")).await;
    let mut nothing = Vec::new();
    let errors = session.errors.as_mut().unwrap();
    common::soon("end of errors", errors.read_to_end(&mut nothing)).await.unwrap();
    assert_eq!(nothing, b"", "while the program waits");
    session.input.write_all(b"\n").await.unwrap();
    session.read_until("err").await;
}
