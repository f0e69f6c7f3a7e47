//! Answers from the configuration, before anybody is asked.
//!
//! Each is used once: when the server asks again it was wrong, and a person has to help. A
//! command that fails is named, and the question goes to a person as well. What the server asks
//! is data: it becomes one argument of a command, never a part of its text.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE32_NOPAD;
use ring::hmac;
use zeroize::Zeroizing;

use super::output;
use super::ui::{Echo, Ui, printable};
use crate::config::answers::{Answer, of_key};
use crate::config::percent;
use crate::config::settings::Settings;

/// The answers of one login.
pub(super) struct Kept<'a> {
    settings: &'a Settings,
    ui: &'a dyn Ui,
    /// What has been used.
    used: BTreeSet<String>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(settings: &'a Settings, ui: &'a dyn Ui) -> Self {
        Self { settings, ui, used: BTreeSet::new() }
    }

    /// Returns the password, once.
    pub(super) async fn password(&mut self) -> Option<Zeroizing<String>> {
        self.take("password", "").await
    }

    /// Returns the passphrase of a key file, once.
    pub(super) async fn passphrase(&mut self, file: &std::path::Path) -> Option<Zeroizing<String>> {
        let name = of_key(&file.file_name()?.to_string_lossy());
        match self.take(&name, "").await {
            None => self.take("passphrase", "").await,
            found => found,
        }
    }

    /// Returns the answer to the `number`th question of a server, from 1, in its own words.
    pub(super) async fn reply(
        &mut self,
        number: usize,
        question: &str,
        echo: Echo,
    ) -> Option<Zeroizing<String>> {
        let by_words = [question, question.trim()].map(hex::encode);
        let mut names: Vec<String> = Vec::new();
        for words in &by_words {
            names.extend([words.clone(), format!("totp{words}"), format!("otp{words}")]);
        }
        names
            .extend(["questionanswer", "totpsecret", "otpcommand"].map(|n| format!("{n}{number}")));
        for name in &names {
            if let Some(answer) = self.take(name, question).await {
                return Some(answer);
            }
        }
        let is_password = echo == Echo::Off && question.to_ascii_lowercase().contains("password");
        if is_password { self.password().await } else { None }
    }

    async fn take(&mut self, name: &str, question: &str) -> Option<Zeroizing<String>> {
        let settings = self.settings;
        let answer = settings.answers.get(name)?;
        if !self.used.insert(name.to_owned()) {
            return None;
        }
        let text = match answer {
            Answer::Value(text) if name.starts_with("otp") => {
                self.output(name, text, question).await
            }
            Answer::Value(text) => Ok(Zeroizing::new(text.to_owned())),
            Answer::Command(command) => self.output(name, command, question).await,
        };
        let text = text.and_then(|text| match name.strip_prefix("totp") {
            Some(_) => code_now(&text),
            None => Ok(text),
        });
        match text {
            Ok(text) => Some(text),
            Err(problem) => {
                self.ui.warn(&format!("The answer kept as {name} cannot be used: {problem}"));
                None
            }
        }
    }

    /// Runs a command and returns the line it prints.
    async fn output(
        &self,
        name: &str,
        command: &str,
        question: &str,
    ) -> Result<Zeroizing<String>, String> {
        let settings = self.settings;
        let token = |token| match token {
            'h' => Some(settings.host_name.clone()),
            'n' => Some(settings.original_host.clone()),
            'p' => Some(settings.port.to_string()),
            'r' => Some(settings.user.clone()),
            'q' if name.starts_with("otp") => Some(printable(question)),
            _ => None,
        };
        let words = shlex::split(command).ok_or("a quote in its command is not closed")?;
        // What the server says must not be taken for an option.
        if question.starts_with('-') && words.iter().any(|word| word.starts_with("%q")) {
            return Err("the question looks like an option".to_owned());
        }
        let words = words.iter().map(|word| percent(word, token)).collect::<Result<Vec<_>, _>>()?;
        if words.is_empty() {
            return Err("its command is empty".to_owned());
        }
        let output = output::of(&words, MAX_ANSWER).await?;
        let text = std::str::from_utf8(&output).map_err(|_| "its output is not text")?;
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// The most a command may print, in bytes.
const MAX_ANSWER: usize = 4096;

/// Seconds for which a code is good (RFC 6238 §4.1).
const STEP_SECONDS: u64 = 30;

/// Returns the six digits that are good now.
fn code_now(secret: &str) -> Result<Zeroizing<String>, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the clock is wrong")?;
    code(secret, now.as_secs())
}

/// Computes a time-based one-time password: SHA-1, six digits, 30 s (RFC 6238, RFC 4226 §5.3).
///
/// `secret` is in base 32 (RFC 4648 §6), in either case, with or without padding and blanks.
fn code(secret: &str, unix_seconds: u64) -> Result<Zeroizing<String>, String> {
    let key = base32(secret).ok_or("the secret is not in base 32")?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &(unix_seconds / STEP_SECONDS).to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
    let word = tag.get(offset..offset + 4).and_then(|word| word.try_into().ok());
    let number = u32::from_be_bytes(word.unwrap_or_default()) & 0x7fff_ffff;
    Ok(Zeroizing::new(format!("{:06}", number % 1_000_000)))
}

/// Decodes base 32; `None` for other characters and for nothing at all.
fn base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let ignored = |c: &char| matches!(c, '=' | ' ' | '-');
    let digits = text.chars().filter(|c| !ignored(c)).map(|c| c.to_ascii_uppercase());
    let digits = Zeroizing::new(digits.collect::<String>());
    let bytes = Zeroizing::new(BASE32_NOPAD.decode(digits.as_bytes()).ok()?);
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the last six of its eight digits.
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (seconds, want) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(secret, seconds).expect("a secret").as_str(), want, "{seconds}");
        }
        let spelt = "gezd gnbv gy3t qojq GEZD-GNBV-GY3T-QOJQ====";
        assert_eq!(code(spelt, 59).expect("the same").as_str(), "287082");
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for secret in ["", "====", "not1base32", "0000"] {
            assert!(code(secret, 0).is_err(), "{secret}");
        }
    }
}
