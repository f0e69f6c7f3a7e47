//! Targets for the files a user keeps, and for what a name server says of hosts.

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

/// A list of revoked keys in either form: it revokes, does not, or is damaged.
pub fn revoked_keys(data: &[u8]) {
    let _ = tssh::login::judge(data);
}

/// A reply of a name server: no more records than there is room for.
pub fn dns_reply(data: &[u8]) {
    let records = tssh::dns::parse_reply(data).unwrap_or_default();
    // Each has a name, a type, a class, a time and a length.
    assert!(records * 11 <= data.len());
}
