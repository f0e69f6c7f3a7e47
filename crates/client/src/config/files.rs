//! Reading configuration files: which lines apply to the destination.
//!
//! `Host`, `Match` and `Include` are understood here, with OpenSSH's rules (`readconf.c`, 9.2); every
//! other line goes to [`Options::set`]. All bad lines of a file are reported together, and end
//! the program, as they do in ssh.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::error::{BadLine, ConfigError};
use super::keywords::{self, Keyword};
use super::lex::{self, Line};
use super::options::{Options, Origin};
use super::{answers, criteria};
use crate::sys::account;
use zeroize::Zeroizing;

/// How deeply `Include` may nest; OpenSSH's limit.
const MAX_DEPTH: usize = 16;

/// One pass over the flags and files.
pub(super) struct Pass<'a> {
    pub(super) environment: &'a Environment,
    /// The destination as typed.
    pub(super) original_host: &'a str,
    /// What `Host` patterns are matched with: the same, or in the final pass the resolved name.
    pub(super) host: &'a str,
    /// The command of the command line, for `Match command`.
    pub(super) command: &'a str,
    /// Whether this is the pass after the host name is known.
    pub(super) is_final: bool,
    /// Set when a file asks for a final pass.
    pub(super) wants_final: bool,
    /// Whether nothing may be opened or run: `Include` names no file, `Match exec` fails.
    pub(super) inert: bool,
    pub(super) options: &'a mut Options,
    pub(super) warnings: &'a mut Vec<String>,
}

/// A file being read.
#[derive(Clone, Copy)]
struct Reading {
    /// Whether paths in it are relative to the user's directory and may begin with `~`.
    of_user: bool,
    /// Whether nothing in it applies, because the `Include` that led here does not.
    never: bool,
    /// Whether it holds our own keywords only, none of ssh's.
    extended: bool,
    /// Whether nobody else can read it.
    private: bool,
    depth: usize,
}

impl Reading {
    const fn new(of_user: bool) -> Self {
        Self { of_user, never: false, extended: false, private: true, depth: 0 }
    }
}

