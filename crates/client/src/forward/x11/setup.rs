//! The first packet of an X11 connection: the false cookie out, the true one in.
//!
//! ```text
//! 0   'B' or 'l': big or little endian      6  length of the protocol's name
//! 1   unused                                8  length of the cookie
//! 2   version 11.0                         10  unused
//! 12  name, padded to 4 bytes; cookie, padded to 4 bytes
//! ```
//! (X Window System Protocol, "Connection Setup".)
//! Pure: bytes in, a verdict out. Whoever does not know the false cookie gets no
//! further. Invariant: never asks for more bytes than a packet of the expected
//! lengths has.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes before the protocol's name.
const HEADER: usize = 12;

/// The cookie that programs on the far host are given, and the one it stands for.
#[derive(Clone)]
pub struct Spoof {
    protocol: String,
    real: Zeroizing<Vec<u8>>,
    fake: Zeroizing<Vec<u8>>,
}

impl Spoof {
    /// Returns a false cookie for a true one; `None` if they are not of one length.
    #[must_use]
    pub fn new(protocol: String, real: Vec<u8>, fake: Vec<u8>) -> Option<Self> {
        let (real, fake) = (Zeroizing::new(real), Zeroizing::new(fake));
        (real.len() == fake.len()).then_some(Self { protocol, real, fake })
    }

    /// Returns the name of the authentication protocol.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Returns the false cookie in hex, for the far host.
    #[must_use]
    pub fn fake_hex(&self) -> String {
        hex::encode(&*self.fake)
    }

    /// Judges what has arrived of a connection.
    #[must_use]
    pub fn judge(&self, arrived: &[u8]) -> Verdict {
        let Some((header, rest)) = arrived.split_first_chunk::<HEADER>() else {
            return Verdict::More;
        };
        let [order, _, _, _, _, _, name_high, name_low, cookie_high, cookie_low, _, _] = *header;
        let read = match order {
            b'B' => u16::from_be_bytes,
            b'l' => u16::from_le_bytes,
            _ => return Verdict::Refuse("bad byte order"),
        };
        let name_len = usize::from(read([name_high, name_low]));
        let cookie_len = usize::from(read([cookie_high, cookie_low]));
        // Before anything is waited for: another length is another protocol or cookie.
        if name_len != self.protocol.len() {
            return Verdict::Refuse("different authentication protocol");
        }
        if cookie_len != self.fake.len() {
            return Verdict::Refuse("auth data does not match fake data");
        }
        let padded = name_len.next_multiple_of(4);
        let end = padded + cookie_len.next_multiple_of(4);
        if rest.len() < end {
            return Verdict::More;
        }
        let name = rest.get(..name_len).unwrap_or_default();
        if name != self.protocol.as_bytes() {
            return Verdict::Refuse("different authentication protocol");
        }
        let cookie = rest.get(padded..padded + cookie_len).unwrap_or_default();
        if !is_same(cookie, &self.fake) {
            return Verdict::Refuse("auth data does not match fake data");
        }
        let mut packet = Zeroizing::new(arrived.to_vec());
        let from = HEADER + padded;
        if let Some(place) = packet.get_mut(from..from + cookie_len) {
            place.copy_from_slice(&self.real);
        }
        Verdict::Pass(packet)
    }
}

impl fmt::Debug for Spoof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spoof").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More bytes are needed.
    More,
    /// It knows the false cookie: send this instead of what arrived.
    Pass(Zeroizing<Vec<u8>>),
    /// It does not; the reason is for the log.
    Refuse(&'static str),
}

/// Compares in a time that says nothing about where two cookies differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "MIT-MAGIC-COOKIE-1";

    fn spoof() -> Spoof {
        Spoof::new(NAME.into(), vec![7; 16], vec![9; 16]).expect("one length")
    }

    fn packet(order: u8, name: &str, cookie: &[u8]) -> Vec<u8> {
        let write = if order == b'B' { u16::to_be_bytes } else { u16::to_le_bytes };
        let len = |bytes: &[u8]| write(u16::try_from(bytes.len()).expect("short"));
        let mut packet = vec![order, 0];
        packet.extend(write(11));
        packet.extend(write(0));
        packet.extend(len(name.as_bytes()));
        packet.extend(len(cookie));
        packet.extend([0, 0]);
        for field in [name.as_bytes(), cookie] {
            packet.extend(field);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    #[test]
    fn the_false_cookie_is_replaced_and_all_else_kept_in_both_byte_orders() {
        for order in *b"Bl" {
            let mut arrived = packet(order, NAME, &[9; 16]);
            let mut wanted = packet(order, NAME, &[7; 16]);
            for len in 0..arrived.len() {
                assert_eq!(spoof().judge(&arrived[..len]), Verdict::More, "{len}");
            }
            assert_eq!(spoof().judge(&arrived), Verdict::Pass(Zeroizing::new(wanted.clone())));
            arrived.extend(b"more");
            wanted.extend(b"more");
            assert_eq!(spoof().judge(&arrived), Verdict::Pass(Zeroizing::new(wanted)));
        }
    }

    #[test]
    fn whoever_does_not_know_the_false_cookie_is_refused_at_once() {
        let refused = |bytes: &[u8]| matches!(spoof().judge(bytes), Verdict::Refuse(_));
        assert!(refused(&packet(b'l', NAME, &[7; 16])), "the true one is of no use there");
        assert!(refused(&packet(b'l', "MIT-MAGIC-COOKIE-2", &[9; 16])));
        assert!(refused(&packet(b'x', NAME, &[9; 16])));
        assert!(refused(&packet(b'B', "", b"")[..12]), "nothing more is waited for");
        assert!(refused(&packet(b'B', NAME, &[9; 17])[..12]));
    }

    #[test]
    fn cookies_are_not_shown() {
        assert!(!format!("{:?}", spoof()).contains('7'));
    }
}
