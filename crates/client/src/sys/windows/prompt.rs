//! The console while a question is asked: single keys, unechoed.
//!
//! Invariant: however a prompt ends, by answer, error, dropped future or [`restore`], the console
//! is as it was before. Events that end the program end its use of the console too, and the
//! shell sets its modes itself.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use tokio::io::AsyncReadExt as _;

use super::console::{self, Modes};
use super::stdio::Stdin;

/// The console.
#[derive(Debug)]
pub(crate) struct Terminal {
    input: Stdin,
    output: File,
}

impl Terminal {
    /// Opens it; `None` where there is none. Call within a tokio runtime.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        let (Ok(input), Ok(output)) = (console::input(), console::output()) else {
            return Ok(None);
        };
        Ok(Some(Self { input: Stdin::of(super::stdio::borrow(&input))?, output }))
    }

    /// Makes the console hand over single keys, unechoed, until the guard is dropped.
    ///
    /// # Errors
    /// When it refuses.
    pub(crate) fn enter(&self) -> io::Result<(Guard, Keys)> {
        let modes = Modes::single_keys()?;
        *CHANGED.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
        Ok((Guard(()), KEYS))
    }

    /// Waits for keys.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).await
    }

    /// Shows `bytes`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        // A console takes a line at once.
        (&self.output).write_all(bytes)
    }
}

/// Puts the console back if a prompt has changed it.
pub(crate) fn restore() {
    drop(CHANGED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// How the console was before a prompt.
static CHANGED: Mutex<Option<Modes>> = Mutex::new(None);

/// Restores the console when a prompt ends.
#[derive(Debug)]
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Special keys; zero is none.
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

/// ^C, backspace, escape and ^Z, as everywhere on Windows.
const KEYS: Keys = Keys { interrupt: [0x03, 0], suspend: 0, erase: 0x08, kill: 0x1b, end: 0x1a };
