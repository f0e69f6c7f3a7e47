//! known_hosts: which keys a host is known by.
//!
//! Reads OpenSSH's format as sshd(8) describes it (hashed names, patterns with
//! `*`, `?` and `!`, `[host]:port`, markers, comments, tabs), several files at
//! once, and appends to the first. Lines it cannot read are passed over, as in
//! OpenSSH, and never rewritten.
//! Replacing keys that a server has renewed is in [`update`].
//! Not here: what to do about the answer; see [`host_key`](super::host_key).
//!
//! Invariant: a key is compared as its bytes on the wire, so that a key type
//! unknown to us can still be revoked or found to have changed.

pub(super) mod update;

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

use crate::sys::account;

/// The lines of all files that speak of one host.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    entries: Vec<Entry>,
}

/// One line that names the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file it stands in.
    pub(super) file: PathBuf,
    /// Its line, counted from one.
    pub(super) line: usize,
    marker: Marker,
    /// The key's type as written, such as `ssh-ed25519`.
    pub(super) kind: String,
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    CertAuthority,
    Revoked,
}

/// What is known of a key shown by the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// It is this host's key; the last such line.
    Known(&'a Entry),
    /// Nothing is known of this host.
    Unknown,
    /// The host is known by another key; the last such line.
    Changed(&'a Entry),
    /// The key must not be accepted, whoever shows it.
    Revoked,
}

impl KnownHosts {
    /// Reads what the files say about `name`, which is a host name or
    /// `[host]:port`. Files that cannot be read count as empty.
    pub(super) fn load(user: &[PathBuf], global: &[PathBuf], name: &str) -> Self {
        let mut entries = Vec::new();
        for file in user.iter().chain(global) {
            if let Ok(text) = fs::read(file) {
                entries.extend(parse(file, &text, |hosts| names_host(hosts, name)));
            }
        }
        Self { entries }
    }

    /// Takes lines that did not come from a file; `source` stands for its name.
    pub(super) fn add(&mut self, source: &str, text: &[u8], name: &str) {
        let found = parse(Path::new(source), text, |hosts| names_host(hosts, name));
        self.entries.extend(found);
    }

    /// Knows one key, given as its type and wire encoding, that no file told.
    pub(super) fn of_one(kind: String, key: Vec<u8>) -> Self {
        let file = PathBuf::from("(the first login)");
        Self { entries: vec![Entry { file, line: 0, marker: Marker::None, kind, key }] }
    }

    /// Judges a key, given as its wire encoding.
    pub(super) fn check(&self, key: &[u8]) -> Verdict<'_> {
        let same = |entry: &&Entry| entry.key == key;
        if self.with(Marker::Revoked).any(|entry| same(&entry)) {
            Verdict::Revoked
        } else if let Some(entry) = self.with(Marker::None).find(same) {
            Verdict::Known(entry)
        } else {
            match self.with(Marker::None).next() {
                Some(entry) => Verdict::Changed(entry),
                None => Verdict::Unknown,
            }
        }
    }

    /// The lines with a marker, the last one first.
    fn with(&self, marker: Marker) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev().filter(move |entry| entry.marker == marker)
    }

    /// Returns whether some authority may vouch for this host.
    pub(super) fn has_authority(&self) -> bool {
        self.with(Marker::CertAuthority).next().is_some()
    }

    /// Returns whether this key, as its wire encoding, is an authority for this host.
    pub(super) fn is_authority(&self, key: &[u8]) -> bool {
        self.with(Marker::CertAuthority).any(|entry| entry.key == key)
    }

    /// Returns whether the host is known by a key of this type.
    pub(super) fn knows_kind(&self, kind: &str) -> bool {
        self.entries.iter().any(|entry| entry.marker == Marker::None && entry.kind == kind)
    }
}

/// Returns where else a key is known, as `file:line: hosts`, for the question
/// about an unknown host. At most `limit` places, and how many more there are.
pub(super) fn other_names(files: &[PathBuf], key: &[u8], limit: usize) -> (Vec<String>, usize) {
    let mut places = Vec::new();
    let mut more = 0;
    for file in files {
        let Ok(text) = fs::read(file) else { continue };
        for (number, line) in lines(&text) {
            let Some(line) = Line::parse(&line) else { continue };
            if line.marker != Marker::None || line.key().as_deref() != Some(key) {
                continue;
            }
            if places.len() < limit {
                let hosts = if line.hosts.starts_with('|') { "[hashed name]" } else { line.hosts };
                places.push(format!("{}:{number}: {hosts}", file.display()));
            } else {
                more += 1;
            }
        }
    }
    (places, more)
}

