//! [`World`]: a lab with a stock sshd on one host and everything a client needs on the other.
//!
//! It is the caller's namespaces that end a world's processes: whatever still
//! runs in them is killed, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use netlab::{Lab, LinkConfig, LinkId, Side};

use super::Bench;
use super::terminal::Terminal;

/// A program whose sessions are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    OpenSsh,
    Mosh,
    /// tssh over the ssh login itself.
    Tssh,
    /// tssh with QUIC over UDP.
    Quic,
    /// tssh with KCP over UDP.
    Kcp,
    /// tssh with QUIC over the TCP carrier.
    Tcp,
}

impl Client {
    pub(super) const ALL: [Self; 6] =
        [Self::OpenSsh, Self::Mosh, Self::Tssh, Self::Quic, Self::Kcp, Self::Tcp];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenSsh => "openssh",
            Self::Mosh => "mosh",
            Self::Tssh => "tssh",
            Self::Quic => "quic",
            Self::Kcp => "kcp",
            Self::Tcp => "tcp",
        }
    }

    /// Whether it is tssh, in one mode or another.
    pub(super) fn is_ours(self) -> bool {
        !matches!(self, Self::OpenSsh | Self::Mosh)
    }

    /// Whether a session survives what kills a TCP connection.
    pub(super) fn roams(self) -> bool {
        !matches!(self, Self::OpenSsh | Self::Tssh)
    }

    /// Returns why this client cannot be measured here.
    pub(super) fn why_not(self, programs: &Path) -> Option<String> {
        let answers = |program: &Path, words: &[&str]| {
            let status = Command::new(program)
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        };
        let fine = match self {
            Self::OpenSsh => answers(Path::new("ssh"), &["-V"]),
            Self::Mosh => answers(Path::new("mosh"), &["--version"]),
            _ => {
                let mut words = self.flags().to_vec();
                words.extend(["-F", "none", "-G", "host"]);
                answers(&programs.join("tssh"), &words)
            }
        };
        (!fine).then(|| "it is not there, or does not know this mode".to_owned())
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::OpenSsh | Self::Mosh | Self::Tssh => &[],
            Self::Quic => &["--quic"],
            Self::Kcp => &["--kcp"],
            Self::Tcp => &["--quic", "-o", "UdpProxyMode=TCP"],
        }
    }
}

/// The name under which the client's configuration knows the server.
const HOST: &str = "bench";

/// What every shell of a world prints when it waits for a line.
pub(super) const PROMPT: &str = "bench>";

/// How long anything may take before it counts as never.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// A lab with an sshd.
#[derive(Debug)]
pub(super) struct World {
    pub(super) lab: Lab,
    dir: PathBuf,
    programs: PathBuf,
}

/// The link that a client uses first.
pub(super) const FIRST: LinkId = LinkId(0);

impl World {
    /// Starts a lab with these links, and sshd on its server.
    pub(super) fn start(bench: &Bench<'_>, links: &[LinkConfig]) -> anyhow::Result<Self> {
        let seed = bench.options.seed;
        let lab = links.iter().fold(Lab::builder().seed(seed), |lab, link| lab.link(*link));
        let lab = lab.start().context("no lab")?;
        let world = Self { lab, dir: fresh_dir()?, programs: bench.programs.clone() };
        world.write_files()?;
        world.start_sshd()?;
        Ok(world)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts a client in a terminal, with options before the host and words after it.
    pub(super) fn terminal(
        &self,
        client: Client,
        options: &[&str],
        words: &[&str],
    ) -> anyhow::Result<Terminal> {
        let command = self.command(client, options, words);
        Terminal::start(self.lab.host(Side::Client), command)
    }

    /// Returns a client's command, to be started in the client's host.
    pub(super) fn command(&self, client: Client, options: &[&str], words: &[&str]) -> Command {
        let config = self.path("config");
        let mut command = match client {
            Client::OpenSsh => Command::new("ssh"),
            Client::Mosh => Command::new("mosh"),
            _ => Command::new(self.programs.join("tssh")),
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("SHELL", "/bin/sh")
            .current_dir(&self.dir);
        if client == Client::Mosh {
            // Its guesses are not the network's doing.
            command.arg(format!("--ssh=ssh -F {}", config.display())).arg("--predict=never");
            command.args(options).arg(HOST);
            if !words.is_empty() {
                command.arg("--").args(words);
            }
            return command;
        }
        command.arg("-F").arg(config).args(client.flags()).args(options).arg(HOST).args(words);
        command
    }

    /// Starts a client's shell and waits for its prompt.
    pub(super) fn shell(&self, client: Client) -> anyhow::Result<Terminal> {
        let mut terminal = self.terminal(client, &[], &[])?;
        terminal.wait_for(PROMPT, DEADLINE)?;
        Ok(terminal)
    }

    /// Returns the processes that run in a host.
    pub(super) fn processes(&self, side: Side) -> Vec<Process> {
        let Ok(namespace) = fs::read_link(self.lab.host(side).path()) else { return Vec::new() };
        let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|ns| ns == namespace))
            .filter_map(Process::find)
            .collect()
    }

