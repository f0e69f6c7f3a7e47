//! The message of the day (PROTOCOL §10.4).

use std::path::Path;

use crate::sys::account::Account;

/// The first of these that exists, and then `/etc/motd`.
const DYNAMIC: [&str; 2] = ["/run/motd.dynamic", "/var/run/motd.dynamic"];

/// Longest message shown, so that no mistake of an administrator floods a terminal.
const MAX_BYTES: u64 = 256 * 1024;

/// Returns the message for a login shell, with CR LF line ends; empty for
/// users who have switched it off with `~/.hushlogin`.
pub(crate) fn read(account: &Account) -> Vec<u8> {
    if account.home.join(".hushlogin").exists() {
        return Vec::new();
    }
    let dynamic = DYNAMIC.iter().find_map(|path| read_file(Path::new(path)));
    let fixed = read_file(Path::new("/etc/motd"));
    dynamic.into_iter().chain(fixed).flat_map(|text| with_crlf(&text)).collect()
}

fn read_file(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_those_of_a_terminal() {
        assert_eq!(with_crlf(b"a\n\r\nb\r\nc"), b"a\r\n\r\nb\r\nc\r\n");
        assert_eq!(with_crlf(b""), b"");
    }
}
