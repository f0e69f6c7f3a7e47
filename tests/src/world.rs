//! [`World`]: a private ssh host on loopback, and all its clients need to reach it.
//!
//! Everything lives in one temporary directory and dies with the value. The
//! user is whoever runs the tests: OpenSSH and tssh take the home directory
//! from the passwd entry, so no file of a client relies on `HOME`; every path
//! is spelled out in its configuration instead. Remote shells do go by `HOME`,
//! so sshd gives them an empty one.
//!
//! A world with links ([`WorldBuilder::links`]) has two hosts instead of the
//! loopback interface, with a network between them that can be as bad as asked.
//!
//! Processes of a world are known by a mark in their environment, which sshd
//! hands down to its sessions (`SetEnv`) and which survives daemonising, or
//! by being children of its sshd. Sockets end with their processes, so "no
//! process is left" covers them; files are looked for in `TMPDIR` and `HOME`,
//! which are the world's own on both sides.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use netlab::{Lab, LinkConfig, Side};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::mode::{SSHD, say_skipped, tsshd};
use crate::net::free_port_at;
use crate::pty::PtyBuilder;
use crate::relay::{Relay, RelayKind};
use crate::run::Run;
use crate::{Mode, Process, process, transcript, wait};

/// The name under which the client's configuration knows the host.
pub const HOST: &str = "world";

/// Settings of a [`World`] that most tests leave alone.
#[derive(Debug)]
pub struct WorldBuilder {
    mode: Mode,
    sftp: String,
    sshd_config: String,
    client_config: String,
    server_config: String,
    address: IpAddr,
    links: Vec<LinkConfig>,
}

impl WorldBuilder {
    /// Puts sshd on one host and the clients on another, with these links
    /// between them; `None`, after saying so, where that cannot be had.
    ///
    /// # Panics
    /// In CI as root, where a test that skips itself would be green for ever.
    #[must_use]
    pub fn links(mut self, links: impl IntoIterator<Item = LinkConfig>) -> Option<Self> {
        if let Some(reason) = netlab::why_not() {
            let root = rustix::process::geteuid().is_root();
            assert!(!root || std::env::var_os("CI").is_none(), "{reason} (CI must not skip this)");
            say_skipped(reason);
            return None;
        }
        self.links = links.into_iter().collect();
        self.address = netlab::SERVER_V4.into();
        Some(self)
    }

    /// Lets clients log in by the server's IPv6 address, where there are [links](Self::links).
    #[must_use]
    pub fn by_ipv6(mut self) -> Self {
        self.address = netlab::SERVER_V6.into();
        self
    }

    /// Puts sshd on the IPv6 loopback address; `None`, after saying so, where there is none.
    #[must_use]
    pub fn ipv6(mut self) -> Option<Self> {
        self.address = Ipv6Addr::LOCALHOST.into();
        if TcpListener::bind((self.address, 0)).is_err() {
            say_skipped("this machine has no IPv6 loopback address");
            return None;
        }
        Some(self)
    }

    /// Sets what `Subsystem sftp` of sshd_config says.
    #[must_use]
    pub fn sftp(mut self, command: &str) -> Self {
        command.clone_into(&mut self.sftp);
        self
    }

    /// Puts lines at the end of sshd_config.
    #[must_use]
    pub fn sshd_config(mut self, lines: &str) -> Self {
        self.sshd_config.push_str(lines);
        self.sshd_config.push('\n');
        self
    }

    /// Puts lines before all others of the client's `Host` block (the first value wins).
    #[must_use]
    pub fn client_config(mut self, lines: &str) -> Self {
        self.client_config.push_str(lines);
        self.client_config.push('\n');
        self
    }

    /// Puts lines before all others of sshd_config; `@` stands for the world's directory.
    #[must_use]
    pub fn server_config(mut self, lines: &str) -> Self {
        self.server_config.push_str(lines);
        self.server_config.push('\n');
        self
    }

    /// Starts the world.
    ///
    /// # Panics
    /// When sshd cannot be started.
    #[must_use]
    pub fn start(self) -> World {
        World::build(&self)
    }
}

