//! Targets for the files a user keeps.

/// A client configuration; it neither opens nor runs anything.
pub fn ssh_config(data: &[u8]) {
    // Most inputs are refused with a line and a reason, which is an answer.
    let _ = tssh::config::parse_file(data);
}

/// A known_hosts file: at most one entry per line, whatever the lines say.
///
/// The first line is the host's name.
pub fn known_hosts(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let name = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let text = lines.next().unwrap_or_default();
    let entries = tssh::login::count_entries(text, &name);
    assert!(entries <= text.split(|byte| *byte == b'\n').count());
}