/// Adds a key to `file`, creating it (and a `.ssh` around it) if need be.
///
/// Nothing that is there is touched: one write, in append mode and under a lock, so that two
/// clients at once leave two whole lines.
pub(super) fn append(
    file: &Path,
    names: &[&str],
    kind: &str,
    key: &[u8],
    hash: bool,
) -> io::Result<()> {
    if let Some(directory) = file.parent()
        && directory.file_name().is_some_and(|name| name == ".ssh")
    {
        // Best effort: opening the file tells what is wrong.
        let _ = account::create_private_dir(directory);
    }
    let mut out = update::open_locked(file)?;
    let start = if ends_in_newline(&mut out)? { "" } else { "\n" };
    let lines = new_lines(names, kind, key, hash)?;
    out.write_all(format!("{start}{lines}").as_bytes())
}

/// Returns the text that makes `key` known by these names: one line, or one for each name if
/// names are hashed.
fn new_lines(names: &[&str], kind: &str, key: &[u8], hash: bool) -> io::Result<String> {
    let key = BASE64.encode(key);
    if !hash {
        return Ok(format!("{} {kind} {key}\n", names.join(",")));
    }
    let mut lines = String::new();
    for name in names {
        let name = hashed(&name.to_ascii_lowercase(), &random_salt()?);
        lines.push_str(&format!("{name} {kind} {key}\n"));
    }
    Ok(lines)
}

/// Returns the name a host is looked up by: with its port, unless it is 22.
pub(super) fn lookup_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

fn ends_in_newline(file: &mut fs::File) -> io::Result<bool> {
    // A device such as /dev/null has no length and no last line.
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Returns how many lines of a known_hosts text say something about `name`.
///
/// The entry for fuzzing: it reads no file.
#[must_use]
pub fn count_entries(text: &[u8], name: &str) -> usize {
    parse(Path::new("known_hosts"), text, |hosts| names_host(hosts, name)).count()
}

fn parse<'a>(
    file: &'a Path,
    text: &'a [u8],
    matches: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = Entry> + 'a {
    lines(text).filter_map(move |(number, line)| {
        let line = Line::parse(&line).filter(|line| matches(line.hosts))?;
        Some(Entry {
            file: file.to_path_buf(),
            line: number,
            marker: line.marker,
            kind: line.kind.to_owned(),
            key: line.key()?,
        })
    })
}

/// The lines of a text and their numbers.
///
/// A line is read whatever its comment is written in: passing one over would
/// make a known host unknown, or a revoked key good. Bytes that are no UTF-8
/// match nothing in the fields that count.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, Cow<'_, str>)> {
    text.split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, String::from_utf8_lossy(line)))
}

/// One line, cut into its fields.
struct Line<'a> {
    marker: Marker,
    hosts: &'a str,
    kind: &'a str,
    encoded: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split([' ', '\t', '\r']).filter(|field| !field.is_empty()).peekable();
        if fields.peek()?.starts_with('#') {
            return None;
        }
        let marker = match fields.peek()?.strip_prefix('@') {
            None => Marker::None,
            Some("cert-authority") => Marker::CertAuthority,
            Some("revoked") => Marker::Revoked,
            // A marker we do not know may mean anything but "trust this".
            Some(_) => return None,
        };
        if marker != Marker::None {
            fields.next();
        }
        Some(Self { marker, hosts: fields.next()?, kind: fields.next()?, encoded: fields.next()? })
    }

    fn key(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.encoded).ok()
    }
}

/// Whether the hosts field of a line means `name`.
fn names_host(hosts: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if let Some(rest) = hosts.strip_prefix("|1|") {
        return names_hashed(rest, &name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(refused) if wildcard(refused, &name) => return false,
            Some(_) => {}
            None => found |= wildcard(&pattern, &name),
        }
    }
    found
}

fn names_hashed(salt_and_hash: &str, name: &str) -> Option<bool> {
    let (salt, hash) = salt_and_hash.split_once('|')?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &BASE64.decode(salt).ok()?);
    let hash = BASE64.decode(hash).ok()?;
    Some(hmac::verify(&key, name.as_bytes(), &hash).is_ok())
}

fn hashed(name: &str, salt: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
    let hash = hmac::sign(&key, name.as_bytes());
    format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(hash))
}

/// As long as the hash, as ssh-keygen(1) makes it.
fn random_salt() -> io::Result<[u8; 20]> {
    let mut salt = [0; 20];
    getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(salt)
}

/// Whether `text` matches `pattern`, in which `*` and `?` are wild.
pub(super) fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // The last `*` seen and how much of the text it stands for: going back to
    // it alone keeps hostile patterns from taking exponential time.
    let (mut p, mut t, mut star) = (0, 0, None);
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(&want), Some(&have)) if want == b'?' || want == have => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) if taken < text.len() => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests;
