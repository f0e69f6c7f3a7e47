//! The local terminal: size, modes, suspending ourselves.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use rustix::termios::{LocalModes, Termios, tcgetattr, tcgetwinsize};

use super::stdio::Borrowed;
use crate::remote::TerminalSize;

/// What kind of terminal this is where the environment does not say: unknown.
pub(crate) const USUAL_TERM: Option<&str> = None;

/// Returns whether standard input is a terminal.
#[must_use]
pub fn stdin_is_tty() -> bool {
    io::stdin().is_terminal()
}

/// Returns whether standard output is a terminal.
#[must_use]
pub fn stdout_is_tty() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard error is a terminal.
#[must_use]
pub fn stderr_is_tty() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether an open file is a terminal.
#[must_use]
pub fn is_tty(file: Borrowed<'_>) -> bool {
    file.is_terminal()
}

/// Returns whether somebody sits at a terminal that can be asked, whatever the standard streams are.
#[must_use]
pub fn has_controlling() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Returns the size of the terminal on standard input; zeros where there is none.
#[must_use]
pub fn size() -> TerminalSize {
    size_of(io::stdin().as_fd())
}

/// Returns the size of a terminal; zeros if it is none.
#[must_use]
pub fn size_of(terminal: Borrowed<'_>) -> TerminalSize {
    tcgetwinsize(terminal).map_or_else(
        |_| TerminalSize::default(),
        |size| TerminalSize {
            cols: size.ws_col,
            rows: size.ws_row,
            width_px: size.ws_xpixel,
            height_px: size.ws_ypixel,
        },
    )
}

/// Stops this process as `^Z` would; returns when it is continued.
///
/// # Errors
/// When the signal cannot be sent.
pub fn suspend() -> io::Result<()> {
    Ok(rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?)
}

/// Returns the modes of the terminal on standard input for the far one:
/// opcode of RFC 4254 §8 and value. Empty without a terminal.
#[must_use]
pub fn modes() -> Vec<(u8, u32)> {
    modes_of(io::stdin().as_fd())
}

/// Returns the modes of a terminal, as [`modes`] does.
#[must_use]
pub fn modes_of(terminal: Borrowed<'_>) -> Vec<(u8, u32)> {
    tcgetattr(terminal).map_or_else(|_| Vec::new(), |termios| tty::sys::modes::encode(&termios))
}

/// The controlling terminal and its settings at one time.
#[derive(Debug)]
pub struct SavedTerminal {
    terminal: std::fs::File,
    settings: Termios,
}

impl SavedTerminal {
    /// Remembers the settings of the controlling terminal; `None` without one.
    #[must_use]
    pub fn of_controlling() -> Option<Self> {
        let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty").ok()?;
        let settings = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, settings })
    }

    /// Puts the settings back if the terminal is still as we make it for a
    /// session or a question: no signals, no lines, no echo.
    ///
    /// A shell that has taken over by now has settings of its own, which keep
    /// signals on; these are left alone.
    pub fn restore_if_raw(&self) {
        let Ok(now) = tcgetattr(&self.terminal) else { return };
        let ours = LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO;
        if !now.local_modes.intersects(ours) {
            let _ = rustix::termios::tcsetattr(
                &self.terminal,
                rustix::termios::OptionalActions::Now,
                &self.settings,
            );
        }
    }
}

/// Control sequences, which every terminal here speaks and understands.
#[derive(Debug)]
pub(crate) struct Sequences(());

impl Sequences {
    /// Does nothing.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unnecessary_wraps, reason = "other systems have to be asked")]
    pub(crate) fn on() -> io::Result<Self> {
        Ok(Self(()))
    }
}
