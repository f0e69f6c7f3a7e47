//! The host key question: is this the host we mean?
//!
//! Applies StrictHostKeyChecking to what [`known_hosts`](super::known_hosts)
//! says, in OpenSSH's words (sshconnect.c `check_host_key`, 9.2). A
//! certificate that proves nothing leaves the key it is about, as there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use russh::keys::ssh_encoding::Encode as _;
use russh::keys::{Algorithm, Certificate, PublicKey, PublicKeyOrCertificate};

use super::dial::system_words;
use super::host_command::{self, Purpose};
use super::identity::RULE;
use super::kinds::{kind_word, too_short, wire_kind, word_for};
use super::known_hosts::{self, Entry, KnownHosts, Verdict};
use super::ui::{Echo, PromptError, Ui};
use super::{LoginError, fingerprint, host_cert, revoked, sshfp};
use crate::config::settings::{Settings, StrictHostKeyChecking, UpdateHostKeys, VerifyDns};

/// The names a host goes by.
pub(super) struct Place {
    /// How known_hosts has it: the alias, the name, or `[name]:port`.
    pub(super) lookup_name: String,
    /// Its address, as the question shows it.
    address: String,
    /// Its address, if CheckHostIP has it looked up as well.
    checked_address: Option<String>,
    /// Whether it is this machine.
    loopback: bool,
    /// Under which name a key from before the port was written counts, too.
    without_port: Option<String>,
}

impl Place {
    pub(super) fn new(settings: &Settings, peer: Option<SocketAddr>) -> Self {
        let address =
            peer.map(|peer| known_hosts::lookup_name(&peer.ip().to_string(), peer.port()));
        let (lookup_name, without_port) = match &settings.host_key_alias {
            Some(alias) => (alias.clone(), None),
            None => (
                known_hosts::lookup_name(&settings.host_name, settings.port),
                (settings.port != 22).then(|| settings.host_name.clone()),
            ),
        };
        // An alias or a host typed as its address has nothing more to check.
        let checks = settings.host_keys.check_ip && settings.host_key_alias.is_none();
        Self {
            checked_address: address.clone().filter(|address| checks && *address != lookup_name),
            loopback: peer.is_some_and(|peer| peer.ip().is_loopback()),
            address: address.unwrap_or_else(|| "<no hostip for proxy command>".into()),
            lookup_name,
            without_port,
        }
    }
}

/// Decides about the host key of one connection, and remembers the decision.
pub(super) struct Checker<'a> {
    settings: &'a Settings,
    place: Place,
    known: KnownHosts,
    authorities: Vec<Algorithm>,
    /// The one key that is accepted, whatever settings and files say; none at a first login.
    pinned: Option<&'a PublicKey>,
    outcome: Outcome,
    failure: Option<LoginError>,
    /// Whether the key stands in a file of the user's that may be kept up to date.
    updatable: bool,
    /// Whether the domain name system knows the key, which is not to say that it can be trusted.
    named_in_dns: bool,
    /// The key that was accepted.
    accepted: Option<PublicKey>,
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

const REFUSED: Outcome = Outcome::Refused(Refusal::Verification);

impl<'a> Checker<'a> {
    /// `authorities`: the algorithms by which certificates of hosts may be signed. `pinned`: the
    /// only key to accept, for a host that was logged in to before.
    pub(super) fn new(
        settings: &'a Settings,
        place: Place,
        known: KnownHosts,
        authorities: Vec<Algorithm>,
        pinned: Option<&'a PublicKey>,
    ) -> Self {
        Self {
            settings,
            place,
            known,
            authorities,
            pinned,
            outcome: Outcome::NotAsked,
            failure: None,
            updatable: false,
            named_in_dns: false,
            accepted: None,
        }
    }

    /// Returns the key that was accepted, if one was.
    pub(super) fn into_accepted(self) -> Option<PublicKey> {
        self.accepted
    }

    fn fingerprint(&self, key: &PublicKey) -> String {
        fingerprint::of(key, self.settings.host_keys.fingerprint_hash)
    }

    /// Whether passwords may be sent to this host.
    pub(super) fn passwords(&self) -> bool {
        self.outcome == Outcome::Accepted
    }

    /// Under which name the keys that the host announces may be written down, if they may.
    pub(super) fn update_as(&self) -> Option<&str> {
        let wanted = self.settings.host_keys.update != UpdateHostKeys::No;
        (wanted && self.updatable).then_some(self.place.lookup_name.as_str())
    }

