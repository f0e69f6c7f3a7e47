//! Taking over the keys that a server announces (UpdateHostKeys).
//!
//! OpenSSH's rules (clientloop.c, 9.2): only lines that speak of this host alone are changed; a
//! line with a pattern, a marker or further names leaves everything as it is, and so does a key
//! that some other host is known by. What is not ours to change is copied byte for byte.
//!
//! Invariant: of two clients of ours that write at once, both writes last. A file is locked while
//! it is written, and one that was replaced meanwhile is opened again. OpenSSH does not lock, so
//! that between it and us only its own promise holds: a whole file, the last writer's.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::sys::account;

use super::{Line, Marker, lines, names_host, new_lines};

/// A key: its type as written in known_hosts, and its wire encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::login) struct Announced {
    pub(in crate::login) kind: String,
    pub(in crate::login) blob: Vec<u8>,
}

/// The kinds of key whose lines may be taken away.
const UNDERSTOOD: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// What the files say about the keys a host announces.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::login) enum Finding {
    /// Just these, or nothing that we may change.
    Leave,
    /// Some are missing, by their place among the announced, and others are in use no more.
    Change { new: Vec<usize>, old: usize },
}

/// Compares what is announced by the host `name` with what the files say.
pub(in crate::login) fn examine(files: &[PathBuf], name: &str, announced: &[Announced]) -> Finding {
    let mut seen = vec![false; announced.len()];
    let mut old: Vec<Vec<u8>> = Vec::new();
    let mut elsewhere: Vec<Vec<u8>> = Vec::new();
    let mut complex = false;
    for file in files {
        let Ok(text) = fs::read(file) else { continue };
        for (_, line) in lines(&text) {
            let Some(line) = Line::parse(&line) else { continue };
            let Some(key) = line.key() else { continue };
            if !names_host(line.hosts, name) {
                elsewhere.push(key);
            } else if !UNDERSTOOD.contains(&line.kind) {
                // The server's announcement of such a key would not have reached us.
            } else if line.marker != Marker::None {
                // An authority vouches for the host, or a key of it is revoked.
                complex |= line.marker == Marker::CertAuthority;
            } else {
                complex |= line.hosts.contains(['*', '?', ',', '!']);
                match announced.iter().position(|key_now| key_now.blob == key) {
                    Some(place) => seen.iter_mut().skip(place).take(1).for_each(|s| *s = true),
                    None => old.push(key),
                }
            }
        }
    }
    let new: Vec<usize> =
        (0..announced.len()).filter(|&n| !seen.get(n).is_some_and(|s| *s)).collect();
    let shared = elsewhere
        .iter()
        .any(|key| old.contains(key) || announced.iter().any(|key_now| key_now.blob == *key));
    if complex || shared || (new.is_empty() && old.is_empty()) {
        return Finding::Leave;
    }
    Finding::Change { new, old: old.len() }
}

/// Makes the files say that `name` has these keys and no others.
///
/// Keys are added to the first file; the others only lose lines.
///
/// # Errors
/// What the system says; files already written stay so.
pub(in crate::login) fn replace(
    files: &[PathBuf],
    name: &str,
    keys: &[Announced],
    hash: bool,
) -> io::Result<()> {
    for (index, file) in files.iter().enumerate() {
        if !file.exists() {
            continue;
        }
        let add = if index == 0 { keys } else { &[] };
        replace_in(file, name, keys, add, hash)?;
    }
    Ok(())
}

fn replace_in(
    file: &Path,
    name: &str,
    keep: &[Announced],
    add: &[Announced],
    hash: bool,
) -> io::Result<()> {
    // A link to a file elsewhere stays a link.
    let file = fs::canonicalize(file)?;
    let mut locked = open_locked(&file)?;
    let mut text = Vec::new();
    locked.read_to_end(&mut text)?;
    let now = rewritten(&text, name, keep, add, hash)?;
    if now == text {
        return Ok(());
    }
    let status = locked.metadata()?;
    let aside = beside(&file, &format!(".{}", std::process::id()));
    let written =
        account::for_the_same(File::options().write(true).create_new(true), &status).open(&aside);
    let written = written.and_then(|mut out| {
        out.write_all(&now)?;
        out.sync_all()
    });
    let moved = written.and_then(|()| {
        // As OpenSSH: what was there before can be looked up.
        let before = beside(&file, ".old");
        let _ = fs::remove_file(&before);
        let _ = fs::hard_link(&file, &before);
        fs::rename(&aside, &file)
    });
    if moved.is_err() {
        let _ = fs::remove_file(&aside);
    }
    moved
}

