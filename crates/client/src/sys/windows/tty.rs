//! The local console: what is one, its size and its modes.

use std::io::{self, IsTerminal as _};

use super::stdio::Borrowed;
use super::{console, unsupported};
use crate::remote::TerminalSize;

/// What kind of terminal this is where the environment does not say: the console speaks xterm's
/// control sequences.
pub(crate) const USUAL_TERM: Option<&str> = Some("xterm-256color");

/// Returns whether standard input is a console.
#[must_use]
pub fn stdin_is_tty() -> bool {
    io::stdin().is_terminal()
}

/// Returns whether standard output is a console.
#[must_use]
pub fn stdout_is_tty() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard error is a console.
#[must_use]
pub fn stderr_is_tty() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether an open file is a console.
#[must_use]
pub fn is_tty(file: Borrowed<'_>) -> bool {
    file.is_terminal()
}

/// Returns whether somebody sits at a console that can be asked, whatever the standard streams are.
#[must_use]
pub fn has_controlling() -> bool {
    console::input().is_ok()
}

/// Returns the size of the console; zeros where there is none.
#[must_use]
pub fn size() -> TerminalSize {
    console::size().map_or_else(TerminalSize::default, |(cols, rows)| TerminalSize {
        cols,
        rows,
        ..TerminalSize::default()
    })
}

/// Returns the size of the console: there is but one.
#[must_use]
pub fn size_of(_: Borrowed<'_>) -> TerminalSize {
    size()
}

/// Refuses: nobody could continue us.
///
/// # Errors
/// Always.
pub fn suspend() -> io::Result<()> {
    Err(unsupported("suspending a program"))
}

/// Returns no modes: a console has none that a far terminal could take over.
#[must_use]
pub fn modes() -> Vec<(u8, u32)> {
    Vec::new()
}

/// Returns no modes, as [`modes`].
#[must_use]
pub fn modes_of(_: Borrowed<'_>) -> Vec<(u8, u32)> {
    Vec::new()
}

/// Lets the console speak and understand control sequences while this lives.
#[derive(Debug)]
pub(crate) struct Sequences(#[expect(dead_code, reason = "its drop is its use")] console::Modes);

impl Sequences {
    /// Switches them on.
    ///
    /// # Errors
    /// There is no console, or it is too old.
    pub(crate) fn on() -> io::Result<Self> {
        console::Modes::with_sequences().map(Self)
    }
}

/// A console's settings at one time, which only a guard would need.
#[derive(Debug)]
pub struct SavedTerminal(());

impl SavedTerminal {
    /// Returns nothing: there is no guard.
    #[must_use]
    pub fn of_controlling() -> Option<Self> {
        None
    }

    /// Does nothing.
    pub fn restore_if_raw(&self) {}
}
