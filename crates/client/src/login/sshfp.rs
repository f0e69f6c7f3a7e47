//! SSHFP records: fingerprints of host keys in the domain name system (VerifyHostKeyDNS).
//!
//! Source: RFC 4255, 6594 and 7479; what a mixture of records comes to is OpenSSH's choice
//! (dns.c `verify_host_key_dns`, 9.2).

use std::net::IpAddr;

use sha1::{Digest as _, Sha1};

use super::dial::system_words;
use crate::dns::{Answer, Resolver};

/// What the domain name system says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has this key.
    Matches {
        /// The answer was validated on the way.
        is_secure: bool,
    },
    /// It has another one.
    Differs,
    /// It has none, or cannot be asked.
    Unknown,
}

/// The number of SSHFP among the types of records.
const SSHFP: u16 = 44;

/// Asks for the keys of a host, and compares. Addresses have no records.
pub(super) async fn look_up(host: &str, kind: &str, blob: &[u8]) -> Verdict {
    if host.parse::<IpAddr>().is_ok() {
        tracing::debug!("skipped DNS lookup for numerical hostname");
        return Verdict::Unknown;
    }
    match Resolver::of_system().records(host, SSHFP).await {
        Ok(answer) => {
            let verdict = judge(&answer, kind, blob);
            tracing::debug!(?verdict, records = answer.records.len(), "host key in the DNS");
            verdict
        }
        Err(error) => {
            tracing::info!("DNS lookup error: {}", system_words(&error));
            Verdict::Unknown
        }
    }
}

/// Compares a key with records: one that has another fingerprint of its kind outweighs all.
fn judge(answer: &Answer, kind: &str, blob: &[u8]) -> Verdict {
    if answer.records.is_empty() {
        return Verdict::Unknown;
    }
    let sha256 = ring::digest::digest(&ring::digest::SHA256, blob);
    let (mut matches, mut differs) = (false, false);
    for record in &answer.records {
        let [algorithm, digest, fingerprint @ ..] = record.as_slice() else { continue };
        if Some(*algorithm) != number(kind) {
            continue;
        }
        let is_same = match digest {
            1 => fingerprint == Sha1::digest(blob).as_slice(),
            2 => fingerprint == sha256.as_ref(),
            _ => continue,
        };
        matches |= is_same;
        differs |= !is_same;
    }
    match matches && !differs {
        true => Verdict::Matches { is_secure: answer.is_secure },
        false => Verdict::Differs,
    }
}

/// The number of a kind of key.
fn number(kind: &str) -> Option<u8> {
    match kind {
        "ssh-rsa" => Some(1),
        "ssh-dss" => Some(2),
        kind if kind.starts_with("ecdsa-sha2-") => Some(3),
        "ssh-ed25519" => Some(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &[u8] = b"a key";

    fn record(algorithm: u8, digest: u8, of: &[u8]) -> Vec<u8> {
        let fingerprint = match digest {
            1 => Sha1::digest(of).to_vec(),
            _ => ring::digest::digest(&ring::digest::SHA256, of).as_ref().to_vec(),
        };
        [vec![algorithm, digest], fingerprint].concat()
    }

    fn judged(records: Vec<Vec<u8>>, is_secure: bool) -> Verdict {
        judge(&Answer { records, is_secure }, "ssh-ed25519", BLOB)
    }

    #[test]
    fn a_key_is_known_if_all_records_of_its_kind_are_of_it() {
        let sound = || vec![record(4, 1, BLOB), record(4, 2, BLOB), record(1, 2, b"another kind")];
        for is_secure in [true, false] {
            assert_eq!(judged(sound(), is_secure), Verdict::Matches { is_secure });
        }
        let mut mixed = sound();
        mixed.push(record(4, 2, b"another key"));
        assert_eq!(judged(mixed, true), Verdict::Differs);
    }

    #[test]
    fn records_that_say_nothing_of_the_key_are_no_match() {
        assert_eq!(judged(vec![], true), Verdict::Unknown);
        assert_eq!(judged(vec![record(1, 2, BLOB)], true), Verdict::Differs);
        assert_eq!(judged(vec![vec![], vec![4], record(4, 9, BLOB)], true), Verdict::Differs);
    }
}
