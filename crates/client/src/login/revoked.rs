//! RevokedHostKeys: keys that must not be accepted, from a list or a key revocation list (KRL).
//!
//! A file that cannot be read or understood revokes everything: it may well name the key at hand.
//! Format: OpenSSH's PROTOCOL.krl; a list has one public key a line. Signatures of a KRL are not
//! checked, as in OpenSSH, since the file is the user's own.

use std::io::{self, Read as _};
use std::path::Path;

use russh::keys::ssh_encoding::Encode as _;
use russh::keys::{Certificate, PublicKey, PublicKeyOrCertificate};
use sha1::{Digest as _, Sha1};

/// What a host shows, as revocation lists name it.
struct Shown {
    /// The plain key.
    key: Vec<u8>,
    certificate: Option<Certified>,
}

struct Certified {
    authority: Vec<u8>,
    serial: u64,
    id: String,
}

/// Returns whether `file` revokes what a host shows.
///
/// # Errors
/// The file cannot be read or is damaged.
pub(super) fn is_revoked(file: &Path, shown: &PublicKeyOrCertificate) -> io::Result<bool> {
    let shown = Shown::of(shown).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    match bytes.strip_prefix(MAGIC) {
        Some(krl) => krl_revokes(krl, &shown).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        None => list_revokes(&bytes, &shown),
    }
}

/// Returns whether the text of a revocation list revokes one host; `None` if it is damaged.
///
/// The entry for fuzzing: the host shows a certificate of an authority.
#[must_use]
pub fn judge(list: &[u8]) -> Option<bool> {
    let certificate = Certified { authority: vec![1; 8], serial: 7, id: "host".to_owned() };
    let shown = Shown { key: vec![2; 8], certificate: Some(certificate) };
    match list.strip_prefix(MAGIC) {
        Some(krl) => krl_revokes(krl, &shown),
        None => list_revokes(list, &shown).ok(),
    }
}

/// The longest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// What a KRL begins with.
const MAGIC: &[u8] = b"SSHKRL\n\0";

impl Shown {
    fn of(shown: &PublicKeyOrCertificate) -> Option<Self> {
        let key = shown.public_key().to_bytes().ok()?;
        let certificate = match shown.certificate() {
            Some(certificate) => Some(Certified::of(certificate)?),
            None => None,
        };
        Some(Self { key, certificate })
    }

    /// The keys that, revoked, take this one with them.
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let authority = self.certificate.iter().map(|certified| certified.authority.as_slice());
        std::iter::once(self.key.as_slice()).chain(authority)
    }
}

impl Certified {
    fn of(certificate: &Certificate) -> Option<Self> {
        let mut authority = Vec::new();
        certificate.signature_key().encode(&mut authority).ok()?;
        Some(Self { authority, serial: certificate.serial(), id: certificate.key_id().to_owned() })
    }
}

fn list_revokes(bytes: &[u8], shown: &Shown) -> io::Result<bool> {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = PublicKey::from_openssh(line).and_then(|key| key.to_bytes());
        let key = key.map_err(|_| io::ErrorKind::InvalidData)?;
        if shown.keys().any(|other| other == key) {
            return Ok(true);
        }
    }
    Ok(false)
}

// Sections and their parts (PROTOCOL.krl).
const CERTIFICATES: u8 = 1;
const EXPLICIT_KEY: u8 = 2;
const FINGERPRINT_SHA1: u8 = 3;
const SIGNATURE: u8 = 4;
const FINGERPRINT_SHA256: u8 = 5;
const EXTENSION: u8 = 255;
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;
const SERIAL_BITMAP: u8 = 0x22;
const KEY_ID: u8 = 0x23;
const CERT_EXTENSION: u8 = 0x39;

/// Returns whether a KRL, without its magic, revokes a key; `None` if it is damaged.
fn krl_revokes(krl: &[u8], shown: &Shown) -> Option<bool> {
    let mut rest = Cursor(krl);
    if rest.u32()? != 1 {
        return None;
    }
    // Version, date, flags; then what is reserved, and a comment.
    rest.take(24)?;
    rest.string()?;
    rest.string()?;
    let mut revoked = false;
    while !rest.0.is_empty() {
        let kind = rest.u8()?;
        if kind == SIGNATURE {
            // The last part: a key and a signature by it.
            break;
        }
        let mut section = Cursor(rest.string()?);
        match kind {
            CERTIFICATES => revoked |= certificates_revoke(section, shown)?,
            EXPLICIT_KEY | FINGERPRINT_SHA1 | FINGERPRINT_SHA256 => {
                while !section.0.is_empty() {
                    let entry = section.string()?;
                    revoked |= shown.keys().any(|key| match kind {
                        EXPLICIT_KEY => entry == key,
                        FINGERPRINT_SHA1 => entry == Sha1::digest(key).as_slice(),
                        _ => entry == ring::digest::digest(&ring::digest::SHA256, key).as_ref(),
                    });
                }
            }
            EXTENSION => extension(section)?,
            _ => return None,
        }
    }
    Some(revoked)
}

