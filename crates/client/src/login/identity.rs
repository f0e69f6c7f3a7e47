//! Our keys: which there are, in which order they are offered, how they are read.
//!
//! Order, as OpenSSH's `pubkey_prepare` (9.2, sshconnect2.c) has it: keys of
//! the agent that the configuration names, in the agent's order; the agent's
//! other keys, unless IdentitiesOnly; what is left of the files, each followed
//! by its certificate, or all followed by those of CertificateFile. A certificate
//! is signed for by the first key it is about, in the agent or in a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::answers::Kept;
use super::dial::system_words;
use super::signer::{self, SignError};
use super::token;
use super::ui::{Echo, PromptError, Ui};
use crate::config::settings::{IdentityFile, Settings};
use crate::sys::account;

/// A key that may be offered.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) public: Public,
    pub(super) source: Source,
}

impl Candidate {
    /// A certificate; which key signs for it is found when all are known.
    fn certificate(certificate: Certificate) -> Self {
        Self { public: Public::Certificate(Box::new(certificate)), source: Source::Nowhere }
    }
}

/// What is known of a key without its private half.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Public {
    Key(PublicKey),
    Certificate(Box<Certificate>),
    /// An old encrypted file without its `.pub`: known only once decrypted.
    Unknown,
}

/// Where the private half is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Agent,
    /// The agent holds the key that a certificate on disk is about.
    AgentKey(PublicKey),
    File(PathBuf),
    /// Only the public half is on disk; of use if the agent has the rest.
    Nowhere,
}

impl Public {
    /// Certificates differ from the key they certify.
    fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(a), Self::Key(b)) => a.key_data() == b.key_data(),
            (Self::Certificate(a), Self::Certificate(b)) => a == b,
            _ => false,
        }
    }

    /// The key itself, certified or not.
    pub(super) fn key_data(&self) -> Option<&KeyData> {
        match self {
            Self::Key(key) => Some(key.key_data()),
            Self::Certificate(certificate) => Some(certificate.public_key()),
            Self::Unknown => None,
        }
    }
}

impl From<AgentIdentity> for Public {
    fn from(identity: AgentIdentity) -> Self {
        match identity {
            AgentIdentity::PublicKey { key, .. } => Self::Key(key),
            AgentIdentity::Certificate { certificate, .. } => {
                Self::Certificate(Box::new(certificate))
            }
        }
    }
}

/// Reads what the identity and certificate files say without a passphrase.
///
/// Certificates named in the configuration take the place of those beside the keys.
pub(super) fn read_files(
    files: &[IdentityFile],
    certificates: &[PathBuf],
    ui: &dyn Ui,
) -> Vec<Candidate> {
    let mut candidates = read_identities(files, certificates.is_empty(), ui);
    for path in certificates {
        match read_certificate(path) {
            Ok(certificate) => candidates.push(Candidate::certificate(certificate)),
            Err(why) => ui.tell(&format!("Load certificate \"{}\": {why}", path.display())),
        }
    }
    candidates
}

fn read_identities(files: &[IdentityFile], certified: bool, ui: &dyn Ui) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for file in files {
        match read_public(&file.path) {
            Ok((public, source)) => candidates.push(Candidate { public, source }),
            Err(error) if file.explicit => {
                // Told, not failed: another key may do.
                if error.kind() == io::ErrorKind::NotFound {
                    ui.tell(&format!(
                        "no such identity: {}: {}",
                        file.path.display(),
                        system_words(&error)
                    ));
                } else {
                    ui.warn(&format!(
                        "Load key \"{}\": {}",
                        file.path.display(),
                        system_words(&error)
                    ));
                }
                continue;
            }
            Err(_) => continue,
        }
        if certified && let Ok(certificate) = read_certificate(&beside(&file.path, "-cert.pub")) {
            candidates.push(Candidate::certificate(certificate));
        }
    }
    candidates
}

