//! Who may connect: one certificate each way, made for one server process (PROTOCOL §3.1).
//!
//! Certificates and keys are PEM texts, because so they travel in ServerInfo.
//! Each side trusts exactly the other's certificate. No ALPN, no 0-RTT, no
//! resumption. Errors never quote what they could not read.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    PublicKeyData as _, SerialNumber,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use zeroize::{Zeroize as _, Zeroizing};

/// The name the server's certificate is for, and the SNI sent (PROTOCOL §3.1).
pub(super) const SERVER_NAME: &str = "tsshd";

/// What a server shows and whom it trusts: PEM texts.
pub struct ServerCredentials {
    /// The server's certificate.
    pub server_cert: Zeroizing<Vec<u8>>,
    /// Its private key; SEC1 or PKCS#8.
    pub server_key: Zeroizing<Vec<u8>>,
    /// The certificate the client has to show.
    pub client_cert: Zeroizing<Vec<u8>>,
}

/// What a client shows and whom it trusts: the PEM texts of ServerInfo (PROTOCOL §1.5).
pub struct ClientCredentials {
    /// The certificate the server has to show.
    pub server_cert: Zeroizing<Vec<u8>>,
    /// The client's certificate.
    pub client_cert: Zeroizing<Vec<u8>>,
    /// Its private key; SEC1 or PKCS#8.
    pub client_key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ServerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCredentials(hidden)")
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCredentials(hidden)")
    }
}

/// Why credentials cannot be made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The text is not a PEM certificate.
    #[error("the {0} certificate cannot be read")]
    BadCertificate(Owner),
    /// The text is not a PEM private key.
    #[error("the {0} key cannot be read")]
    BadKey(Owner),
    /// Key and certificate do not belong together, or are of an unknown kind.
    #[error("the {0} certificate and key cannot be used together")]
    Mismatch(Owner),
    /// No key could be made.
    #[error("no key pair could be made")]
    Generate,
}

/// Whose certificate or key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The server's.
    Server,
    /// The client's.
    Client,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server's",
            Self::Client => "client's",
        })
    }
}

/// Makes fresh certificates and keys for both sides, valid from yesterday for a year.
///
/// # Errors
/// [`CredentialsError::Generate`] when the system gives no randomness.
pub fn generate_credentials() -> Result<(ServerCredentials, ClientCredentials), CredentialsError> {
    let (server_cert, server_key) = generate()?;
    let (client_cert, client_key) = generate()?;
    let server = ServerCredentials {
        server_cert: server_cert.clone(),
        server_key,
        client_cert: client_cert.clone(),
    };
    Ok((server, ClientCredentials { server_cert, client_cert, client_key }))
}

type Pem = Zeroizing<Vec<u8>>;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes one self-signed certificate and its key, in the profile of PROTOCOL §3.1.
fn generate() -> Result<(Pem, Pem), CredentialsError> {
    let mut key = rcgen::KeyPair::generate().map_err(|_| CredentialsError::Generate)?;
    let mut params =
        CertificateParams::new([SERVER_NAME.to_owned()]).map_err(|_| CredentialsError::Generate)?;
    let now = SystemTime::now();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from(1));
    // A day back, for clocks that differ.
    params.not_before = (now - DAY).into();
    params.not_after = (now + 365 * DAY).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).map_err(|_| CredentialsError::Generate)?;
    let der = Zeroizing::new(key.serialize_der());
    let sec1 = sec1_from_pkcs8(&der, key.der_bytes()).ok_or(CredentialsError::Generate)?;
    key.zeroize();
    Ok((Zeroizing::new(certificate.pem().into_bytes()), pem("EC PRIVATE KEY", &sec1)))
}

