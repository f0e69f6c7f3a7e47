//! [`Options`]: what the flags and files said, keyword by keyword, before anything is resolved.
//!
//! Values are words with the place they came from, checked for form only. The first value of a
//! keyword wins, except for those that add up. Tokens (`%h`) and `~` are expanded later, in
//! `resolve`.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::answers::Answers;
use super::canonical;
use super::channel_timeouts;
use super::control;
use super::forward::{Forward, Kind};
use super::jump::Jump;
use super::keywords::{Form, Keyword};
use super::lex;
use super::marks::Marks;
use super::settings::AddKeys;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `-o` or a flag.
    CommandLine,
    /// A line of a file, counted from one.
    File(Arc<PathBuf>, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // OpenSSH's words.
            Self::CommandLine => f.write_str("command-line line 0"),
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
        }
    }
}

/// One setting: words, and where the first of them came from.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) keyword: &'static Keyword,
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

/// The settings collected so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    settings: HashMap<&'static str, Setting>,
    /// What is answered in place of a person.
    pub(super) answers: Answers,
}

impl Options {
    /// Returns the setting in a place, as the table of keywords calls it.
    pub(super) fn get(&self, slot: &str) -> Option<&Setting> {
        debug_assert!(
            super::keywords::all().iter().any(|k| k.slot == slot),
            "no keyword fills {slot}"
        );
        self.settings.get(slot)
    }

    /// Returns the first (for most keywords the only) word of a setting.
    pub(super) fn word(&self, slot: &str) -> Option<&str> {
        self.get(slot)?.values.first().map(String::as_str)
    }

    /// Returns all words of a setting.
    pub(super) fn words(&self, slot: &str) -> &[String] {
        self.get(slot).map_or(&[], |setting| &setting.values)
    }

    /// Returns the value of a yes/no keyword.
    pub(super) fn flag(&self, slot: &str) -> Option<bool> {
        self.word(slot).map(is_yes)
    }

    /// Returns the value of a time keyword; `None` if it is `none` or not set.
    pub(super) fn duration(&self, slot: &str) -> Option<Duration> {
        self.word(slot).and_then(lex::time)
    }

    /// Returns all settings, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    /// Puts a value in place of whatever is there: the manner of flags.
    pub(super) fn replace(&mut self, keyword: &'static Keyword, value: String) {
        let setting = Setting { keyword, values: vec![value], origin: Origin::CommandLine };
        self.settings.insert(keyword.slot, setting);
    }

    /// Checks the value of a keyword, and takes it if the block it stands in applies.
    ///
    /// # Errors
    /// What is wrong with the value, in OpenSSH's words; nothing is taken.
    pub(super) fn set(
        &mut self,
        keyword: &'static Keyword,
        rest: &str,
        origin: &Origin,
        active: bool,
    ) -> Result<(), String> {
        let values = check(keyword, rest)?;
        if !active {
            return Ok(());
        }
        match keyword.form {
            Form::Collected | Form::Forward(_) => {
                for value in values {
                    self.append(keyword, value, origin, false);
                }
            }
            Form::SendEnv => {
                for value in values {
                    match value.strip_prefix('-') {
                        Some(pattern) => self.remove(keyword.slot, pattern),
                        None => self.append(keyword, value, origin, true),
                    }
                }
            }
            Form::RekeyLimit => self.set_rekey_limit(keyword, values, origin),
            // In OpenSSH `none` leaves a time unset, so that a later line still counts.
            Form::Time if values.first().is_some_and(|word| word == "none") => {}
            _ => {
                if keyword.name == "proxycommand" && self.has_no_jump() {
                    self.settings.remove(keyword.slot);
                }
                self.settings.entry(keyword.slot).or_insert(Setting {
                    keyword,
                    values,
                    origin: origin.clone(),
                });
            }
        }
        Ok(())
    }

    /// Whether ProxyJump is `none`, which keeps other jump hosts out, but no ProxyCommand.
    fn has_no_jump(&self) -> bool {
        self.settings.get("proxy").is_some_and(|setting| {
            let is_none = |word: &String| word.eq_ignore_ascii_case("none");
            setting.keyword.name == "proxyjump" && setting.values.iter().any(is_none)
        })
    }