/// Returns the text without the lines that give `name` a key not in `keep`, and with lines for
/// those of `add` that it lacks.
fn rewritten(
    text: &[u8],
    name: &str,
    keep: &[Announced],
    add: &[Announced],
    hash: bool,
) -> io::Result<Vec<u8>> {
    let mut now = Vec::with_capacity(text.len() + 1024);
    let mut known: Vec<Vec<u8>> = Vec::new();
    for raw in text.split_inclusive(|&byte| byte == b'\n') {
        let shown = String::from_utf8_lossy(raw);
        let shown = shown.trim_end_matches('\n');
        let ours = Line::parse(shown)
            .filter(|line| line.marker == Marker::None && UNDERSTOOD.contains(&line.kind))
            .filter(|line| names_host(line.hosts, name));
        let key = ours.and_then(|line| line.key());
        match key {
            Some(key) if keep.iter().any(|kept| kept.blob == key) => {
                known.push(key);
                now.extend(raw);
            }
            Some(_) => {}
            None => now.extend(raw),
        }
    }
    if now.last().is_some_and(|&last| last != b'\n') {
        now.push(b'\n');
    }
    for key in add.iter().filter(|key| !known.contains(&key.blob)) {
        now.extend(new_lines(&[name], &key.kind, &key.blob, hash)?.into_bytes());
    }
    Ok(now)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a file for reading and appending, creating it if need be, and locks it against other
/// clients of ours; closing it lets go.
///
/// # Errors
/// What the system says. A file system that knows no locks is no error.
pub(super) fn open_locked(path: &Path) -> io::Result<File> {
    loop {
        let mut options = File::options();
        options.read(true).append(true).create(true);
        let file = account::for_user_alone(&mut options).open(path)?;
        if !file.metadata()?.is_file() || file.lock().is_err() {
            return Ok(file);
        }
        // Another client may have put a new file in its place while we waited.
        match account::is_still_at(&file, path) {
            Ok(true) => return Ok(file),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    fn key(name: &str) -> Announced {
        Announced { kind: "ssh-ed25519".into(), blob: name.as_bytes().to_vec() }
    }

    fn line(hosts: &str, name: &str) -> String {
        format!("{hosts} ssh-ed25519 {}", BASE64.encode(name))
    }

    fn after(text: &str, announced: &[Announced]) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("known_hosts");
        fs::write(&file, text).expect("writable");
        match examine(std::slice::from_ref(&file), "h", announced) {
            Finding::Leave => {}
            Finding::Change { .. } => {
                replace(std::slice::from_ref(&file), "h", announced, false).expect("writable")
            }
        }
        fs::read_to_string(&file).expect("readable")
    }

    #[test]
    fn renewed_keys_replace_the_old_ones_and_all_other_bytes_stay() {
        let other = "# a comment\n\n\tother ssh-rsa AAAA x\n@revoked h ssh-ed25519 AAAA\r\nbroken";
        let before = format!("{}\n{other}", line("h", "gone"));
        let now = after(&before, &[key("kept"), key("new")]);
        let added = [line("h", "kept"), line("h", "new")].join("\n");
        assert_eq!(now, format!("{other}\n{added}\n"));
        let before = format!("{} my comment\n{}\n", line("h", "kept"), line("h", "gone"));
        let now = after(&before, &[key("kept"), key("new")]);
        assert_eq!(now, format!("{} my comment\n{}\n", line("h", "kept"), line("h", "new")));
    }

    #[test]
    fn lines_that_speak_of_more_than_this_host_leave_everything_as_it_is() {
        for before in [
            line("h,i", "gone"),
            line("*", "gone"),
            format!("{}\n@cert-authority h ssh-ed25519 AAAA", line("h", "gone")),
            format!("{}\n{}", line("h", "gone"), line("i", "new")),
            format!("{}\n{}", line("h", "gone"), line("i", "gone")),
        ] {
            assert_eq!(after(&before, &[key("new")]), before);
        }
    }

    #[test]
    fn a_linked_file_stays_linked_and_keeps_its_mode() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, line("h", "gone")).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink(&file, &link).expect("possible");
        replace(std::slice::from_ref(&link), "h", &[key("new")], false).expect("writable");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&file).expect("readable"), line("h", "new") + "\n");
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("known_hosts");
        fs::write(&file, "").expect("writable");
        let (file, count) = (&file, 40);
        std::thread::scope(|scope| {
            for number in 0..count {
                scope.spawn(move || {
                    let name = format!("host{number}");
                    super::super::append(file, &[&name], "ssh-ed25519", b"old", false)
                        .expect("writable");
                    replace(std::slice::from_ref(file), &name, &[key(&name)], number % 2 == 0)
                        .expect("writable");
                });
            }
        });
        let text = fs::read(file).expect("readable");
        for number in 0..count {
            let name = format!("host{number}");
            let keys: Vec<_> = super::super::parse(file, &text, |hosts| names_host(hosts, &name))
                .map(|entry| entry.key)
                .collect();
            assert_eq!(keys, [name.into_bytes()]);
        }
    }
}
