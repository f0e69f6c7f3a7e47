//! UpdateHostKeys: a server announces its host keys, and known_hosts follows.
//!
//! Right after authentication OpenSSH's server lists all its keys. Those we do not know yet it
//! must prove to hold, and then the files are made to say what it says: this is how a host moves
//! to new keys without a question. What the files allow is decided by
//! [`known_hosts::update`](super::known_hosts::update).
//! Wire: `hostkeys-00@openssh.com` and `hostkeys-prove-00@openssh.com` in OpenSSH's PROTOCOL.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use russh::client::Handle;
use russh::keys::PublicKey;

use super::handler::{Connection, Shared};
use super::known_hosts::update::{self, Announced, Finding};
use super::ui::{Echo, Ui};
use super::{dial::system_words, fingerprint, kinds};
use crate::config::settings::{FingerprintHash, Settings};

/// What may be changed for one host.
pub(super) struct Update {
    /// How known_hosts has the host.
    name: String,
    files: Vec<PathBuf>,
    hash: bool,
    fingerprint_hash: FingerprintHash,
}

impl Update {
    pub(super) fn new(settings: &Settings, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            files: settings.user_known_hosts_files.clone(),
            hash: settings.hash_known_hosts,
            fingerprint_hash: settings.host_keys.fingerprint_hash,
        }
    }

    /// Waits for the announcement and does what it takes, without a word to anybody.
    pub(super) async fn silently(self, shared: Arc<Shared>, handle: Weak<Handle<Connection>>) {
        let keys = shared.announced().await;
        let Some((new, old)) = self.examine(&keys) else { return };
        // If the connection has ended there is nothing to prove any more.
        let Some(handle) = handle.upgrade() else { return };
        if prove(&handle, &new).await {
            tracing::debug!(host = self.name, new = new.len(), old, "host keys renewed");
            self.replace(&keys);
        }
    }

    /// The same with the consent of a person.
    pub(super) async fn asking(self, keys: &[PublicKey], handle: &Handle<Connection>, ui: &dyn Ui) {
        let Some((new, old)) = self.examine(keys) else { return };
        if !prove(handle, &new).await {
            return;
        }
        ui.tell("The server has updated its host keys.");
        ui.tell("These changes were verified by the server's existing trusted key.");
        for key in &new {
            let fingerprint = fingerprint::of(key, self.fingerprint_hash);
            ui.tell(&format!("Learned new hostkey: {} {fingerprint}", kinds::kind_word(key)));
        }
        if old > 0 {
            ui.tell(&format!("Obsolete host keys: {old}"));
        }
        let mut question = "Accept updated hostkeys? (yes/no): ";
        while let Ok(answer) = ui.ask(question, Echo::On).await {
            match answer.trim().to_ascii_lowercase().as_str() {
                "yes" => return self.replace(keys),
                "no" | "" => return,
                _ => question = "Please type \"yes\" or \"no\": ",
            }
        }
    }

    /// Returns the keys to add and how many to take away, if there is anything to do.
    fn examine(&self, keys: &[PublicKey]) -> Option<(Vec<PublicKey>, usize)> {
        match update::examine(&self.files, &self.name, &announced(keys)) {
            Finding::Leave => None,
            // An announcement of nothing we understand is no reason to forget all.
            Finding::Change { .. } if keys.is_empty() => None,
            Finding::Change { new, old } => {
                let new = new.into_iter().filter_map(|place| keys.get(place)).cloned();
                Some((new.collect(), old))
            }
        }
    }

    fn replace(&self, keys: &[PublicKey]) {
        if let Err(error) = update::replace(&self.files, &self.name, &announced(keys), self.hash) {
            tracing::debug!(error = system_words(&error), "known_hosts not updated");
        }
    }
}

async fn prove(handle: &Handle<Connection>, new: &[PublicKey]) -> bool {
    match handle.hostkeys_prove(new.to_vec()).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "the server does not prove that it holds its new host keys");
            false
        }
    }
}

fn announced(keys: &[PublicKey]) -> Vec<Announced> {
    let read = |key: &PublicKey| {
        Some(Announced { kind: kinds::wire_kind(key), blob: key.to_bytes().ok()? })
    };
    keys.iter().filter_map(read).collect()
}
