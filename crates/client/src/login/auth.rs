//! Authentication: proving to the server who we are.
//!
//! What OpenSSH does in sshconnect2.c (9.2), with one round trip less: it asks
//! for method `none` first to learn what the server offers; we offer a key at
//! once where there is one, and learn the list from the first refusal. `none`
//! is asked where there is no key to begin with, and as the last resort (some
//! servers let everybody in).

use std::net::SocketAddr;
use std::path::Path;

use russh::MethodSet;
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse, Prompt};
use russh::keys::{Algorithm, HashAlg, PrivateKey};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::agent::Agent;
use super::algorithms::Accepted;
use super::answers::Kept;
use super::handler::{Connection, End, Event, Shared};
use super::identity::{self, Candidate, LoadError, Loader, Public, Source};
use super::kinds::{kind_word, too_short};
use super::methods::{Method, Plan};
use super::signer::{SignError, Signer};
use super::ui::{Echo, PromptError, Ui, printable};
use super::{DISCONNECT_GRACE, LoginError, fingerprint};
use crate::config::settings::{AddKeys, Settings};

/// One authentication, from the first request to success or the last refusal.
pub(super) struct Authentication<'a> {
    settings: &'a Settings,
    ui: &'a dyn Ui,
    events: &'a mut mpsc::UnboundedReceiver<Event>,
    shared: &'a Shared,
    plan: Plan,
    accepted: Accepted,
    kept: Kept<'a>,
    passwords_sent: u32,
    dialogues: u32,
}

/// What one request came to.
enum Outcome {
    Success,
    /// The server refused, or wants more besides.
    Refused {
        offered: MethodSet,
    },
    /// The method has nothing left to try; the server was not asked.
    Exhausted,
}

/// The keys of the publickey method, in order, the next one first.
struct Keys {
    left: std::vec::IntoIter<Candidate>,
    agent: Option<Agent>,
    rsa_hash: Option<Option<Option<HashAlg>>>,
}

impl<'a> Authentication<'a> {
    /// `secrets`: whether passwords may be sent to this host.
    ///
    /// # Errors
    /// PubkeyAcceptedAlgorithms names nothing we can do.
    pub(super) fn new(
        settings: &'a Settings,
        ui: &'a dyn Ui,
        events: &'a mut mpsc::UnboundedReceiver<Event>,
        shared: &'a Shared,
        secrets: bool,
    ) -> Result<Self, LoginError> {
        Ok(Self {
            settings,
            ui,
            events,
            shared,
            plan: Plan::new(settings, secrets),
            accepted: Accepted::new(settings)?,
            kept: Kept::new(settings, ui),
            passwords_sent: 0,
            dialogues: 0,
        })
    }

    pub(super) async fn run(
        mut self,
        mut handle: Handle<Connection>,
    ) -> Result<Handle<Connection>, LoginError> {
        let mut keys = self.keys(&handle).await;
        let mut offered: Option<MethodSet> = None;
        let mut none_asked = false;
        loop {
            let method = match &offered {
                None => self.plan.first().filter(|&first| {
                    first == Method::PublicKey && !keys.left.as_slice().is_empty()
                }),
                Some(offered) => self.plan.next(offered),
            };
            if let Some(method) = method {
                tracing::debug!("Next authentication method: {}", method.name());
            }
            let outcome = match method {
                Some(Method::PublicKey) => self.offer_key(&mut handle, &mut keys).await?,
                Some(Method::KeyboardInteractive) => self.answer_questions(&mut handle).await?,
                Some(Method::Password) => self.send_password(&mut handle).await?,
                None if !none_asked => {
                    none_asked = true;
                    self.ask_none(&mut handle).await?
                }
                None => return Err(self.denied(offered.as_ref())),
            };
            match (outcome, method) {
                (Outcome::Success, method) => {
                    let name = method.map_or("none", Method::name);
                    let (host, peer) = (&self.settings.host_name, reached(self.shared.peer));
                    tracing::info!("Authenticated to {host} ({peer}) using \"{name}\".");
                    return Ok(handle);
                }
                (Outcome::Refused { offered: now }, _) => {
                    tracing::debug!("Authentications that can continue: {}", names(&now).join(","));
                    offered = Some(now);
                }
                (Outcome::Exhausted, Some(method)) => self.plan.exhaust(method),
                (Outcome::Exhausted, None) => return Err(self.denied(offered.as_ref())),
            }
        }
    }

    async fn keys(&self, handle: &Handle<Connection>) -> Keys {
        if !self.settings.pubkey_authentication {
            return Keys { left: Vec::new().into_iter(), agent: None, rsa_hash: None };
        }
        let settings = self.settings;
        let files =
            identity::read_files(&settings.identity_files, &settings.certificate_files, self.ui);
        let (agent, held) = Agent::connect(self.settings, handle.agent_session_binding())
            .await
            .map_or((None, Vec::new()), |(agent, held)| (Some(agent), held));
        let ordered = identity::order(files, held, self.settings.identities_only);
        Keys { left: ordered.into_iter(), agent, rsa_hash: None }
    }

