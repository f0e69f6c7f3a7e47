//! `-f`: into the background once the login is complete.
//!
//! The process is split at the very beginning, before there is a runtime or a thread: the child
//! does everything, prompts included, and the parent waits for one of two ends. Released, it
//! leaves with success, and the shell goes on; otherwise it ends as the child ended.
//!
//! Splitting late, as OpenSSH does, would mean to fork a running event loop.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::ExitCode;

use crate::report::FAILURE;
use crate::sys::process::{Forked, fork};

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The one that the shell waits for; it ends with this status.
    Waited(ExitCode),
    /// The one that does the work.
    Working(Release),
}

/// Lets the waiting process go. Dropped unused, it makes that process wait for our end.
#[derive(Debug)]
pub struct Release(PipeWriter);

/// Splits the process.
///
/// # Errors
/// The system has no pipes or processes left.
pub fn split() -> io::Result<Side> {
    let (ours, theirs) = io::pipe()?;
    match fork()? {
        Forked::Child => {
            drop(ours);
            Ok(Side::Working(Release(theirs)))
        }
        Forked::Parent(child) => {
            drop(theirs);
            Ok(Side::Waited(wait(ours, child)))
        }
    }
}

fn wait(mut pipe: PipeReader, child: rustix::process::Pid) -> ExitCode {
    if pipe.read_exact(&mut [0]).is_ok() {
        return ExitCode::SUCCESS;
    }
    let status = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
    let status = status.ok().flatten().and_then(|(_, status)| status.exit_status());
    ExitCode::from(status.and_then(|status| u8::try_from(status).ok()).unwrap_or(FAILURE))
}

impl Release {
    /// Goes into the background: the terminal's signals and hang-up are not for us any more, nor
    /// is what is typed.
    ///
    /// # Errors
    /// The waiting process is gone, killed before the login was complete; so should we be.
    pub fn release(mut self) -> io::Result<()> {
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        // Fails only for the leader of a group, which a new process is not.
        let _ = rustix::process::setsid();
        self.0.write_all(&[1])
    }
}
