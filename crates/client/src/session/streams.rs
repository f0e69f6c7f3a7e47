//! Where a session's bytes come from and go to on this side.
//!
//! Our own standard streams, or those that another process lent us with its session.

use std::io;

use crate::remote::TerminalSize;
use crate::sys::stdio::{Borrowed, Output, Owned, Stdin, borrow, close_stdout};
use crate::sys::tty;

/// Standard input, output and error of a session.
#[derive(Debug)]
pub enum Streams {
    /// Those of this process.
    Own,
    /// Those of another process.
    Lent {
        /// Standard input.
        input: Owned,
        /// Standard output.
        output: Owned,
        /// Standard error.
        error: Owned,
    },
}

impl Streams {
    pub(super) fn input(&self) -> io::Result<Stdin> {
        match self {
            Self::Own => Stdin::open(),
            Self::Lent { input, .. } => Stdin::of(borrow(input)),
        }
    }

    pub(super) fn output(&self) -> io::Result<Output> {
        match self {
            Self::Own => Output::stdout(),
            Self::Lent { output, .. } => Output::of(borrow(output)),
        }
    }

    pub(super) fn error(&self) -> io::Result<Output> {
        match self {
            Self::Own => Output::stderr(),
            Self::Lent { error, .. } => Output::of(borrow(error)),
        }
    }

    /// Lets whoever reads the output see its end, as far as that is up to us.
    pub(super) fn close_output(&self) {
        // Whoever lent us theirs closes it, when told that the session has ended.
        if let Self::Own = self {
            close_stdout();
        }
    }

    pub(super) fn size(&self) -> TerminalSize {
        self.with_input(tty::size_of)
    }

    /// Returns whether a person sits at both ends.
    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Own => tty::stdin_is_tty() && tty::stdout_is_tty(),
            Self::Lent { input, output, .. } => {
                tty::is_tty(borrow(input)) && tty::is_tty(borrow(output))
            }
        }
    }

    fn with_input<T>(&self, ask: impl FnOnce(Borrowed<'_>) -> T) -> T {
        match self {
            Self::Own => ask(borrow(&io::stdin())),
            Self::Lent { input, .. } => ask(borrow(input)),
        }
    }
}
