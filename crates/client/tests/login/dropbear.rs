//! Logging in to Dropbear, the ssh server of small machines.
//!
//! Each connection is served by a `dropbear -i` in a mount namespace of its own, in which root has
//! another home and another password: nothing of this machine is touched. Skipped, with a word,
//! where there is no dropbear or no right to mount.
#![expect(clippy::print_stderr, reason = "a skipped test must say so")]

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Script, chmod, keygen};
use tokio::io::AsyncReadExt as _;
use tssh::config::{Environment, Settings, resolve};
use tssh::login::{Login, LoginError, connect};
use tssh::remote::{Program, Remote as _, SessionEnd, SessionRequest};

struct Dropbear {
    directory: tempfile::TempDir,
    port: u16,
}

/// What runs in the namespace; `$0` is the directory of the test.
const SERVE: &str = "mount --bind \"$0/home\" /root && mount --bind \"$0/shadow\" /etc/shadow && \
                     exec dropbear -i -r \"$0/host\" 2>>\"$0/log\"";

impl Dropbear {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let made = Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(path("host"))
            .stderr(Stdio::null())
            .output();
        let Ok(made) = made else {
            eprintln!("skipped: no dropbearkey (install dropbear-bin)");
            return None;
        };
        let mount = ["-m", "mount", "-t", "tmpfs", "none", "/root"];
        let may_mount = Command::new("unshare").args(mount).stderr(Stdio::null()).status();
        if !may_mount.is_ok_and(|status| status.success()) {
            eprintln!("skipped: another home for root needs the right to mount");
            return None;
        }
        let printed = String::from_utf8(made.stdout).expect("text");
        let public = printed.lines().find(|line| line.starts_with("ssh-ed25519 "));
        let hash = Command::new("openssl").args(["passwd", "-6", "right"]).output();
        let hash = String::from_utf8(hash.expect("openssl is there").stdout).expect("text");
        fs::write(path("shadow"), format!("root:{}:19000:0:99999:7:::\n", hash.trim()))
            .expect("ok");
        fs::create_dir_all(path("home/.ssh")).expect("writable");
        chmod(&path("home"), 0o700);
        chmod(&path("home/.ssh"), 0o700);

        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("bound").port();
        let known = format!("[127.0.0.1]:{port} {}\n", public.expect("the public key is printed"));
        fs::write(path("known_hosts"), known).expect("writable");
        let at = directory.path().to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let stream = OwnedFd::from(stream);
                let Ok(input) = stream.try_clone() else { return };
                let child = Command::new("unshare")
                    .args(["-m", "sh", "-c", SERVE])
                    .arg(&at)
                    .stdin(Stdio::from(input))
                    .stdout(Stdio::from(stream))
                    .stderr(Stdio::null())
                    .spawn();
                if let Ok(mut child) = child {
                    std::thread::spawn(move || child.wait());
                }
            }
        });
        Some(Self { directory, port })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a key and lets its holder in.
    fn make_key(&self, kind: &str) -> PathBuf {
        let key = self.path(kind);
        keygen(&["-t", kind, "-N", "", "-f"], &key);
        let public = fs::read_to_string(self.path(&format!("{kind}.pub"))).expect("just made");
        let file = self.path("home/.ssh/authorized_keys");
        fs::write(&file, public).expect("writable");
        chmod(&file, 0o600);
        key
    }

    fn settings(&self, options: &[String]) -> Settings {
        let at = self.directory.path().display();
        let fixed = [
            format!("Port={}", self.port),
            format!("UserKnownHostsFile={at}/known_hosts"),
            "GlobalKnownHostsFile=none".to_owned(),
            "IdentityAgent=none".to_owned(),
        ];
        let mut args: Vec<OsString> = ["-F", "none", "-l", "root"].map(Into::into).into();
        for option in fixed.iter().chain(options) {
            args.extend(["-o".into(), option.into()]);
        }
        args.push("127.0.0.1".into());
        let line = tssh::cli::parse(args.into_iter()).expect("a command line");
        resolve(&line, &Environment::of_process().expect("a user")).expect("a configuration")
    }

    async fn log_in(&self, options: &[String], ui: &Script) -> Result<Login, LoginError> {
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, connect(&self.settings(options), ui)).await.expect("no hang")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

async fn assert_runs(login: &Login) {
    let program = Program::Exec(b"echo out; echo err >&2; exit 7".to_vec());
    let request = SessionRequest { program, pty: None, env: Vec::new(), agent: false, x11: false };
    let mut session = login.open_session(request).await.expect("it starts");
    let mut output = String::new();
    session.output.read_to_string(&mut output).await.expect("readable");
    assert_eq!(output, "out\n");
    assert_eq!(session.end.await, SessionEnd::Exited(7));
}

#[tokio::test]
async fn keys_of_all_kinds_log_in_to_dropbear() {
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let Some(dropbear) = Dropbear::start() else { return };
        let key = dropbear.make_key(kind);
        let ui = Script::default();
        let options = [format!("IdentityFile={}", key.display())];
        match dropbear.log_in(&options, &ui).await {
            Ok(login) => assert_runs(&login).await,
            Err(error) => panic!("{kind}: {error}\n{}\n{}", ui.heard(), dropbear.log()),
        }
    }
}

#[tokio::test]
async fn a_password_logs_in_to_dropbear_after_a_wrong_one() {
    let Some(dropbear) = Dropbear::start() else { return };
    let ui = Script::new(&["wrong", "right"]);
    match dropbear.log_in(&["IdentityFile=none".to_owned()], &ui).await {
        Ok(login) => assert_runs(&login).await,
        Err(error) => panic!("{error}\n{}\n{}", ui.heard(), dropbear.log()),
    }
}

#[tokio::test]
async fn a_changed_key_of_dropbear_is_refused() {
    let Some(dropbear) = Dropbear::start() else { return };
    keygen(&["-t", "ed25519", "-N", "", "-f"], &dropbear.path("other"));
    let public = fs::read_to_string(dropbear.path("other.pub")).expect("just made");
    let line = format!("[127.0.0.1]:{} {public}", dropbear.port);
    fs::write(dropbear.path("known_hosts"), line).expect("writable");
    let refused = dropbear.log_in(&[], &Script::default()).await.err();
    assert!(matches!(refused, Some(LoginError::HostKey)), "{refused:?}");
}
