//! What the key that logged in may do: the options of its line in authorized_keys.
//!
//! sshd applies them to the login and tells nobody, unless `ExposeAuthInfo` is on: then a file
//! named by `SSH_USER_AUTH` says which key it was, and its line can be found again. The options
//! become settings that restrict like a file of sshd_config, and are named in refusals as such.
//!
//! Where several lines name one key, in one file or in several, all of them have to allow what is
//! done: which one sshd took may hang on the time and on the client's address. `command=` becomes
//! ForceCommand, which counts only where sshd says that it forced one. A key whose line is
//! not found, and one whose files are not known for certain, may be restricted in any way.
//! Nothing here can relax anything.

use std::path::{Path, PathBuf};

use super::sshd::SshdConfig;
use crate::sys::account::Account;

/// Where sshd looks for keys if nothing is said.
const USUAL_FILES: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];

/// Reads the restrictions of the keys that `auth_info` names, one configuration for each line.
///
/// `auth_info` is the content of the file `SSH_USER_AUTH`; `config` the system's, if it can be read.
pub(super) fn restrictions(
    auth_info: &str,
    config: Option<&SshdConfig>,
    account: &Account,
) -> Vec<SshdConfig> {
    let keys = auth_info.lines().filter_map(|line| line.strip_prefix("publickey "));
    let files = key_files(config, account);
    keys.flat_map(|key| of_key(key, &files)).collect()
}

/// The files in which sshd looks for this account's keys.
fn key_files(config: Option<&SshdConfig>, account: &Account) -> Vec<PathBuf> {
    let values = config.map(|config| config.values("authorizedkeysfile")).unwrap_or_default();
    let named = values.iter().flat_map(|value| value.arguments.iter().map(String::as_str));
    let mut patterns: Vec<&str> = named.filter(|word| !word.eq_ignore_ascii_case("none")).collect();
    if values.is_empty() {
        patterns.extend(USUAL_FILES);
    }
    patterns.iter().map(|pattern| account.home.join(expanded(pattern, account))).collect()
}

/// Expands the tokens of AuthorizedKeysFile.
fn expanded(pattern: &str, account: &Account) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, c == '%') {
            (_, true) => match chars.next() {
                Some('h') => out.push_str(&account.home.to_string_lossy()),
                Some('u') => out.push_str(&account.name),
                Some('%') => out.push('%'),
                // Of a file that is not found nothing is known, which is on the safe side.
                other => out.extend(['%'].into_iter().chain(other)),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// Returns the restrictions of `key`, a type and a key in base64.
fn of_key(key: &str, files: &[PathBuf]) -> Vec<SshdConfig> {
    let mut words = key.split_whitespace();
    let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut found = Vec::new();
    for path in files {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => {
                found.push(SshdConfig::unknown(path));
                continue;
            }
        };
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| options_of(line, kind, blob));
        found.extend(lines.map(|options| SshdConfig::of_text(path, &as_settings(options))));
    }
    if found.is_empty() {
        // Of a command's answer, or a certificate: what it may do cannot be known.
        let path = files.first().map_or(Path::new("authorized_keys"), PathBuf::as_path);
        found.push(SshdConfig::unknown(path));
    }
    found
}

/// Returns the options in front of the key, if a line is for it.
fn options_of<'a>(line: &'a str, kind: &str, blob: &str) -> Option<&'a str> {
    let line = line.trim();
    if line.starts_with('#') || blob.is_empty() {
        return None;
    }
    let end = end_of_options(line);
    let (options, rest) = line.split_at_checked(end)?;
    let is_it = |text: &str| {
        let mut words = text.split_whitespace();
        words.next() == Some(kind) && words.next() == Some(blob)
    };
    if is_it(line) {
        return Some("");
    }
    is_it(rest).then_some(options)
}

/// Where the first word ends; blanks between quotes do not end it.
fn end_of_options(line: &str) -> usize {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' if !is_escaped => is_quoted = !is_quoted,
            ' ' | '\t' if !is_quoted => return at,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    line.len()
}

/// What a key may do; the names are those of its options without `no-`.
struct May {
    port_forwarding: bool,
    agent_forwarding: bool,
    x11_forwarding: bool,
    pty: bool,
}

