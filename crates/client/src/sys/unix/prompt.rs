//! The controlling terminal while a question is asked: single keys, unechoed.
//!
//! Invariant: however a prompt ends, by answer, error, dropped future, signal
//! or [`restore`], the terminal is as it was before.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::io::unix::AsyncFd;

use super::signals::RestoreBeforeEnd;

/// The controlling terminal.
#[derive(Debug)]
pub(crate) struct Terminal(AsyncFd<File>);

impl Terminal {
    /// Opens it; `None` where there is none. Call within a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        let mut options = File::options();
        let tty = options.read(true).write(true).custom_flags(nonblocking()).open("/dev/tty");
        let Ok(tty) = tty else { return Ok(None) };
        // SAFETY: the file is owned by the `AsyncFd` from here on and is neither replaced nor
        // closed before it: nothing takes it out mutably.
        let tty = unsafe { AsyncFd::register(tty) }.map_err(io::Error::from)?;
        Ok(Some(Self(tty)))
    }

    /// Makes the terminal hand over single keys, unechoed, until the guard is dropped.
    ///
    /// # Errors
    /// When it refuses.
    pub(crate) fn enter(&self) -> io::Result<(Guard, Keys)> {
        let tty = self.0.get_ref();
        let before = tcgetattr(tty.as_fd())?;
        let on_signal = RestoreBeforeEnd::of(tty.as_fd())?;
        let mut termios = before.clone();
        termios
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN | LocalModes::ECHO);
        termios.special_codes[SpecialCodeIndex::VMIN] = 1;
        termios.special_codes[SpecialCodeIndex::VTIME] = 0;
        let keys = Keys::of(&before);
        *CHANGED.lock().unwrap_or_else(PoisonError::into_inner) = Some((tty.try_clone()?, before));
        let guard = Guard { _on_signal: on_signal };
        tcsetattr(tty.as_fd(), OptionalActions::Flush, &termios)?;
        Ok((guard, keys))
    }

    /// Waits for keys; 0 bytes when the terminal has hung up.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|tty| tty.get_ref().read(buffer)) {
                return read;
            }
        }
    }

    /// Shows `bytes`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(written) = ready.try_io(|tty| tty.get_ref().write(bytes)) {
                bytes = bytes.get(written?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

fn nonblocking() -> i32 {
    // The bits fit: they are open(2)'s.
    (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC)
        .bits()
        .cast_signed()
}

/// Puts the terminal back if a prompt has changed it.
///
/// For panic hooks, where a prompt's own clean-up does not run. Does nothing otherwise.
pub(crate) fn restore() {
    let mut changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((tty, termios)) = changed.take() {
        // Flush, so that the rest of a secret does not land in a shell.
        let _ = tcsetattr(tty.as_fd(), OptionalActions::Flush, &termios);
    }
}

/// The terminal in use by a prompt and how it was before.
static CHANGED: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// Restores the terminal when a prompt ends.
#[derive(Debug)]
pub(crate) struct Guard {
    // Dropped after the terminal is restored.
    _on_signal: RestoreBeforeEnd,
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// The user's own choice of special keys; one that is switched off is zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// End the prompt.
    pub(crate) interrupt: [u8; 2],
    /// Stop the program.
    pub(crate) suspend: u8,
    /// Take back a character.
    pub(crate) erase: u8,
    /// Take back everything.
    pub(crate) kill: u8,
    /// No answer.
    pub(crate) end: u8,
}

impl Keys {
    fn of(termios: &Termios) -> Self {
        let code = |index| termios.special_codes[index];
        Self {
            interrupt: [code(SpecialCodeIndex::VINTR), code(SpecialCodeIndex::VQUIT)],
            suspend: code(SpecialCodeIndex::VSUSP),
            erase: code(SpecialCodeIndex::VERASE),
            kill: code(SpecialCodeIndex::VKILL),
            end: code(SpecialCodeIndex::VEOF),
        }
    }
}
