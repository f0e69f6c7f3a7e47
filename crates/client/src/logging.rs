//! Diagnostics (`-v`, `-vv`, `-vvv`, `--debug`) and remarks: where they go (`-E`, `-y`) and how many.
//!
//! What ssh calls its log is all of it: errors and warnings as well as debugging. Questions, the
//! server's banner and the word at the end of a session are for the person at the terminal and
//! never come here.
//! Keys, cookies and typed bytes are never logged at any level.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogLevel;
use crate::login::AGENT_LOG_TARGET;
use crate::sys::account;
use crate::sys::syslog::Syslog;

/// Why diagnostics cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("Couldn't open logfile {path}: {source}")]
pub struct LogFileError {
    path: PathBuf,
    source: std::io::Error,
}

/// Where the log goes, if not to standard error.
static SINK: OnceLock<Sink> = OnceLock::new();

enum Sink {
    File(Mutex<File>),
    Syslog(Syslog),
}

/// Sends the log to a file (`-E`) or the system's log (`-y`). Call once, before anything is said.
///
/// # Errors
/// [`LogFileError`] when `file` cannot be appended to, or the system has no log.
pub fn redirect(file: Option<&Path>, syslog: bool) -> Result<(), LogFileError> {
    let sink = match file {
        Some(path) => {
            let file =
                open(path).map_err(|source| LogFileError { path: path.to_owned(), source })?;
            Sink::File(Mutex::new(file))
        }
        None if syslog => Sink::Syslog(
            Syslog::open().map_err(|source| LogFileError { path: "syslog".into(), source })?,
        ),
        None => return Ok(()),
    };
    let _ = SINK.set(sink);
    Ok(())
}

/// Chooses the part of the system's log (SyslogFacility).
pub fn set_facility(facility: u8) {
    FACILITY.store(facility, Ordering::Relaxed);
}

/// How much is said.
static LEVEL: Mutex<LogLevel> = Mutex::new(LogLevel::Info);

/// Changes what debugging writes, once there has been any.
static FILTER: OnceLock<Box<dyn Fn(Targets) + Send + Sync>> = OnceLock::new();

/// Returns how much is said at present.
#[must_use]
pub fn level() -> LogLevel {
    *LEVEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chooses how much is said, debugging included. Below `-v` there is none.
pub fn set_level(level: LogLevel) {
    *LEVEL.lock().unwrap_or_else(PoisonError::into_inner) = level;
    match (FILTER.get(), targets(level)) {
        // Without targets nothing is said.
        (Some(change), targets) => change(targets.unwrap_or_default()),
        (None, Some(targets)) => {
            let (filter, handle) = reload::Layer::new(targets);
            // A failure means that the subscriber is gone, which it never is.
            let _ = FILTER.set(Box::new(move |targets| drop(handle.reload(targets))));
            tracing_subscriber::registry().with(lines(|| LogLines).with_filter(filter)).init();
        }
        (None, None) => {}
    }
}

/// How much a line of the log matters, as syslog(3) counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Priority {
    Error = 3,
    Info = 6,
    Debug = 7,
}

/// Writes whole lines to the log. On standard error they end as a terminal in raw mode needs it.
pub(crate) fn say(priority: Priority, text: &str) {
    // A log that is gone is no reason to fail.
    match SINK.get() {
        None => {
            let _ = std::io::stderr().write_all(&for_terminal(text.as_bytes()));
        }
        Some(Sink::File(file)) => {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(text.as_bytes());
        }
        Some(Sink::Syslog(log)) => text.lines().for_each(|line| log.send(number(priority), line)),
    }
}

/// Writes why the program ends, whatever the level.
pub fn error(error: &dyn std::fmt::Display) {
    match SINK.get() {
        // No terminal is raw yet.
        None => {
            let _ = writeln!(std::io::stderr(), "{error}");
        }
        Some(_) => say(Priority::Error, &format!("{error}\n")),
    }
}

fn for_terminal(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 8);
    for byte in text {
        if *byte == b'\n' {
            lines.push(b'\r');
        }
        lines.push(*byte);
    }
    lines
}

/// The facility, USER by default.
static FACILITY: AtomicU8 = AtomicU8::new(1);

/// Facility and priority in one number (RFC 3164 §4.1.1).
fn number(priority: Priority) -> u8 {
    FACILITY.load(Ordering::Relaxed) * 8 + priority as u8
}

/// What is written at a level; `None`: nothing.
fn targets(level: LogLevel) -> Option<Targets> {
    let everything = match level {
        LogLevel::Debug1 => {
            let ours = ["tssh", "tssh_proxy", "tssh_transport", "tsshd"];
            return Some(ours.map(|name| (name, LevelFilter::DEBUG)).into_iter().collect());
        }
        LogLevel::Debug2 => LevelFilter::DEBUG,
        LogLevel::Debug3 => LevelFilter::TRACE,
        _ => return None,
    };
    let all = Targets::new().with_default(everything);
    Some(all.with_target(AGENT_LOG_TARGET, LevelFilter::INFO))
}

/// Writes events as [`Lines`].
fn lines<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().with_ansi(false).event_format(Lines).with_writer(writer)
}

/// Lines as ssh writes them, which people and programs know how to read: `debug1: ` and so on in
/// front of what only debugging shows. What the libraries below say counts as one level more.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let metadata = event.metadata();
        let is_ours = metadata.target().starts_with("tssh");
        writer.write_str(match (*metadata.level(), is_ours) {
            (Level::TRACE, _) => "debug3: ",
            (Level::DEBUG, false) => "debug2: ",
            (Level::DEBUG, true) => "debug1: ",
            _ => "",
        })?;
        if !is_ours {
            write!(writer, "{}: ", metadata.target())?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// What debugging writes to: the log.
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        say(Priority::Debug, &String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Opens a log file, which names hosts and users: a new one is its owner's alone, as ssh's is.
fn open(path: &Path) -> std::io::Result<File> {
    account::for_user_alone(File::options().append(true).create(true)).open(path)
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
    fn debugging_is_written_in_the_form_of_ssh() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let writer = Mutex::new(open(&path).unwrap());
        let lines = lines(writer).with_filter(targets(LogLevel::Debug3).unwrap());
        let log = tracing_subscriber::registry().with(lines);
        {
            let _log = log.set_default();
            tracing::debug!(target: "tssh::login", port = 22, "connecting");
            tracing::trace!(target: "tssh::login", "a packet");
            tracing::debug!(target: "russh::client", "kex done");
            tracing::info!(target: "tssh::login", "authenticated");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let want = "debug1: connecting port=22\ndebug3: a packet\n\
                    debug2: russh::client: kex done\nauthenticated\n";
        assert_eq!(text, want);
    }

    #[test]
    fn what_the_agent_signs_is_logged_at_no_level() {
        for level in [LogLevel::Debug2, LogLevel::Debug3] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let writer = Mutex::new(open(&path).unwrap());
            let lines = lines(writer).with_filter(targets(level).unwrap());
            let log = tracing_subscriber::registry().with(lines);
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
