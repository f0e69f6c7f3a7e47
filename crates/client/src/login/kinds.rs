//! Kinds of keys: how the wire, known_hosts and people call them, and their sizes.

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, EcdsaCurve, PublicKey};

/// The size of a key as OpenSSH counts it.
pub(super) fn bits(key: &KeyData) -> Option<u32> {
    match key {
        KeyData::Rsa(key) => {
            let bytes = key.n().as_positive_bytes()?;
            let unused = bytes.first()?.leading_zeros();
            Some(u32::try_from(bytes.len()).ok()?.checked_mul(8)? - unused)
        }
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) => Some(256),
        KeyData::Ecdsa(key) => match key.curve() {
            EcdsaCurve::NistP256 => Some(256),
            EcdsaCurve::NistP384 => Some(384),
            EcdsaCurve::NistP521 => Some(521),
        },
        KeyData::SkEcdsaSha2NistP256(_) => Some(256),
        _ => None,
    }
}

/// Returns whether a key is an RSA one that RequiredRSASize rules out.
pub(super) fn too_short(key: &KeyData, required_bits: u32) -> bool {
    matches!(key, KeyData::Rsa(_)) && bits(key).is_none_or(|bits| bits < required_bits)
}

/// The key's type as it stands in known_hosts: RSA keys have one name, whatever they sign with.
pub(super) fn wire_kind(key: &PublicKey) -> String {
    match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".into(),
        other => other.as_str().to_owned(),
    }
}

/// The key's type as OpenSSH says it to people.
pub(super) fn kind_word(key: &PublicKey) -> &'static str {
    word_for(&wire_kind(key))
}

/// The same, of a type as known_hosts has it.
pub(super) fn word_for(kind: &str) -> &'static str {
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