fn certificates_revoke(mut section: Cursor<'_>, shown: &Shown) -> Option<bool> {
    let authority = section.string()?;
    section.string()?;
    // Without an authority, certificates of all are meant.
    let certified = shown
        .certificate
        .as_ref()
        .filter(|certified| authority.is_empty() || certified.authority == authority);
    let serial = certified.map(|certified| certified.serial).filter(|&serial| serial != 0);
    let mut revoked = false;
    while !section.0.is_empty() {
        let kind = section.u8()?;
        let mut part = Cursor(section.string()?);
        match kind {
            SERIAL_LIST => {
                while !part.0.is_empty() {
                    revoked |= Some(part.u64()?) == serial;
                }
            }
            SERIAL_RANGE => {
                let range = part.u64()?..=part.u64()?;
                revoked |= serial.is_some_and(|serial| range.contains(&serial));
            }
            SERIAL_BITMAP => {
                let first = part.u64()?;
                let bits = part.string()?;
                let place = serial.and_then(|serial| serial.checked_sub(first));
                revoked |= place.is_some_and(|place| has_bit(bits, place));
            }
            KEY_ID => {
                while !part.0.is_empty() {
                    let id = part.string()?;
                    revoked |= certified.is_some_and(|certified| certified.id.as_bytes() == id);
                }
            }
            CERT_EXTENSION => extension(part)?,
            _ => return None,
        }
    }
    Some(revoked)
}

/// An extension we do not know; a critical one makes the file unreadable.
fn extension(mut section: Cursor<'_>) -> Option<()> {
    section.string()?;
    let critical = section.u8()?;
    (critical == 0).then_some(())
}

/// Returns whether a bit of a big-endian number is set, counted from the lowest.
fn has_bit(number: &[u8], place: u64) -> bool {
    let Ok(byte) = usize::try_from(place / 8) else { return false };
    let byte = number.len().checked_sub(byte + 1).and_then(|index| number.get(index));
    byte.is_some_and(|byte| byte >> (place % 8) & 1 == 1)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown() -> Shown {
        let certificate = Certified { authority: vec![1], serial: 7, id: "host".to_owned() };
        Shown { key: vec![2], certificate: Some(certificate) }
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        [&length[..], bytes].concat()
    }

    /// A KRL, without its magic, with one section.
    fn krl(kind: u8, section: &[u8]) -> Vec<u8> {
        let head = [&1u32.to_be_bytes()[..], &[0; 24], &string(b""), &string(b"")].concat();
        [head, vec![kind], string(section)].concat()
    }

    #[test]
    fn what_is_not_understood_is_damage_and_what_need_not_be_is_passed_over() {
        let extension = |critical| [string(b"new"), vec![critical], string(b"")].concat();
        assert_eq!(krl_revokes(&krl(EXTENSION, &extension(0)), &shown()), Some(false));
        assert_eq!(krl_revokes(&krl(EXTENSION, &extension(1)), &shown()), None);
        assert_eq!(krl_revokes(&krl(99, b""), &shown()), None);
        assert_eq!(krl_revokes(&krl(EXPLICIT_KEY, &string(&[2])), &shown()), Some(true));
        assert_eq!(krl_revokes(&krl(EXPLICIT_KEY, &string(&[1])), &shown()), Some(true));
        assert_eq!(krl_revokes(&krl(EXPLICIT_KEY, &string(&[3])), &shown()), Some(false));
        assert_eq!(krl_revokes(&krl(EXPLICIT_KEY, &[0, 0, 0, 9, 1]), &shown()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_revocation_list_panic(kind: u8, bytes: Vec<u8>) {
            let _ = krl_revokes(&bytes, &shown());
            let _ = krl_revokes(&krl(kind, &bytes), &shown());
            let _ = krl_revokes(&krl(CERTIFICATES, &[&string(b"")[..], &string(b""), &bytes].concat()), &shown());
            let _ = list_revokes(&bytes, &shown());
        }
    }
}
