//! [`Answers`]: what the configuration says in place of a person who is asked.
//!
//! Passwords, passphrases, answers to the questions of keyboard-interactive and one-time codes
//! (CLIENT-OPTIONS §4.2), from `#!!` lines and from `~/.ssh/password`. Only collected here; which
//! question gets which answer is decided by [`crate::login`]. Debug output names no value.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// The answers for one destination, by keyword.
#[derive(Clone, Default)]
pub struct Answers(BTreeMap<String, Zeroizing<String>>);

/// An answer that was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// This is it.
    Value(&'a str),
    /// A command that prints it.
    Command(&'a str),
}

impl Answers {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks for the answer that goes by this name, in lower case; a command goes before a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Answer<'_>> {
        let command = self.0.get(&format!("{name}command"));
        let command = command.map(|command| Answer::Command(command));
        command.or_else(|| self.0.get(name).map(|value| Answer::Value(value)))
    }

    /// Keeps an answer; the first one of a name counts.
    pub(super) fn set(&mut self, keyword: &str, value: &str) {
        self.0.entry(keyword.to_owned()).or_insert_with(|| Zeroizing::new(value.to_owned()));
    }

    /// Takes the passphrase that is kept for a key file, to be found by [`of_key`].
    pub(super) fn adopt_passphrase(&mut self, file_name: &str, of_file: &Self) {
        for suffix in ["", "command"] {
            if let Some(value) = of_file.0.get(&format!("passphrase{suffix}")) {
                self.set(&format!("{}{suffix}", of_key(file_name)), value);
            }
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The name of the passphrase of one key file. No keyword has a blank in it.
pub(crate) fn of_key(file_name: &str) -> String {
    format!("passphrase {file_name} ")
}

/// What a line with an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The answer itself, which others must not read.
    Secret,
    /// A command.
    Command,
    /// An answer sealed with a key that is no secret and that we do not have.
    Sealed,
}

/// Returns what a keyword, in lower case, says of an answer; `None` for all other keywords.
pub(super) fn kind(keyword: &str) -> Option<Kind> {
    if is_name(keyword) {
        // A one-time password is printed by a command anyway.
        let command = keyword.starts_with("otp");
        return Some(if command { Kind::Command } else { Kind::Secret });
    }
    if keyword.strip_suffix("command").is_some_and(is_name) {
        return Some(Kind::Command);
    }
    keyword.strip_prefix("enc").is_some_and(is_name).then_some(Kind::Sealed)
}

fn is_name(keyword: &str) -> bool {
    let numbered = |name| keyword.strip_prefix(name).is_some_and(is_number);
    matches!(keyword, "password" | "passphrase")
        || numbered("questionanswer")
        || numbered("totpsecret")
        || numbered("otpcommand")
        || is_question(keyword.strip_prefix("totp").unwrap_or(keyword))
        || keyword.strip_prefix("otp").is_some_and(is_question)
}

fn is_number(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|number| number > 0)
}

/// Whether this is the hexadecimal spelling of a question.
fn is_question(text: &str) -> bool {
    text.len() >= 4 && hex::decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_with_answers_are_told_from_others() {
        let asked = hex::encode("Code: ");
        for (keyword, want) in [
            ("password", Some(Kind::Secret)),
            ("passwordcommand", Some(Kind::Command)),
            ("encpassword", Some(Kind::Sealed)),
            ("passphrase", Some(Kind::Secret)),
            ("questionanswer1", Some(Kind::Secret)),
            ("questionanswer1command", Some(Kind::Command)),
            ("totpsecret2", Some(Kind::Secret)),
            ("otpcommand1", Some(Kind::Command)),
            (&asked, Some(Kind::Secret)),
            (&format!("totp{asked}"), Some(Kind::Secret)),
            (&format!("otp{asked}"), Some(Kind::Command)),
            (&format!("enctotp{asked}"), Some(Kind::Sealed)),
            ("questionanswer", None),
            ("questionanswer0", None),
            ("passwordauthentication", None),
            ("abc", None),
            ("otp", None),
        ] {
            assert_eq!(kind(keyword), want, "{keyword}");
        }
    }

    #[test]
    fn no_value_shows_in_debug_output() {
        let mut answers = Answers::default();
        answers.set("password", "open sesame");
        assert_eq!(format!("{answers:?}"), r#"{"password"}"#);
    }

    #[test]
    fn the_first_value_counts_and_a_command_before_it() {
        let mut answers = Answers::default();
        answers.set("password", "one");
        answers.set("password", "two");
        assert!(answers.get("password") == Some(Answer::Value("one")));
        answers.set("passwordcommand", "pass show it");
        assert!(answers.get("password") == Some(Answer::Command("pass show it")));
    }
}