impl Pass<'_> {
    /// Reads the user's or another file that the command line names.
    ///
    /// # Errors
    /// [`ConfigError`]; with `must_exist` also for a file that cannot be opened.
    pub(super) fn read_user_file(
        &mut self,
        path: &Path,
        check_permissions: bool,
        must_exist: bool,
    ) -> Result<(), ConfigError> {
        match read(path, check_permissions)? {
            Ok(File { text, private }) => {
                let reading = Reading { private, ..Reading::new(true) };
                self.lines(path, &text, reading, &mut true)
            }
            Err(source) if must_exist => {
                Err(ConfigError::Unreadable { path: path.to_owned(), source })
            }
            Err(_) => Ok(()),
        }
    }

    /// Reads a file of our own keywords, which ssh never sees: `~/.ssh/password`.
    ///
    /// # Errors
    /// [`ConfigError`] for what is wrong inside.
    pub(super) fn read_extended_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        match read(path, true)? {
            Ok(File { text, private }) => {
                let reading = Reading { extended: true, private, ..Reading::new(true) };
                self.lines(path, &text, reading, &mut true)
            }
            Err(_) => Ok(()),
        }
    }

    /// Takes the text of a user's file.
    ///
    /// # Errors
    /// [`ConfigError`] for what is wrong inside.
    pub(super) fn user_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        self.lines(path, text, Reading::new(true), &mut true)
    }

    /// Reads the system's file, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] for what is wrong inside.
    pub(super) fn read_system_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        match read(path, false)? {
            Ok(File { text, private }) => {
                let reading = Reading { private, ..Reading::new(false) };
                self.lines(path, &text, reading, &mut true)
            }
            Err(_) => Ok(()),
        }
    }

    /// Takes one `-o` option.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn command_line_option(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = |problem: String| ConfigError::BadOption { problem };
        let Some(line) = lex::line(text) else {
            return Ok(());
        };
        let keyword = match line.keyword.as_str() {
            "host" | "match" | "include" => {
                return Err(bad(format!(
                    "{} directive not supported as a command-line option",
                    line.keyword
                )));
            }
            _ => self.lookup(&line, &Origin::CommandLine).map_err(bad)?,
        };
        let Some(keyword) = keyword else {
            return Ok(());
        };
        self.options
            .set(keyword, &line.rest, &Origin::CommandLine, true)
            .map_err(|problem| bad(format!("{}: {problem}", Origin::CommandLine)))
    }

    /// Takes the lines of one file; `active` tells whether the current block applies.
    fn lines(
        &mut self,
        path: &Path,
        text: &str,
        reading: Reading,
        active: &mut bool,
    ) -> Result<(), ConfigError> {
        if reading.depth > MAX_DEPTH {
            return Err(ConfigError::TooDeep);
        }
        let path = Arc::new(path.to_owned());
        let mut bad = Vec::new();
        for (number, line) in text.split('\n').enumerate() {
            let Some(line) = lex::line(line) else {
                continue;
            };
            let origin = Origin::File(Arc::clone(&path), number + 1);
            match self.line(&line, &origin, reading, active) {
                Ok(()) => {}
                Err(LineError::Bad(problem)) => bad.push(BadLine { problem }),
                Err(LineError::Fatal(error)) => return Err(*error),
            }
        }
        match bad.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::BadLines { path: path.to_path_buf(), lines: bad }),
        }
    }

    fn line(
        &mut self,
        line: &Line,
        origin: &Origin,
        reading: Reading,
        active: &mut bool,
    ) -> Result<(), LineError> {
        let at = |problem: String| LineError::Bad(format!("{origin}: {problem}"));
        let block = matches!(line.keyword.as_str(), "host" | "match" | "include");
        if block && line.hidden {
            return Err(at(format!(
                "{} is not possible in a #!! line, because ssh would not see the block",
                line.keyword
            )));
        }
        if block && !line.rest.is_empty() {
            let words = lex::arguments(&line.rest).map_err(|_| at("invalid quotes".to_owned()))?;
            match line.keyword.as_str() {
                "host" => *active = !reading.never && self.host_applies(&words).map_err(at)?,
                "match" => *active = self.match_applies(&line.rest, origin)? && !reading.never,
                _ => self.include(&words, origin, reading, active)?,
            }
            return Ok(());
        }
        if block {
            return Err(at(no_argument(&line.keyword)));
        }
        if (line.hidden || reading.extended)
            && let Some(kind) = answers::kind(&line.keyword)
        {
            self.answer(line, kind, origin, reading.private, *active);
            return Ok(());
        }
        if reading.extended && !keywords::is_ours(&line.keyword) {
            let known = keywords::find(&line.keyword).is_some();
            let place = if known { "belongs into the file of ssh" } else { NOT_KNOWN };
            self.warn_once(format!("{origin}: {} {place}", line.keyword));
            return Ok(());
        }
        match self.lookup(line, origin).map_err(LineError::Bad)? {
            Some(keyword) => self.options.set(keyword, &line.rest, origin, *active).map_err(at),
            None => Ok(()),
        }
    }

    /// Finds the keyword of a line; `None` if the line is to be passed over.
    fn lookup(&mut self, line: &Line, origin: &Origin) -> Result<Option<&'static Keyword>, String> {
        if line.rest.is_empty() {
            return Err(format!("{origin}: {}", no_argument(&line.keyword)));
        }
        if let Some(keyword) = keywords::find(&line.keyword) {
            return Ok(Some(keyword));
        }
        if let Some(known) = self.options.word("ignoreunknown")
            && lex::matches_list(&line.keyword, &known.to_ascii_lowercase())
        {
            return Ok(None);
        }
        if line.hidden {
            // Other programs read these lines too; the value may be a secret.
            self.warn_once(format!("{origin}: {} {NOT_KNOWN}", line.keyword));
            return Ok(None);
        }
        Err(match origin {
            Origin::CommandLine => {
                format!("command-line: line 0: Bad configuration option: {}", line.keyword)
            }
            Origin::File(path, number) => format!(
                "{}: line {number}: Bad configuration option: {}",
                path.display(),
                line.keyword
            ),
        })
    }

    /// Takes a line with an answer to a question; its value is never shown.
    fn answer(
        &mut self,
        line: &Line,
        kind: answers::Kind,
        origin: &Origin,
        private: bool,
        active: bool,
    ) {
        let problem = match kind {
            answers::Kind::Sealed => "was sealed by another program; use a command instead",
            answers::Kind::Secret if !private => {
                "is not used, because others can read the file (chmod 600)"
            }
            _ if line.rest.is_empty() => "has no value",
            _ => {
                if active {
                    self.options.answers.set(&line.keyword, answer_text(&line.rest));
                }
                return;
            }
        };
        if active {
            self.warn_once(format!("{origin}: {} {problem}", line.keyword));
        }
    }

    fn warn_once(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Evaluates a `Host` line: some pattern matches, and no negated one does.
    fn host_applies(&self, patterns: &[String]) -> Result<bool, String> {
        let mut applies = false;
        for pattern in patterns {
            if pattern.is_empty() {
                return Err("keyword host empty argument".to_owned());
            }
            match pattern.strip_prefix('!') {
                Some(pattern) if lex::matches(self.host, pattern) => return Ok(false),
                Some(_) => {}
                None => applies |= lex::matches(self.host, pattern),
            }
        }
        Ok(applies)
    }

    /// Evaluates a `Match` line.
    fn match_applies(&mut self, criteria: &str, origin: &Origin) -> Result<bool, LineError> {
        criteria::evaluate(self, criteria).map_err(|problem| {
            LineError::Bad(format!("{origin}: {problem}\n{origin}: Bad Match condition"))
        })
    }

    /// Reads the files that an `Include` line names.
    fn include(
        &mut self,
        patterns: &[String],
        origin: &Origin,
        reading: Reading,
        active: &mut bool,
    ) -> Result<(), LineError> {
        let applies = *active;
        for pattern in patterns {
            for path in self
                .included(pattern, reading.of_user)
                .map_err(|problem| LineError::Bad(format!("{origin}: {problem}")))?
            {
                let File { text, private } = match read(&path, true)? {
                    Ok(file) => file,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        return Err(LineError::Bad(format!(
                            "{origin}: Can't open user config file {}: {}",
                            path.display(),
                            super::error::system_text(&error)
                        )));
                    }
                };
                let inner = Reading {
                    never: reading.never || !applies,
                    private,
                    depth: reading.depth + 1,
                    ..reading
                };
                self.lines(&path, &text, inner, active)?;
                // Blocks in an included file end with it.
                *active = applies;
            }
        }
        Ok(())
    }

    /// Lists the files that a pattern of `Include` names; none is no error.
    fn included(&self, pattern: &str, of_user: bool) -> Result<Vec<PathBuf>, String> {
        if pattern.is_empty() {
            return Err("keyword include empty argument".to_owned());
        }
        if pattern.starts_with('~') && !of_user {
            return Err(format!("bad include path {pattern}."));
        }
        if self.inert {
            return Ok(Vec::new());
        }
        let anchored = if pattern.starts_with('~') {
            match self.environment.expand_tilde(pattern) {
                Some(path) => path,
                None => return Ok(Vec::new()),
            }
        } else if Path::new(pattern).is_absolute() {
            pattern.to_owned()
        } else if of_user {
            self.environment.home.join(".ssh").join(pattern).to_string_lossy().into_owned()
        } else {
            let directory = self.environment.system_config.parent();
            directory.unwrap_or(Path::new("/etc/ssh")).join(pattern).to_string_lossy().into_owned()
        };
        // In a C library's patterns two stars are no more than one.
        let mut anchored = anchored;
        while anchored.contains("**") {
            anchored = anchored.replace("**", "*");
        }
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let paths = glob::glob_with(&anchored, options)
            .map_err(|_| format!("glob failed for {anchored}."))?;
        Ok(paths.filter_map(Result::ok).collect())
    }
}

