//! The authentication agent: what it holds, and signatures by it.
//!
//! Every failure here means "no such key", never "no login": an agent that is
//! gone, locked or holds something we cannot read leaves the identity files.
//! Wire: draft-ietf-sshm-ssh-agent; `session-bind@openssh.com` as in OpenSSH's
//! PROTOCOL.agent.

use std::path::PathBuf;
use std::time::Duration;

use russh::keys::agent::client::{AgentClient, AgentStream};
use russh::keys::agent::{AgentIdentity, AgentSessionBinding, Constraint};
use russh::keys::ssh_encoding::Decode;
use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::settings::{IdentityAgent, Settings};
use crate::sys::account::USUAL_AGENT;

/// A connection to an agent, bound to one ssh connection.
pub(super) struct Agent {
    client: AgentClient<Box<dyn AgentStream + Send + Unpin>>,
}

/// Where the client of the agent logs to. At debug level it prints what it
/// has signed, byte by byte, which is nothing for a log.
pub(crate) const AGENT_LOG_TARGET: &str = "russh::keys::agent";

/// What an agent may say at most in one answer (OpenSSH's `AGENT_MAX_LEN`).
const MAX_ANSWER: u32 = 256 * 1024;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;

impl Agent {
    /// Connects to the agent and asks what it holds; `None` without an agent.
    ///
    /// The binding lets keys restricted to certain hosts show up (`ssh-add -h`).
    pub(super) async fn connect(
        settings: &Settings,
        binding: Option<&AgentSessionBinding>,
    ) -> Option<(Self, Vec<AgentIdentity>)> {
        let path = match &settings.identity_agent {
            IdentityAgent::None => return None,
            IdentityAgent::Path(path) => path.clone(),
            IdentityAgent::Environment => {
                let named = std::env::var_os("SSH_AUTH_SOCK");
                PathBuf::from(named.or_else(|| USUAL_AGENT.map(Into::into))?)
            }
        };
        let mut client = match host::local::connect(&path).await {
            Ok(stream) => AgentClient::connect(stream).dynamic(),
            Err(error) => {
                tracing::debug!(%error, "no agent");
                return None;
            }
        };
        if let Some(binding) = binding
            && let Err(error) = client.bind_session(binding, false).await
        {
            // Agents other than OpenSSH's do not know the request.
            tracing::debug!(%error, "agent not bound to the session");
        }
        let mut stream = client.into_inner();
        match identities(&mut stream).await {
            Ok(identities) => Some((Self { client: AgentClient::connect(stream) }, identities)),
            Err(error) => {
                tracing::debug!(%error, "the agent does not say what it holds");
                None
            }
        }
    }

    /// Hands a key over, to be held for the next login (AddKeysToAgent).
    ///
    /// # Errors
    /// The agent does not take it.
    pub(super) async fn add(
        &mut self,
        key: &PrivateKey,
        confirm: bool,
        lifetime: Option<Duration>,
    ) -> Result<(), russh::keys::Error> {
        let seconds = lifetime.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
        let constraints: Vec<Constraint> = seconds
            .map(|seconds| Constraint::KeyLifetime { seconds })
            .into_iter()
            .chain(confirm.then_some(Constraint::Confirm))
            .collect();
        self.client.add_identity(key, &constraints).await
    }

    /// Appends the signature over `to_sign` to it.
    pub(super) async fn sign(
        &mut self,
        identity: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, russh::keys::Error> {
        self.client.sign_request(identity, hash, to_sign).await
    }
}

/// Asks for the identities. Those of a kind we do not know are left out, where
/// russh's own request would fail as a whole.
async fn identities(
    stream: &mut (impl AgentStream + Unpin),
) -> std::io::Result<Vec<AgentIdentity>> {
    stream.write_all(&[0, 0, 0, 1, REQUEST_IDENTITIES]).await?;
    stream.flush().await?;
    let length = stream.read_u32().await?;
    if length > MAX_ANSWER {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut answer = Vec::new();
    stream.take(length.into()).read_to_end(&mut answer).await?;
    Ok(parse_identities(&answer).unwrap_or_default())
}

fn parse_identities(answer: &[u8]) -> Option<Vec<AgentIdentity>> {
    let (&IDENTITIES_ANSWER, mut rest) = answer.split_first()? else {
        return None;
    };
    let count = u32::decode(&mut rest).ok()?;
    let mut found = Vec::new();
    for _ in 0..count {
        let blob = Vec::<u8>::decode(&mut rest).ok()?;
        let comment = Vec::<u8>::decode(&mut rest).ok()?;
        let comment = String::from_utf8_lossy(&comment).into_owned();
        if let Some(identity) = parse_identity(&blob, comment) {
            found.push(identity);
        }
    }
    Some(found)
}

fn parse_identity(blob: &[u8], comment: String) -> Option<AgentIdentity> {
    // The parser of certificates recurses into the authority's key.
    if blob.windows(10).filter(|w| w == b"-cert-v01@").count() > 1 {
        return None;
    }
    let algorithm = String::decode(&mut &blob[..]).ok()?;
    if algorithm.contains("-cert-v01@") {
        Some(AgentIdentity::Certificate {
            certificate: Certificate::from_bytes(blob).ok()?,
            comment,
        })
    } else {
        Some(AgentIdentity::PublicKey { key: PublicKey::from_bytes(blob).ok()?, comment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend((u32::try_from(bytes.len()).expect("short")).to_be_bytes());
        out.extend(bytes);
    }

    #[test]
    fn an_identity_of_an_unknown_kind_does_not_hide_the_others() {
        let mut good = Vec::new();
        string(&mut good, b"ssh-ed25519");
        string(&mut good, &[7; 32]);
        let mut strange = Vec::new();
        string(&mut strange, b"ssh-from-the-future");
        strange.extend([1, 2, 3]);

        let mut answer = vec![IDENTITIES_ANSWER, 0, 0, 0, 2];
        string(&mut answer, &strange);
        string(&mut answer, b"strange");
        string(&mut answer, &good);
        string(&mut answer, b"good");

        let found = parse_identities(&answer).expect("a well-formed answer");
        let comments: Vec<&str> = found.iter().map(AgentIdentity::comment).collect();
        assert_eq!(comments, ["good"]);
    }

    #[test]
    fn a_truncated_answer_is_refused() {
        assert!(parse_identities(&[IDENTITIES_ANSWER, 0, 0, 0, 9, 0]).is_none());
        assert!(parse_identities(&[5]).is_none());
    }
}
