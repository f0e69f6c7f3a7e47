//! Signing with a key of ours: from a file or in the agent.
//!
//! russh's own way of signing with a certificate announces RSA ones as SHA-1,
//! which servers refuse; going through [`russh::Signer`] for everything avoids
//! that, and lets a private key be read (and its passphrase asked for) only
//! after the server has said that it would accept the key, as OpenSSH does.

use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};

use super::agent::Agent;
use super::identity::{LoadError, Loader};

/// Where the signature comes from.
pub(super) enum Signer<'a> {
    /// The agent holds the key.
    Agent(&'a mut Agent),
    /// The key is in a file, read when it is needed.
    File(Loader<'a>),
    /// The key is at hand.
    Loaded(Arc<PrivateKey>),
}

/// Why there is no signature. The login goes on with the next key, unless interrupted.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("the connection is gone")]
    Connection(#[from] russh::SendError),
    #[error("the agent refused to sign")]
    Agent(#[source] russh::keys::Error),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the key cannot sign")]
    Key,
}

impl russh::Signer for Signer<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        match self {
            Self::Agent(agent) => {
                agent.sign(identity, hash, to_sign).await.map_err(SignError::Agent)
            }
            Self::File(loader) => {
                let key = loader.load().await?;
                sign(&key, hash, to_sign)
            }
            Self::Loaded(key) => sign(key, hash, to_sign),
        }
    }
}

/// Appends the signature over `to_sign` to it, as russh wants it.
fn sign(
    key: &PrivateKey,
    hash: Option<HashAlg>,
    mut to_sign: Vec<u8>,
) -> Result<Vec<u8>, SignError> {
    let signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(&to_sign),
        other => other.try_sign(&to_sign),
    }
    .map_err(|_| SignError::Key)?;
    let mut blob = Vec::new();
    signature.encode(&mut blob).map_err(|_| SignError::Key)?;
    blob.as_slice().encode(&mut to_sign).map_err(|_| SignError::Key)?;
    Ok(to_sign)
}
