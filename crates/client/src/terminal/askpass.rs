//! SSH_ASKPASS: a program that asks the person where there is no terminal, or instead of one.
//!
//! It gets the question as its argument, and `confirm` in `SSH_ASKPASS_PROMPT` where only yes or
//! no is wanted; its first line of output is the answer. As in OpenSSH's `ssh_askpass`
//! (readpass.c, 9.2), a status other than zero means that there is none.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::login::PromptError;

/// The longest answer, in bytes; OpenSSH's limit.
const MAX_ANSWER: usize = 1024;

/// Asks by a program.
///
/// # Errors
/// [`PromptError::NoTerminal`] if it cannot be run, [`PromptError::EndOfInput`] if it gives no
/// answer.
/// # Cancel safety
/// Dropping the future ends the program.
pub(super) async fn ask(
    program: &Path,
    question: &str,
    hint: Option<&str>,
) -> Result<Zeroizing<String>, PromptError> {
    let mut command = Command::new(program);
    command.arg(question).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    match hint {
        Some(hint) => command.env("SSH_ASKPASS_PROMPT", hint),
        None => command.env_remove("SSH_ASKPASS_PROMPT"),
    };
    let mut child = command.spawn().map_err(|error| {
        tracing::debug!(%error, program = %program.display(), "askpass does not run");
        PromptError::NoTerminal
    })?;
    // Never grows, so that no copies of a secret are left behind.
    let mut answer = Zeroizing::new([0; MAX_ANSWER]);
    let mut length = 0;
    if let Some(mut output) = child.stdout.take() {
        while let Some(free) = answer.get_mut(length..).filter(|free| !free.is_empty()) {
            match output.read(free).await? {
                0 => break,
                read => length += read,
            }
        }
    }
    if !child.wait().await?.success() {
        return Err(PromptError::EndOfInput);
    }
    let line =
        answer.get(..length).unwrap_or_default().split(|c| *c == b'\n' || *c == b'\r').next();
    let text =
        std::str::from_utf8(line.unwrap_or_default()).map_err(|_| PromptError::EndOfInput)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::prompt::TtyUi;
    use crate::config::settings::{Askpass, LogLevel};
    use crate::login::{Echo, Ui as _};

    fn script(directory: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
        let path = directory.path().join("askpass");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writable");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("ours");
        path
    }

    #[tokio::test]
    async fn a_program_is_asked_with_the_question_and_its_first_line_is_the_answer() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let program = script(&directory, "echo \"[$1]${SSH_ASKPASS_PROMPT-none}\"; echo more");
        let ui = TtyUi::new(LogLevel::Info, Askpass::Always(program));
        let answer = ui.ask("Password: ", Echo::Off).await.expect("an answer");
        assert_eq!(*answer, "[Password: ]none");
    }

    #[tokio::test]
    async fn a_program_that_fails_gives_no_answer_and_no_permission() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ui =
            TtyUi::new(LogLevel::Info, Askpass::Always(script(&directory, "echo yes; exit 1")));
        assert!(ui.ask("Password: ", Echo::Off).await.is_err());
        assert!(!ui.permit("May I? ").await);
    }

    #[tokio::test]
    async fn permission_is_asked_for_by_a_confirmation() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let program = script(&directory, "test \"$SSH_ASKPASS_PROMPT\" = confirm && echo");
        assert!(TtyUi::new(LogLevel::Info, Askpass::Always(program)).permit("May I? ").await);
        assert!(!TtyUi::new(LogLevel::Info, Askpass::Never).permit("May I? ").await);
    }
}
