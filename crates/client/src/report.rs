//! Errors and remarks to the person at the terminal: text, next step, exit code.
//!
//! The one place, besides prompts, that prints.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::LogLevel;
use crate::logging::{self, Priority};
use crate::login::printable;

/// Longest text said at once, in characters.
const MAX_TEXT: usize = 4096;

/// Exit status of our own failures, as ssh's.
pub const FAILURE: u8 = 255;

/// Prints to standard error, at the verbosity the user chose ([`logging::level`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter(());

impl Reporter {
    /// Returns a reporter. They are all alike.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    /// Prints why we failed, and the next step if there is one.
    pub fn error(&self, text: &dyn Display, hint: Option<&str>) {
        if logging::level() > LogLevel::Quiet {
            log(Priority::Error, &format_args!("tssh: {text}"));
            if let Some(hint) = hint {
                log(Priority::Error, &hint);
            }
        }
    }

    /// Prints a failure in words that are complete, as ssh's own are.
    pub fn plain_error(&self, text: &dyn Display) {
        if logging::level() > LogLevel::Quiet {
            log(Priority::Error, text);
        }
    }

    /// Prints something the user should know though we go on.
    pub fn warning(&self, text: &dyn Display) {
        if logging::level() >= LogLevel::Info {
            log(Priority::Info, &format_args!("tssh: {text}"));
        }
    }

    /// Logs a line of ssh's own about what it does.
    pub fn remark(&self, text: &dyn Display) {
        if logging::level() >= LogLevel::Info {
            log(Priority::Info, text);
        }
    }

    /// Prints a line of ssh's own for the person at the terminal, such as "Connection to host closed."
    pub fn info(&self, text: &dyn Display) {
        if logging::level() >= LogLevel::Info {
            line(text);
        }
    }
}

/// How many lines were printed; whoever knows what the terminal shows has to look.
static PRINTED: AtomicU64 = AtomicU64::new(0);

/// Returns a number that grows with each line printed here.
#[must_use]
pub fn printed() -> u64 {
    PRINTED.load(Ordering::Relaxed)
}

/// One message to the log, which is standard error unless `-E` or `-y` says otherwise.
fn log(priority: Priority, text: &dyn Display) {
    PRINTED.fetch_add(1, Ordering::Relaxed);
    logging::say(priority, &format!("{}\n", cleaned(text)));
}

/// One write, with CR for terminals in raw mode; a closed stderr is no error.
fn line(text: &dyn Display) {
    PRINTED.fetch_add(1, Ordering::Relaxed);
    let text = format!("{}\r\n", cleaned(text).replace('\n', "\r\n"));
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Much of what is said quotes the server, whose words must not command the
/// terminal, nor fill it.
fn cleaned(text: &dyn Display) -> String {
    printable(&text.to_string()).chars().take(MAX_TEXT).collect()
}
