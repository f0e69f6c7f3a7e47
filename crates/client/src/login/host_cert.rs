//! Certificates of hosts: does an authority we trust vouch for this host, now?
//!
//! The checks and the words are those of `sshkey_cert_check_host` (OpenSSH 9.2); which authority
//! may vouch for which host is what known_hosts says with `@cert-authority`.
//! Wire: OpenSSH's PROTOCOL.certkeys.

use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::Certificate;
use russh::keys::ssh_key::Fingerprint;
use russh::keys::{Algorithm, HashAlg};

use super::known_hosts::wildcard;

/// Checks a certificate whose authority is trusted for the host `name`.
///
/// # Errors
/// Why it proves nothing, in OpenSSH's words.
pub(super) fn check(
    certificate: &Certificate,
    name: &str,
    algorithms: &[Algorithm],
) -> Result<(), &'static str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    check_at(certificate, name, algorithms, now)
}

fn check_at(
    certificate: &Certificate,
    name: &str,
    algorithms: &[Algorithm],
    now: u64,
) -> Result<(), &'static str> {
    if !certificate.cert_type().is_host() {
        return Err("Certificate invalid: not a host certificate");
    }
    if now < certificate.valid_after() {
        return Err("Certificate invalid: not yet valid");
    }
    if now >= certificate.valid_before() {
        return Err("Certificate invalid: expired");
    }
    let principals = certificate.valid_principals();
    if !principals.is_empty() && !principals.iter().any(|pattern| wildcard(pattern, name)) {
        return Err("Certificate invalid: name is not a listed principal");
    }
    if certificate.critical_options().iter().next().is_some() {
        return Err("Certificate contains unsupported critical options");
    }
    if !algorithms.contains(&certificate.signature().algorithm()) {
        return Err("Certificate signed with disallowed algorithm");
    }
    let authority: Fingerprint = certificate.signature_key().fingerprint(HashAlg::Sha256);
    certificate
        .validate_at(now, [&authority])
        .map_err(|_| "Certificate invalid: signature is not its authority's")
}
