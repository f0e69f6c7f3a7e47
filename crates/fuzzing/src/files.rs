//! Targets for the files a user keeps.

/// A client configuration; it neither opens nor runs anything.
pub fn ssh_config(data: &[u8]) {
    // Most inputs are refused with a line and a reason, which is an answer.
    let _ = tssh::config::parse_file(data);
}
