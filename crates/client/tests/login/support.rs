//! A real OpenSSH server for the tests of the login, and somebody to answer prompts.
//!
//! Each connection is accepted here and handed to an `sshd -i` with a
//! configuration of its own: no port to guess, no daemon to stop, and nothing
//! outside a temporary directory is touched.
#![expect(clippy::print_stderr, reason = "a skipped test must say so")]
#![allow(unreachable_pub, dead_code, reason = "each test program uses a part of it")]

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use tssh::config::{Environment, Settings, resolve};
use tssh::login::{Echo, PromptError, Ui};
use tssh::remote::BoxFuture;
use zeroize::Zeroizing;

/// A directory with host keys, user keys and an sshd configuration.
pub struct Sshd {
    directory: tempfile::TempDir,
    pub address: SocketAddr,
    /// Removed when the test ends.
    _pam: Option<PamService>,
}

/// A PAM service of its own, in the one place where PAM looks.
struct PamService(PathBuf);

impl Drop for PamService {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Sshd {
    /// Starts serving; `None`, and a word on standard error, where that cannot be done.
    pub fn start() -> Option<Self> {
        Self::with_config("")
    }

    /// Starts serving with further lines of sshd_config.
    pub fn with_config(more: &str) -> Option<Self> {
        Self::build(more, None)
    }

    /// Starts serving with PAM: whoever gives `password` gets in. No account is touched.
    pub fn with_pam(more: &str, password: &str) -> Option<Self> {
        if !Path::new("/etc/pam.d").exists() {
            eprintln!("skipped: no /etc/pam.d");
            return None;
        }
        Self::build(&format!("{more}\nUsePAM yes"), Some(password))
    }

    fn build(more: &str, password: Option<&str>) -> Option<Self> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() {
            eprintln!("skipped: no /usr/sbin/sshd (install openssh-server)");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: sshd lets others in only when root runs it");
            return None;
        }
        // What its service does on boot; sshd refuses to run without.
        fs::create_dir_all("/run/sshd").expect("root may create it");

        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let mut this = Self { directory, address, _pam: None };
        // sshd's PAM service is called as sshd is.
        let mut called = sshd.to_path_buf();
        if let Some(password) = password {
            let name = format!("tssh-test-{}-{}", std::process::id(), address.port());
            this._pam = Some(this.pam_service(&name, password));
            called = Path::new("/usr/sbin").join(name);
        }
        this.make_key("host_ed25519", "ed25519", "");
        let at = this.directory.path().display().to_string();
        let more = more.replace('@', &at);
        let config = format!(
            "{more}\n\
             HostKey {at}/host_ed25519\n\
             AuthorizedKeysFile {at}/authorized_keys\n\
             PermitRootLogin yes\nStrictModes no\nUsePAM no\nPrintMotd no\nPrintLastLog no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAcceptEnv TSSH_*\n\
             Subsystem tester /bin/cat\nLogLevel DEBUG1\n"
        );
        fs::write(this.path("sshd_config"), config).expect("writable");
        fs::write(this.path("authorized_keys"), "").expect("writable");

