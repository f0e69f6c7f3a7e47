//! An sshd_config file, read by OpenSSH's rules.
//!
//! Keywords without regard to case; `Include` where it stands, its own `Match`
//! blocks ending with it; settings of matching `Match` blocks before global
//! ones, and the first value of each keyword wins. A block whose criteria we
//! cannot evaluate *may* apply, and an `Include` that we cannot read may hold
//! anything: [`Candidate`]s say so, and [`super::policy`] decides.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::pattern;

/// Whom and what `Match` criteria are held against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Login name.
    pub(crate) user: String,
    /// Groups.
    pub(crate) groups: Vec<String>,
    /// The client's address at login.
    pub(crate) address: Option<IpAddr>,
    /// The address of ours that it reached.
    pub(crate) local_address: Option<IpAddr>,
    /// And the port.
    pub(crate) local_port: Option<u16>,
}

impl Facts {
    /// Takes addresses and port from the value of `SSH_CONNECTION`.
    pub(crate) fn with_connection(mut self, ssh_connection: &str) -> Self {
        let fields: Vec<&str> = ssh_connection.split_whitespace().collect();
        let ip = |text: Option<&&str>| text.and_then(|t| t.split('%').next()?.parse().ok());
        self.address = ip(fields.first()).map(|ip: IpAddr| ip.to_canonical());
        self.local_address = ip(fields.get(2)).map(|ip: IpAddr| ip.to_canonical());
        self.local_port = fields.get(3).and_then(|port| port.parse().ok());
        self
    }
}

/// One setting that applies, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The keyword's arguments.
    pub(crate) arguments: Vec<String>,
    /// The rest of the line as written, for keywords that take a command line.
    pub(crate) rest: String,
    /// Whether it certainly applies.
    pub(crate) certain: bool,
}

/// The settings of a file that apply, or may.
#[derive(Clone, Debug, Default)]
pub(crate) struct SshdConfig {
    /// The file, for messages.
    pub(crate) path: PathBuf,
    /// The first file that could not be read, if any: it could hold anything.
    pub(crate) unreadable: Option<PathBuf>,
    global: Vec<(String, Candidate)>,
    matched: Vec<(String, Candidate)>,
}

/// Where a line stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Global,
    Matched,
    Perhaps,
    Other,
}

/// Deepest nesting of includes, as in OpenSSH.
const MAX_DEPTH: usize = 16;
/// A file of cloud images that only root can read and that says nothing but
/// `PasswordAuthentication`, so that nothing is refused on its account.
const CLOUD_INIT: &str = "50-cloud-init.conf";