    /// The error, if the handshake failed by our own decision.
    pub(super) fn refusal(&mut self) -> Option<LoginError> {
        if let Some(failure) = self.failure.take() {
            return Some(failure);
        }
        match self.outcome {
            Outcome::Refused(Refusal::Verification) => Some(LoginError::HostKey),
            Outcome::Refused(Refusal::Interrupted) => Some(LoginError::Interrupted),
            _ => None,
        }
    }

    /// Judges the key the host has shown.
    pub(super) async fn check(&mut self, shown: &PublicKeyOrCertificate, ui: &dyn Ui) -> bool {
        self.outcome = match self.judge(shown, ui).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                self.failure = Some(failure);
                REFUSED
            }
        };
        let is_accepted = !matches!(self.outcome, Outcome::Refused(_));
        self.accepted = is_accepted.then(|| shown.public_key());
        is_accepted
    }

    async fn judge(
        &mut self,
        shown: &PublicKeyOrCertificate,
        ui: &dyn Ui,
    ) -> Result<Outcome, LoginError> {
        let key = shown.public_key();
        let Ok(blob) = key.to_bytes() else { return Ok(REFUSED) };
        tracing::debug!("Server host key: {} {}", wire_kind(&key), self.fingerprint(&key));
        if too_short(key.key_data(), self.settings.required_rsa_bits) {
            return Err(LoginError::ShortHostKey);
        }
        if self.is_revoked_by_file(shown, &key, ui) {
            return Ok(REFUSED);
        }
        if let Some(pinned) = self.pinned {
            return Ok(self.judge_pinned(pinned, shown, &key, ui));
        }
        if self.is_vouched_for_by_dns(&key, &blob, ui).await {
            return Ok(Outcome::Accepted);
        }
        if self.settings.host_keys.trust_loopback
            && self.settings.host_key_alias.is_none()
            && self.place.loopback
        {
            tracing::debug!("the loopback interface may show any key");
            return Ok(Outcome::Accepted);
        }
        if let Some(command) = &self.settings.host_keys.command {
            let purpose = Purpose::HostName(&key);
            let name = &self.place.lookup_name;
            let text =
                host_command::run(command, purpose, name, self.settings.host_keys.fingerprint_hash)
                    .await?;
            self.known.add(purpose.source(), &text, name);
        }
        if let PublicKeyOrCertificate::Certificate(certificate) = shown
            && let Some(outcome) = self.judge_certificate(certificate, &key, ui)
        {
            return Ok(outcome);
        }
        self.judge_key(&key, &blob, ui).await
    }

    /// Judges the key of a host that has shown its key before: that one and no other, unless it
    /// has been revoked since.
    fn judge_pinned(
        &self,
        pinned: &PublicKey,
        shown: &PublicKeyOrCertificate,
        key: &PublicKey,
        ui: &dyn Ui,
    ) -> Outcome {
        let is_revoked = |key: &PublicKey| {
            key.to_bytes().is_ok_and(|blob| self.known.check(&blob) == Verdict::Revoked)
        };
        let authority = match shown {
            PublicKeyOrCertificate::Certificate(certificate) => Some(certificate.signature_key()),
            PublicKeyOrCertificate::PublicKey { .. } => None,
        };
        let authority = authority.map(|key| PublicKey::from(key.clone()));
        if is_revoked(key) || authority.as_ref().is_some_and(is_revoked) {
            ui.warn(&self.revoked(key));
            return REFUSED;
        }
        if key.key_data() != pinned.key_data() {
            ui.warn(&self.alarm(key));
            return REFUSED;
        }
        Outcome::Accepted
    }

    /// Whether the domain name system vouches for the key, where that is enough.
    async fn is_vouched_for_by_dns(&mut self, key: &PublicKey, blob: &[u8], ui: &dyn Ui) -> bool {
        let mode = self.settings.host_keys.verify_dns;
        if mode == VerifyDns::No {
            return false;
        }
        match sshfp::look_up(&self.settings.host_name, &wire_kind(key), blob).await {
            sshfp::Verdict::Matches { is_secure } => {
                self.named_in_dns = true;
                is_secure && mode == VerifyDns::Yes
            }
            sshfp::Verdict::Differs => {
                ui.warn(&self.alarm(key));
                ui.warn(
                    "Update the SSHFP RR in DNS with the new host key to get rid of this message.",
                );
                false
            }
            sshfp::Verdict::Unknown => false,
        }
    }

    /// Whether RevokedHostKeys names the key; a file that cannot be read names all.
    fn is_revoked_by_file(
        &self,
        shown: &PublicKeyOrCertificate,
        key: &PublicKey,
        ui: &dyn Ui,
    ) -> bool {
        let Some(file) = &self.settings.host_keys.revoked_file else { return false };
        let (kind, path) = (kind_word(key), file.display());
        let fingerprint = self.fingerprint(key);
        match revoked::is_revoked(file, shown) {
            Ok(false) => return false,
            Ok(true) => {
                ui.warn(&format!("Host key {kind} {fingerprint} revoked by file {path}"));
            }
            Err(error) => ui.warn(&format!(
                "Error checking host key {kind} {fingerprint} in revoked keys file {path}: {}",
                system_words(&error)
            )),
        }
        true
    }

    /// Judges a certificate; `None` if it proves nothing, and the key inside must speak for itself.
    fn judge_certificate(
        &self,
        certificate: &Certificate,
        key: &PublicKey,
        ui: &dyn Ui,
    ) -> Option<Outcome> {
        let mut authority = Vec::new();
        certificate.signature_key().encode(&mut authority).ok()?;
        if self.known.check(&authority) == Verdict::Revoked {
            ui.warn(&self.revoked(key));
            return Some(REFUSED);
        }
        if !self.known.is_authority(&authority) {
            tracing::debug!("no authority that is known vouches for the host");
            return None;
        }
        let alias = self.settings.host_key_alias.as_ref();
        let name = alias.unwrap_or(&self.settings.host_name);
        match host_cert::check(certificate, name, &self.authorities) {
            Ok(()) => Some(Outcome::Accepted),
            Err(reason) => {
                ui.warn(reason);
                None
            }
        }
    }

    async fn judge_key(
        &mut self,
        key: &PublicKey,
        blob: &[u8],
        ui: &dyn Ui,
    ) -> Result<Outcome, LoginError> {
        let outcome = match self.known.check(blob) {
            Verdict::Known(entry) => {
                let file = entry.file.clone();
                let (name, kind) = (&self.place.lookup_name, kind_word(key));
                tracing::debug!("Host '{name}' is known and matches the {kind} host key.");
                tracing::debug!("Found key in {}:{}", file.display(), entry.line);
                self.updatable = self.settings.user_known_hosts_files.contains(&file);
                if self.settings.host_keys.visual {
                    let picture =
                        fingerprint::picture(key, self.settings.host_keys.fingerprint_hash);
                    ui.tell(&format!(
                        "Host key fingerprint is {}\n{picture}",
                        self.fingerprint(key)
                    ));
                }
                return self.check_address(key, blob, &file, ui).await;
            }
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
                    return Ok(REFUSED);
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
            Verdict::Unknown if self.known_without_port(blob) => Outcome::Accepted,
            Verdict::Unknown => {
                let outcome = match self.settings.strict_host_key_checking {
                    StrictHostKeyChecking::Yes => self.refuse_unknown(key, ui),
                    StrictHostKeyChecking::Ask if self.settings.batch_mode => {
                        self.refuse_unknown(key, ui)
                    }
                    StrictHostKeyChecking::Ask => self.ask(key, blob, ui).await,
                    StrictHostKeyChecking::AcceptNew | StrictHostKeyChecking::Off => {
                        Outcome::Accepted
                    }
                };
                if outcome == Outcome::Accepted {
                    self.learn(key, blob, ui);
                    self.updatable = true;
                }
                outcome
            }
        };
        Ok(outcome)
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
            matches!(known.check(blob), Verdict::Known(_))
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
        let fingerprint = self.fingerprint(key);
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
        let rules = &self.settings.host_keys;
        let mut shown = format!("{fingerprint}.");
        if rules.visual {
            shown = format!("{shown}\n{}", fingerprint::picture(key, rules.fingerprint_hash));
        }
        if rules.verify_dns != VerifyDns::No {
            let found = if self.named_in_dns { "Matching" } else { "No matching" };
            shown = format!("{shown}\n{found} host key fingerprint found in DNS.");
        }
        let question = format!(
            "The authenticity of host '{} ({})' can't be established.\n\
             {} key fingerprint is {shown}\n{names}\n\
             Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
            self.place.lookup_name,
            self.place.address,
            kind_word(key),
        );
        confirm(question, Some(&fingerprint), ui).await
    }

    /// With CheckHostIP, the host's address must have the same key, or none yet.
    async fn check_address(
        &mut self,
        key: &PublicKey,
        blob: &[u8],
        found: &Path,
        ui: &dyn Ui,
    ) -> Result<Outcome, LoginError> {
        let Some(address) = self.place.checked_address.clone() else {
            return Ok(Outcome::Accepted);
        };
        let settings = self.settings;
        let mut known = KnownHosts::load(
            &settings.user_known_hosts_files,
            &settings.global_known_hosts_files,
            &address,
        );
        if let Some(command) = &settings.host_keys.command {
            let purpose = Purpose::Address(key);
            let text =
                host_command::run(command, purpose, &address, settings.host_keys.fingerprint_hash)
                    .await?;
            known.add(purpose.source(), &text, &address);
        }
        let kind = kind_word(key);
        match known.check(blob) {
            Verdict::Known(entry) => {
                self.updatable &= settings.user_known_hosts_files.contains(&entry.file);
                Ok(Outcome::Accepted)
            }
            Verdict::Revoked => {
                ui.warn(&self.revoked(key));
                Ok(REFUSED)
            }
            Verdict::Unknown => {
                if let Some(file) = settings.user_known_hosts_files.first() {
                    let hash = settings.hash_known_hosts;
                    let kind_name = wire_kind(key);
                    match known_hosts::append(file, &[&address], &kind_name, blob, hash) {
                        Ok(()) => ui.tell(&format!(
                            "Warning: Permanently added the {kind} host key for IP address \
                             '{address}' to the list of known hosts."
                        )),
                        Err(_) => ui.tell(&format!(
                            "Failed to add the {kind} host key for IP address '{address}' to \
                             the list of known hosts ({}).",
                            file.display()
                        )),
                    }
                }
                Ok(Outcome::Accepted)
            }
            Verdict::Changed(entry) => {
                ui.warn(&format!(
                    "Warning: the {kind} host key for '{}' differs from the key for the IP \
                     address '{address}'\nOffending key for IP in {}:{}\nMatching host key in {}",
                    self.place.lookup_name,
                    entry.file.display(),
                    entry.line,
                    found.display(),
                ));
                match settings.strict_host_key_checking {
                    StrictHostKeyChecking::Off => Ok(Outcome::Accepted),
                    StrictHostKeyChecking::Ask if !settings.batch_mode => {
                        let question =
                            "Are you sure you want to continue connecting (yes/no)? ".to_owned();
                        Ok(confirm(question, None, ui).await)
                    }
                    _ => {
                        ui.warn("Exiting, you have requested strict checking.");
                        Ok(REFUSED)
                    }
                }
            }
        }
    }

    /// Writes the key down. Failing to is no reason to refuse the host.
    fn learn(&self, key: &PublicKey, blob: &[u8], ui: &dyn Ui) {
        let Some(file) = self.settings.user_known_hosts_files.first() else {
            return;
        };
        let kind = wire_kind(key);
        let name = self.place.lookup_name.as_str();
        let address = self.place.checked_address.as_deref();
        let names: Vec<&str> = std::iter::once(name).chain(address).collect();
        let said = names.join(",");
        match known_hosts::append(file, &names, &kind, blob, self.settings.hash_known_hosts) {
            Ok(()) => ui.tell(&format!(
                "Warning: Permanently added '{said}' ({}) to the list of known hosts.",
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
    }

    /// Says that the key is not the one expected.
    fn alarm(&self, key: &PublicKey) -> String {
        format!(
            "{RULE}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{RULE}\n\
             IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n\
             Someone could be eavesdropping on you right now (man-in-the-middle attack)!\n\
             It is also possible that a host key has just been changed.\n\
             The fingerprint for the {} key sent by the remote host is\n{}.\n\
             Please contact your system administrator.",
            kind_word(key),
            self.fingerprint(key),
        )
    }

    fn changed(&self, key: &PublicKey, entry: &Entry) -> String {
        let file = entry.file.display();
        let own_file = self.settings.user_known_hosts_files.first();
        let own_file = own_file.map_or_else(|| file.to_string(), |own| own.display().to_string());
        format!(
            "{}\nAdd correct host key in {own_file} to get rid of this message.\n\
             Offending {} key in {file}:{}\n  remove with:\n  ssh-keygen -f \"{file}\" -R \"{}\"",
            self.alarm(key),
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

/// Asks until the answer is yes, no or the fingerprint.
async fn confirm(question: String, fingerprint: Option<&str>, ui: &dyn Ui) -> Outcome {
    let mut prompt = question;
    loop {
        let answer = match ui.ask(&prompt, Echo::On).await {
            Ok(answer) => answer,
            Err(PromptError::Interrupted) => return Outcome::Refused(Refusal::Interrupted),
            Err(_) => return REFUSED,
        };
        let answer = answer.trim();
        if answer.eq_ignore_ascii_case("yes") || Some(answer) == fingerprint {
            return Outcome::Accepted;
        }
        if answer.is_empty() || answer.eq_ignore_ascii_case("no") {
            return REFUSED;
        }
        prompt = match fingerprint {
            Some(_) => "Please type 'yes', 'no' or the fingerprint: ".into(),
            None => "Please type 'yes' or 'no': ".into(),
        };
    }
}

/// How many other names of a key the question shows, as OpenSSH.
const OTHER_NAMES: usize = 8;
