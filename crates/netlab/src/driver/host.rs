//! [`Host`]: one of the two network namespaces, and how to get things into it.
//!
//! A namespace has no name and lives by the descriptor here and by the
//! processes in it, so that nothing of it is left when this process ends,
//! however it ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::{Side, sys};

/// A network namespace that plays a host.
#[derive(Debug)]
pub struct Host {
    side: Side,
    namespace: OwnedFd,
}

impl Host {
    /// Creates a host without any link.
    pub(crate) fn new(side: Side) -> io::Result<Self> {
        let namespace = on_a_thread(|| {
            let namespace = sys::new_namespace()?;
            for conf in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter"), "0")?;
            }
            io::Result::Ok(namespace)
        })?;
        Ok(Self { side, namespace: namespace? })
    }

    /// Returns which of the two it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Does `work` on a thread inside the host: sockets opened and programs
    /// started there are the host's for ever.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| sys::enter_namespace(&self.namespace).map(|()| work()))?
    }

    /// Starts a program inside the host.
    ///
    /// # Errors
    /// As [`Command::spawn`], or when the namespace cannot be entered.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.enter(|| command.spawn())?
    }

    /// Returns a path by which other processes of root find the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let (process, file) = (std::process::id(), self.namespace.as_raw_fd());
        PathBuf::from(format!("/proc/{process}/fd/{file}"))
    }

    /// Opens a TUN device inside the host.
    pub(crate) fn open_tun(&self, name: &str, offload: bool) -> io::Result<File> {
        self.enter(|| sys::open_tun(name, offload))?
    }

    /// Has `ip` do what the lines say, one command each.
    pub(crate) fn ip(&self, lines: &str) -> io::Result<()> {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("ip: {why}")))
    }
}

/// Does `work` on a thread of its own: a namespace belongs to a thread.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netlab host".into()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the work inside the host panicked"))
    })
}
