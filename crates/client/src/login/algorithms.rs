//! Which algorithms are offered, in which order.
//!
//! The lists are OpenSSH's, cut down to what russh can do; `+`, `-` and `^`
//! mean what ssh_config(5) says. Names we cannot do are passed over, so that a
//! configuration written for OpenSSH works here; a list that names nothing we
//! can do is an error.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Limits, Preferred, SshId, cipher, compression, kex, mac};

use super::LoginError;
use super::known_hosts::KnownHosts;
use crate::config::settings::Settings;

/// The configuration of one connection.
pub(super) fn russh_config(
    settings: &Settings,
    known: &KnownHosts,
) -> Result<russh::client::Config, LoginError> {
    let lists = &settings.algorithms;
    let mut kex = select("KexAlgorithms", lists.kex.as_deref(), KEX, KEX_ON_DEMAND)?;
    kex.extend(KEX_EXTENSIONS);
    let (certified, plain) = host_key_algorithms(lists.host_key.as_deref(), known)?;
    let compression: &'static [compression::Name] = if settings.compression {
        &[compression::ZLIB_LEGACY, compression::NONE]
    } else {
        &[compression::NONE, compression::ZLIB_LEGACY]
    };
    Ok(russh::client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!(
            "SSH-2.0-tssh_",
            env!("CARGO_PKG_VERSION")
        ))),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        preferred: Preferred {
            kex: Cow::Owned(kex),
            key: Cow::Owned(plain),
            host_key_certificates: Cow::Owned(certified),
            cipher: Cow::Owned(select(
                "Ciphers",
                lists.ciphers.as_deref(),
                CIPHERS,
                CIPHERS_ON_DEMAND,
            )?),
            mac: Cow::Owned(select("MACs", lists.macs.as_deref(), MACS, MACS_ON_DEMAND)?),
            compression: Cow::Borrowed(compression),
        },
        keepalive_interval: settings.server_alive_interval.filter(|i| *i > Duration::ZERO),
        keepalive_max: settings.server_alive_count_max.try_into().unwrap_or(usize::MAX),
        nodelay: true,
        limits: limits(settings),
        ..russh::client::Config::default()
    })
}

