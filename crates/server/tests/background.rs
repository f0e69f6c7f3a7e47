//! The program itself: its line, its background process, its exit codes.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use proto::bootstrap::{Finder, ServerInfo};

const TSSHD: &str = env!("CARGO_BIN_EXE_tsshd");

fn tsshd(arguments: &[&str]) -> Command {
    let mut command = Command::new(TSSHD);
    command.args(arguments).stdin(Stdio::null()).env("SSH_CONNECTION", "127.0.0.1 1 127.0.0.1 22");
    command
}

fn info(output: &Output) -> ServerInfo {
    assert_eq!(output.stdout.first(), Some(&7), "{}", String::from_utf8_lossy(&output.stdout));
    let mut finder = Finder::default();
    finder.push(&output.stdout).unwrap().expect("a line of server information")
}

/// The background process by itself, as the first process starts it.
fn background(arguments: &[&str]) -> Command {
    let mut command = tsshd(arguments);
    command.env("TRZSZ-SSHD-BACKGROUND", "TRUE").stdout(Stdio::piped());
    command
}

#[test]
fn the_first_process_ends_at_once_and_leaves_nothing_open() {
    // Standard error and a stray descriptor are pipes whose end we wait for:
    // both are closed only once no process holds them.
    let (mut errors, their_errors) = std::io::pipe().unwrap();
    let (mut stray, their_stray) = std::io::pipe().unwrap();
    rustix::io::fcntl_setfd(their_stray.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    let mut command = tsshd_with_lower_limits(&["--connect-timeout", "600"]);
    command.stderr(their_errors).stdout(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    drop(command);
    drop(their_stray);
    assert!(output.status.success());
    let mut rest = Vec::new();
    errors.read_to_end(&mut rest).unwrap();
    stray.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");

    let info = info(&output);
    let serving = find(info.port).expect("the server goes on without its parent");
    assert_eq!(
        std::fs::read_link(format!("/proc/{serving}/fd/0")).unwrap().to_str(),
        Some("/dev/null")
    );
    let pid = rustix::process::Pid::from_raw(serving).unwrap();
    assert_eq!(rustix::process::getsid(Some(pid)), Ok(pid), "a session of its own");
    let secrets =
        ["cmdline", "environ"].map(|file| std::fs::read(format!("/proc/{serving}/{file}")));
    for shown in secrets {
        let shown = String::from_utf8_lossy(&shown.unwrap()).into_owned();
        assert!(!shown.contains(&hex(info.proxy_key.expose())), "keys are nowhere to be seen");
    }
    let limits = std::fs::read_to_string(format!("/proc/{serving}/limits")).unwrap();
    let soft_and_hard = |name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(soft_and_hard("Max core file size")[0], "0", "no core file holds the keys");
    let files = soft_and_hard("Max open files");
    assert_eq!(files[0], files[1], "as many descriptors as there may be");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The program, started with other limits than the server is to end with.
fn tsshd_with_lower_limits(arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let limits = "ulimit -S -c \"$(ulimit -H -c)\"; ulimit -S -n 64; exec \"$0\" \"$@\"";
    command.args(["-c", limits, TSSHD]).args(arguments);
    command.stdin(Stdio::null()).env("SSH_CONNECTION", "127.0.0.1 1 127.0.0.1 22");
    command
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the process that has the UDP port on 127.0.0.1, by its sockets.
fn find(port: u16) -> Option<i32> {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.contains(&local))?;
    let socket = format!("socket:[{}]", line.split_whitespace().nth(9)?);
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let mut fds = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        fds.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_str() == Some(&socket)))
            .then_some(pid)
    })
}

#[test]
fn a_server_nobody_connects_to_ends_with_94() {
    let output = background(&["--connect-timeout", "1"]).output().unwrap();
    assert_eq!(info(&output).port, info(&output).port.clamp(61001, 61999));
    assert_eq!(output.status.code(), Some(94));
}

#[test]
fn what_was_asked_for_is_in_the_line() {
    let arguments = ["--tcp", "--mtu", "1300", "--ext", "early,unknown", "--connect-timeout", "1"];
    let info = info(&background(&arguments).output().unwrap());
    assert!(info.is_tcp());
    assert_eq!((info.mtu, info.ext), (1300, vec!["early".to_owned()]));
    assert_eq!(info.proto_ver, 1);
    assert!(info.client_id != 0 && info.server_id != 0);
    let plain = background(&["--connect-timeout", "1"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("Ext"));
}

#[test]
fn what_cannot_be_set_up_is_said_in_words() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, expected) in
        [(vec!["--port", &port], "no port of "), (vec!["--port", "x"], "no valid port")]
    {
        let output = background(&arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(expected) && !text.contains('\x07'), "{text}");
        assert_eq!(output.status.code(), Some(93));
        let first = tsshd(&arguments).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&first.stdout), text);
        assert_eq!(first.status.code(), Some(0), "the first process always ends well");
    }
}

/// A client that gets a session where it asked for a list takes it (PROTOCOL §1.2).
#[test]
fn asked_for_a_list_it_serves_as_a_server_that_has_none() {
    let output = background(&["--list", "--connect-timeout", "1"]).output().unwrap();
    assert_eq!(output.stdout.get(..3), Some(&b"\x07{\""[..]));
    assert_eq!(output.status.code(), Some(94), "nobody came");
}

#[test]
fn a_signal_ends_a_server_without_a_client() {
    let mut child = background(&["--connect-timeout", "600"]).spawn().unwrap();
    let mut line = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut line).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(&mut child).code(), Some(96));
}

fn wait(child: &mut std::process::Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the server does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn questions_are_answered_without_a_server() {
    for (flag, expected) in [("-h", "usage: tsshd"), ("--version", "tsshd "), ("-V", "protocol 1")]
    {
        let output = tsshd(&[flag]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{flag}");
        assert!(output.status.success());
    }
}