impl SshdConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The system's, when that file itself cannot be read.
    pub(crate) fn read(path: &Path, facts: &Facts) -> std::io::Result<Self> {
        let text = std::fs::read(path)?;
        let mut config = Self { path: path.to_owned(), ..Self::default() };
        config.parse(&String::from_utf8_lossy(&text), facts, Block::Global, 0);
        Ok(config)
    }

    /// Returns settings as a file at `path` with this text would have them.
    pub(super) fn of_text(path: &Path, text: &str) -> Self {
        let mut config = Self { path: path.to_owned(), ..Self::default() };
        config.parse(text, &Facts::default(), Block::Global, 0);
        config
    }

    /// Returns the settings of a file of which nothing is known but its name.
    pub(super) fn unknown(path: &Path) -> Self {
        Self { path: path.to_owned(), unreadable: Some(path.to_owned()), ..Self::default() }
    }

    /// Returns the values of `keyword` in the order of precedence, up to and
    /// including the first certain one.
    pub(crate) fn values(&self, keyword: &str) -> Vec<&Candidate> {
        let mut found = Vec::new();
        for candidate in self.all(keyword) {
            found.push(candidate);
            if candidate.certain {
                break;
            }
        }
        found
    }

    /// Returns every value of a keyword that accumulates. Those of `Match`
    /// blocks, where there are any, replace the global ones.
    pub(crate) fn list(&self, keyword: &str) -> Vec<&Candidate> {
        let of =
            |part: &'_ [(String, Candidate)]| part.iter().any(|(k, c)| k == keyword && c.certain);
        let replaced = of(&self.matched);
        let global = self.global.iter().filter(|_| !replaced);
        let both = self.matched.iter().chain(global);
        both.filter(|(k, _)| k == keyword).map(|(_, c)| c).collect()
    }

    fn all(&self, keyword: &str) -> impl Iterator<Item = &Candidate> {
        let both = self.matched.iter().chain(&self.global);
        both.filter(move |(known, _)| known == keyword).map(|(_, candidate)| candidate)
    }

    fn parse(&mut self, text: &str, facts: &Facts, outer: Block, depth: usize) {
        let mut block = outer;
        for line in text.lines() {
            let Some((keyword, rest)) = split_keyword(line) else { continue };
            let arguments = split_arguments(rest);
            match keyword.as_str() {
                "match" => block = within(outer, evaluate(&arguments, facts)),
                "include" if block != Block::Other => {
                    for pattern in &arguments {
                        self.include(pattern, facts, block, depth);
                    }
                }
                _ => {
                    let rest = rest.trim().to_owned();
                    let candidate = Candidate { arguments, rest, certain: block != Block::Perhaps };
                    match block {
                        Block::Global => self.global.push((keyword, candidate)),
                        Block::Matched | Block::Perhaps => self.matched.push((keyword, candidate)),
                        Block::Other => {}
                    }
                }
            }
        }
    }

    fn include(&mut self, pattern: &str, facts: &Facts, block: Block, depth: usize) {
        // Relative names are below /etc/ssh, as sshd has it built in.
        let base = self.path.parent().unwrap_or(Path::new("/etc/ssh"));
        let pattern = base.join(pattern);
        let found = glob::glob(&pattern.to_string_lossy());
        let Ok(found) = found else { return self.cannot_read(&pattern) };
        for entry in found {
            let path = match entry {
                Ok(path) => path,
                Err(error) => {
                    self.cannot_read(error.path());
                    continue;
                }
            };
            match std::fs::read(&path) {
                Ok(text) if depth < MAX_DEPTH => {
                    self.parse(&String::from_utf8_lossy(&text), facts, block, depth + 1);
                }
                _ if path.file_name().is_some_and(|name| name == CLOUD_INIT) => {}
                _ => self.cannot_read(&path),
            }
        }
    }

    fn cannot_read(&mut self, path: &Path) {
        self.unreadable.get_or_insert_with(|| path.to_owned());
    }
}

/// Returns where the lines of a `Match` block stand that itself stands in `outer`.
fn within(outer: Block, applies: Option<bool>) -> Block {
    match (outer, applies) {
        (Block::Other, _) | (_, Some(false)) => Block::Other,
        (Block::Perhaps, _) | (_, None) => Block::Perhaps,
        (Block::Global | Block::Matched, Some(true)) => Block::Matched,
    }
}

/// Evaluates the criteria of a `Match` line; `None` when that cannot be done.
fn evaluate(arguments: &[String], facts: &Facts) -> Option<bool> {
    let mut words = arguments.iter();
    let mut result = Some(true);
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let name = name.to_ascii_lowercase();
        if name == "all" {
            continue;
        }
        let value = value.or_else(|| words.next().map(String::as_str))?;
        let verdict = match name.as_str() {
            "user" => Some(pattern::matches_list(&facts.user, value)),
            "group" => Some(match_groups(&facts.groups, value)),
            "address" => facts.address.map(|ip| pattern::matches_address(ip, value)),
            "localaddress" => facts.local_address.map(|ip| pattern::matches_address(ip, value)),
            "localport" => facts.local_port.map(|port| value.parse() == Ok(port)),
            _ => None,
        };
        match verdict {
            // One criterion that fails settles it, whatever the others are.
            Some(false) => return Some(false),
            Some(true) => {}
            None => result = None,
        }
    }
    result
}