    /// Adds a forward of the command line, which has been checked.
    pub(super) fn add_forward(&mut self, keyword: &'static Keyword, spec: &str) {
        self.append(keyword, spec.to_owned(), &Origin::CommandLine, false);
    }

    fn append(&mut self, keyword: &'static Keyword, value: String, origin: &Origin, repeat: bool) {
        let setting = self.settings.entry(keyword.slot).or_insert_with(|| Setting {
            keyword,
            values: Vec::new(),
            origin: origin.clone(),
        });
        if repeat || !setting.values.contains(&value) {
            setting.values.push(value);
        }
    }

    /// Amount and time are set apart: a later line may add the time that the first left out.
    fn set_rekey_limit(&mut self, keyword: &'static Keyword, values: Vec<String>, origin: &Origin) {
        let mut values = values.into_iter();
        let (amount, time) = (values.next(), values.next());
        let time = time.filter(|time| !time.eq_ignore_ascii_case("none"));
        let setting = self.settings.entry(keyword.slot).or_insert_with(|| Setting {
            keyword,
            values: amount.into_iter().collect(),
            origin: origin.clone(),
        });
        if setting.values.len() == 1 {
            setting.values.extend(time);
        }
    }

    /// Takes away the words that a pattern matches.
    fn remove(&mut self, slot: &str, pattern: &str) {
        if let Some(setting) = self.settings.get_mut(slot) {
            setting.values.retain(|value| !lex::matches(value, pattern));
        }
    }
}

/// Returns whether a checked yes/no word means yes.
pub(super) fn is_yes(word: &str) -> bool {
    word.eq_ignore_ascii_case("yes") || word.eq_ignore_ascii_case("true")
}

/// Returns whether a checked yes/no word, or one that may say more, means no.
pub(super) fn is_no(word: &str) -> bool {
    word.eq_ignore_ascii_case("no") || word.eq_ignore_ascii_case("false")
}

/// Reads the escape character: `Some(None)` is `none`, `None` is nonsense.
pub(super) fn escape_char(word: &str) -> Option<Option<u8>> {
    match word.as_bytes() {
        b"none" => Some(None),
        [c] => Some(Some(*c)),
        [b'^', c @ 64..=127] => Some(Some(c & 31)),
        _ => None,
    }
}

/// Reads the name of a facility of syslog(3).
pub(super) fn facility(word: &str) -> Option<u8> {
    let local = |digit: &str| digit.parse::<u8>().ok().filter(|digit| *digit < 8);
    Some(match word.to_ascii_uppercase().as_str() {
        "USER" => 1,
        "DAEMON" => 3,
        "AUTH" => 4,
        "AUTHPRIV" => 10,
        other => 16 + local(other.strip_prefix("LOCAL")?)?,
    })
}

/// Returns the name of a facility, as `ssh -G` prints it.
pub(super) fn facility_name(number: u8) -> String {
    match number {
        3 => "DAEMON".to_owned(),
        4 => "AUTH".to_owned(),
        10 => "AUTHPRIV".to_owned(),
        16..=23 => format!("LOCAL{}", number - 16),
        _ => "USER".to_owned(),
    }
}

/// Reads AddKeysToAgent; `None` is nonsense.
pub(super) fn add_keys(values: &[String]) -> Option<AddKeys> {
    let lifetime = |text: &String| lex::time(text).filter(|time| !time.is_zero());
    let (word, more) = values.split_first()?;
    let keep = |confirm, lifetime| AddKeys::Yes { confirm, lifetime };
    match (word.to_ascii_lowercase().as_str(), more) {
        ("yes" | "true", []) => Some(keep(false, None)),
        ("no" | "false", []) => Some(AddKeys::No),
        ("ask", []) => Some(AddKeys::Ask),
        ("confirm", []) => Some(keep(true, None)),
        ("confirm", [time]) => Some(keep(true, Some(lifetime(time)?))),
        (_, []) => Some(keep(false, Some(lifetime(word)?))),
        _ => None,
    }
}

