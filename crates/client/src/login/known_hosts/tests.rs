//! Tests of known_hosts; `ssh-keygen -F` is the oracle where there is one.

use std::process::{Command, Stdio};

use super::*;

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGQa2Y9pTxYzAoP2nuvYKw0E7hHTVLyqHFQZFm2hNPfu";
const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIH8mhbVVJfYpUPbBQpKUWHRFqHcvVGsfgL4P1yeDSSNj";

fn blob(encoded: &str) -> Vec<u8> {
    BASE64.decode(encoded).unwrap()
}

fn known(text: &str, name: &str) -> KnownHosts {
    let entries = parse(Path::new("known_hosts"), text.as_bytes(), |hosts| names_host(hosts, name));
    KnownHosts { entries: entries.collect() }
}

/// What ssh-keygen(1) makes of the same question; `None` without it.
fn oracle(text: &str, name: &str) -> Option<bool> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("known_hosts");
    fs::write(&file, text).unwrap();
    let status = Command::new("ssh-keygen")
        .args(["-F", name, "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    Some(status.success())
}

#[test]
fn names_match_as_ssh_keygen_says() {
    let lines = [
        "host",
        "HOST",
        "*.example.org",
        "h?st",
        "*,!host",
        "!host,*",
        "other,host",
        "[host]:2222",
        "[*]:2222",
        "*",
        "host*",
        "*host",
        "**h*t",
        "10.0.0.?",
        "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=",
        "|1|broken|line",
        "|1|",
    ];
    let names = ["host", "a.example.org", "example.org", "[host]:2222", "10.0.0.7", "hots"];
    for hosts in lines {
        for name in names {
            let text = format!("{hosts} ssh-ed25519 {KEY}\n");
            let ours = !known(&text, name).entries.is_empty();
            if let Some(theirs) = oracle(&text, name) {
                assert_eq!(ours, theirs, "{hosts:?} and {name:?}");
            }
        }
    }
}

#[test]
fn a_negated_name_takes_the_host_out_of_its_line() {
    assert!(names_host("*,!host", "other"));
    assert!(!names_host("*,!host", "host"));
}

#[test]
fn hashed_names_are_written_as_ssh_keygen_reads_them() {
    let hosts = hashed("[example.org]:2222", &[7; 20]);
    let text = format!("{hosts} ssh-ed25519 {KEY}\n");
    assert!(matches!(known(&text, "[Example.org]:2222").check(&blob(KEY)), Verdict::Known(_)));
    assert!(oracle(&text, "[example.org]:2222").unwrap_or(true));
}

#[test]
fn tabs_comments_and_damaged_lines_are_passed_over_and_still_counted() {
    let text = format!(
        "# a comment\n\n \t# another\nhost ssh-ed25519\nhost ssh-ed25519 not*base64\n\
         \thost\t \tssh-ed25519\t{OTHER}\tmy comment\r\n"
    );
    let known = known(&text, "host");
    assert!(matches!(known.check(&blob(OTHER)), Verdict::Known(_)));
    match known.check(&blob(KEY)) {
        Verdict::Changed(entry) => {
            assert_eq!((entry.line, entry.kind.as_str()), (6, "ssh-ed25519"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_not_text_does_not_hide_its_good_lines() {
    let mut text = b"host \xff\xfe\n".to_vec();
    text.extend(format!("host ssh-ed25519 {KEY}").as_bytes());
    let found = parse(Path::new("f"), &text, |hosts| names_host(hosts, "host")).count();
    assert_eq!(found, 1);
}

#[test]
fn a_comment_in_an_old_encoding_hides_neither_a_host_nor_a_revocation() {
    let comment = b" Andr\xe9's laptop\n"; // Latin-1
    let check = |line: String| {
        let text = [line.as_bytes(), comment].concat();
        let entries = parse(Path::new("f"), &text, |hosts| names_host(hosts, "host")).collect();
        let hosts = KnownHosts { entries };
        match hosts.check(&blob(KEY)) {
            Verdict::Known(_) => "known",
            Verdict::Changed(_) => "changed",
            Verdict::Revoked => "revoked",
            Verdict::Unknown => "unknown",
        }
    };
    assert_eq!(check(format!("host ssh-ed25519 {KEY}")), "known");
    assert_eq!(check(format!("host ssh-ed25519 {OTHER}")), "changed");
    assert_eq!(check(format!("@revoked * ssh-ed25519 {KEY}")), "revoked");
}

#[test]
fn a_revoked_key_is_revoked_even_where_it_is_also_known() {
    let text = format!("host ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}\n");
    assert_eq!(known(&text, "host").check(&blob(KEY)), Verdict::Revoked);
    assert!(known(&text, "host").check(&blob(OTHER)).is_changed());
}

impl Verdict<'_> {
    fn is_changed(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}

#[test]
fn an_authority_or_an_unknown_marker_makes_no_plain_key_known() {
    for marker in ["@cert-authority", "@from-the-future"] {
        let text = format!("{marker} host ssh-ed25519 {KEY}\n");
        assert_eq!(known(&text, "host").check(&blob(KEY)), Verdict::Unknown, "{marker}");
        assert!(!known(&text, "host").knows_kind("ssh-ed25519"));
    }
}

#[test]
fn appending_keeps_every_byte_and_ends_a_last_line_that_is_not_ended() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("known_hosts");
    for before in ["", "no newline", "# c\r\n\tweird  line\n"] {
        fs::write(&file, before).unwrap();
        append(&file, &["[host]:2222"], "ssh-ed25519", &blob(KEY), false).unwrap();
        let after = fs::read_to_string(&file).unwrap();
        let added = after.strip_prefix(before).expect("what was there is untouched");
        let start = if before == "no newline" { "\n" } else { "" };
        assert_eq!(added, format!("{start}[host]:2222 ssh-ed25519 {KEY}\n"));
    }
}

#[test]
fn the_first_host_creates_a_private_directory_and_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".ssh/known_hosts");
    append(&file, &["host"], "ssh-ed25519", &blob(KEY), true).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|") && !text.contains("host"));
    assert!(matches!(known(&text, "host").check(&blob(KEY)), Verdict::Known(_)));
}

#[test]
fn clients_that_write_at_once_leave_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("known_hosts");
    std::thread::scope(|scope| {
        for number in 0..16 {
            let file = &file;
            scope.spawn(move || {
                append(file, &[&format!("host{number}")], "ssh-ed25519", &blob(KEY), false)
                    .unwrap();
            });
        }
    });
    let text = fs::read_to_string(&file).unwrap();
    for number in 0..16 {
        let name = format!("host{number}");
        assert!(matches!(known(&text, &name).check(&blob(KEY)), Verdict::Known(_)));
    }
}

#[test]
fn hostile_patterns_end_quickly() {
    let text = "a".repeat(2000);
    assert!(!wildcard(&format!("{}b", "a*".repeat(500)), &text));
}
