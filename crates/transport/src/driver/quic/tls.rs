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
use zeroize::Zeroizing;

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
    let key = rcgen::KeyPair::generate().map_err(|_| CredentialsError::Generate)?;
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
    let (certificate, key) =
        read_pair(&credentials.client_cert, &credentials.client_key, Owner::Client)?;
    let roots = trust_only(&credentials.server_cert, Owner::Server)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| CredentialsError::Mismatch(Owner::Client))?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|_| CredentialsError::Mismatch(Owner::Client))?;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map_err(|_| CredentialsError::Mismatch(Owner::Client))
}

/// Builds the server's half of TLS.
pub(super) fn server_config(
    credentials: &ServerCredentials,
) -> Result<QuicServerConfig, CredentialsError> {
    let (certificate, key) =
        read_pair(&credentials.server_cert, &credentials.server_key, Owner::Server)?;
    let roots = Arc::new(trust_only(&credentials.client_cert, Owner::Client)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|_| CredentialsError::BadCertificate(Owner::Client))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| CredentialsError::Mismatch(Owner::Server))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .map_err(|_| CredentialsError::Mismatch(Owner::Server))?;
    // Nobody resumes: one connection for the server's life.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(|_| CredentialsError::Mismatch(Owner::Server))
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
