//! [`Mode`]: which client is under test, and how its session travels.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::geteuid;

/// The client of a test and the way its session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The installed OpenSSH client: the oracle for every shared expectation.
    OpenSsh,
    /// tssh over the ssh login itself.
    Plain,
    /// tssh with QUIC over UDP.
    Udp,
    /// tssh with QUIC over the TCP carrier.
    Tcp,
    /// tssh with KCP over UDP.
    Kcp,
    /// tssh with KCP over the TCP carrier.
    KcpTcp,
}

impl Mode {
    /// Returns whether the client is ours.
    #[must_use]
    pub fn is_tssh(self) -> bool {
        self != Self::OpenSsh
    }

    /// Returns whether the session leaves the ssh login for a UDP link.
    #[must_use]
    pub fn is_link(self) -> bool {
        !matches!(self, Self::OpenSsh | Self::Plain)
    }

    /// Returns whether packets travel over the TCP carrier.
    #[must_use]
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::KcpTcp)
    }

    /// Returns whether the transport is KCP.
    #[must_use]
    pub fn is_kcp(self) -> bool {
        matches!(self, Self::Kcp | Self::KcpTcp)
    }

    /// Returns the client program.
    #[must_use]
    pub fn client(self) -> PathBuf {
        if self.is_tssh() { binary("tssh", "TSSH_BIN") } else { PathBuf::from("ssh") }
    }

    /// Returns the flags that select this mode on the client's command line.
    ///
    /// Plain is what tssh does without being asked, so it has none.
    #[must_use]
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::OpenSsh | Self::Plain => &[],
            Self::Udp => &["--udp", "-o", "UdpProxyMode=UDP"],
            Self::Tcp => &["--udp", "-o", "UdpProxyMode=TCP"],
            Self::Kcp => &["--kcp", "-o", "UdpProxyMode=UDP"],
            Self::KcpTcp => &["--kcp", "-o", "UdpProxyMode=TCP"],
        }
    }
}

/// Returns the built server program.
pub(crate) fn tsshd() -> PathBuf {
    binary("tsshd", "TSSHD_BIN")
}

/// Path of the sshd that every world starts.
pub(crate) const SSHD: &str = "/usr/sbin/sshd";

/// Returns whether this machine cannot run the suite, after saying why.
///
/// # Panics
/// When the suite is expected to run here (`CI` is set and we are root, so
/// openssh-server could have been installed) but sshd is missing: a suite that
/// skips itself in CI would be green for ever.
#[must_use]
pub fn skip() -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let reason = REASON.get_or_init(|| {
        let reason = why_not()?;
        let must_run = std::env::var_os("CI").is_some();
        assert!(!must_run, "{reason} (CI must not skip this)");
        Some(reason)
    });
    if let Some(reason) = reason {
        say_skipped(reason);
    }
    reason.is_some()
}

fn why_not() -> Option<String> {
    if !Path::new(SSHD).exists() {
        return Some(format!("{SSHD} is missing; install openssh-server"));
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut devpts = mounts.lines().filter(|line| line.contains(" devpts "));
    if !geteuid().is_root() && !devpts.any(|line| line.contains("gid=")) {
        // sshd insists that a terminal belong to group tty, and only root could change it.
        return Some("devpts is mounted without gid=, so sshd needs root for terminals".into());
    }
    None
}

/// Says why a test shows less than it could.
#[expect(clippy::print_stderr, reason = "the reason for a skip belongs in the test's output")]
pub fn say_skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Finds a built program: the variable if set, else beside this test program.
fn binary(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let test_program = std::env::current_exe().expect("the test program has a path");
    // target/debug/deps/suite-… → target/debug/tssh
    let built = test_program.ancestors().nth(2).expect("it lies in target/PROFILE/deps").join(name);
    assert!(
        built.exists(),
        "{} is missing: run `cargo build -p tssh -p tsshd` first, or set {variable}",
        built.display()
    );
    built
}
