//! KnownHostsCommand: lines of known_hosts from a program.
//!
//! Run without a shell, as OpenSSH does: once before the keys are exchanged, for the order in
//! which they are asked for, and once when the host has shown its key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use russh::keys::PublicKey;

use super::{LoginError, fingerprint, kinds, output};
use crate::config::percent;
use crate::config::settings::FingerprintHash;

/// Why the command is run; `%I`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// To know which kinds of key the host is known by.
    Order,
    /// To look the host up, which has shown this key.
    HostName(&'a PublicKey),
    /// To look its address up.
    Address(&'a PublicKey),
}

impl Purpose<'_> {
    /// What stands in the place of a file's name.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Order => "KnownHostsCommand-ORDER",
            Self::HostName(_) => "KnownHostsCommand-HOSTNAME",
            Self::Address(_) => "KnownHostsCommand-ADDRESS",
        }
    }

    fn value(self, token: char, name: &str, hash: FingerprintHash) -> Option<String> {
        let (word, key) = match self {
            Self::Order => ("ORDER", None),
            Self::HostName(key) => ("HOSTNAME", Some(key)),
            Self::Address(key) => ("ADDRESS", Some(key)),
        };
        let of_key =
            |value: &dyn Fn(&PublicKey) -> String| key.map_or_else(|| "NONE".into(), value);
        Some(match token {
            'H' => name.to_owned(),
            'I' => word.to_owned(),
            'K' => of_key(&|key| BASE64.encode(key.to_bytes().unwrap_or_default())),
            't' => of_key(&kinds::wire_kind),
            'f' => of_key(&|key| fingerprint::of(key, hash)),
            _ => return None,
        })
    }
}

/// The most a command may say, in bytes.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// Runs the command of the configuration, and returns what it prints.
///
/// # Errors
/// It cannot be run, or says that it failed: whether the host's key is a good one is then not
/// known, so the login ends.
pub(super) async fn run(
    words: &[String],
    purpose: Purpose<'_>,
    name: &str,
    hash: FingerprintHash,
) -> Result<Vec<u8>, LoginError> {
    let failed = |reason: String| LoginError::KnownHostsCommand { reason };
    let expanded = words
        .iter()
        .map(|word| percent(word, |token| purpose.value(token, name, hash)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(&failed)?;
    let mut output = output::of(&expanded, MAX_OUTPUT).await.map_err(failed)?;
    Ok(std::mem::take(&mut *output))
}