/// Reads RekeyLimit: bytes and time, zero for the usual; `None` is nonsense.
pub(super) fn rekey_limit(values: &[String]) -> Option<(u64, Duration)> {
    let (amount, more) = values.split_first()?;
    let bytes = match amount.to_ascii_lowercase().as_str() {
        "default" => 0,
        amount => {
            let (digits, unit) = match amount.strip_suffix(['k', 'm', 'g']) {
                Some(digits) => (digits, amount.chars().last()),
                None => (amount, None),
            };
            let shift = match unit {
                Some('k') => 10,
                Some('m') => 20,
                Some('g') => 30,
                _ => 0,
            };
            let bytes = digits.parse::<u64>().ok()?.checked_shl(shift)?;
            // OpenSSH's lower bound.
            (bytes >= 16).then_some(bytes)?
        }
    };
    let time = match more {
        [] => Duration::ZERO,
        [none] if none.eq_ignore_ascii_case("none") => Duration::ZERO,
        [time] => lex::time(time)?,
        _ => return None,
    };
    Some((bytes, time))
}

/// Splits and checks the words of a keyword.
fn check(keyword: &Keyword, rest: &str) -> Result<Vec<String>, String> {
    let values = lex::arguments(rest).map_err(|_| "invalid quotes".to_owned())?;
    match keyword.form {
        Form::Rest | Form::Jump => {
            let value = rest.trim_start_matches([' ', '\t', '=']);
            return match value.is_empty() {
                true => Err("Missing argument.".to_owned()),
                false if keyword.form == Form::Jump && Jump::parse(value).is_err() => {
                    Err(format!("Invalid ProxyJump \"{value}\""))
                }
                false => Ok(vec![value.to_owned()]),
            };
        }
        Form::Anything => return Ok(values),
        Form::Forward(kind) => return check_forward(keyword, kind, &values),
        Form::Permits => check_permits(keyword, &values)?,
        Form::Files => check_files(keyword, &values)?,
        Form::Aliases => check_aliases(keyword, &values)?,
        Form::Marks => check_marks(keyword, &values)?,
        Form::ChannelTimeouts => {
            if channel_timeouts::parse(&values).is_none() {
                return Err(format!("keyword {} invalid channel timeout", keyword.name));
            }
        }
        Form::SendEnv => {
            if values.is_empty() || values.iter().any(|v| v.is_empty() || v.contains('=')) {
                return Err("Invalid environment name.".to_owned());
            }
        }
        Form::SetEnv => {
            if values.is_empty() || values.iter().any(|v| !v.contains('=')) {
                return Err("Invalid SetEnv.".to_owned());
            }
        }
        Form::AddKeys => {
            if add_keys(&values).is_none() {
                return Err("bad AddKeysToAgent argument.".to_owned());
            }
        }
        Form::RekeyLimit => {
            if rekey_limit(&values).is_none() {
                return Err("bad RekeyLimit argument.".to_owned());
            }
        }
        form => {
            let Some(word) = values.first().filter(|word| !word.is_empty()) else {
                return Err("Missing argument.".to_owned());
            };
            check_word(form, word)?;
            if values.len() > 1 {
                return Err(format!("keyword {} extra arguments at end of line", keyword.name));
            }
        }
    }
    Ok(values)
}

fn check_files(keyword: &Keyword, values: &[String]) -> Result<(), String> {
    if values.is_empty() || values.iter().any(String::is_empty) {
        return Err(format!("keyword {} empty argument", keyword.name));
    }
    if values.len() > 1 && values.iter().any(|v| v.eq_ignore_ascii_case("none")) {
        return Err(format!("keyword {} \"none\" argument must appear alone.", keyword.name));
    }
    Ok(())
}