    async fn ask_none(&mut self, handle: &mut Handle<Connection>) -> Result<Outcome, LoginError> {
        let result = self.listen(handle.authenticate_none(&self.settings.user)).await;
        self.outcome(handle, result).await
    }

    /// Offers the next key; the server is asked before anything is signed.
    async fn offer_key(
        &mut self,
        handle: &mut Handle<Connection>,
        keys: &mut Keys,
    ) -> Result<Outcome, LoginError> {
        let Keys { left, agent, rsa_hash } = keys;
        for candidate in left.by_ref() {
            let settings = self.settings;
            let ui = self.ui;
            let path = match &candidate.source {
                Source::File(path) => Some(path),
                _ => None,
            };
            let mut signer = match (&candidate.source, agent.as_mut()) {
                (Source::Agent, Some(agent)) => Signer::Agent(agent),
                (Source::AgentKey(key), Some(agent)) => Signer::AgentKey(agent, key.clone()),
                (Source::File(path), _) => {
                    let expected = candidate.public.key_data();
                    Signer::File(Loader::new(settings, path, expected, ui), None)
                }
                _ => continue,
            };
            let mut public = candidate.public.clone();
            if public == Public::Unknown
                && let Signer::File(loader, _) = &signer
            {
                match self.listen(loader.load()).await {
                    Ok(key) => {
                        public = Public::Key(key.public_key().clone());
                        signer = Signer::Loaded(key);
                    }
                    Err(LoadError::Interrupted) => return Err(LoginError::Interrupted),
                    Err(LoadError::Unusable) => continue,
                }
            }
            let Some(hash) = self.usable(handle, &public, rsa_hash).await else {
                tracing::debug!(?path, "key passed over: its algorithm is not wanted");
                continue;
            };
            self.tell_of(&candidate.source, &public);
            let user = &settings.user;
            let result = match public {
                Public::Key(key) => {
                    self.listen(handle.authenticate_publickey_with(user, key, hash, &mut signer))
                        .await
                }
                Public::Certificate(certificate) => {
                    self.listen(handle.authenticate_certificate_with(
                        user,
                        *certificate,
                        hash,
                        &mut signer,
                    ))
                    .await
                }
                Public::Unknown => continue,
            };
            let loaded = match signer {
                Signer::File(_, Some(key)) | Signer::Loaded(key) => Some(key),
                _ => None,
            };
            if let (Some(key), Some(path), Some(agent)) = (loaded, path, agent.as_mut()) {
                self.offer_to_agent(agent, &key, path).await;
            }
            match result {
                Ok(result) => return self.outcome(handle, Ok(result)).await,
                Err(SignError::Load(LoadError::Interrupted)) => {
                    return Err(LoginError::Interrupted);
                }
                Err(SignError::Connection(_)) => return Err(self.ended().await),
                Err(SignError::SecurityKey) => {
                    let path = path.map(|path| path.display().to_string()).unwrap_or_default();
                    ui.tell(&format!(
                        "{path}: without ssh-sk-helper, keys on a security token sign through \
                         ssh-agent only; run ssh-add {path}"
                    ));
                }
                // A sick key does not end the login.
                Err(error) => tracing::debug!(%error, "key not usable"),
            }
        }
        Ok(Outcome::Exhausted)
    }

    /// Says which key is offered.
    fn tell_of(&self, source: &Source, public: &Public) {
        let key = match public {
            Public::Key(key) => key.clone(),
            Public::Certificate(certificate) => certificate.public_key().clone().into(),
            Public::Unknown => return,
        };
        let from = match source {
            Source::File(path) => path.display().to_string(),
            Source::Agent | Source::AgentKey(_) | Source::Nowhere => "agent".to_owned(),
        };
        let print = fingerprint::of(&key, self.settings.host_keys.fingerprint_hash);
        tracing::debug!("Offering public key: {from} {} {print}", kind_word(&key));
    }