/// A negated pattern that matches any group decides against.
fn match_groups(groups: &[String], patterns: &str) -> bool {
    let mut found = false;
    for entry in patterns.split(',') {
        let (negated, name) = entry.strip_prefix('!').map_or((false, entry), |name| (true, name));
        if groups.iter().any(|group| pattern::matches(group, name)) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

/// Splits a line into its keyword, lower-cased, and the rest; `None` for
/// blank lines and comments.
fn split_keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{c}');
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    Some((keyword.trim_matches('"').to_ascii_lowercase(), rest))
}

/// Splits arguments at blanks, with quotes and backslashes as in OpenSSH; an
/// unquoted `#` at the front of a word begins a comment.
fn split_arguments(rest: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = rest.chars().peekable();
    loop {
        while chars.next_if(|c| matches!(c, ' ' | '\t' | '\r')).is_some() {}
        match chars.peek() {
            None | Some('#') => return words,
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => match chars.next_if(|next| {
                    matches!(next, '"' | '\'' | '\\') || (quote.is_none() && *next == ' ')
                }) {
                    Some(next) => word.push(next),
                    None => word.push('\\'),
                },
                (' ' | '\t' | '\r', None) => break,
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let facts = Facts {
            user: "alice".into(),
            groups: vec!["users".into(), "staff".into()],
            ..Facts::default()
        };
        facts.with_connection("10.0.0.9 5555 10.0.0.1 22")
    }

    fn parsed(text: &str) -> SshdConfig {
        let mut config = SshdConfig::default();
        config.parse(text, &facts(), Block::Global, 0);
        config
    }

    fn first(config: &SshdConfig, keyword: &str) -> Option<String> {
        config.values(keyword).first().map(|c| c.rest.clone())
    }

    #[test]
    fn the_first_value_wins_and_a_matching_block_wins_over_global() {
        let config = parsed("X11Forwarding yes\nx11forwarding no\n");
        assert_eq!(first(&config, "x11forwarding").as_deref(), Some("yes"));
        let config = parsed(
            "PermitTTY yes\nMatch User bob\nPermitTTY no\nMatch User al*\nPermitTTY maybe\nMatch all\nPermitTTY no",
        );
        assert_eq!(first(&config, "permittty").as_deref(), Some("maybe"));
    }

    #[test]
    fn criteria_are_evaluated_or_left_open() {
        for (criteria, expected) in [
            ("all", Some(true)),
            ("user alice", Some(true)),
            ("User=alice,bob Group staff", Some(true)),
            ("user bob", Some(false)),
            ("group *,!staff", Some(false)),
            ("address 10.0.0.0/24 localport 22", Some(true)),
            ("localaddress 10.0.0.2", Some(false)),
            ("host *.example", None),
            ("host *.example user bob", Some(false)),
            ("user", None),
        ] {
            let words = split_arguments(criteria);
            assert_eq!(evaluate(&words, &facts()), expected, "{criteria}");
        }
    }

    #[test]
    fn a_block_that_may_apply_comes_before_what_certainly_does() {
        let config = parsed("ForceCommand none\nMatch host x\nForceCommand run\n");
        let values: Vec<_> =
            config.values("forcecommand").into_iter().map(|c| (&*c.rest, c.certain)).collect();
        assert_eq!(values, [("run", false), ("none", true)]);
    }

    #[test]
    fn words_are_split_as_openssh_splits_them() {
        assert_eq!(split_arguments(r#"a "b c" d\ e 'f "g' # x"#), ["a", "b c", "d e", "f \"g"]);
        assert_eq!(split_keyword("  Port = 22 "), Some(("port".into(), "22")));
        assert_eq!(split_keyword("Port=22"), Some(("port".into(), "22")));
        assert_eq!(split_keyword(" # Port 22"), None);
    }

    #[test]
    fn an_include_stands_where_it_is_and_ends_its_own_match() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("sshd_config");
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/1.conf"), "AcceptEnv A\nMatch user bob\nPermitTTY no\n")
            .unwrap();
        std::fs::write(&main, "Include d/*.conf\nPermitTTY yes\nAcceptEnv B\n").unwrap();
        let config = SshdConfig::read(&main, &facts()).unwrap();
        assert_eq!(first(&config, "permittty").as_deref(), Some("yes"));
        let accepted: Vec<_> = config.list("acceptenv").iter().map(|c| &*c.rest).collect();
        assert_eq!(accepted, ["A", "B"]);
        assert_eq!(config.unreadable, None);
    }

    #[test]
    fn what_cloud_init_hides_restricts_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("sshd_config");
        std::fs::create_dir(dir.path().join("50-cloud-init.conf")).unwrap();
        std::fs::write(&main, "Include *.conf\n").unwrap();
        assert_eq!(SshdConfig::read(&main, &facts()).unwrap().unreadable, None);
    }

    #[test]
    fn an_include_that_cannot_be_read_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("sshd_config");
        std::fs::create_dir(dir.path().join("broken.conf")).unwrap();
        std::fs::write(&main, "Include *.conf\nInclude nothing-there-*\n").unwrap();
        let config = SshdConfig::read(&main, &facts()).unwrap();
        assert_eq!(config.unreadable, Some(dir.path().join("broken.conf")));
    }
}