/// PKCS#8 of a P-256 key up to the 32 bytes of the key itself (RFC 5208, RFC 5915):
/// SEQUENCE { 0, { ecPublicKey, prime256v1 }, OCTET STRING { SEQUENCE { 1, OCTET STRING
const PKCS8_HEAD: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
    0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02,
    0x01, 0x01, 0x04, 0x20,
];
/// SEC1 of a P-256 key up to the key itself: SEQUENCE { 1, OCTET STRING
const SEC1_HEAD: [u8; 7] = [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
/// What stands between key and point: [0] prime256v1, [1] BIT STRING. The reference needs the curve.
const SEC1_MIDDLE: [u8; 17] = [
    0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42,
    0x00,
];
/// Bytes of an uncompressed point of P-256.
const POINT_LEN: usize = 65;

/// Rewrites a P-256 key, because the reference reads SEC1 only and rcgen writes PKCS#8.
fn sec1_from_pkcs8(pkcs8: &[u8], point: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let scalar = pkcs8.strip_prefix(&PKCS8_HEAD)?.first_chunk::<32>()?;
    if point.len() != POINT_LEN {
        return None;
    }
    // With room for all of it from the start: growing would leave copies behind.
    let len = SEC1_HEAD.len() + scalar.len() + SEC1_MIDDLE.len() + POINT_LEN;
    let mut sec1 = Zeroizing::new(Vec::with_capacity(len));
    for part in [&SEC1_HEAD[..], scalar, &SEC1_MIDDLE, point] {
        sec1.extend_from_slice(part);
    }
    Some(sec1)
}

/// Writes PEM, 64 characters to a line (RFC 7468).
fn pem(label: &str, der: &[u8]) -> Pem {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const BYTES_PER_LINE: usize = 48;
    let lines = der.len() / BYTES_PER_LINE + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(lines * 65 + 2 * label.len() + 64));
    text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    for line in der.chunks(BYTES_PER_LINE) {
        for group in line.chunks(3) {
            let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                let sextet = (bits >> (18 - 6 * i)) & 63;
                let padding = i > group.len();
                text.push(if padding { b'=' } else { ALPHABET[sextet as usize] });
            }
        }
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    text
}

/// Builds the client's half of TLS.
pub(super) fn client_config(
    credentials: &ClientCredentials,
) -> Result<QuicClientConfig, CredentialsError> {
    let config = client_tls(credentials, Arc::new(DefaultTimeProvider))?;
    QuicClientConfig::try_from(config).map_err(|_| CredentialsError::Mismatch(Owner::Client))
}

/// Builds the server's half of TLS.
pub(super) fn server_config(
    credentials: &ServerCredentials,
) -> Result<QuicServerConfig, CredentialsError> {
    let config = server_tls(credentials, Arc::new(DefaultTimeProvider))?;
    QuicServerConfig::try_from(config).map_err(|_| CredentialsError::Mismatch(Owner::Server))
}

fn client_tls(
    credentials: &ClientCredentials,
    time: Arc<dyn TimeProvider>,
) -> Result<rustls::ClientConfig, CredentialsError> {
    let (certificate, key) =
        read_pair(&credentials.client_cert, &credentials.client_key, Owner::Client)?;
    let roots = trust_only(&credentials.server_cert, Owner::Server)?;
    let mut config = rustls::ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| CredentialsError::Mismatch(Owner::Client))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|_| CredentialsError::Mismatch(Owner::Client))?;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

fn server_tls(
    credentials: &ServerCredentials,
    time: Arc<dyn TimeProvider>,
) -> Result<rustls::ServerConfig, CredentialsError> {
    let (certificate, key) =
        read_pair(&credentials.server_cert, &credentials.server_key, Owner::Server)?;
    let roots = Arc::new(trust_only(&credentials.client_cert, Owner::Client)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|_| CredentialsError::BadCertificate(Owner::Client))?;
    let mut config = rustls::ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| CredentialsError::Mismatch(Owner::Server))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .map_err(|_| CredentialsError::Mismatch(Owner::Server))?;
    // Nobody resumes: one connection for the server's life.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_pair(
    certificate: &[u8],
    key: &[u8],
    owner: Owner,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), CredentialsError> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialsError::BadKey(owner))?;
    Ok((read_certificate(certificate, owner)?, key))
}

fn read_certificate(pem: &[u8], owner: Owner) -> Result<CertificateDer<'static>, CredentialsError> {
    CertificateDer::from_pem_slice(pem).map_err(|_| CredentialsError::BadCertificate(owner))
}