    fn write_files(&self) -> anyhow::Result<()> {
        for dir in ["home", "login"] {
            fs::create_dir(self.path(dir))?;
        }
        for key in ["host_key", "id"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(self.path(key));
            ensure!(keygen.stdin(Stdio::null()).status()?.success(), "ssh-keygen failed");
        }
        fs::copy(self.path("id.pub"), self.path("authorized_keys"))?;
        let host_key = fs::read_to_string(self.path("host_key.pub"))?;
        fs::write(self.path("known_hosts"), format!("{HOST} {host_key}"))?;
        // The same prompt for whichever shell root has.
        for name in [".bashrc", ".bash_profile", ".profile"] {
            fs::write(self.path("login").join(name), format!("PS1='{PROMPT} '\n"))?;
        }
        fs::write(self.path("config"), self.client_config())?;
        fs::write(self.path("sshd_config"), self.sshd_config())?;
        Ok(())
    }

    fn client_config(&self) -> String {
        let dir = self.dir.display();
        let tsshd = self.programs.join("tsshd");
        format!(
            "Host {HOST}\n\
             HostName {address}\n\
             HostKeyAlias {HOST}\n\
             User root\n\
             IdentityFile {dir}/id\n\
             IdentitiesOnly yes\n\
             IdentityAgent none\n\
             UserKnownHostsFile {dir}/known_hosts\n\
             GlobalKnownHostsFile /dev/null\n\
             StrictHostKeyChecking yes\n\
             #!! TsshdPath {tsshd}\n",
            address = netlab::SERVER_V4,
            tsshd = tsshd.display(),
        )
    }

    fn sshd_config(&self) -> String {
        let dir = self.dir.display();
        format!(
            "ListenAddress {address}\n\
             HostKey {dir}/host_key\n\
             AuthorizedKeysFile {dir}/authorized_keys\n\
             PidFile none\n\
             StrictModes no\n\
             UsePAM no\n\
             UseDNS no\n\
             PermitRootLogin yes\n\
             PrintMotd no\n\
             PrintLastLog no\n\
             AcceptEnv LANG LC_*\n\
             SetEnv HOME={dir}/login\n",
            address = netlab::SERVER_V4,
        )
    }

    fn start_sshd(&self) -> anyhow::Result<()> {
        // Where a privileged sshd jails its network-facing half.
        fs::create_dir_all("/run/sshd")?;
        let log = self.path("sshd.log");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let mut sshd = self.lab.host(Side::Server).spawn(&mut sshd).context("sshd")?;
        let start = Instant::now();
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("listening on") {
                return Ok(());
            }
            if sshd.try_wait()?.is_some() || start.elapsed() > DEADLINE {
                bail!("sshd does not start: {said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A process may start another between the look and the signal.
        for _ in 0..20 {
            let processes = [Side::Client, Side::Server].map(|side| self.processes(side)).concat();
            if processes.is_empty() {
                break;
            }
            for process in processes {
                let _ = rustix::process::kill_process(process.id, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process in a host.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: rustix::process::Pid,
    pub(super) name: String,
}

impl Process {
    fn find(id: i32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        Some(Self { id: rustix::process::Pid::from_raw(id)?, name: name.trim().to_owned() })
    }

    /// Returns its proportional share of memory, in KiB.
    pub(super) fn pss_kib(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.id.as_raw_pid());
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
    }

    /// Returns the processor time it has had, all threads.
    pub(super) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id.as_raw_pid()));
        let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Whether it is the sshd that waits for connections, not one that serves.
    pub(super) fn is_listener(&self) -> bool {
        let path = format!("/proc/{}/cmdline", self.id.as_raw_pid());
        let line = fs::read_to_string(path).unwrap_or_default();
        line.contains("listener") || line.contains("-D")
    }
}

/// Makes a directory that nobody else uses.
fn fresh_dir() -> anyhow::Result<PathBuf> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("bench-{}-{count}", std::process::id()));
    fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}
