//! Checked words as the settings have them.

use std::collections::BTreeSet;

use crate::config::options::Options;
use crate::config::settings::{LogLevel, RequestTty, StrictHostKeyChecking};

pub(super) fn strict(word: Option<&str>) -> StrictHostKeyChecking {
    match word.map(str::to_ascii_lowercase).as_deref() {
        Some("yes" | "true") => StrictHostKeyChecking::Yes,
        Some("no" | "false" | "off") => StrictHostKeyChecking::Off,
        Some("accept-new") => StrictHostKeyChecking::AcceptNew,
        _ => StrictHostKeyChecking::Ask,
    }
}

pub(super) fn request_tty(word: Option<&str>) -> RequestTty {
    match word.map(str::to_ascii_lowercase).as_deref() {
        Some("yes" | "true") => RequestTty::Yes,
        Some("no" | "false") => RequestTty::No,
        Some("force") => RequestTty::Force,
        _ => RequestTty::Auto,
    }
}

pub(super) fn log_level(word: &str) -> LogLevel {
    match word.to_ascii_lowercase().as_str() {
        "silent" | "quiet" => LogLevel::Quiet,
        "fatal" => LogLevel::Fatal,
        "error" => LogLevel::Error,
        "verbose" => LogLevel::Verbose,
        "debug" | "debug1" => LogLevel::Debug1,
        "debug2" => LogLevel::Debug2,
        "debug3" => LogLevel::Debug3,
        _ => LogLevel::Info,
    }
}

/// Splits the words of SetEnv; of several values for a name the first counts.
pub(super) fn set_variables(options: &Options) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let pairs = options.words("setenv").iter();
    pairs
        .filter_map(|word| word.split_once('='))
        .filter(|(name, _)| seen.insert(name.to_string()))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Returns whether OpenSSH takes a host for an address (a zone, as in `fe80::1%eth0`, has a case).
pub(super) fn looks_like_address(host: &str) -> bool {
    host.contains([':', '%']) || host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

pub(super) fn number(options: &Options, slot: &str, usual: u32) -> u32 {
    let number = options.word(slot).and_then(|number| number.parse().ok());
    number.unwrap_or(usual)
}