/// Puts the keys in the order they are offered in.
pub(super) fn order(
    mut files: Vec<Candidate>,
    agent: Vec<AgentIdentity>,
    identities_only: bool,
) -> Vec<Candidate> {
    let mut named = Vec::new();
    let mut others = Vec::new();
    for identity in agent {
        let public = Public::from(identity);
        let place = files.iter().position(|file| file.public.same_as(&public));
        if let Some(place) = place {
            files.remove(place);
            named.push(Candidate { public, source: Source::Agent });
        } else if !identities_only {
            others.push(Candidate { public, source: Source::Agent });
        }
    }
    named.append(&mut others);
    named.append(&mut files);
    for index in 0..named.len() {
        if let Some(source) = signer_of(&named, index)
            && let Some(certified) = named.get_mut(index)
        {
            certified.source = source;
        }
    }
    named.retain(|candidate| candidate.source != Source::Nowhere);
    named
}

/// Finds the key that signs for a certificate of which only that is at hand.
fn signer_of(all: &[Candidate], index: usize) -> Option<Source> {
    let certified = all.get(index).filter(|candidate| candidate.source == Source::Nowhere)?;
    let Public::Certificate(certificate) = &certified.public else { return None };
    all.iter().find_map(|candidate| match (&candidate.public, &candidate.source) {
        (Public::Key(key), source) if key.key_data() == certificate.public_key() => match source {
            Source::Agent => Some(Source::AgentKey(key.clone())),
            Source::File(path) => Some(Source::File(path.clone())),
            Source::AgentKey(_) | Source::Nowhere => None,
        },
        _ => None,
    })
}

fn read_public(path: &Path) -> io::Result<(Public, Source)> {
    let text = match read_text(path) {
        Ok(text) => text,
        // A public half alone names a key of the agent.
        Err(error) => {
            return match read_text(&beside(path, ".pub")) {
                Ok(text) => public_line(&text).map(|public| (public, Source::Nowhere)).ok_or(error),
                Err(_) => Err(error),
            };
        }
    };
    if let Some(public) = public_line(&text) {
        return Ok((public, Source::Nowhere));
    }
    let source = Source::File(path.to_path_buf());
    let public = match parse_private(&text, None) {
        Ok(Parsed::Plain(key)) => Public::Key(key.public_key().clone()),
        Ok(Parsed::Encrypted(Some(public))) => Public::Key(public),
        Ok(Parsed::Encrypted(None)) => read_text(&beside(path, ".pub"))
            .ok()
            .and_then(|text| public_line(&text))
            .unwrap_or(Public::Unknown),
        Err(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "invalid format")),
    };
    Ok((public, source))
}

/// Reads a certificate of a user.
///
/// # Errors
/// Why there is none, in words.
fn read_certificate(path: &Path) -> Result<Certificate, String> {
    let text = read_text(path).map_err(|error| system_words(&error))?;
    let line = text.lines().next().unwrap_or_default().trim();
    let certificate = Certificate::from_openssh(line).map_err(|_| "invalid format")?;
    match certificate.cert_type().is_user() {
        true => Ok(certificate),
        false => Err("not a certificate of a user".to_owned()),
    }
}

/// Private keys pass through here, so the text is wiped when dropped.
fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    use std::io::Read as _;

    // Nothing that is a key is longer; a device or a log named by mistake is.
    const MAX_LEN: u64 = 1024 * 1024;
    let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
    std::fs::File::open(path)?.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}

fn public_line(text: &str) -> Option<Public> {
    let line = text.lines().next()?.trim();
    if line.split_whitespace().next()?.ends_with("-cert-v01@openssh.com") {
        let certificate = Certificate::from_openssh(line).ok()?;
        return Some(Public::Certificate(Box::new(certificate)));
    }
    PublicKey::from_openssh(line).ok().map(Public::Key)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

enum Parsed {
    Plain(Box<PrivateKey>),
    Encrypted(Option<PublicKey>),
}

fn parse_private(text: &str, passphrase: Option<&str>) -> Result<Parsed, russh::keys::Error> {
    if text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
        let key = PrivateKey::from_openssh(text)?;
        return match passphrase {
            _ if !key.is_encrypted() => Ok(Parsed::Plain(Box::new(key))),
            None => Ok(Parsed::Encrypted(Some(key.public_key().clone()))),
            Some(passphrase) => Ok(Parsed::Plain(Box::new(key.decrypt(passphrase)?))),
        };
    }
    match russh::keys::decode_secret_key(text, passphrase) {
        Ok(key) => Ok(Parsed::Plain(Box::new(key))),
        Err(russh::keys::Error::KeyIsEncrypted) => Ok(Parsed::Encrypted(None)),
        Err(error) => Err(error),
    }
}

