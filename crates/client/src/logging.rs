//! Diagnostics (`-v`, `-vv`, `-vvv`, `--debug`, `-E`): where they go and how many.
//!
//! Keys, cookies and typed bytes are never logged at any level.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::config::LogLevel;

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
    let directives = match level {
        LogLevel::Debug1 => "tssh=debug,tssh_proxy=debug,tssh_transport=debug,tsshd=debug",
        LogLevel::Debug2 => "debug",
        LogLevel::Debug3 => "trace",
        _ => return Ok(()),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .without_time()
        .with_ansi(false);
    match file {
        None => builder.with_writer(std::io::stderr).init(),
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            let file = file.map_err(|source| LogFileError { path: path.to_owned(), source })?;
            builder.with_writer(Mutex::new(file)).init();
        }
    }
    Ok(())
}