fn trust_only(pem: &[u8], owner: Owner) -> Result<RootCertStore, CredentialsError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(read_certificate(pem, owner)?)
        .map_err(|_| CredentialsError::BadCertificate(owner))?;
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use proto::bootstrap::{Finder, ServerInfo};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, ClientConnection, Error, ServerConnection};

    use super::*;

    const RECORDED: [&[u8]; 3] = [
        include_bytes!("../../../tests/vectors/server-info.bin"),
        include_bytes!("../../../tests/vectors/server-info-tcp.bin"),
        include_bytes!("../../../tests/vectors/server-info-attachable-socket.bin"),
    ];
    /// 2026-12-01, within the life of the recorded certificates.
    const THEN: u64 = 1_796_083_200;
    const HOUR: u64 = 3600;

    #[derive(Debug)]
    struct At(u64);

    impl TimeProvider for At {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
        }
    }

    fn recorded() -> impl Iterator<Item = ServerInfo> {
        RECORDED.iter().map(|line| Finder::default().push(line).unwrap().unwrap())
    }

    fn own(bytes: &[u8]) -> Pem {
        Zeroizing::new(bytes.to_vec())
    }

    /// Runs TLS between both ends, the client's clock and the server's as given.
    fn handshake(
        client: &ClientCredentials,
        server: &ServerCredentials,
        times: [u64; 2],
    ) -> Result<(), Error> {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let config = client_tls(client, Arc::new(At(times[0]))).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let config = server_tls(server, Arc::new(At(times[1]))).unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    fn unix_now() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn the_references_client_credentials_complete_a_handshake() {
        for info in recorded() {
            let (server, client) = generate_credentials().unwrap();
            let server =
                ServerCredentials { client_cert: own(info.client_cert.expose()), ..server };
            let client = ClientCredentials {
                client_cert: own(info.client_cert.expose()),
                client_key: own(info.client_key.expose()),
                ..client
            };
            // Our certificate is made now, the recorded one then: each clock suits what it checks.
            handshake(&client, &server, [unix_now(), THEN]).unwrap();
        }
    }

    #[test]
    fn the_references_server_certificate_is_trusted_and_shown_like_ours() {
        // Its key never left its process; the client's pair has the same form, in either role.
        for info in recorded() {
            let pair = || (own(info.client_cert.expose()), own(info.client_key.expose()));
            let (server_cert, server_key) = pair();
            let (client_cert, client_key) = pair();
            let server =
                ServerCredentials { server_cert, server_key, client_cert: client_cert.clone() };
            let client =
                ClientCredentials { server_cert: client_cert.clone(), client_cert, client_key };
            handshake(&client, &server, [THEN, THEN]).unwrap();

            let client =
                ClientCredentials { server_cert: own(info.server_cert.expose()), ..client };
            assert!(matches!(
                handshake(&client, &server, [THEN, THEN]),
                Err(Error::InvalidCertificate(_))
            ));
        }
    }

    #[test]
    fn clocks_may_differ_by_hours_but_not_by_years() {
        let (server, client) = generate_credentials().unwrap();
        let now = unix_now();
        for skewed in [now - 20 * HOUR, now, now + 1000 * HOUR] {
            handshake(&client, &server, [skewed, now]).unwrap();
            handshake(&client, &server, [now, skewed]).unwrap();
        }
        for wrong in [now - 30 * HOUR, now + 2 * 365 * 24 * HOUR] {
            let error = handshake(&client, &server, [now, wrong]).unwrap_err();
            let Error::InvalidCertificate(reason) = error else { panic!("{error}") };
            let alert = AlertDescription::from(reason);
            // The alert our words for the user go by (failure.rs).
            assert_eq!(alert, AlertDescription::CertificateExpired);
        }
    }

    #[test]
    fn our_certificates_have_the_references_extensions_and_no_others() {
        let extensions: [&[u8]; 3] = [
            b"\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x07\x80",
            b"\x30\x1d\x06\x03\x55\x1d\x25\x04\x16\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\
              \x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02",
            b"\x30\x13\x06\x03\x55\x1d\x11\x01\x01\xff\x04\x09\x30\x07\x82\x05tsshd",
        ];
        let (ours, _) = generate_credentials().unwrap();
        let theirs = recorded().next().unwrap();
        for pem in [ours.server_cert.as_slice(), theirs.server_cert.expose()] {
            let der = read_certificate(pem, Owner::Server).unwrap();
            for extension in extensions {
                assert!(der.windows(extension.len()).any(|window| window == extension));
            }
            let count = der.windows(4).filter(|w| w.starts_with(&[0x06, 0x03, 0x55, 0x1d])).count();
            assert_eq!(count, extensions.len(), "extensions, counted by their ids");
            // Serial 1, then ecdsa-with-SHA256 and an empty issuer.
            let start = b"\x02\x01\x01\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x30\x00";
            assert!(der.windows(start.len()).any(|window| window == start));
        }
    }

    #[test]
    fn our_client_keys_have_the_form_of_the_references() {
        let (_, ours) = generate_credentials().unwrap();
        let theirs = recorded().next().unwrap();
        let form = |pem: &[u8]| {
            let text = String::from_utf8(pem.to_vec()).unwrap();
            let lines: Vec<usize> = text.lines().map(str::len).collect();
            let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
            let PrivateKeyDer::Sec1(der) = key else { panic!("not SEC1") };
            let mut der = der.secret_sec1_der().to_vec();
            der[7..39].fill(0); // the key
            der[56..].fill(0); // the point
            (lines, text.lines().next().unwrap().to_owned(), der)
        };
        assert_eq!(form(&ours.client_key), form(theirs.client_key.expose()));
    }

    #[test]
    fn a_pkcs8_key_is_read_as_well() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let pem = pair.serialize_pem();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        let certificate = params.self_signed(&pair).unwrap().pem();
        read_pair(certificate.as_bytes(), pem.as_bytes(), Owner::Client).unwrap();
    }
}