        let config = this.path("sshd_config");
        let log = this.path("sshd.log");
        // Ends with the process; the listener is closed when accepting fails.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let stream = OwnedFd::from(stream);
                let Ok(input) = stream.try_clone() else { return };
                let child = Command::new(sshd)
                    .arg0(&called)
                    .args(["-i", "-f"])
                    .arg(&config)
                    .arg("-E")
                    .arg(&log)
                    .stdin(Stdio::from(input))
                    .stdout(Stdio::from(stream))
                    .stderr(Stdio::null())
                    .spawn();
                if let Ok(mut child) = child {
                    std::thread::spawn(move || child.wait());
                }
            }
        });
        Some(this)
    }

    fn pam_service(&self, name: &str, password: &str) -> PamService {
        let check = self.path("check");
        // The password comes with a NUL behind it.
        let script = format!("#!/bin/sh\n[ \"$(tr -d '\\0')\" = '{password}' ]\n");
        fs::write(&check, script).expect("writable");
        chmod(&check, 0o700);
        let text = format!(
            "auth required pam_exec.so quiet expose_authtok {}\n\
             account required pam_permit.so\nsession required pam_permit.so\n",
            check.display()
        );
        let file = Path::new("/etc/pam.d").join(name);
        fs::write(&file, text).expect("root may write it");
        PamService(file)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a key pair `name` and `name.pub`.
    pub fn make_key(&self, name: &str, kind: &str, passphrase: &str) -> PathBuf {
        let path = self.path(name);
        keygen(&["-t", kind, "-N", passphrase, "-C", name, "-f"], &path);
        path
    }

    /// Lets the holder of `name` in.
    pub fn authorize(&self, name: &str) {
        let file = self.path("authorized_keys");
        let mut all = fs::read_to_string(&file).expect("written at the start");
        all.push_str(&self.public(name));
        fs::write(&file, all).expect("writable");
    }

    /// The text of `name.pub`.
    pub fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.pub"))).expect("a key made before")
    }

    /// Writes the host's right key into known_hosts.
    pub fn be_known(&self) {
        let public = self.public("host_ed25519");
        let line = format!("[127.0.0.1]:{} {public}", self.address.port());
        fs::write(self.path("known_hosts"), line).expect("writable");
    }

    pub fn known_hosts(&self) -> String {
        fs::read_to_string(self.path("known_hosts")).unwrap_or_default()
    }

    /// What sshd said, for the message of a failed test.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }

    /// Settings for this server as `tssh -o ...` would have them.
    pub fn settings(&self, options: &[&str]) -> Settings {
        let at = self.directory.path().display();
        let mut args: Vec<OsString> = ["-F", "/dev/null", "-l", "root"].map(Into::into).into();
        let fixed = [
            format!("Port={}", self.address.port()),
            format!("UserKnownHostsFile={at}/known_hosts"),
            "GlobalKnownHostsFile=/dev/null".into(),
        ];
        let defaults = ["IdentityAgent=none".to_owned(), format!("IdentityFile={at}/no_such_key")];
        let given = options.iter().map(|option| option.replace('@', &at.to_string()));
        let keyword = |option: &str| option.split('=').next().unwrap_or("").to_owned();
        let given: Vec<String> = given.collect();
        let defaults = defaults
            .into_iter()
            .filter(|default| !given.iter().any(|option| keyword(option) == keyword(default)));
        for option in fixed.into_iter().chain(defaults).chain(given.clone()) {
            args.extend(["-o".into(), option.into()]);
        }
        args.push("127.0.0.1".into());
        let line = tssh::cli::parse(args.into_iter()).expect("a command line");
        let environment = Environment::of_process().expect("this process has a user");
        resolve(&line, &environment).expect("a configuration")
    }
}

/// Runs ssh-keygen with `arguments`, then `path`.
pub fn keygen(arguments: &[&str], path: &Path) {
    let status = Command::new("ssh-keygen")
        .arg("-q")
        .args(arguments)
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .expect("ssh-keygen comes with sshd");
    assert!(status.success(), "ssh-keygen {arguments:?}");
}

/// Makes a file unreadable for others, as private keys must be.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

/// An agent of its own, which ends with the test.
pub struct SshAgent {
    child: std::process::Child,
    pub socket: std::path::PathBuf,
}

impl SshAgent {
    pub fn start(sshd: &Sshd) -> Self {
        let socket = sshd.path("agent");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("ssh-agent comes with ssh");
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        Self { child, socket }
    }

    pub fn add(&self, key: &std::path::Path) {
        let status = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket)
            .status()
            .expect("ssh-add comes with ssh");
        assert!(status.success());
    }
}

impl SshAgent {
    /// Takes all keys away.
    pub fn clear(&self) {
        let cleared =
            Command::new("ssh-add").args(["-q", "-D"]).env("SSH_AUTH_SOCK", &self.socket).status();
        assert!(cleared.expect("ssh-add comes with ssh").success());
    }

    /// What `ssh-add -L` prints.
    pub fn list(&self) -> String {
        let listed = Command::new("ssh-add").arg("-L").env("SSH_AUTH_SOCK", &self.socket).output();
        String::from_utf8(listed.expect("ssh-add comes with ssh").stdout).expect("text")
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers prompts from a list, and remembers everything it was told.
#[derive(Default)]
pub struct Script {
    answers: Mutex<VecDeque<&'static str>>,
    heard: Mutex<String>,
}

impl Script {
    pub fn new(answers: &[&'static str]) -> Self {
        Self { answers: Mutex::new(answers.iter().copied().collect()), heard: Mutex::default() }
    }

    /// Everything said and asked, one after the other.
    pub fn heard(&self) -> String {
        self.heard.lock().expect("no test panics here").clone()
    }

    fn hear(&self, text: &str) {
        let mut heard = self.heard.lock().expect("no test panics here");
        heard.push_str(text);
        heard.push('\n');
    }
}

impl Ui for Script {
    fn ask<'a>(
        &'a self,
        prompt: &'a str,
        _: Echo,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, PromptError>> {
        self.hear(prompt);
        let answer = self.answers.lock().expect("no test panics here").pop_front();
        Box::pin(async move {
            match answer {
                Some("^C") => Err(PromptError::Interrupted),
                Some(answer) => Ok(Zeroizing::new(answer.to_owned())),
                None => Err(PromptError::NoTerminal),
            }
        })
    }

    fn permit<'a>(&'a self, question: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move { self.ask(question, Echo::On).await.is_ok_and(|a| *a == "yes") })
    }

    fn tell(&self, text: &str) {
        self.hear(text);
    }

    fn warn(&self, text: &str) {
        self.hear(text);
    }

    fn banner(&self, text: &str) {
        self.hear(text);
    }
}
