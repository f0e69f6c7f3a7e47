//! Diagnostics (`-v`, `-vv`, `-vvv`, `--debug`, `-E`): where they go and how many.
//!
//! Keys, cookies and typed bytes are never logged at any level.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogLevel;
use crate::login::AGENT_LOG_TARGET;

/// Why diagnostics cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("Couldn't open logfile {path}: {source}")]
pub struct LogFileError {
    path: PathBuf,
    source: std::io::Error,
}

/// Starts the diagnostics of this process. Below `-v` there are none.
///
/// # Errors
/// [`LogFileError`] when `file` cannot be appended to.
pub fn start(level: LogLevel, file: Option<&Path>) -> Result<(), LogFileError> {
    let Some(directives) = directives(level) else { return Ok(()) };
    match file {
        None => subscriber(&directives, || TerminalLines(std::io::stderr())).init(),
        Some(path) => {
            let file =
                open(path).map_err(|source| LogFileError { path: path.to_owned(), source })?;
            subscriber(&directives, Mutex::new(file)).init();
        }
    }
    Ok(())
}

/// What is written at a level; `None`: nothing.
fn directives(level: LogLevel) -> Option<String> {
    let everything = match level {
        LogLevel::Debug1 => {
            return Some("tssh=debug,tssh_proxy=debug,tssh_transport=debug,tsshd=debug".into());
        }
        LogLevel::Debug2 => "debug",
        LogLevel::Debug3 => "trace",
        _ => return None,
    };
    Some(format!("{everything},{AGENT_LOG_TARGET}=info"))
}

fn subscriber<W>(directives: &str, writer: W) -> impl SubscriberInitExt + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .without_time()
        .with_ansi(false)
        .with_writer(writer)
        .finish()
}

/// Ends lines as a terminal in raw mode needs them.
struct TerminalLines(std::io::Stderr);

impl Write for TerminalLines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let mut lines = Vec::with_capacity(text.len() + 8);
        for byte in text {
            if *byte == b'\n' {
                lines.push(b'\r');
            }
            lines.push(*byte);
        }
        self.0.write_all(&lines)?;
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Opens a log file, which names hosts and users: a new one is its owner's alone, as ssh's is.
fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_log_file_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = open(&directory.path().join("log")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_the_agent_signs_is_logged_at_no_level() {
        for level in [LogLevel::Debug2, LogLevel::Debug3] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let writer = Mutex::new(open(&path).unwrap());
            let log = subscriber(&directives(level).unwrap(), writer);
            {
                let _log = log.set_default();
                tracing::debug!(target: "russh::keys::agent::client", "sign_request: [1, 2]");
                tracing::debug!(target: "russh::client", "kex done");
            }
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("kex done"), "{text}");
            assert!(!text.contains("sign_request"), "{text}");
        }
    }
}
