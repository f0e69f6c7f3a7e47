//! quinn's errors in our words.

use std::time::Duration;

use quinn::TransportErrorCode;

use super::super::{ConnectionError, HandshakeFailure};
use super::CredentialsError;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The other side did not answer in time.
    #[error("no connection within {} s", after.as_secs_f32())]
    Timeout {
        /// How long we waited, in real time.
        after: Duration,
    },
    /// The attempt ended for another reason.
    #[error(transparent)]
    Failed(ConnectionError),
    /// quinn did not take our settings; a bug of ours.
    #[error("QUIC could not be set up: {0}")]
    Local(String),
}

/// Translates the end of a connection.
pub(super) fn connection_error(error: &quinn::ConnectionError) -> ConnectionError {
    use quinn::ConnectionError as E;
    match error {
        E::LocallyClosed => ConnectionError::ClosedLocally,
        E::ApplicationClosed(_) => ConnectionError::ClosedByPeer,
        E::ConnectionClosed(close) => by_peer(close),
        E::TransportError(error) => match alert(error.code) {
            Some(alert) => ConnectionError::Handshake(ours(alert, &error.reason)),
            None => ConnectionError::Transport { reason: error.to_string() },
        },
        E::VersionMismatch | E::Reset | E::TimedOut | E::CidsExhausted => {
            ConnectionError::Transport { reason: error.to_string() }
        }
    }
}

fn by_peer(close: &quinn::ConnectionClose) -> ConnectionError {
    if close.error_code == TransportErrorCode::CONNECTION_REFUSED {
        return ConnectionError::Refused;
    }
    match alert(close.error_code) {
        Some(alert) => ConnectionError::Handshake(theirs(alert)),
        None => ConnectionError::Transport { reason: close.to_string() },
    }
}

/// Returns the TLS alert in a transport error code (RFC 9001 §4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (code >> 8 == 1).then_some(u8::try_from(code & 0xff).ok()?)
}

/// TLS alerts (RFC 8446 §6).
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
const CERTIFICATE_EXPIRED: u8 = 45;
const CERTIFICATE_UNKNOWN: u8 = 46;
const UNKNOWN_CA: u8 = 48;
const DECRYPT_ERROR: u8 = 51;
const CERTIFICATE_REQUIRED: u8 = 116;

/// We sent the alert: something is wrong with what the peer showed.
fn ours(alert: u8, reason: &str) -> HandshakeFailure {
    match alert {
        CERTIFICATE_EXPIRED => HandshakeFailure::CertificateExpired,
        CERTIFICATE_REQUIRED => HandshakeFailure::NoCertificate,
        BAD_CERTIFICATE | CERTIFICATE_UNKNOWN | UNKNOWN_CA | DECRYPT_ERROR => {
            HandshakeFailure::WrongCertificate
        }
        _ => HandshakeFailure::Other(reason.to_owned()),
    }
}

/// The peer sent the alert: it does not like what we showed.
fn theirs(alert: u8) -> HandshakeFailure {
    match alert {
        CERTIFICATE_EXPIRED => HandshakeFailure::OurCertificateExpired,
        HANDSHAKE_FAILURE | BAD_CERTIFICATE | CERTIFICATE_UNKNOWN | UNKNOWN_CA | DECRYPT_ERROR
        | CERTIFICATE_REQUIRED => HandshakeFailure::OurCertificateRefused,
        _ => HandshakeFailure::Other(format!("the other side sent TLS alert {alert}")),
    }
}
