//! Destinations: `[user@]host` and ssh URIs.

use std::ffi::OsStr;

use super::{CommandLine, Flag, UsageError, keyword_line, text};

impl CommandLine {
    /// Takes a destination apart: `[user@]host`, where the last `@` splits, or an ssh URI.
    pub(super) fn destination(&mut self, word: &OsStr) -> Result<(), UsageError> {
        let word = text(word)?;
        let (user, host, port) = match word.strip_prefix("ssh://") {
            Some(rest) => uri(rest).ok_or(UsageError::Destination)?,
            None => match word.rsplit_once('@') {
                Some(("", _)) => return Err(UsageError::Destination),
                Some((user, host)) => (Some(user.to_owned()), host.to_owned(), None),
                None => (None, word, None),
            },
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address.to_owned(),
            None => host,
        };
        if host.is_empty() {
            return Err(UsageError::Destination);
        }
        // Names reach shells (`Match exec`, RemoteCommand) through tokens, so
        // what a shell would act on is refused, as OpenSSH does since 9.6.
        if host.starts_with('-') || host.chars().any(unfit_for_host) {
            return Err(UsageError::BadValue("hostname contains invalid characters".to_owned()));
        }
        if let Some(user) = user {
            self.flags.push(Flag::Option(keyword_line("User", &user)));
        }
        if let Some(port) = port {
            self.flags.push(Flag::Option(format!("Port {port}")));
        }
        self.host = host;
        Ok(())
    }
}

/// Takes `[user@]host[:port][/]` apart, percent-decoded.
pub(crate) fn uri(rest: &str) -> Option<(Option<String>, String, Option<u16>)> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('/') {
        return None;
    }
    let (user, address) = match authority.rsplit_once('@') {
        // Connection parameters (`user;fingerprint=…`) are not used by ssh either.
        Some((user, address)) => (user.split(';').next(), address),
        None => (None, authority),
    };
    let user = match user {
        Some("") => return None,
        Some(user) => Some(percent_decode(user)?),
        None => None,
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|&port| port > 0)?),
        None => None,
    };
    Some((user, percent_decode(host)?, port))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        let value = u8::from_str_radix(digits, 16).ok()?;
        if value == 0 || digits.starts_with('+') {
            return None;
        }
        bytes.push(value);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

pub(crate) fn unfit_for_host(c: char) -> bool {
    "'`\"$\\;&<>|(){}".contains(c) || c.is_ascii_whitespace() || c.is_ascii_control()
}