/// Returns the names of what we can do, as `ssh -Q` lists them; `None` for an unknown question.
///
/// Questions are OpenSSH's words or the keywords of ssh_config(5).
#[must_use]
pub fn query(question: &str) -> Option<Vec<String>> {
    fn names<T: AsRef<str>>(lists: &[&[T]]) -> Vec<String> {
        lists.iter().flat_map(|list| list.iter()).map(|name| name.as_ref().to_owned()).collect()
    }
    let kinds = |wanted: fn(&Kind) -> bool| -> Vec<String> {
        let old = [Kind::key(RSA_SHA1), Kind::certificate(RSA_SHA1)];
        let all = keys_and_certificates().into_iter().chain(old);
        all.filter(wanted).map(|kind| kind.name).collect()
    };
    // Key types: RSA is one, whatever hash it signs with.
    let types = |wanted: fn(&Kind) -> bool| -> Vec<String> {
        kinds(wanted).into_iter().filter(|name| !name.starts_with("rsa-sha2-")).collect()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    Some(match question.to_ascii_lowercase().as_str() {
        "help" => words(QUESTIONS),
        "cipher" | "ciphers" => names(&[CIPHERS, CIPHERS_ON_DEMAND]),
        "cipher-auth" => names(&[CIPHERS])
            .into_iter()
            .filter(|n| n.contains("gcm") || n.contains("poly"))
            .collect(),
        "compression" => words("none zlib@openssh.com"),
        "kex" | "kexalgorithms" => names(&[KEX, KEX_ON_DEMAND]),
        "mac" | "macs" => names(&[MACS, MACS_ON_DEMAND]),
        "key" => types(|_| true),
        "key-plain" => types(|kind| !kind.certified),
        "key-cert" => types(|kind| kind.certified),
        "key-sig" | "hostkeyalgorithms" | "pubkeyacceptedalgorithms" | "pubkeyacceptedkeytypes" => {
            kinds(|_| true)
        }
        "sig" | "casignaturealgorithms" | "key-ca-sign" => kinds(|kind| !kind.certified),
        "protocol-version" => words("2"),
        _ => return None,
    })
}

/// What can be asked with `-Q`.
const QUESTIONS: &str = "cipher cipher-auth compression kex key key-cert key-plain key-sig mac \
                         protocol-version sig";

/// Applies one list of the configuration to the defaults.
fn select<T: AsRef<str> + Clone>(
    keyword: &'static str,
    list: Option<&str>,
    defaults: &[T],
    on_demand: &[T],
) -> Result<Vec<T>, LoginError> {
    let Some(list) = list else {
        return Ok(defaults.to_vec());
    };
    let all = || defaults.iter().chain(on_demand);
    let (action, names) = match list.chars().next() {
        Some(action @ ('+' | '-' | '^')) => (Some(action), &list[1..]),
        _ => (None, list),
    };
    let patterns: Vec<&str> = names.split(',').map(str::trim).collect();
    // In list order, each name once; only removal takes patterns in OpenSSH,
    // but a pattern that adds is just as clear.
    let mut named: Vec<T> = Vec::new();
    for pattern in &patterns {
        for algorithm in all() {
            if super::known_hosts::wildcard(pattern, algorithm.as_ref())
                && !named.iter().any(|n| n.as_ref() == algorithm.as_ref())
            {
                named.push(algorithm.clone());
            }
        }
    }
    let is_named = |a: &T| named.iter().any(|n| n.as_ref() == a.as_ref());
    let rest: Vec<T> = defaults.iter().filter(|a| !is_named(a)).cloned().collect();
    let selected: Vec<T> = match action {
        None => named,
        Some('-') => rest,
        Some('^') => named.into_iter().chain(rest).collect(),
        Some(_) => {
            let added = named.iter().filter(|n| !defaults.iter().any(|d| d.as_ref() == n.as_ref()));
            defaults.iter().chain(added).cloned().collect()
        }
    };
    if selected.is_empty() {
        return Err(LoginError::BadAlgorithms { keyword, value: list.to_owned() });
    }
    Ok(selected)
}

/// Chooses the kinds of host key to ask for: certificates, which russh puts first, and keys.
///
/// Without an authority that may vouch for the host a certificate proves no more than the key
/// inside, so certificates are left out then, unless nothing else is wanted.
fn host_key_algorithms(
    list: Option<&str>,
    known: &KnownHosts,
) -> Result<(Vec<Algorithm>, Vec<Algorithm>), LoginError> {
    let all = keys_and_certificates();
    let on_demand = [Kind::key(RSA_SHA1)];
    let selected = select("HostKeyAlgorithms", list, &all, &on_demand)?;
    let (certified, keys): (Vec<Kind>, Vec<Kind>) =
        selected.into_iter().partition(|kind| kind.certified);
    let mut keys: Vec<Algorithm> = keys.into_iter().map(|kind| kind.algorithm).collect();
    // A list set outright is an order the user wants (OpenSSH's order_hostkeyalgs).
    if list.is_none_or(|list| list.starts_with(['+', '-', '^'])) {
        prefer_known(&mut keys, known);
    }
    let wanted = keys.is_empty() || known.has_authority();
    let certified = certified.into_iter().filter(|_| wanted).map(|kind| kind.algorithm).collect();
    Ok((certified, keys))
}

/// Returns the algorithms by which certificates of hosts may be signed (CASignatureAlgorithms).
pub(super) fn authorities(settings: &Settings) -> Result<Vec<Algorithm>, LoginError> {
    let keys: Vec<Kind> = signatures().into_iter().map(Kind::key).collect();
    let on_demand = [Kind::key(RSA_SHA1)];
    let list = settings.algorithms.ca.as_deref();
    let selected = select("CASignatureAlgorithms", list, &keys, &on_demand)?;
    Ok(selected.into_iter().map(|kind| kind.algorithm).collect())
}

/// What our own keys may sign with (PubkeyAcceptedAlgorithms).
#[derive(Clone, Debug)]
pub(super) struct Accepted(Vec<Kind>);

impl Accepted {
    pub(super) fn new(settings: &Settings) -> Result<Self, LoginError> {
        let on_demand = [Kind::key(RSA_SHA1), Kind::certificate(RSA_SHA1)];
        let list = settings.algorithms.pubkey.as_deref();
        let all = keys_and_certificates();
        select("PubkeyAcceptedAlgorithms", list, &all, &on_demand).map(Self)
    }

    /// Returns whether a key or certificate may be used at all; RSA keys with what is left of
    /// their hashes.
    pub(super) fn allows(&self, algorithm: &Algorithm, certified: bool) -> bool {
        self.0.iter().any(|kind| kind.certified == certified && kind.algorithm == *algorithm)
    }
}

/// RSA with the hash of old, which is used only when asked for by name.
pub(super) const RSA_SHA1: Algorithm = Algorithm::Rsa { hash: None };

/// An algorithm of keys, plain or certified.
#[derive(Clone, Debug)]
struct Kind {
    algorithm: Algorithm,
    certified: bool,
    name: String,
}

impl Kind {
    fn key(algorithm: Algorithm) -> Self {
        Self { name: algorithm.to_string(), algorithm, certified: false }
    }

    fn certificate(algorithm: Algorithm) -> Self {
        Self { name: algorithm.to_certificate_type(), algorithm, certified: true }
    }
}

impl AsRef<str> for Kind {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// Every kind of key, certificates first, as in OpenSSH's default list.
fn keys_and_certificates() -> Vec<Kind> {
    let certificates = signatures().into_iter().map(Kind::certificate);
    certificates.chain(signatures().into_iter().map(Kind::key)).collect()
}

/// Returns when to renew the keys of the connection. Both ends count, so a limit may be lower
/// than the cipher's, never higher.
fn limits(settings: &Settings) -> Limits {
    let usual = Limits::default();
    let bytes = settings.rekey_bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.unwrap_or(usize::MAX).min(usual.rekey_write_limit);
    // Renewing for every packet would be all that a connection does.
    let bytes = bytes.max(MIN_REKEY_BYTES);
    let time = settings.rekey_interval.unwrap_or(usual.rekey_time_limit);
    Limits::new(bytes, bytes, time)
}

/// The least data between two key exchanges, in bytes.
const MIN_REKEY_BYTES: usize = 64 * 1024;

/// Moves the kinds of key we know the host by to the front: otherwise a server
/// with several keys shows one we have never seen, and a person is asked
/// about a host long known.
fn prefer_known(algorithms: &mut [Algorithm], known: &KnownHosts) {
    let is_known = |algorithm: &Algorithm| {
        let name = match algorithm {
            Algorithm::Rsa { .. } => "ssh-rsa",
            other => other.as_str(),
        };
        known.knows_kind(name)
    };
    algorithms.sort_by_key(|algorithm| !is_known(algorithm)); // stable
}

fn signatures() -> Vec<Algorithm> {
    let ecdsa = |curve| Algorithm::Ecdsa { curve };
    vec![
        Algorithm::Ed25519,
        ecdsa(EcdsaCurve::NistP256),
        ecdsa(EcdsaCurve::NistP384),
        ecdsa(EcdsaCurve::NistP521),
        Algorithm::SkEd25519,
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// Receive window of a channel, in bytes: OpenSSH's.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Largest payload of one packet, in bytes: OpenSSH's.
const PACKET_BYTES: u32 = 32 * 1024;

/// OpenSSH's default list, with the post-quantum one first as of 10.0; russh
/// lacks sntrup761.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
];

/// Off unless asked for by name, as in OpenSSH.
const KEX_ON_DEMAND: &[kex::Name] = &[kex::DH_GEX_SHA1, kex::DH_G14_SHA1, kex::DH_G1_SHA1];

/// Not algorithms: `ext-info-c` (RFC 8308) and strict key exchange, always on.
const KEX_EXTENSIONS: [kex::Name; 2] =
    [kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT];

const CIPHERS: &[cipher::Name] = &[
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::AES_128_CTR,
    cipher::AES_192_CTR,
    cipher::AES_256_CTR,
];

const CIPHERS_ON_DEMAND: &[cipher::Name] =
    &[cipher::AES_128_CBC, cipher::AES_192_CBC, cipher::AES_256_CBC];

const MACS: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA1_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
    mac::HMAC_SHA1,
];

const MACS_ON_DEMAND: &[mac::Name] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    fn kex_names(list: &str) -> Vec<String> {
        select("KexAlgorithms", Some(list), KEX, KEX_ON_DEMAND)
            .expect("something is left")
            .iter()
            .map(|name| name.as_ref().to_owned())
            .collect()
    }

    #[test]
    fn exchanges_that_resist_quantum_computers_come_first() {
        assert_eq!(KEX[0].as_ref(), "mlkem768x25519-sha256");
    }

    #[test]
    fn certificates_of_hosts_are_asked_for_only_where_an_authority_could_vouch() {
        let mut known = KnownHosts::default();
        let (certified, plain) = host_key_algorithms(None, &known).expect("some");
        assert!(certified.is_empty() && plain.contains(&Algorithm::Ed25519));
        let wanted = Some("ssh-ed25519-cert-v01@openssh.com");
        let (certified, plain) = host_key_algorithms(wanted, &known).expect("some");
        assert!(certified == [Algorithm::Ed25519] && plain.is_empty());
        known.add("x", b"@cert-authority *.ex ssh-ed25519 AAAA\n", "a.ex");
        let (certified, _) = host_key_algorithms(None, &known).expect("some");
        assert_eq!(certified.len(), signatures().len());
    }

    #[test]
    fn plus_appends_what_is_off_by_default() {
        let names = kex_names("+diffie-hellman-group14-sha1");
        assert_eq!(names.len(), KEX.len() + 1);
        assert_eq!(names.last().map(String::as_str), Some("diffie-hellman-group14-sha1"));
    }

    #[test]
    fn minus_removes_by_pattern_and_caret_moves_to_the_front() {
        assert!(!kex_names("-ecdh-*").iter().any(|n| n.starts_with("ecdh-")));
        assert_eq!(kex_names("^ecdh-sha2-nistp521")[0], "ecdh-sha2-nistp521");
    }

    #[test]
    fn an_outright_list_keeps_its_order_and_passes_over_strange_names() {
        assert_eq!(
            kex_names("sntrup761x25519-sha512,ecdh-sha2-nistp256,curve25519-sha256"),
            ["ecdh-sha2-nistp256", "curve25519-sha256"]
        );
    }

    #[test]
    fn a_list_of_nothing_we_can_do_is_an_error_that_names_the_keyword() {
        let error = select("Ciphers", Some("rot13"), CIPHERS, CIPHERS_ON_DEMAND)
            .expect_err("nothing to select");
        assert_eq!(error.to_string(), "Bad Ciphers 'rot13'.");
    }
}