/// A running sshd with its keys, and a client configuration that fits.
#[derive(Debug)]
pub struct World {
    dir: TempDir,
    mode: Mode,
    lab: Option<Lab>,
    sshd: Child,
    port: u16,
    mark: String,
}

impl World {
    /// Starts a world with the usual settings.
    ///
    /// # Panics
    /// When sshd cannot be started.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self::builder(mode).start()
    }

    /// Returns a builder for a world with other settings.
    #[must_use]
    pub fn builder(mode: Mode) -> WorldBuilder {
        let sftp = "/usr/lib/openssh/sftp-server".to_owned();
        let address = Ipv4Addr::LOCALHOST.into();
        WorldBuilder {
            mode,
            sftp,
            sshd_config: String::new(),
            client_config: String::new(),
            server_config: String::new(),
            address,
            links: Vec::new(),
        }
    }

    /// Returns the mode under test.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the network between client and server.
    ///
    /// # Panics
    /// When the world was made without [`WorldBuilder::links`].
    #[must_use]
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("this world has links")
    }

    /// Returns the port of sshd.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns a path inside the world's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the world's directory and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file of the world can be written");
        path
    }

    /// Returns a run of the mode's client: `ssh OPTIONS world`.
    ///
    /// The command, if any, is added with [`Run::command`].
    pub fn ssh<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> Run<'_> {
        Run::new(self, self.client(self.mode, options))
    }

    /// Returns the same run with the installed OpenSSH client, the oracle.
    pub fn openssh<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> Run<'_> {
        Run::new(self, self.client(Mode::OpenSsh, options))
    }

    /// Returns a run of any other local program in the client's surroundings.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Run<'_> {
        Run::new(self, self.command(program))
    }

    /// Returns the mode's client in a terminal: `ssh OPTIONS world`.
    pub fn pty<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> PtyBuilder {
        PtyBuilder::new(self.client(self.mode, options))
    }

    /// Returns the installed OpenSSH client in a terminal.
    pub fn openssh_pty<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> PtyBuilder {
        PtyBuilder::new(self.client(Mode::OpenSsh, options))
    }

    /// Returns any other local program in a terminal.
    pub fn program_pty(&self, program: impl AsRef<OsStr>) -> PtyBuilder {
        PtyBuilder::new(self.command(program))
    }

    /// Writes a script that is the client with the mode's flags, and returns its path.
    ///
    /// For programs that start `ssh` themselves (`sftp -S`, a shell with job
    /// control); further arguments are passed on.
    pub fn client_script(&self) -> PathBuf {
        let client = self.client(self.mode, [] as [&str; 0]);
        // The last word is the host, which the caller of the script gives.
        let words: Vec<_> = client.get_args().map(|word| word.to_string_lossy()).collect();
        let words = words[..words.len() - 1].join("' '");
        let program = client.get_program().to_string_lossy();
        self.script("client.sh", &format!("exec '{program}' '{words}' \"$@\"\n"))
    }

    /// Writes an executable shell script into the world and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.write(name, format!("#!/bin/sh\n{body}"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("a script can be made executable");
        path
    }

    /// Puts a relay between the client and the port that tsshd will choose.
    ///
    /// Only runs started afterwards take it. Its script stands in for tsshd:
    /// it runs the real one and tells the client the relay's port.
    pub fn relay_link(&self) -> Relay {
        let kind = if self.mode.is_tcp() { RelayKind::Tcp } else { RelayKind::Udp };
        let told = self.path("tsshd.port");
        let relay = Relay::start(kind, told.clone());
        let script = format!(
            concat!(
                "'{real}' \"$@\" | while IFS= read -r line; do\n",
                "  port=${{line#*'\"Port\":'}}; port=${{port%%[!0-9]*}}\n",
                "  echo \"$port\" > '{told}.new' && mv '{told}.new' '{told}'\n",
                "  printf '%s\\n' \"$line\" | sed 's/\"Port\":[0-9]*/\"Port\":{port}/'\n",
                "done\n",
            ),
            real = tsshd().display(),
            told = told.display(),
            port = relay.port(),
        );
        self.script("tsshd", &script);
        relay
    }

    /// Lets the script that stands in for tsshd keep a copy of what it prints; returns the file.
    pub fn capture_server_info(&self) -> PathBuf {
        let copy = self.path("server_info");
        let body = format!("'{}' \"$@\" | tee '{}'\n", tsshd().display(), copy.display());
        self.script("tsshd", &body);
        copy
    }

    /// Lets tsshd find this world's sshd_config where the system's is.
    ///
    /// Needs a mount namespace of its own, and so privileges; returns `false`,
    /// after saying so, where they are missing.
    pub fn show_tsshd_this_sshd_config(&self) -> bool {
        let config = self.path("sshd_config");
        let mount = "mount --bind \"$0\" /etc/ssh/sshd_config";
        let trial = ["-m", "sh", "-c", mount].map(OsStr::new).into_iter();
        let trial = trial.chain([config.as_os_str()]);
        let possible = Command::new("unshare").args(trial).stderr(Stdio::null()).status();
        if !possible.is_ok_and(|status| status.success()) {
            say_skipped("showing tsshd another sshd_config needs the right to mount");
            return false;
        }
        let (config, tsshd) = (config.display(), tsshd());
        let inner = format!("{mount} && exec {} \"$@\"", tsshd.display());
        self.script("tsshd", &format!("exec unshare -m sh -c '{inner}' '{config}' \"$@\"\n"));
        true
    }

    /// Puts a relay between the client and sshd.
    pub fn relay_login(&self) -> Relay {
        let told = self.write("sshd.port", self.port.to_string());
        let relay = Relay::start(RelayKind::Tcp, told);
        self.set_client_port(relay.port());
        relay
    }

    /// Returns the live processes on the server's side, sshd itself excepted.
    pub fn server_processes(&self) -> Vec<Process> {
        let mut found = self.sshd_children();
        found.extend(process::marked(&[&format!("{SERVER_MARK}={}", self.mark)]));
        dedup(found)
    }

    /// Returns the live tsshd processes.
    pub fn tsshds(&self) -> Vec<Process> {
        let servers = self.server_processes();
        servers.into_iter().filter(|process| process.is_program("tsshd")).collect()
    }

    /// Returns every live process of the world on either side, sshd itself excepted.
    pub fn processes(&self) -> Vec<Process> {
        let mut found = self.sshd_children();
        let [client, server] =
            [CLIENT_MARK, SERVER_MARK].map(|mark| format!("{mark}={}", self.mark));
        found.extend(process::marked(&[&client, &server]));
        dedup(found)
    }

    /// Waits until neither side has a process left.
    ///
    /// # Panics
    /// When some stay; they are named.
    pub fn wait_until_nothing_runs(&self) {
        let mut left = Vec::new();
        let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::wait_until("all processes of the world have ended", || {
                left = self.processes();
                left.is_empty()
            });
        }));
        assert!(gone.is_ok(), "processes were left behind: {left:#?}");
    }

    /// Returns the files that programs left in `TMPDIR` and `HOME`, on either side.
    ///
    /// # Panics
    /// When the directories cannot be listed.
    pub fn stray_files(&self) -> Vec<PathBuf> {
        let list = |name| fs::read_dir(self.path(name)).expect("a directory of the world is there");
        let entries = list("tmp").chain(list("home")).chain(list("login"));
        let paths = entries.map(|entry| entry.expect("an entry can be read").path());
        // The shell's own habit, not ours.
        paths.filter(|path| !path.ends_with(".bash_history")).collect()
    }

    /// Returns what sshd has logged so far.
    pub fn sshd_log(&self) -> String {
        fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }

    /// Returns a command in the client's surroundings: nothing of the caller's environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = in_host(self.lab.as_ref(), Side::Client, program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("USER", user())
            .env("LOGNAME", user())
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env(CLIENT_MARK, &self.mark)
            .current_dir(self.dir.path());
        command
    }

    /// Returns `CLIENT -F config FLAGS OPTIONS world`.
    fn client<S: AsRef<OsStr>>(&self, mode: Mode, options: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.command(mode.client());
        command.arg("-F").arg(self.path("config")).args(mode.flags());
        command.args(options).arg(HOST);
        command
    }

    fn sshd_children(&self) -> Vec<Process> {
        i32::try_from(self.sshd.id()).map(process::descendants).unwrap_or_default()
    }

    fn build(builder: &WorldBuilder) -> Self {
        let dir = tempfile::Builder::new().prefix("e2e-").tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        for name in ["tmp", "home", "login"] {
            fs::create_dir(path(name)).expect("a directory of the world can be made");
        }
        keygen(&path("host_key"), "");
        keygen(&path("id"), "");
        fs::copy(path("id.pub"), path("authorized_keys")).expect("the public key can be copied");

        let mark = dir.path().to_string_lossy().into_owned();
        let lab = (!builder.links.is_empty()).then(|| {
            let links = builder.links.iter();
            let lab = links.fold(Lab::builder().seed(1), |lab, link| lab.link(*link));
            lab.start().expect("root can make hosts")
        });
        let config = sshd_config(dir.path(), &mark, builder);
        let (sshd, port) = start_sshd(dir.path(), builder.address, lab.as_ref(), &config);
        let world = Self { dir, mode: builder.mode, lab, sshd, port, mark };
        world.write("known_hosts", world.known_hosts_line("host_key"));
        if builder.mode.is_tssh() {
            world.script("tsshd", &format!("exec '{}' \"$@\"\n", tsshd().display()));
        }
        world.write("config", world.client_config(builder));
        world
    }

    /// Returns the known_hosts line of this host for a key file of the world.
    ///
    /// # Panics
    /// When there is no such key.
    pub fn known_hosts_line(&self, key: &str) -> String {
        let public = fs::read_to_string(self.path(format!("{key}.pub"))).expect("a public key");
        // HostKeyAlias: the name stays right when a relay changes the port.
        format!("{HOST} {public}")
    }

    /// Makes a key pair in the world; `passphrase` may be empty.
    ///
    /// # Panics
    /// When ssh-keygen fails.
    pub fn keygen(&self, name: &str, passphrase: &str) -> PathBuf {
        let path = self.path(name);
        keygen(&path, passphrase);
        path
    }

    fn client_config(&self, builder: &WorldBuilder) -> String {
        let WorldBuilder { client_config: first, address, .. } = builder;
        let dir = self.dir.path().display();
        let port = self.port;
        let user = user();
        format!(
            "Host {HOST}\n\
             {first}\n\
             HostName {address}\n\
             HostKeyAlias {HOST}\n\
             Port {port}\n\
             User {user}\n\
             IdentityFile {dir}/id\n\
             IdentitiesOnly yes\n\
             IdentityAgent none\n\
             UserKnownHostsFile {dir}/known_hosts\n\
             GlobalKnownHostsFile /dev/null\n\
             PreferredAuthentications publickey\n\
             StrictHostKeyChecking yes\n\
             #!! TsshdPath {dir}/tsshd\n"
        )
    }

    /// Gives the host a further name in the client's configuration, with these lines first.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub fn add_host(&self, name: &str, lines: &str) {
        let config = fs::read_to_string(self.path("config")).expect("the client's configuration");
        let block = config.split("\nHost ").next().unwrap_or_default();
        let block =
            block.replacen(&format!("Host {HOST}\n"), &format!("Host {name}\n{lines}\n"), 1);
        self.write("config", format!("{config}\n{block}"));
    }

    fn set_client_port(&self, port: u16) {
        let config = fs::read_to_string(self.path("config")).expect("the client's configuration");
        let config =
            config.replace(&format!("\nPort {}\n", self.port), &format!("\nPort {port}\n"));
        self.write("config", config);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        // Children first: once sshd is gone they no longer name it as their parent.
        let children = self.sshd_children();
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        for process in children {
            process.signal(Signal::KILL);
        }
        // A process can start another between the look and the signal; a
        // handful of rounds outruns anything but a fork bomb.
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for process in left {
                process.signal(Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl World {
    #[expect(clippy::print_stderr, reason = "a failed test's output should show the server's side")]
    fn explain(&self) {
        eprintln!("mode: {:?}; processes: {:#?}", self.mode, self.processes());
        eprintln!("sshd said:\n{}", transcript::tail(self.sshd_log().as_bytes()));
    }
}

const SERVER_MARK: &str = "E2E_SERVER";
const CLIENT_MARK: &str = "E2E_CLIENT";

fn dedup(mut processes: Vec<Process>) -> Vec<Process> {
    processes.sort_by_key(|process| process.pid);
    processes.dedup_by_key(|process| process.pid);
    processes
}

fn sshd_config(dir: &Path, mark: &str, builder: &WorldBuilder) -> String {
    let WorldBuilder { sftp, sshd_config: last, .. } = builder;
    let first = builder.server_config.replace('@', &dir.to_string_lossy());
    let dir = dir.display();
    // HOME: shells read no start files of whoever runs the tests. They still begin
    // in the directory of the passwd entry, which sshd does not let us choose.
    // AcceptEnv is the distributions' usual value: tsshd reads the system's
    // sshd_config, which a test must not write, so the two have to agree.
    format!(
        "{first}HostKey {dir}/host_key\n\
         AuthorizedKeysFile {dir}/authorized_keys\n\
         PidFile none\n\
         StrictModes no\n\
         UsePAM no\n\
         UseDNS no\n\
         PermitRootLogin yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         PrintMotd no\n\
         PrintLastLog no\n\
         MaxStartups 100\n\
         LogLevel VERBOSE\n\
         AcceptEnv LANG LC_*\n\
         SetEnv {SERVER_MARK}={mark} TMPDIR={dir}/tmp HOME={dir}/login\n\
         Subsystem sftp {sftp}\n\
         {last}"
    )
}

/// Starts sshd on a port nobody has, and waits until it listens.
fn start_sshd(dir: &Path, address: IpAddr, lab: Option<&Lab>, config: &str) -> (Child, u16) {
    if rustix::process::geteuid().is_root() {
        // Where a privileged sshd jails its network-facing half.
        fs::create_dir_all("/run/sshd").expect("/run/sshd can be made");
    }
    // Another test may take the port between our look and sshd's bind.
    for _ in 0..20 {
        // On a host of its own nobody else has any port.
        let port = if lab.is_some() { 22 } else { free_port_at(address) };
        let listen = format!("ListenAddress {address}\nPort {port}\n{config}");
        fs::write(dir.join("sshd_config"), listen).expect("sshd_config can be written");
        let log = fs::File::create(dir.join("sshd.log")).expect("a log file can be made");
        let mut sshd = in_host(lab, Side::Server, SSHD)
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(dir.join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let log = || fs::read_to_string(dir.join("sshd.log")).unwrap_or_default();
        let listens = wait::wait_for("sshd listens or ends", || {
            let ended = sshd.try_wait().expect("sshd can be waited for").is_some();
            let listens = log().contains(&format!("listening on {address} port {port}"));
            (ended || listens).then_some(!ended)
        });
        if listens {
            return (sshd, port);
        }
        let log = log();
        assert!(log.contains("Address already in use"), "sshd does not start: {log}");
    }
    panic!("no free port for sshd");
}

/// Returns a program's command, in a host if there are hosts.
fn in_host(lab: Option<&Lab>, side: Side, program: impl AsRef<OsStr>) -> Command {
    let Some(lab) = lab else { return Command::new(program) };
    // It becomes the program: one process, with the signals it is sent.
    let mut command = Command::new("nsenter");
    let mut namespace = OsString::from("--net=");
    namespace.push(lab.host(side).path());
    command.arg(namespace).arg("--").arg(program);
    command
}

fn keygen(path: &Path, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "e2e", "-N", passphrase, "-f"])
        .arg(path)
        .stdin(Stdio::null())
        .status();
    assert!(made.expect("ssh-keygen starts").success(), "ssh-keygen failed");
}

/// Returns the name of the user who runs the tests.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id starts");
    String::from_utf8(output.stdout).expect("a user name is text").trim().to_owned()
}