    /// Returns what to sign with (RSA keys only); `None` if the key may not be used at all.
    async fn usable(
        &self,
        handle: &Handle<Connection>,
        public: &Public,
        announced: &mut Option<Option<Option<HashAlg>>>,
    ) -> Option<Option<HashAlg>> {
        let data = public.key_data()?;
        let certified = matches!(public, Public::Certificate(_));
        if too_short(data, self.settings.required_rsa_bits) {
            return None;
        }
        let algorithm = data.algorithm();
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return self.accepted.allows(&algorithm, certified).then_some(None);
        }
        let allows = |hash| self.accepted.allows(&Algorithm::Rsa { hash }, certified);
        let modern = [HashAlg::Sha512, HashAlg::Sha256].map(Some);
        match rsa_hash(handle, announced).await {
            // The server knows of nothing better.
            Some(None) => allows(None).then_some(None),
            Some(best) if allows(best) => Some(best),
            // It does not say: a server of old, if the user has one in mind.
            None if allows(None) => Some(None),
            _ => modern.into_iter().chain([None]).find(|&hash| allows(hash)),
        }
    }

    /// Hands a key that was read from a file to the agent, if AddKeysToAgent says so.
    async fn offer_to_agent(&mut self, agent: &mut Agent, key: &PrivateKey, path: &Path) {
        let (confirm, lifetime) = match self.settings.add_keys_to_agent {
            AddKeys::No => return,
            AddKeys::Yes { confirm, lifetime } => (confirm, lifetime),
            AddKeys::Ask => {
                let question = format!("Add key {} ({}) to agent?", path.display(), key.comment());
                let ui = self.ui;
                if !self.listen(ui.permit(&question)).await {
                    return;
                }
                (false, None)
            }
        };
        let mut key = key.clone();
        if key.comment().as_bytes().is_empty() {
            key.set_comment(path.to_string_lossy().into_owned());
        }
        match agent.add(&key, confirm, lifetime).await {
            Ok(()) => tracing::debug!(path = %path.display(), "key added to the agent"),
            Err(error) => tracing::debug!(%error, "the agent does not take the key"),
        }
    }

    async fn send_password(
        &mut self,
        handle: &mut Handle<Connection>,
    ) -> Result<Outcome, LoginError> {
        if self.passwords_sent >= self.settings.number_of_password_prompts {
            return Ok(Outcome::Exhausted);
        }
        if self.passwords_sent > 0 {
            self.ui.warn("Permission denied, please try again.");
        }
        self.passwords_sent += 1;
        let host = self.settings.host_key_alias.as_ref().unwrap_or(&self.settings.host_name);
        let prompt = format!("{}@{host}'s password: ", self.settings.user);
        let password = match self.kept.password().await {
            None => self.ask(&prompt, Echo::Off).await?,
            kept => kept,
        };
        let Some(password) = password else {
            return Ok(Outcome::Exhausted);
        };
        let request = handle.authenticate_password(&self.settings.user, password.as_str());
        let result = self.listen(request).await;
        self.outcome(handle, result).await
    }

    /// Keyboard-interactive: the server asks, round after round (RFC 4256).
    async fn answer_questions(
        &mut self,
        handle: &mut Handle<Connection>,
    ) -> Result<Outcome, LoginError> {
        if self.dialogues >= self.settings.number_of_password_prompts {
            return Ok(Outcome::Exhausted);
        }
        self.dialogues += 1;
        let start =
            handle.authenticate_keyboard_interactive_start(&self.settings.user, None::<String>);
        let mut reply = self.listen(start).await;
        let (mut asked, mut number) = (false, 0);
        loop {
            let (name, instructions, prompts) = match reply {
                Ok(KeyboardInteractiveAuthResponse::Success) => return Ok(Outcome::Success),
                Ok(KeyboardInteractiveAuthResponse::Failure {
                    remaining_methods,
                    partial_success,
                }) => {
                    if !asked {
                        // It would refuse without a question again.
                        self.plan.exhaust(Method::KeyboardInteractive);
                    }
                    let result = Ok(AuthResult::Failure { remaining_methods, partial_success });
                    return self.outcome(handle, result).await;
                }
                Ok(KeyboardInteractiveAuthResponse::InfoRequest {
                    name,
                    instructions,
                    prompts,
                }) => (name, instructions, prompts),
                Err(_) => return Err(self.ended().await),
            };
            asked |= !prompts.is_empty();
            let answers = self.answers(&name, &instructions, &prompts, number).await?;
            let Some(answers) = answers else {
                return Ok(Outcome::Exhausted);
            };
            number += prompts.len();
            let answers = answers.iter().map(|answer| answer.as_str().into()).collect();
            let respond = handle.authenticate_keyboard_interactive_respond(answers);
            reply = self.listen(respond).await;
        }
    }

    /// Answers one round; `before` questions were asked in earlier ones.
    async fn answers(
        &mut self,
        name: &str,
        instructions: &str,
        prompts: &[Prompt],
        before: usize,
    ) -> Result<Option<Vec<Zeroizing<String>>>, LoginError> {
        for text in [name, instructions] {
            if !text.is_empty() {
                self.ui.tell(&printable(text));
            }
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for (number, prompt) in (before + 1..).zip(prompts) {
            let echo = if prompt.echo { Echo::On } else { Echo::Off };
            if let Some(answer) = self.kept.reply(number, &prompt.prompt, echo).await {
                answers.push(answer);
                continue;
            }
            // The server chooses the words, so the line says whose they are.
            let text = format!(
                "({}@{}) {}",
                self.settings.user,
                self.settings.host_name,
                printable(&prompt.prompt)
            );
            match self.ask(&text, echo).await? {
                Some(answer) => answers.push(answer),
                None => return Ok(None),
            }
        }
        Ok(Some(answers))
    }

    /// Asks a person; `None` if there is nobody to ask.
    async fn ask(
        &mut self,
        prompt: &str,
        echo: Echo,
    ) -> Result<Option<Zeroizing<String>>, LoginError> {
        if self.settings.batch_mode {
            return Ok(None);
        }
        let ui = self.ui;
        match self.listen(ui.ask(prompt, echo)).await {
            Ok(answer) => Ok(Some(answer)),
            Err(PromptError::Interrupted) => Err(LoginError::Interrupted),
            Err(error) => {
                tracing::debug!(%error, "no answer");
                Ok(None)
            }
        }
    }

    async fn outcome(
        &self,
        handle: &Handle<Connection>,
        result: Result<AuthResult, russh::Error>,
    ) -> Result<Outcome, LoginError> {
        match result {
            Ok(AuthResult::Success) => Ok(Outcome::Success),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                // russh says "no methods left" both for a server that offers
                // nothing and for a connection that is gone.
                if remaining_methods.is_empty() {
                    return Err(self.ended().await);
                }
                if partial_success {
                    tracing::debug!("authenticated with partial success");
                }
                Ok(Outcome::Refused { offered: remaining_methods })
            }
            Err(_) if handle.is_closed() => Err(self.ended().await),
            Err(error) => Err(LoginError::Lost { reason: printable(&error.to_string()) }),
        }
    }

    /// Says why the connection ended.
    async fn ended(&self) -> LoginError {
        match tokio::time::timeout(DISCONNECT_GRACE, self.shared.ended()).await {
            Ok(End::NoMethods) | Err(_) => self.denied(None),
            Ok(end) => self.shared.auth_error(end),
        }
    }

    fn denied(&self, offered: Option<&MethodSet>) -> LoginError {
        self.name_missing_methods(offered);
        let names = offered.map(names).unwrap_or_default();
        LoginError::Denied {
            user: self.settings.user.clone(),
            host: self.settings.host_name.clone(),
            methods: names.join(","),
        }
    }

    /// Says which methods might have helped that we do not have.
    fn name_missing_methods(&self, offered: Option<&MethodSet>) {
        let takes = |method: &&&str| {
            offered.is_some_and(|offered| offered.iter().any(|kind| <&str>::from(kind) == **method))
        };
        let missing: Vec<_> = self.settings.missing_methods.iter().filter(takes).copied().collect();
        if !missing.is_empty() {
            self.ui.tell(&format!(
                "tssh has no {} authentication; --via-ssh lets the system's ssh log in.",
                missing.join(" and no ")
            ));
        }
    }

    /// Runs `request` while showing banners as they come.
    async fn listen<T>(&mut self, request: impl Future<Output = T>) -> T {
        tokio::pin!(request);
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => match event {
                    Event::Banner(text) => self.ui.banner(&text),
                    // russh asks about the key of the first exchange only, and
                    // does not compare that of a later one. A later exchange
                    // runs inside the encryption of the first, so whoever
                    // answers it holds what was agreed with the first key.
                    // Were we asked, the dropped verdict would refuse.
                    Event::HostKey { .. } => {}
                },
                result = &mut request => return result,
            }
        }
    }
}

/// How the wire calls methods.
fn names(offered: &MethodSet) -> Vec<&str> {
    offered.iter().map(<&str>::from).collect()
}

/// The hash to sign with RSA keys, asked of the server's `server-sig-algs` once: the best it
/// takes, `Some(None)` for SHA-1; `None` if it does not say.
async fn rsa_hash(
    handle: &Handle<Connection>,
    known: &mut Option<Option<Option<HashAlg>>>,
) -> Option<Option<HashAlg>> {
    if known.is_none() {
        *known = Some(handle.best_supported_rsa_hash().await.unwrap_or(None));
    }
    known.flatten()
}

/// Says where a connection leads, as OpenSSH does: the address in brackets, of either family.
fn reached(peer: Option<SocketAddr>) -> String {
    peer.map_or("via proxy".to_owned(), |peer| format!("[{}]:{}", peer.ip(), peer.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_about_the_login_has_every_address_in_brackets() {
        let said = |peer: &str| reached(Some(peer.parse().unwrap()));
        assert_eq!(said("192.0.2.1:22"), "[192.0.2.1]:22");
        assert_eq!(said("[2001:db8::1]:2222"), "[2001:db8::1]:2222");
        assert_eq!(reached(None), "via proxy");
    }
}