/// What is wrong with a line: it alone, or everything.
enum LineError {
    /// The line is bad; reading goes on, to find others.
    Bad(String),
    /// Reading must stop.
    Fatal(Box<ConfigError>),
}

impl From<ConfigError> for LineError {
    fn from(error: ConfigError) -> Self {
        Self::Fatal(Box::new(error))
    }
}

fn no_argument(keyword: &str) -> String {
    format!("no argument after keyword \"{keyword}\"")
}

/// What is said of a keyword that ssh cannot know either.
const NOT_KNOWN: &str = "is not in this version";

/// Returns the value of a line with an answer: as it is, up to a comment, or what is in quotes.
fn answer_text(rest: &str) -> &str {
    let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    quoted.map_or_else(|| rest.split(" #").next().unwrap_or(rest).trim_end(), |(text, _)| text)
}

/// A file that was read.
struct File {
    /// May hold secrets.
    text: Zeroizing<String>,
    /// Whether nobody but the user and root can read it.
    private: bool,
}

/// Reads a file; the inner error is the system's.
fn read(path: &Path, check_permissions: bool) -> Result<std::io::Result<File>, ConfigError> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    if check_permissions && !account::may_be_trusted(&file) {
        return Err(ConfigError::Permissions { path: path.to_owned() });
    }
    let private = account::is_private(&file);
    let mut bytes = Zeroizing::new(Vec::new());
    Ok(match file.read_to_end(&mut bytes) {
        Ok(_) => {
            let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
            Ok(File { text, private })
        }
        Err(error) => Err(error),
    })
}