/// Writes options as the lines of sshd_config that mean the same.
fn as_settings(options: &str) -> String {
    let mut may =
        May { port_forwarding: true, agent_forwarding: true, x11_forwarding: true, pty: true };
    let (mut opens, mut listens) = (Vec::new(), Vec::new());
    let mut command = None;
    for option in split(options) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "restrict" => {
                may = May {
                    port_forwarding: false,
                    agent_forwarding: false,
                    x11_forwarding: false,
                    pty: false,
                };
            }
            "port-forwarding" => may.port_forwarding = true,
            "no-port-forwarding" => may.port_forwarding = false,
            "agent-forwarding" => may.agent_forwarding = true,
            "no-agent-forwarding" => may.agent_forwarding = false,
            "x11-forwarding" => may.x11_forwarding = true,
            "no-x11-forwarding" => may.x11_forwarding = false,
            "pty" => may.pty = true,
            "no-pty" => may.pty = false,
            "permitopen" => opens.push(value),
            "permitlisten" => listens.push(value),
            "command" => {
                let (_, value) = option.split_once('=').unwrap_or_default();
                command = command.or_else(|| Some(dequoted(value)));
            }
            // What else there is concerns the login, which sshd has judged.
            _ => {}
        }
    }
    let mut lines = String::new();
    for (is_allowed, line) in [
        (may.port_forwarding, "AllowTcpForwarding no\nAllowStreamLocalForwarding no\n"),
        (may.agent_forwarding, "AllowAgentForwarding no\n"),
        (may.x11_forwarding, "X11Forwarding no\n"),
        (may.pty, "PermitTTY no\n"),
    ] {
        if !is_allowed {
            lines.push_str(line);
        }
    }
    for (keyword, list) in [("PermitOpen", opens), ("PermitListen", listens)] {
        if !list.is_empty() {
            let quoted: Vec<_> = list.iter().map(|rule| format!("\"{rule}\"")).collect();
            lines.push_str(&format!("{keyword} {}\n", quoted.join(" ")));
        }
    }
    if let Some(command) = command.filter(|command| !starts_us(command)) {
        // The one word that means something else in sshd_config.
        let is_none = command.eq_ignore_ascii_case("none");
        let command = if is_none { format!("\"{command}\"") } else { command };
        lines.push_str(&format!("ForceCommand {command}\n"));
    }
    lines
}

/// Takes an option's value out of its quotes.
fn dequoted(value: &str) -> String {
    let value = value.strip_prefix('"').unwrap_or(value);
    value.strip_suffix('"').unwrap_or(value).replace("\\\"", "\"")
}

/// Returns whether a command names a program like us, as one that is to start tsshd and nothing
/// else does. Its sessions are what it was given for, and cannot be that command once more.
///
/// What only a shell could tell is not taken for us: then the command is forced.
fn starts_us(command: &str) -> bool {
    let Some(words) = words(command) else { return false };
    let (mut is_first, mut in_env) = (true, false);
    for word in words {
        // Neither the shell, behind `exec`, nor anything but env(1) takes variables there.
        if (is_first || in_env) && word.is_assignment {
            continue;
        }
        match word.text.rsplit('/').next() {
            Some("tsshd") => return true,
            Some("env") if !in_env => in_env = true,
            _ if word.text == "exec" && is_first => {}
            _ => return false,
        }
        is_first = false;
    }
    false
}

/// A word of a command, out of its quotes.
struct Word {
    text: String,
    /// Whether it sets a variable, as the shell sees it.
    is_assignment: bool,
}

