//! Raw mode of the local terminal, undone however the program ends.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::sys::tty::Sequences;

/// The terminal is raw while this lives.
///
/// [`restore`] undoes it early, from a panic hook or before an abrupt exit.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes the terminal raw.
    ///
    /// # Errors
    /// When there is no terminal, or it refuses.
    pub fn enter() -> io::Result<Self> {
        enter()?;
        Ok(Self(()))
    }

    /// Gives the terminal back until [`RawMode::resume`].
    ///
    /// # Errors
    /// When it refuses.
    pub fn suspend(&self) -> io::Result<()> {
        leave()
    }

    /// Makes it raw again.
    ///
    /// # Errors
    /// When it refuses.
    pub fn resume(&self) -> io::Result<()> {
        enter()
    }

    /// Gives the terminal back while `action` runs, and makes it raw again.
    ///
    /// # Errors
    /// Those of `action` and of the mode changes.
    pub fn pause(&self, action: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        leave()?;
        let result = action();
        enter()?;
        result
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was, if it is raw.
pub fn restore() {
    // Nothing sensible can be done about a failure on the way out.
    let _ = leave();
}

/// What else than rawness the terminal has been switched to.
static SEQUENCES: Mutex<Option<Sequences>> = Mutex::new(None);

fn enter() -> io::Result<()> {
    let mut sequences = SEQUENCES.lock().unwrap_or_else(PoisonError::into_inner);
    if sequences.is_none() {
        *sequences = Some(Sequences::on()?);
    }
    crossterm::terminal::enable_raw_mode()
}

fn leave() -> io::Result<()> {
    let left = crossterm::terminal::disable_raw_mode();
    // Only what this has switched on: a prompt of the login may be at the terminal now.
    *SEQUENCES.lock().unwrap_or_else(PoisonError::into_inner) = None;
    left
}