/// Reads one private key, asking for its passphrase if need be.
pub(super) struct Loader<'a> {
    path: &'a Path,
    ui: &'a dyn Ui,
    settings: &'a Settings,
    /// The public half that was offered: the file must hold the same key.
    expected: Option<&'a KeyData>,
}

/// Why a private key could not be read. The user has been told.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the key file cannot be used")]
    Unusable,
    #[error("interrupted")]
    Interrupted,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        path: &'a Path,
        expected: Option<&'a KeyData>,
        ui: &'a dyn Ui,
    ) -> Self {
        Self { path, ui, settings, expected }
    }

    /// Reads the key.
    pub(super) async fn load(&self) -> Result<Arc<PrivateKey>, LoadError> {
        let text = self.read_protected()?;
        let key = match parse_private(&text, None) {
            Ok(Parsed::Plain(key)) => key,
            Ok(Parsed::Encrypted(_)) => self.decrypt(text).await?,
            Err(_) => return Err(self.unusable("invalid format")),
        };
        if self.expected.is_some_and(|expected| expected != key.public_key().key_data()) {
            // The .pub beside it belongs to another key.
            return Err(self.unusable("private key does not match the public one"));
        }
        Ok(Arc::from(key))
    }

    /// Has the security token that holds the key sign, and appends the signature.
    pub(super) async fn sign_by_token(
        &self,
        key: &PrivateKey,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let signature = token::sign(self.settings, self.ui, key, self.path, &to_sign).await?;
        signer::append(&signature, to_sign)
    }

    fn read_protected(&self) -> Result<Zeroizing<String>, LoadError> {
        let unreadable = |error: io::Error| self.unusable(&system_words(&error));
        let status = std::fs::metadata(self.path).map_err(unreadable)?;
        if let Some(mode) = account::too_open(&status) {
            self.ui.warn(&format!(
                "{RULE}\n@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\n{RULE}\n\
                 Permissions 0{mode:03o} for '{}' are too open.\n\
                 It is required that your private key files are NOT accessible by others.\n\
                 This private key will be ignored.",
                self.path.display()
            ));
            return Err(self.unusable("bad permissions"));
        }
        read_text(self.path).map_err(unreadable)
    }

    async fn decrypt(&self, text: Zeroizing<String>) -> Result<Box<PrivateKey>, LoadError> {
        let text = Arc::new(text);
        let prompt = format!("Enter passphrase for key '{}': ", self.path.display());
        if let Some(passphrase) = Kept::new(self.settings, self.ui).passphrase(self.path).await
            && let Some(key) = decrypt(&text, passphrase).await
        {
            return Ok(key);
        }
        let prompts = match self.settings.batch_mode {
            true => 0,
            false => self.settings.number_of_password_prompts,
        };
        for _ in 0..prompts {
            let passphrase = match self.ui.ask(&prompt, Echo::Off).await {
                Ok(passphrase) => passphrase,
                Err(PromptError::Interrupted) => return Err(LoadError::Interrupted),
                Err(_) => break,
            };
            if passphrase.is_empty() {
                break; // as in OpenSSH: on to the next key
            }
            if let Some(key) = decrypt(&text, passphrase).await {
                return Ok(key);
            }
        }
        Err(LoadError::Unusable)
    }

    fn unusable(&self, why: &str) -> LoadError {
        self.ui.warn(&format!("Load key \"{}\": {why}", self.path.display()));
        LoadError::Unusable
    }
}

