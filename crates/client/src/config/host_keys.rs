//! The keywords about host keys, beside the files of known_hosts and StrictHostKeyChecking.
//!
//! Names are expanded, nothing is opened or run.

use super::error::ConfigError;
use super::expand::Tokens;
use super::lex;
use super::options::{Options, is_no, is_yes};
use super::paths::Paths;
use super::settings::{FingerprintHash, HostKeySettings, UpdateHostKeys, VerifyDns};

/// Resolves them; with `must_not_ask` UpdateHostKeys `ask` is off.
///
/// # Errors
/// A name or a command that cannot be expanded.
pub(super) fn settings(
    options: &Options,
    paths: &Paths<'_>,
    tokens: &Tokens<'_>,
    must_not_ask: bool,
) -> Result<HostKeySettings, ConfigError> {
    let flag = |slot| options.flag(slot).unwrap_or(false);
    let is_set = |word: &&str| !word.eq_ignore_ascii_case("none");
    let revoked_file = options.word("revokedhostkeys").filter(is_set);
    let revoked_file =
        revoked_file.map(|path| paths.expand("RevokedHostKeys", path)).transpose()?;
    let command = options.word("knownhostscommand").filter(is_set);
    Ok(HostKeySettings {
        check_ip: flag("checkhostip"),
        command: command.map(|text| words(text, tokens)).transpose()?,
        trust_loopback: flag("nohostauthenticationforlocalhost"),
        revoked_file: revoked_file.map(Into::into),
        update: update(options, must_not_ask),
        visual: flag("visualhostkey"),
        verify_dns: match options.word("verifyhostkeydns") {
            Some(word) if word.eq_ignore_ascii_case("ask") => VerifyDns::Ask,
            Some(word) if is_yes(word) => VerifyDns::Yes,
            _ => VerifyDns::No,
        },
        fingerprint_hash: match options.word("fingerprinthash") {
            Some(word) if word.eq_ignore_ascii_case("md5") => FingerprintHash::Md5,
            _ => FingerprintHash::Sha256,
        },
    })
}

/// The tokens of KnownHostsCommand that stand for what the host shows.
const KEY_TOKENS: &str = "HIKtf";

fn words(text: &str, tokens: &Tokens<'_>) -> Result<Vec<String>, ConfigError> {
    let failed = |problem: String| ConfigError::Expansion { keyword: "KnownHostsCommand", problem };
    let words = lex::arguments(text).map_err(|_| failed("invalid quotes".to_owned()))?;
    words.iter().map(|word| tokens.expand_before(KEY_TOKENS, word).map_err(failed)).collect()
}

/// The file that known hosts are in where nothing is said.
const USUAL_FILE: &str = "~/.ssh/known_hosts";

/// Where nothing is said, only the usual files are kept up to date, and not beside what the DNS
/// says.
fn update(options: &Options, must_not_ask: bool) -> UpdateHostKeys {
    match options.word("updatehostkeys").map(str::to_ascii_lowercase).as_deref() {
        Some("ask") if must_not_ask => UpdateHostKeys::No,
        Some("ask") => UpdateHostKeys::Ask,
        Some("yes" | "true") => UpdateHostKeys::Yes,
        Some(_) => UpdateHostKeys::No,
        None => {
            let asks_dns = options.word("verifyhostkeydns").is_some_and(|word| !is_no(word));
            match options.words("userknownhostsfile") {
                _ if asks_dns => UpdateHostKeys::No,
                [] => UpdateHostKeys::Yes,
                [only] if only == USUAL_FILE => UpdateHostKeys::Yes,
                _ => UpdateHostKeys::No,
            }
        }
    }
}
