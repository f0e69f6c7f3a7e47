//! Raw mode of the local terminal, undone however the program ends.

use std::io;

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
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self(()))
    }

    /// Gives the terminal back until [`RawMode::resume`].
    ///
    /// # Errors
    /// When it refuses.
    pub fn suspend(&self) -> io::Result<()> {
        crossterm::terminal::disable_raw_mode()
    }

    /// Makes it raw again.
    ///
    /// # Errors
    /// When it refuses.
    pub fn resume(&self) -> io::Result<()> {
        crossterm::terminal::enable_raw_mode()
    }

    /// Gives the terminal back while `action` runs, and makes it raw again.
    ///
    /// # Errors
    /// Those of `action` and of the mode changes.
    pub fn pause(&self, action: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        crossterm::terminal::disable_raw_mode()?;
        let result = action();
        crossterm::terminal::enable_raw_mode()?;
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
    let _ = crossterm::terminal::disable_raw_mode();
}
