//! The host key question: is this the host we mean?
//!
//! Applies StrictHostKeyChecking to what [`known_hosts`](super::known_hosts)
//! says, in OpenSSH's words (sshconnect.c `check_host_key`, 9.2). Host
//! certificates are never asked for and never accepted.

use std::net::SocketAddr;
use std::path::PathBuf;

use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::LoginError;
use super::dial::system_words;
use super::identity::RULE;
use super::known_hosts::{self, Entry, KnownHosts, Verdict};
use super::ui::{Echo, PromptError, Ui};
use crate::config::settings::{Settings, StrictHostKeyChecking};

/// The names a host goes by.
pub(super) struct Place {
    /// How known_hosts has it: the alias, the name, or `[name]:port`.
    pub(super) lookup_name: String,
    /// Its address, as the question shows it.
    address: String,
    /// Under which name a key from before the port was written counts, too.
    without_port: Option<String>,
}

impl Place {
    pub(super) fn new(settings: &Settings, peer: Option<SocketAddr>) -> Self {
        let address = match peer {
            Some(peer) => known_hosts::lookup_name(&peer.ip().to_string(), peer.port()),
            None => "<no hostip for proxy command>".into(),
        };
        match &settings.host_key_alias {
            Some(alias) => Self { lookup_name: alias.clone(), address, without_port: None },
            None => Self {
                lookup_name: known_hosts::lookup_name(&settings.host_name, settings.port),
                address,
                without_port: (settings.port != 22).then(|| settings.host_name.clone()),
            },
        }
    }
}

/// Decides about the host key of one connection, and remembers the decision.
pub(super) struct Checker<'a> {
    settings: &'a Settings,
    place: Place,
    known: KnownHosts,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    NotAsked,
    /// The key is the host's.
    Accepted,
    /// The key is not the one known, and the user wants to go on regardless.
    Distrusted,
    Refused(Refusal),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Verification,
    Interrupted,
}

impl<'a> Checker<'a> {
    pub(super) fn new(settings: &'a Settings, place: Place, known: KnownHosts) -> Self {
        Self { settings, place, known, outcome: Outcome::NotAsked }
    }

    /// Whether passwords may be sent to this host.
    pub(super) fn passwords(&self) -> bool {
        self.outcome == Outcome::Accepted
    }

    /// The error, if the handshake failed by our own decision.
    pub(super) fn refusal(&self) -> Option<LoginError> {
        match self.outcome {
            Outcome::Refused(Refusal::Verification) => Some(LoginError::HostKey),
            Outcome::Refused(Refusal::Interrupted) => Some(LoginError::Interrupted),
            _ => None,
        }
    }

    /// Judges the key the host has shown.
    pub(super) async fn check(&mut self, shown: &PublicKey, ui: &dyn Ui) -> bool {
        self.outcome = self.judge(shown, ui).await;
        !matches!(self.outcome, Outcome::Refused(_))
    }

    async fn judge(&self, key: &PublicKey, ui: &dyn Ui) -> Outcome {
        const REFUSED: Outcome = Outcome::Refused(Refusal::Verification);

        let Ok(blob) = key.to_bytes() else {
            return REFUSED;
        };
        match self.known.check(&blob) {
            Verdict::Known => Outcome::Accepted,
            Verdict::Revoked => {
                ui.warn(&self.revoked(key));
                REFUSED
            }
            Verdict::Changed(entry) => {
                ui.warn(&self.changed(key, entry));
                if self.settings.strict_host_key_checking != StrictHostKeyChecking::Off {
                    ui.warn(&format!(
                        "Host key for {} has changed and you have requested strict checking.",
                        self.place.lookup_name
                    ));
                    return REFUSED;
                }
                if self.settings.password_authentication {
                    ui.warn(
                        "Password authentication is disabled to avoid man-in-the-middle attacks.",
                    );
                }
                if self.settings.kbd_interactive_authentication {
                    ui.warn("Keyboard-interactive authentication is disabled to avoid man-in-the-middle attacks.");
                }
                Outcome::Distrusted
            }
            Verdict::Unknown if self.known_without_port(&blob) => Outcome::Accepted,
            Verdict::Unknown => match self.settings.strict_host_key_checking {
                StrictHostKeyChecking::Yes => self.refuse_unknown(key, ui),
                StrictHostKeyChecking::Ask if self.settings.batch_mode => {
                    self.refuse_unknown(key, ui)
                }
                StrictHostKeyChecking::Ask => match self.ask(key, &blob, ui).await {
                    Outcome::Accepted => self.learn(key, &blob, ui),
                    refused => refused,
                },
                StrictHostKeyChecking::AcceptNew | StrictHostKeyChecking::Off => {
                    self.learn(key, &blob, ui)
                }
            },
        }
    }

    /// Whether the key is known under the name without the port: silently
    /// enough, since whoever holds that key is the host.
    fn known_without_port(&self, blob: &[u8]) -> bool {
        self.place.without_port.as_ref().is_some_and(|name| {
            let known = KnownHosts::load(
                &self.settings.user_known_hosts_files,
                &self.settings.global_known_hosts_files,
                name,
            );
            known.check(blob) == Verdict::Known
        })
    }