/// Decrypts a key, off this thread: deriving its key from the passphrase is slow on purpose.
async fn decrypt(
    text: &Arc<Zeroizing<String>>,
    passphrase: Zeroizing<String>,
) -> Option<Box<PrivateKey>> {
    let text = Arc::clone(text);
    let decrypted =
        tokio::task::spawn_blocking(move || parse_private(&text, Some(&passphrase))).await;
    match decrypted {
        Ok(Ok(Parsed::Plain(key))) => Some(key),
        _ => None,
    }
}

/// The line OpenSSH frames its warnings with.
pub(super) const RULE: &str = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> PublicKey {
        PublicKey::from(KeyData::Ed25519(russh::keys::ssh_key::public::Ed25519PublicKey(
            [seed; 32],
        )))
    }

    fn file(seed: u8) -> Candidate {
        Candidate {
            public: Public::Key(key(seed)),
            source: Source::File(format!("/{seed}").into()),
        }
    }

    fn held(seed: u8) -> AgentIdentity {
        AgentIdentity::PublicKey { key: key(seed), comment: String::new() }
    }

    fn shape(candidates: &[Candidate]) -> Vec<(u8, bool)> {
        candidates
            .iter()
            .map(|candidate| match &candidate.public {
                Public::Key(key) => {
                    let seed = key.key_data().ed25519().expect("only these").0[0];
                    (seed, candidate.source == Source::Agent)
                }
                _ => (0, false),
            })
            .collect()
    }

    #[test]
    fn keys_of_the_agent_that_are_named_come_first_then_the_others_then_files() {
        let ordered = order(vec![file(1), file(2)], vec![held(9), held(2)], false);
        assert_eq!(shape(&ordered), [(2, true), (9, true), (1, false)]);
    }

    #[test]
    fn with_identities_only_the_agents_other_keys_are_not_offered() {
        let ordered = order(vec![file(1), file(2)], vec![held(9), held(2)], true);
        assert_eq!(shape(&ordered), [(2, true), (1, false)]);
    }

    fn certified(seed: u8) -> Candidate {
        use russh::keys::ssh_key::certificate::{Builder, CertType};

        let authority = PrivateKey::from_openssh(AUTHORITY).expect("a key");
        let mut builder = Builder::new([0; 32], key(seed).key_data().clone(), 0, u64::MAX - 1)
            .expect("sound times");
        builder.cert_type(CertType::User).expect("once");
        builder.valid_principal("user").expect("a name");
        Candidate::certificate(builder.sign(&authority).expect("a certificate"))
    }

    const AUTHORITY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYgAAAJgAIAxdACAM
XQAAAAtzc2gtZWQyNTUxOQAAACCzPq7zfqLffKoBDe/eo04kH2XxtSmk9D7RQyf1xUqrYg
AAAEC2BsIi0QwW2uFscKTUUXNHLsYX4FxlaSDSblbAj7WR7bM+rvN+ot98qgEN796jTiQf
ZfG1KaT0PtFDJ/XFSqtiAAAAEHVzZXJAZXhhbXBsZS5jb20BAgMEBQ==
-----END OPENSSH PRIVATE KEY-----";

    #[test]
    fn a_certificate_is_signed_for_by_the_agents_key_or_else_by_the_files() {
        let sources = |agent| {
            let ordered = order(vec![file(1), certified(1)], agent, true);
            ordered.into_iter().map(|candidate| candidate.source).collect::<Vec<_>>()
        };
        assert_eq!(sources(vec![held(1)]), [Source::Agent, Source::AgentKey(key(1))]);
        let path = || Source::File("/1".into());
        assert_eq!(sources(vec![]), [path(), path()]);
        assert!(order(vec![certified(1)], vec![], true).is_empty());
    }

    #[test]
    fn a_public_half_alone_is_offered_only_if_the_agent_has_the_rest() {
        let public_only = || Candidate { public: Public::Key(key(1)), source: Source::Nowhere };
        assert_eq!(shape(&order(vec![public_only()], vec![held(1)], true)), [(1, true)]);
        assert!(order(vec![public_only()], vec![], true).is_empty());
    }
}
