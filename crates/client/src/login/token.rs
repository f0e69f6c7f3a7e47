//! Keys on security tokens (FIDO): signatures by OpenSSH's `ssh-sk-helper`.
//!
//! The file of such a key holds a handle that only the token understands. Talking to tokens is
//! the helper's business, as it is for ssh; where there is none, ssh-agent may have the key.
//! Wire: ssh-sk-helper.c and ssh-sk-client.c of OpenSSH 9.2, version 5 of their protocol, which
//! has not changed since 8.4.

use std::io;
use std::path::Path;
use std::process::Stdio;

use russh::keys::PrivateKey;
use russh::keys::ssh_encoding::{Decode as _, Encode as _};
use russh::keys::ssh_key::private::KeypairData;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::identity::LoadError;
use super::kinds::kind_word;
use super::signer::SignError;
use super::ui::{Echo, PromptError, Ui};
use super::{fingerprint, printable};
use crate::config::settings::Settings;

/// The protocol's version.
const VERSION: u8 = 5;
const FAILURE: u32 = 0;
const SIGN: u32 = 1;
/// What the helper logs: nothing but errors (`SYSLOG_LEVEL_ERROR`).
const LOG_LEVEL: u32 = 2;
/// The longest answer that is read, in bytes.
const MAX_ANSWER: u32 = 256 * 1024;

/// The token must be touched.
const NEEDS_TOUCH: u8 = 0x01;
/// The token wants its PIN.
const NEEDS_PIN: u8 = 0x04;

// Errors of the helper (ssherr.h), negated.
const WRONG_PIN: u32 = 43;
const NO_TOKEN: u32 = 60;

/// Returns whether a key is on a security token.
pub(super) fn holds(key: &PrivateKey) -> bool {
    flags(key).is_some()
}

fn flags(key: &PrivateKey) -> Option<u8> {
    match key.key_data() {
        KeypairData::SkEd25519(key) => Some(key.flags()),
        KeypairData::SkEcdsaSha2NistP256(key) => Some(key.flags()),
        _ => None,
    }
}

/// Has the token sign; the person is asked for a touch and a PIN, if need be.
///
/// Returns the signature as the wire has it.
///
/// # Errors
/// [`SignError::SecurityKey`] where there is no helper; otherwise why there is no signature, which
/// the user has been told.
pub(super) async fn sign(
    settings: &Settings,
    ui: &dyn Ui,
    key: &PrivateKey,
    path: &Path,
    message: &[u8],
) -> Result<Vec<u8>, SignError> {
    let Some(helper) = &settings.security_keys.helper else { return Err(SignError::SecurityKey) };
    let (flags, kind) = (flags(key).unwrap_or_default(), kind_word(key.public_key()));
    let mut pin = None;
    loop {
        if (flags & NEEDS_PIN != 0 || pin.is_some()) && !settings.batch_mode {
            let prompt = format!("Enter PIN for {kind} key {}: ", path.display());
            pin = Some(match ui.ask(&prompt, Echo::Off).await {
                Ok(pin) => pin,
                Err(PromptError::Interrupted) => return Err(LoadError::Interrupted.into()),
                Err(_) => return Err(LoadError::Unusable.into()),
            });
        }
        if flags & NEEDS_TOUCH != 0 {
            let hash = settings.host_keys.fingerprint_hash;
            let print = fingerprint::of(key.public_key(), hash);
            ui.tell(&format!("Confirm user presence for key {kind} {print}"));
        }
        let provider = &settings.security_keys.provider;
        let request = request(key, provider, message, pin.as_deref().map_or("", String::as_str));
        let answer = match converse(helper, &request.ok_or(SignError::Key)?).await {
            Ok(answer) => answer,
            Err(error) => {
                let what = printable(&error.to_string());
                ui.warn(&format!("{}: {what}", helper.display()));
                return Err(LoadError::Unusable.into());
            }
        };
        match read_answer(&answer) {
            Answer::Signature(signature) => {
                if flags & NEEDS_TOUCH != 0 {
                    ui.tell("User presence confirmed");
                }
                return Ok(signature);
            }
            // Some tokens want it though the key does not say so.
            Answer::Failure(WRONG_PIN) if pin.is_none() && !settings.batch_mode => {
                pin = Some(Zeroizing::default());
            }
            Answer::Failure(number) => {
                let why = match number {
                    NO_TOKEN => "device not found".to_owned(),
                    WRONG_PIN => "incorrect PIN".to_owned(),
                    number => format!("the token's error is {number}"),
                };
                ui.warn(&format!("signing failed for {kind} \"{}\": {why}", path.display()));
                return Err(LoadError::Unusable.into());
            }
            Answer::Nonsense => {
                ui.warn(&format!("{}: its answer is not understood", helper.display()));
                return Err(LoadError::Unusable.into());
            }
        }
    }
}

/// Writes the request for a signature. It holds the PIN, so it is wiped.
fn request(
    key: &PrivateKey,
    provider: &str,
    message: &[u8],
    pin: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut blob = Zeroizing::new(Vec::new());
    key.key_data().encode(&mut *blob).ok()?;
    // With room for all of it, so that no copy is left behind by growing.
    let size = blob.len() + provider.len() + message.len() + pin.len() + 64;
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    out.extend([VERSION]);
    out.extend(SIGN.to_be_bytes());
    // Errors to standard error, at that level.
    out.push(1);
    out.extend(LOG_LEVEL.to_be_bytes());
    // The key, the provider, what is signed, the algorithm (that of the key), flags, the PIN.
    for field in [blob.as_slice(), provider.as_bytes(), message, b""] {
        field.encode(&mut *out).ok()?;
    }
    out.extend(0u32.to_be_bytes());
    pin.as_bytes().encode(&mut *out).ok()?;
    Some(out)
}

/// Asks a helper. Dropping the future ends it.
async fn converse(helper: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = Command::new(helper)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;
    let asked = async {
        input.write_all(&length.to_be_bytes()).await?;
        input.write_all(request).await
    };
    // A helper may answer without hearing us out.
    let asked = asked.await;
    let length = output.read_u32().await.map_err(|error| asked.err().unwrap_or(error))?;
    if length > MAX_ANSWER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = Vec::new();
    output.take(length.into()).read_to_end(&mut answer).await?;
    drop(input);
    child.wait().await?;
    Ok(answer)
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// As the wire has it.
    Signature(Vec<u8>),
    /// The helper's number for what went wrong.
    Failure(u32),
    Nonsense,
}

fn read_answer(answer: &[u8]) -> Answer {
    let Some((&VERSION, mut rest)) = answer.split_first() else { return Answer::Nonsense };
    match u32::decode(&mut rest) {
        Ok(SIGN) => Vec::decode(&mut rest).map_or(Answer::Nonsense, Answer::Signature),
        Ok(FAILURE) => u32::decode(&mut rest).map_or(Answer::Nonsense, Answer::Failure),
        _ => Answer::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_signatures_or_numbers() {
        let signed = [&[VERSION, 0, 0, 0, 1, 0, 0, 0, 2][..], b"ab"].concat();
        assert_eq!(read_answer(&signed), Answer::Signature(b"ab".to_vec()));
        assert_eq!(read_answer(&[VERSION, 0, 0, 0, 0, 0, 0, 0, 60]), Answer::Failure(NO_TOKEN));
        for nonsense in [&[][..], &[VERSION], &[4, 0, 0, 0, 1], &signed[..10]] {
            assert_eq!(read_answer(nonsense), Answer::Nonsense);
        }
    }
}