    fn refuse_unknown(&self, key: &PublicKey, ui: &dyn Ui) -> Outcome {
        ui.warn(&format!(
            "No {} host key is known for {} and you have requested strict checking.",
            kind_word(key),
            self.place.lookup_name
        ));
        Outcome::Refused(Refusal::Verification)
    }

    async fn ask(&self, key: &PublicKey, blob: &[u8], ui: &dyn Ui) -> Outcome {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let names = match known_hosts::other_names(&self.all_files(), blob, OTHER_NAMES) {
            (places, _) if places.is_empty() => "This key is not known by any other names.".into(),
            (places, more) => {
                let mut text =
                    String::from("This host key is known by the following other names/addresses:");
                for place in places {
                    text.push_str("\n    ");
                    text.push_str(&place);
                }
                if more > 0 {
                    text.push_str(&format!("\n    ({more} additional names omitted)"));
                }
                text
            }
        };
        let mut prompt = format!(
            "The authenticity of host '{} ({})' can't be established.\n\
             {} key fingerprint is {fingerprint}.\n{names}\n\
             Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            self.place.lookup_name,
            self.place.address,
            kind_word(key),
        );
        loop {
            let answer = match ui.ask(&prompt, Echo::On).await {
                Ok(answer) => answer,
                Err(PromptError::Interrupted) => return Outcome::Refused(Refusal::Interrupted),
                Err(_) => return Outcome::Refused(Refusal::Verification),
            };
            let answer = answer.trim();
            if answer.eq_ignore_ascii_case("yes") || answer == fingerprint {
                return Outcome::Accepted;
            }
            if answer.is_empty() || answer.eq_ignore_ascii_case("no") {
                return Outcome::Refused(Refusal::Verification);
            }
            prompt = "Please type 'yes', 'no' or the fingerprint: ".into();
        }
    }

    /// Writes the key down. Failing to is no reason to refuse the host.
    fn learn(&self, key: &PublicKey, blob: &[u8], ui: &dyn Ui) -> Outcome {
        let Some(file) = self.settings.user_known_hosts_files.first() else {
            return Outcome::Accepted;
        };
        let kind = wire_kind(key);
        let name = &self.place.lookup_name;
        match known_hosts::append(file, name, &kind, blob, self.settings.hash_known_hosts) {
            Ok(()) => ui.tell(&format!(
                "Warning: Permanently added '{name}' ({}) to the list of known hosts.",
                kind_word(key)
            )),
            Err(error) => {
                tracing::debug!(error = system_words(&error), "known_hosts not written");
                ui.tell(&format!(
                    "Failed to add the host to the list of known hosts ({}).",
                    file.display()
                ));
            }
        }
        Outcome::Accepted
    }

    fn changed(&self, key: &PublicKey, entry: &Entry) -> String {
        let file = entry.file.display();
        let own_file = self.settings.user_known_hosts_files.first();
        let own_file = own_file.map_or_else(|| file.to_string(), |own| own.display().to_string());
        format!(
            "{RULE}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{RULE}\n\
             IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
             Someone could be eavesdropping on you right now (man-in-the-middle attack)!\n\
             It is also possible that a host key has just been changed.\n\
             The fingerprint for the {} key sent by the remote host is\n{}.\n\
             Please contact your system administrator.\n\
             Add correct host key in {own_file} to get rid of this message.\n\
             Offending {} key in {file}:{}\n  remove with:\n  ssh-keygen -f \"{file}\" -R \"{}\"",
            kind_word(key),
            key.fingerprint(HashAlg::Sha256),
            word_for(&entry.kind),
            entry.line,
            self.place.lookup_name,
        )
    }

    fn revoked(&self, key: &PublicKey) -> String {
        let kind = kind_word(key);
        let name = &self.place.lookup_name;
        format!(
            "{RULE}\n@       WARNING: REVOKED HOST KEY DETECTED!               @\n{RULE}\n\
             The {kind} host key for {name} is marked as revoked.\n\
             This could mean that a stolen key is being used to\nimpersonate this host.\n\
             {kind} host key for {name} was revoked and you have requested strict checking."
        )
    }

    fn all_files(&self) -> Vec<PathBuf> {
        let settings = self.settings;
        let user = settings.user_known_hosts_files.iter();
        user.chain(&settings.global_known_hosts_files).cloned().collect()
    }
}

/// How many other names of a key the question shows, as OpenSSH.
const OTHER_NAMES: usize = 8;

/// The key's type as it stands in known_hosts: RSA keys have one name, whatever they sign with.
fn wire_kind(key: &PublicKey) -> String {
    match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".into(),
        other => other.as_str().to_owned(),
    }
}

/// The key's type as OpenSSH says it to people.
fn kind_word(key: &PublicKey) -> &'static str {
    word_for(&wire_kind(key))
}

fn word_for(kind: &str) -> &'static str {
    match kind {
        "ssh-ed25519" => "ED25519",
        "ssh-rsa" => "RSA",
        "ssh-dss" => "DSA",
        "sk-ssh-ed25519@openssh.com" => "ED25519-SK",
        "sk-ecdsa-sha2-nistp256@openssh.com" => "ECDSA-SK",
        kind if kind.starts_with("ecdsa-sha2-") => "ECDSA",
        _ => "unknown",
    }
}
