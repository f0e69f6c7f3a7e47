//! The message of the day (PROTOCOL §10.4).

use std::path::Path;

use crate::sys::account::Account;

/// The first of these that exists, and then [`FIXED`]; all from the root.
const DYNAMIC: [&str; 2] = ["run/motd.dynamic", "var/run/motd.dynamic"];
const FIXED: &str = "etc/motd";

/// Longest message shown, so that no mistake of an administrator floods a terminal.
const MAX_BYTES: u64 = 256 * 1024;

/// Returns the message for a login shell, with CR LF line ends; empty for
/// users who have switched it off with `~/.hushlogin`.
pub(crate) fn read(account: &Account) -> Vec<u8> {
    read_below(Path::new("/"), &account.home)
}

/// As [`read`], in a file system that begins at `root`.
fn read_below(root: &Path, home: &Path) -> Vec<u8> {
    if home.join(".hushlogin").exists() {
        return Vec::new();
    }
    let dynamic = DYNAMIC.iter().find_map(|path| read_file(&root.join(path)));
    let fixed = read_file(&root.join(FIXED));
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
    fn one_dynamic_message_comes_before_the_fixed_one_unless_hushed() {
        let root = tempfile::tempdir().unwrap();
        let (root, home) = (root.path(), root.path().join("home"));
        std::fs::create_dir(&home).unwrap();
        assert_eq!(read_below(root, &home), b"");
        for (path, text) in [(FIXED, "fixed\n"), (DYNAMIC[1], "second\n"), (DYNAMIC[0], "first\n")]
        {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(read_below(root, &home), b"first\r\nfixed\r\n");
        std::fs::write(home.join(".hushlogin"), "").unwrap();
        assert_eq!(read_below(root, &home), b"");
    }

    #[test]
    fn line_ends_become_those_of_a_terminal() {
        assert_eq!(with_crlf(b"a\n\r\nb\r\nc"), b"a\r\n\r\nb\r\nc\r\n");
        assert_eq!(with_crlf(b""), b"");
    }
}
