//! The guard, as a process of its own: what it holds.
//!
//! Looks into `/proc`, so on Linux only. That it restores a terminal is the
//! end-to-end suite's to show.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long something may take that happens soon.
const DEADLINE: Duration = Duration::from_secs(30);

struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Client {
    /// Starts a client that waits for a server without a word, with a guard.
    fn at(server: &TcpListener) -> Self {
        let port = server.local_addr().expect("bound").port().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_tssh"))
            .args(["-F", "/dev/null", "--udp", "-o", "BatchMode=yes", "-p", &port, "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("the client starts"))
    }

    /// Waits for its guard; returns the guard's directory in `/proc`.
    fn guard(&self) -> PathBuf {
        let id = self.0.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let children = fs::read_to_string(&children).unwrap_or_default();
            for child in children.split_whitespace() {
                let directory = PathBuf::from("/proc").join(child);
                let line = fs::read(directory.join("cmdline")).unwrap_or_default();
                if line.starts_with(b"tssh: guard\0") {
                    return directory;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no guard appears");
    }
}

/// Returns whether a process has this file open.
fn holds(process: &Path, file: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).expect("it lives");
    open.filter_map(Result::ok)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == *file))
}

#[test]
fn a_pipe_the_caller_left_open_is_not_held_by_the_guard() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("open to children");
    let pipe = fs::read_link(format!("/proc/self/fd/{}", writer.as_raw_fd())).expect("it is open");
    let client = Client::at(&server);
    let guard = client.guard();
    let itself = PathBuf::from(format!("/proc/{}", client.0.id()));
    assert!(holds(&itself, &pipe), "the client has inherited it");
    assert!(!holds(&guard, &pipe), "and keeps it to itself");
}
