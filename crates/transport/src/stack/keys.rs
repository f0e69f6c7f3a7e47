//! Who asks for new keys: the client's [`ClientRekey`], or nobody on a server.

use std::time::Instant;

use zeroize::Zeroizing;

use super::Stack;
use crate::crypt::{ClientRekey, PublicPoint, RekeyError};

/// Which side of the key exchange this is.
#[derive(Debug)]
pub(super) enum Keys {
    Client(ClientRekey),
    Server,
}

impl Keys {
    /// The client, for whom the first exchange is due at once.
    pub(super) fn client(now: Instant) -> Self {
        let mut rekey = ClientRekey::new();
        rekey.start(now);
        Self::Client(rekey)
    }

    pub(super) const fn server() -> Self {
        Self::Server
    }
}

/// Why a message of a key exchange could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyExchangeError {
    /// The client answers no requests, and the server awaits no answers; with
    /// QUIC nobody exchanges keys this way.
    #[error("a key exchange that was not to be expected")]
    Unexpected,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoEntropy,
    /// The exchange itself failed.
    #[error(transparent)]
    Rekey(#[from] RekeyError),
}

/// The key exchange (PROTOCOL §4.7), whose messages travel on the bus.
impl Stack {
    /// Returns the client's request if it is time for one.
    ///
    /// `random` is 32 fresh random bytes.
    pub fn request_keys(
        &mut self,
        now: Instant,
        random: Zeroizing<[u8; 32]>,
    ) -> Option<PublicPoint> {
        match &mut self.keys {
            Keys::Client(rekey) => rekey.request(now, &self.crypt, random),
            Keys::Server => None,
        }
    }

    /// Makes it time for [`Stack::request_keys`], unless a request is in flight.
    pub fn hurry_keys(&mut self, now: Instant) {
        if let Keys::Client(rekey) = &mut self.keys {
            rekey.hurry(now);
        }
    }

    /// Returns whether it is time for [`Stack::request_keys`].
    #[must_use]
    pub fn are_keys_due(&self, now: Instant) -> bool {
        matches!(&self.keys, Keys::Client(rekey) if rekey.is_due(now, &self.crypt))
    }

    /// Returns when it is time for [`Stack::request_keys`], if only time passes.
    #[must_use]
    pub fn keys_due_at(&self) -> Option<Instant> {
        match &self.keys {
            Keys::Client(rekey) => rekey.poll_timeout(),
            Keys::Server => None,
        }
    }

    /// Takes the server's answer: packets are sealed with the new key from now on.
    ///
    /// # Errors
    /// [`KeyExchangeError`].
    pub fn handle_key_answer(
        &mut self,
        now: Instant,
        answer: &[u8],
    ) -> Result<(), KeyExchangeError> {
        match &mut self.keys {
            Keys::Client(rekey) => Ok(rekey.handle_answer(now, &mut self.crypt, answer)?),
            Keys::Server => Err(KeyExchangeError::Unexpected),
        }
    }

    /// Takes the client's request and returns the answer.
    ///
    /// `random` is 32 fresh random bytes.
    ///
    /// # Errors
    /// [`KeyExchangeError`].
    pub fn answer_keys(
        &mut self,
        request: &[u8],
        random: Zeroizing<[u8; 32]>,
    ) -> Result<PublicPoint, KeyExchangeError> {
        match self.keys {
            Keys::Client(_) => Err(KeyExchangeError::Unexpected),
            Keys::Server => Ok(self.crypt.answer(request, random)?),
        }
    }

    /// Returns whether what is sealed now cannot be opened with what the login carried.
    #[must_use]
    pub fn has_exchanged_keys(&self) -> bool {
        self.crypt.generation() > 0
    }
}
