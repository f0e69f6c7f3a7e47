//! Why a connection ended, or did not take a datagram, in words for both transports.

/// Why a connection ended. It cannot be used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// We closed it, with [`Connection::close`](crate::Connection::close) or
    /// by dropping its last handle.
    #[error("the connection was closed on this side")]
    ClosedLocally,
    /// The peer closed it in the normal way.
    #[error("the other side closed the connection")]
    ClosedByPeer,
    /// The peer refused our certificate, or we refused its. Nothing was lost:
    /// nothing had been sent.
    #[error("the handshake failed: {0}")]
    Handshake(HandshakeFailure),
    /// The peer takes no connection: it already serves one.
    #[error("the other side refused the connection: it already serves a client")]
    Refused,
    /// One of both sides broke the transport's rules.
    #[error("the transport failed: {reason}")]
    Transport {
        /// What was wrong, in the words of whoever noticed.
        reason: String,
    },
    /// The packet socket below was closed.
    #[error("the packet socket was closed")]
    SocketClosed,
}

/// Why a TLS handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// The peer's certificate is not the one it had to show.
    #[error("the other side's certificate is not the expected one")]
    WrongCertificate,
    /// The peer's certificate is not valid at this time.
    #[error("the other side's certificate is expired or not yet valid; compare both hosts' clocks")]
    CertificateExpired,
    /// The peer showed no certificate.
    #[error("the other side showed no certificate")]
    NoCertificate,
    /// The peer does not accept our certificate.
    #[error("the other side does not accept our certificate")]
    OurCertificateRefused,
    /// The peer finds our certificate expired or not yet valid.
    #[error(
        "the other side finds our certificate expired or not yet valid; compare both hosts' clocks"
    )]
    OurCertificateExpired,
    /// Anything else in TLS.
    #[error("{0}")]
    Other(String),
}

/// Why a datagram was not sent. The connection is unaffected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It is longer than [`Connection::max_datagram_size`](crate::Connection::max_datagram_size).
    #[error("a datagram of {size} bytes is longer than the {limit} allowed")]
    TooLarge {
        /// The datagram's size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer takes no datagrams.
    #[error("the other side takes no datagrams")]
    Unsupported,
    /// The connection has ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}