/// Splits a command into its words; `None` if it is more than one plain command.
fn words(command: &str) -> Option<Vec<Word>> {
    let (mut words, mut quote) = (Vec::new(), None);
    let mut word: Option<Word> = None;
    for c in command.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\' | '`' | '(', _) | (';' | '&' | '|' | ')' | '<' | '>' | '#' | '\n', None) => {
                return None;
            }
            (' ' | '\t', None) => words.extend(word.take()),
            _ => {
                let new = || Word { text: String::new(), is_assignment: false };
                let word = word.get_or_insert_with(new);
                match (c, quote) {
                    ('"' | '\'', None) => quote = Some(c),
                    ('=', None) if is_name(&word.text) => {
                        word.is_assignment = true;
                        word.text.push(c);
                    }
                    _ => word.text.push(c),
                }
            }
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Returns whether a variable may be called so.
fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_part) && text.starts_with(|c: char| !c.is_ascii_digit())
}

/// Splits options at the commas that are not between quotes.
fn split(options: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    options.split(move |c: char| {
        if c == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = c == '\\' && !is_escaped;
        c == ',' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(home: &Path) -> Account {
        Account {
            name: "alice".into(),
            home: home.to_owned(),
            shell: "/bin/sh".into(),
            groups: vec![],
            is_root: false,
        }
    }

    /// Settings made of the lines of an authorized_keys for the key `ssh-ed25519 AAAA`.
    fn made(lines: &str) -> SshdConfig {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".ssh")).unwrap();
        std::fs::write(dir.path().join(".ssh/authorized_keys"), lines).unwrap();
        let info = "password\npublickey ssh-ed25519 AAAA\n";
        let mut all = restrictions(info, None, &account(dir.path()));
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn value(config: &SshdConfig, keyword: &str) -> Option<String> {
        let values = config.values(keyword);
        values.first().map(|candidate| candidate.arguments.join(" "))
    }

    #[test]
    fn the_options_of_the_key_that_logged_in_become_settings() {
        let lines = "# comment\nno-pty ssh-ed25519 BBBB other\n\
             permitopen=\"db:5432\",no-X11-forwarding,permitopen=\"[::1]:*\",\
             command=\"a, no-pty \\\" b\" ssh-ed25519 AAAA me\n";
        let config = made(lines);
        assert_eq!(value(&config, "permitopen").as_deref(), Some("db:5432 [::1]:*"));
        assert_eq!(value(&config, "x11forwarding").as_deref(), Some("no"));
        assert_eq!(value(&config, "permittty"), None, "in a quoted command");
        assert_eq!(value(&config, "allowtcpforwarding"), None);
        assert_eq!(config.unreadable, None);
        let free = made("ssh-ed25519 AAAA\n");
        assert_eq!((value(&free, "permitopen"), free.unreadable), (None, None));
    }

    #[test]
    fn restrict_takes_all_away_and_later_options_give_back() {
        let config = made("restrict,pty,permitlisten=\"8080\" ssh-ed25519 AAAA\n");
        for keyword in ["allowtcpforwarding", "allowagentforwarding", "x11forwarding"] {
            assert_eq!(value(&config, keyword).as_deref(), Some("no"), "{keyword}");
        }
        assert_eq!(value(&config, "permittty"), None);
        assert_eq!(value(&config, "permitlisten").as_deref(), Some("8080"));
    }

    #[test]
    fn a_key_s_command_is_forced_unless_it_starts_us() {
        let forced = |command: &str| {
            let config = made(&format!("no-pty,command=\"{command}\" ssh-ed25519 AAAA\n"));
            config.values("forcecommand").first().map(|candidate| candidate.rest.clone())
        };
        assert_eq!(forced("/bin/log -x").as_deref(), Some("/bin/log -x"));
        assert_eq!(forced(r#"echo \"$A\""#).as_deref(), Some(r#"echo "$A""#));
        assert_eq!(forced("none").as_deref(), Some("\"none\""));
        for ours in [
            "tsshd",
            "/opt/bin/tsshd --ipv4",
            "A=1 exec tsshd",
            "env 'tsshd' $X",
            "A='a b' B= exec /usr/bin/env C=1 $HOME/bin/tsshd 'a;b'",
        ] {
            assert_eq!(forced(ours), None, "{ours}");
        }
    }

    #[test]
    fn a_key_s_command_that_only_mentions_us_is_forced() {
        for other in [
            "audit --label tsshd",
            "echo tsshd",
            "tsshd-wrapper",
            "/opt/tsshd/audit",
            "logger tsshd-login; exec audit",
            "tsshd --version; exec audit",
            "test -x tsshd && exec audit",
            "A='b tsshd' audit",
            "A='b' 'C=tsshd' tsshd",
            "exec A=1 tsshd",
            "exec exec tsshd",
            "env exec tsshd",
            "env -S tsshd",
            "audit $(tsshd)",
            "audit # tsshd",
            "'tsshd audit'",
            "'tsshd",
            "A=1",
            "",
        ] {
            let config = made(&format!("command=\"{other}\" ssh-ed25519 AAAA\n"));
            assert_eq!(config.values("forcecommand").len(), 1, "{other}");
        }
    }

    #[test]
    fn every_line_of_the_key_has_to_allow_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".ssh")).unwrap();
        let write = |name, text| std::fs::write(dir.path().join(".ssh").join(name), text).unwrap();
        write("authorized_keys", "from=\"10.0.0.0/8\" ssh-ed25519 AAAA\nno-pty ssh-ed25519 AAAA\n");
        write("authorized_keys2", "permitopen=\"db:1\" ssh-ed25519 AAAA\n");
        let all = restrictions("publickey ssh-ed25519 AAAA\n", None, &account(dir.path()));
        let says = |keyword| all.iter().filter_map(|c| value(c, keyword)).collect::<Vec<_>>();
        assert_eq!(
            (all.len(), says("permittty"), says("permitopen")),
            (3, vec!["no".into()], vec!["db:1".into()])
        );
    }

    #[test]
    fn a_key_whose_line_is_not_found_may_be_restricted() {
        assert!(made("ssh-ed25519 BBBB\n").unreadable.is_some());
        let dir = tempfile::tempdir().unwrap();
        let none = restrictions("password\n", None, &account(dir.path()));
        assert!(none.is_empty(), "without a key there are no options");
    }
}
