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
use russh::keys::{HashAlg, PrivateKey, PublicKey};

use super::agent::Agent;
use super::identity::{LoadError, Loader};
use super::token;

/// Where the signature comes from.
pub(super) enum Signer<'a> {
    /// The agent holds the key.
    Agent(&'a mut Agent),
    /// The agent holds this key, of which the certificate is not the agent's.
    AgentKey(&'a mut Agent, PublicKey),
    /// The key is in a file, read when it is needed, and then kept in the second field.
    File(Loader<'a>, Option<Arc<PrivateKey>>),
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
    #[error("the key is on a security token")]
    SecurityKey,
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
            Self::AgentKey(agent, key) => {
                let identity =
                    AgentIdentity::PublicKey { key: key.clone(), comment: String::new() };
                agent.sign(&identity, hash, to_sign).await.map_err(SignError::Agent)
            }
            Self::File(loader, loaded) => {
                let key = loader.load().await?;
                if token::holds(&key) {
                    return loader.sign_by_token(&key, to_sign).await;
                }
                let signed = sign(&key, hash, to_sign);
                *loaded = Some(key);
                signed
            }
            Self::Loaded(key) => sign(key, hash, to_sign),
        }
    }
}

/// Appends the signature over `to_sign` to it, as russh wants it.
fn sign(key: &PrivateKey, hash: Option<HashAlg>, to_sign: Vec<u8>) -> Result<Vec<u8>, SignError> {
    let signature = match key.key_data() {
        KeypairData::SkEd25519(_) | KeypairData::SkEcdsaSha2NistP256(_) => {
            return Err(SignError::SecurityKey);
        }
        KeypairData::Rsa(pair) => (pair, hash).try_sign(&to_sign),
        other => other.try_sign(&to_sign),
    }
    .map_err(|_| SignError::Key)?;
    let mut blob = Vec::new();
    signature.encode(&mut blob).map_err(|_| SignError::Key)?;
    append(&blob, to_sign)
}

/// Appends a signature, as the wire has it, to what it is about.
pub(super) fn append(blob: &[u8], mut to_sign: Vec<u8>) -> Result<Vec<u8>, SignError> {
    blob.encode(&mut to_sign).map_err(|_| SignError::Key)?;
    Ok(to_sign)
}
