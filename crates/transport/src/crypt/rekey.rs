//! New keys: when the client asks for one, and how both sides agree on it.
//!
//! ```text
//!           start              request             answer
//! Waiting ---------> Due(now) ---------> InFlight ---------> Due(now + 1 h)
//! ```
//! A request is sent when `Due` has come, or when [`VOLUME`] went through the
//! key in use; never while one is in flight. The reference also holds back for
//! 30 minutes after the last one unless the volume asks; here nothing asks
//! sooner than an hour but the volume, so that rule is kept by itself.
//!
//! Not here: the keys ([`super::ring`]). Nothing of the old key goes into the
//! new one: the ephemeral secrets are all that an attacker lacks, and they are
//! wiped as soon as both points are known.
//!
//! Wire: `docs/protocol.md` §4.7: ECDH on P-256, uncompressed points, the secret
//! is the shared x coordinate.

use std::fmt;
use std::time::{Duration, Instant};

use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Crypt;

/// How long a key is used at most, if the client is able to ask for another.
pub const INTERVAL: Duration = Duration::from_secs(3600);
/// How many bytes of plaintext a key seals and opens before it is replaced.
pub const VOLUME: u64 = 1 << 30;
/// Bytes of a public point on the bus.
pub const POINT_LEN: usize = 65;

/// An uncompressed P-256 point: `04 | x 32 | y 32`.
pub type PublicPoint = [u8; POINT_LEN];

/// Decides when the client asks for a new key, and takes the answer.
///
/// Runs on real time: an hour without a path is an hour.
#[derive(Debug)]
pub struct ClientRekey {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The bus is not up.
    Waiting,
    /// The next request goes out at this time, or when the volume is reached.
    Due(Instant),
    /// A request went out, made with this secret.
    InFlight(Ephemeral),
}

impl ClientRekey {
    /// Waits for the bus.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Waiting }
    }

    /// The bus is up, or its first message under way: the first request is due now.
    ///
    /// Changes nothing if it was up before.
    pub fn start(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting) {
            self.state = State::Due(now);
        }
    }

    /// Makes the next request due now; one that is in flight stays it.
    pub fn hurry(&mut self, now: Instant) {
        if let State::Due(at) = &mut self.state {
            *at = now.min(*at);
        }
    }

    /// Returns when to look at [`Self::is_due`] again, if only time passes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Waiting | State::InFlight(_) => None,
        }
    }

    /// Returns whether to send a request now.
    #[must_use]
    pub fn is_due(&self, now: Instant, crypt: &Crypt) -> bool {
        match self.state {
            State::Due(at) => now >= at || crypt.volume() >= VOLUME,
            State::Waiting | State::InFlight(_) => false,
        }
    }

    /// Returns whether a request awaits its answer.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight(_))
    }

    /// Returns the point to send as `rekey`, or `None` if this is not the time.
    ///
    /// `random` is 32 fresh random bytes. The request stays in flight until it
    /// is answered: the bus loses nothing, so asking again would not help.
    pub fn request(
        &mut self,
        now: Instant,
        crypt: &Crypt,
        random: Zeroizing<[u8; 32]>,
    ) -> Option<PublicPoint> {
        if !self.is_due(now, crypt) {
            return None;
        }
        let ephemeral = Ephemeral::new(random);
        let point = ephemeral.point();
        self.state = State::InFlight(ephemeral);
        Some(point)
    }

    /// Takes the server's answer: packets are sealed with the new key from now on.
    ///
    /// # Errors
    /// [`RekeyError::Unasked`] changes nothing. After any other the exchange is
    /// over, the old key stays in use, and the server should not be trusted
    /// with another: close the connection.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        crypt: &mut Crypt,
        answer: &[u8],
    ) -> Result<(), RekeyError> {
        let ephemeral = match std::mem::replace(&mut self.state, State::Due(now + INTERVAL)) {
            State::InFlight(ephemeral) => ephemeral,
            other => {
                self.state = other;
                return Err(RekeyError::Unasked);
            }
        };
        crypt.add_key(&ephemeral.agree(answer)?)?;
        crypt.use_newest_key();
        Ok(())
    }
}

impl Default for ClientRekey {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// The peer's public key is not an uncompressed point of the curve.
    #[error("the peer's public key is not a point of P-256")]
    BadPoint,
    /// The server answered what was not asked.
    #[error("a new key was offered, but none was asked for")]
    Unasked,
    /// The peer has not begun to use the keys of earlier exchanges.
    #[error("too many keys are waiting for their first use")]
    TooManyKeys,
}

/// One side's secret of one exchange; wiped when dropped.
pub(super) struct Ephemeral(SecretKey);

impl Ephemeral {
    /// Makes the secret out of 32 random bytes.
    pub(super) fn new(mut random: Zeroizing<[u8; 32]>) -> Self {
        loop {
            if let Ok(secret) = SecretKey::from_slice(random.as_slice()) {
                return Self(secret);
            }
            // One draw in 2^32 is zero or beyond the order of the curve. What is
            // hashed then is random and seen by nobody, as the next draw would be.
            random = Zeroizing::new(Sha256::digest(random.as_slice()).into());
        }
    }

    pub(super) fn point(&self) -> PublicPoint {
        let point = self.0.public_key().to_sec1_point(false);
        point.as_bytes().try_into().expect("an uncompressed P-256 point has 65 bytes")
    }

    /// Returns the secret shared with the owner of `peer`, and forgets ours.
    pub(super) fn agree(self, peer: &[u8]) -> Result<Zeroizing<[u8; 32]>, RekeyError> {
        // The reference takes no compressed point, whose first byte differs.
        if peer.len() != POINT_LEN {
            return Err(RekeyError::BadPoint);
        }
        let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| RekeyError::BadPoint)?;
        let shared = self.0.diffie_hellman(&peer);
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(shared.raw_secret_bytes());
        Ok(secret)
    }
}

impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ephemeral(hidden)")
    }
}
