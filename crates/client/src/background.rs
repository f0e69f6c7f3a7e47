//! Into the background once the login is complete: with `-f`, and to lend a connection for longer
//! than our own use of it (ControlPersist).
//!
//! The process is split at the very beginning, before there is a runtime or a thread: the child
//! does everything, prompts included, and the parent waits for one of two ends. Released, it
//! leaves with success (or uses the connection that the child lends), and the shell goes on;
//! otherwise it ends as the child ended.
//!
//! Splitting late, as OpenSSH does, would mean to fork a running event loop. The escape `~&`,
//! of which nobody knows in advance, leaves no other way: see [`leave_terminal`].

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use crate::report::FAILURE;
use crate::sys::process::{self, Child, Forked, fork, go_on_in_a_copy, is_alone};

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The one that the shell waits for, and what became of the other.
    Waited(Waited),
    /// The one that does the work.
    Working(Release),
}

/// What became of the process that works.
#[derive(Debug)]
pub enum Waited {
    /// It goes on in the background.
    Released,
    /// It ended so.
    Ended(ExitCode),
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

fn wait(mut pipe: PipeReader, child: Child) -> Waited {
    if pipe.read_exact(&mut [0]).is_ok() {
        return Waited::Released;
    }
    Waited::Ended(ExitCode::from(child.wait().unwrap_or(FAILURE)))
}

impl Release {
    /// Goes into the background: the terminal's signals and hang-up are not for us any more, nor
    /// is what is typed.
    ///
    /// # Errors
    /// The waiting process is gone, killed before the login was complete; so should we be.
    pub fn release(self) -> io::Result<()> {
        self.release_with(false, false)
    }

    /// As [`Release::release`], for a process that has nothing to say to anybody any more: whoever
    /// reads its caller's output must not wait for it. Standard error is kept for diagnostics.
    ///
    /// # Errors
    /// As [`Release::release`].
    pub fn release_silent(self, keeps_error: bool) -> io::Result<()> {
        self.release_with(true, !keeps_error)
    }

    fn release_with(mut self, closes_output: bool, closes_error: bool) -> io::Result<()> {
        process::close_standard_streams(closes_output, closes_error)?;
        process::lead_session();
        self.0.write_all(&[1])
    }
}

/// How often, and for how long, a moment without other threads is waited for.
const ALONE_TRIES: u32 = 50;
const ALONE_PAUSE: Duration = Duration::from_millis(50);

/// Ends the process that the shell waits for, with success; a copy of it goes on in its place,
/// out of reach of the terminal's signals.
///
/// The event loop, its descriptors and its one thread are the copy's as they were, and nobody
/// else uses them any more.
///
/// # Errors
/// Another thread looks a name up and does not end, or the system cannot make such a copy.
pub async fn leave_terminal() -> io::Result<()> {
    for _ in 0..ALONE_TRIES {
        if is_alone() {
            break;
        }
        tokio::time::sleep(ALONE_PAUSE).await;
    }
    go_on_in_a_copy()?;
    process::lead_session();
    Ok(())
}
