//! What a program of the configuration prints: an answer, or lines of known_hosts.
//!
//! Run without a shell and without input; it must succeed, and say no more than it may.

use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::dial::system_words;

/// Bytes there is room for from the start: what is no longer leaves no copy behind by growing.
const ROOM: usize = 4097;

/// Runs `words`, a program and its arguments, and returns what it prints, up to `limit` bytes.
///
/// # Errors
/// What went wrong, in words: it cannot be run, says that it failed, or prints more.
pub(super) async fn of(words: &[String], limit: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = words.split_first().ok_or("is empty")?;
    let failed = |error: std::io::Error| format!("{program}: {}", system_words(&error));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut output = Zeroizing::new(Vec::with_capacity(ROOM));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(limit as u64 + 1).read_to_end(&mut output).await.map_err(failed)?;
    }
    if output.len() > limit {
        return Err(format!("{program} printed more than {limit} bytes"));
    }
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        return Err(format!("{program}: {status}"));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, limit: usize) -> Result<String, String> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let output = of(&words, limit).await?;
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    #[tokio::test]
    async fn a_program_is_believed_when_it_succeeds_and_is_brief() {
        assert_eq!(sh("echo four", 5).await.as_deref(), Ok("four\n"));
        assert_eq!(sh("echo four", 4).await, Err("sh printed more than 4 bytes".to_owned()));
        assert_eq!(sh("echo four; exit 3", 9).await, Err("sh: exit status: 3".to_owned()));
        assert_eq!(sh("cat", 9).await.as_deref(), Ok(""), "there is no input");
        let missing = of(&["/no/such".to_owned()], 9).await.map(drop);
        assert_eq!(missing, Err("/no/such: No such file or directory".to_owned()));
        assert_eq!(of(&[], 9).await.map(drop), Err("is empty".to_owned()));
    }
}