fn check_aliases(keyword: &Keyword, values: &[String]) -> Result<(), String> {
    check_files(keyword, values)?;
    let is_sound = |word: &&String| {
        word.eq_ignore_ascii_case("none") || canonical::permitted_alias(word).is_some()
    };
    match values.iter().find(|word| !is_sound(word)) {
        Some(word) => Err(format!("Invalid permitted CNAME \"{}\"", word.to_ascii_lowercase())),
        None => Ok(()),
    }
}

fn check_marks(keyword: &Keyword, values: &[String]) -> Result<(), String> {
    let is_bad = |word: &&String| Marks::parse(std::slice::from_ref(*word)).is_none();
    match (values, values.iter().find(is_bad)) {
        ([], _) => Err("Missing argument.".to_owned()),
        (_, Some(word)) => Err(format!("Bad IPQoS value: {word}")),
        ([_] | [_, _], None) => Ok(()),
        (_, None) => Err(format!("keyword {} extra arguments at end of line", keyword.name)),
    }
}

/// Checks a forward, and writes it as the flags do.
fn check_forward(keyword: &Keyword, kind: Kind, values: &[String]) -> Result<Vec<String>, String> {
    let (spec, kind) = match (kind, values) {
        (_, []) => return Err("Missing argument.".to_owned()),
        (_, [listen, ..]) if listen.is_empty() => return Err("Missing argument.".to_owned()),
        (Kind::Dynamic, [listen]) | (Kind::Remote, [listen]) => (listen.clone(), kind),
        (Kind::Local | Kind::LocalUdp | Kind::RemoteUdp, [_]) => {
            return Err("Missing target argument.".to_owned());
        }
        (Kind::Local | Kind::Remote | Kind::LocalUdp | Kind::RemoteUdp, [listen, target]) => {
            (format!("{listen}:{target}"), kind)
        }
        _ => return Err(format!("keyword {} extra arguments at end of line", keyword.name)),
    };
    match Forward::parse(&spec, kind) {
        Some(_) => Ok(vec![spec]),
        None => Err("Bad forwarding specification.".to_owned()),
    }
}

fn check_permits(keyword: &Keyword, values: &[String]) -> Result<(), String> {
    if values.is_empty() {
        return Err("Missing argument.".to_owned());
    }
    let is_word = |value: &String| ["any", "none"].iter().any(|w| w.eq_ignore_ascii_case(value));
    let names_place = |value: &String| match value.rsplit_once(':') {
        Some((host, port)) => !host.is_empty() && (port == "*" || port.parse::<u16>().is_ok()),
        None => false,
    };
    let sound = match values {
        [value] if is_word(value) => true,
        values => values.iter().all(names_place),
    };
    if sound { Ok(()) } else { Err(format!("missing host or port in {}", keyword.name)) }
}

/// Checks a single word.
fn check_word(form: Form, word: &str) -> Result<(), String> {
    let known = |choices: &[&str]| choices.iter().any(|c| c.eq_ignore_ascii_case(word));
    match form {
        Form::Flag if !known(&["yes", "no", "true", "false"]) => {
            Err(format!("unsupported option \"{word}\"."))
        }
        Form::Choice(choices) if !known(choices) => Err(format!("unsupported option \"{word}\".")),
        Form::Port if !word.parse::<u16>().is_ok_and(|port| port > 0) => {
            Err(format!("Bad port '{word}'."))
        }
        Form::Number if !word.parse::<i32>().is_ok_and(|number| number >= 0) => {
            Err("integer value invalid.".to_owned())
        }
        Form::Time if word != "none" && lex::time(word).is_none() => {
            Err("invalid time value.".to_owned())
        }
        Form::Octal
            if word.len() > 4 || !u32::from_str_radix(word, 8).is_ok_and(|n| n <= 0o777) =>
        {
            Err("bad mask.".to_owned())
        }
        Form::Facility if facility(word).is_none() => {
            Err(format!("unsupported log facility '{word}'"))
        }
        Form::Persist if control::persist(word).is_none() => {
            Err("Bad ControlPersist argument.".to_owned())
        }
        Form::EscapeChar if escape_char(word).is_none() => Err("Bad escape character.".to_owned()),
        _ => Ok(()),
    }
}
