//! [`Ui`]: whom the login asks and tells.
//!
//! The login never touches a terminal itself; the real thing is
//! [`TtyUi`](crate::terminal::prompt::TtyUi).

use zeroize::Zeroizing;

use crate::remote::BoxFuture;

/// Somebody to ask and to tell.
///
/// Text that comes from the server has been through [`printable`] already.
pub trait Ui: Send + Sync {
    /// Asks for one line and returns it without its line end.
    ///
    /// # Errors
    /// [`PromptError`]; the terminal is as it was.
    /// # Cancel safety
    /// Dropping the future restores the terminal; what was typed is lost.
    fn ask<'a>(
        &'a self,
        prompt: &'a str,
        echo: Echo,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, PromptError>>;

    /// Asks for a permission, which is refused where only a terminal could be asked.
    fn permit<'a>(&'a self, question: &'a str) -> BoxFuture<'a, bool>;

    /// Tells something that OpenSSH tells at its default level (LogLevel INFO).
    fn tell(&self, text: &str);

    /// Tells something that OpenSSH calls an error (LogLevel ERROR).
    fn warn(&self, text: &str);

    /// Shows the server's banner.
    fn banner(&self, text: &str);
}

/// Whether what is typed shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// It shows.
    On,
    /// It does not.
    Off,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// There is no terminal to ask on.
    #[error("no terminal to ask on")]
    NoTerminal,
    /// The interrupt key was pressed.
    #[error("interrupted")]
    Interrupted,
    /// End of input before an answer.
    #[error("end of input")]
    EndOfInput,
    /// The terminal failed.
    #[error("cannot read from the terminal")]
    Io(#[from] std::io::Error),
}

/// Returns `text` with everything a terminal might obey written as octal escapes.
///
/// Line ends and tabs stay. As OpenSSH does with `VIS_SAFE | VIS_OCTAL`: a
/// server must not move our cursor or change our title before it is trusted.
pub(crate) fn printable(text: &str) -> String {
    use std::fmt::Write as _;

    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' => {}
            c if c.is_control() => {
                for byte in c.to_string().bytes() {
                    // Writing to a String cannot fail.
                    let _ = write!(clean, "\\{byte:03o}");
                }
            }
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_a_server_arrive_as_text() {
        assert_eq!(printable("a\x1b]0;x\x07b\r\n\tc"), "a\\033]0;x\\007b\n\tc");
        assert_eq!(printable("Grüße\u{9b}2J"), "Grüße\\302\\2332J");
    }
}
