//! Signals: what was decided before we were started, and what to do before one ends us.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, c_int};

pub use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns whether the caller of this program had `signal` ignored, as `nohup` does.
///
/// Ask before a handler is installed; an ignored signal should stay ignored.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    disposition(signal) == Some(libc::SIG_IGN)
}

/// Returns what happens on `signal`; `None` if the system knows no such signal.
fn disposition(signal: c_int) -> Option<libc::sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action the call only writes the current one to
    // the valid pointer given, and it is read only if the call succeeded.
    unsafe {
        (libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0)
            .then(|| action.assume_init().sa_sigaction)
    }
}

/// Signals people and systems send to end a program.
const ENDING: [c_int; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// While this lives, a signal that would end this program puts a terminal back
/// first; then it ends it, as it would have.
///
/// For a terminal changed for a moment. Signals that are ignored or that
/// somebody handles are left to them. One at a time.
#[derive(Debug)]
pub struct RestoreBeforeEnd {
    /// Keeps the descriptor that the handler uses.
    _terminal: OwnedFd,
    caught: [bool; ENDING.len()],
}

/// What the handler needs to know.
struct Saved {
    terminal: c_int,
    settings: libc::termios,
}

/// Null while nothing is to be restored.
static SAVED: AtomicPtr<Saved> = AtomicPtr::new(ptr::null_mut());

impl RestoreBeforeEnd {
    /// Remembers the settings `terminal` has now. Call before changing them.
    ///
    /// # Errors
    /// When it is no terminal, or there is no descriptor left.
    pub fn of(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let terminal = terminal.try_clone_to_owned()?;
        let mut settings = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the descriptor is ours, and the settings are read only if
        // the call has written them.
        let settings = unsafe {
            if libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            settings.assume_init()
        };
        let saved = Box::new(Saved { terminal: terminal.as_raw_fd(), settings });
        // Never freed: a handler may run at any time. A prompt costs some bytes.
        SAVED.store(Box::into_raw(saved), Ordering::Release);
        Ok(Self { _terminal: terminal, caught: ENDING.map(catch) })
    }
}

impl Drop for RestoreBeforeEnd {
    fn drop(&mut self) {
        for (signal, caught) in ENDING.into_iter().zip(self.caught) {
            if caught {
                // SAFETY: the default is a valid disposition for each of them.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
        }
        SAVED.store(ptr::null_mut(), Ordering::Release);
    }
}

/// Catches `signal` once, unless it is ignored or handled.
fn catch(signal: c_int) -> bool {
    if disposition(signal) != Some(libc::SIG_DFL) {
        return false;
    }
    let handler: extern "C" fn(c_int) = restore_and_end;
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros are a valid action, made whole before it is used; the
    // handler has the signature that goes without SA_SIGINFO.
    unsafe {
        let action = action.assume_init_mut();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(signal, action, ptr::null_mut()) == 0
    }
}

/// The handler. Calls only what POSIX calls async-signal-safe.
extern "C" fn restore_and_end(signal: c_int) {
    // SAFETY: the pointer is null or came from a box that is never freed; the
    // calls take plain values, and fail on a terminal that is gone.
    unsafe {
        if let Some(saved) = SAVED.load(Ordering::Acquire).as_ref()
            // Elsewhere it would change the terminal under somebody else.
            && libc::tcgetpgrp(saved.terminal) == libc::getpgrp()
        {
            // The rest of a secret must not land in a shell.
            libc::tcflush(saved.terminal, libc::TCIFLUSH);
            libc::tcsetattr(saved.terminal, libc::TCSANOW, &raw const saved.settings);
        }
        // The default is back (SA_RESETHAND); this takes effect when we return.
        libc::raise(signal);
    }
}
