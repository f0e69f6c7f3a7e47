//! Fingerprints of keys, as FingerprintHash has them shown, and their pictures.

use russh::keys::{HashAlg, PublicKey};

use super::kinds::{bits, kind_word};
use crate::config::settings::FingerprintHash;

/// Returns the fingerprint of a key: `SHA256:` and base 64, or `MD5:` and pairs of digits.
pub(super) fn of(key: &PublicKey, hash: FingerprintHash) -> String {
    match hash {
        FingerprintHash::Sha256 => key.fingerprint(HashAlg::Sha256).to_string(),
        FingerprintHash::Md5 => {
            let pairs: Vec<_> =
                digest(key, hash).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("MD5:{}", pairs.join(":"))
        }
    }
}

/// Returns the picture of a key (VisualHostKey).
pub(super) fn picture(key: &PublicKey, hash: FingerprintHash) -> String {
    let title = match bits(key.key_data()) {
        Some(bits) => format!("[{} {bits}]", kind_word(key)),
        None => format!("[{}]", kind_word(key)),
    };
    let name = match hash {
        FingerprintHash::Sha256 => "[SHA256]",
        FingerprintHash::Md5 => "[MD5]",
    };
    draw(&digest(key, hash), &title, name)
}

fn digest(key: &PublicKey, hash: FingerprintHash) -> Vec<u8> {
    let blob = key.to_bytes().unwrap_or_default();
    match hash {
        FingerprintHash::Sha256 => {
            ring::digest::digest(&ring::digest::SHA256, &blob).as_ref().to_vec()
        }
        FingerprintHash::Md5 => md5::compute(&blob).to_vec(),
    }
}

const WIDTH: usize = 17;
const HEIGHT: usize = 9;
/// What a field looks like that was visited so many times; the last two are start and end.
const SYMBOLS: &[u8] = b" .o+=*BOX@%&#/^SE";

/// Draws the way of a bishop whose moves are the pairs of bits of a digest, lowest first
/// ("The drunken bishop", Loss, Limmer and von Gernler, 2009).
fn draw(digest: &[u8], title: &str, name: &str) -> String {
    let mut board = [[0usize; WIDTH]; HEIGHT];
    let (mut x, mut y) = (WIDTH / 2, HEIGHT / 2);
    let last = SYMBOLS.len() - 1;
    for byte in digest {
        for shift in [0, 2, 4, 6] {
            let step = byte >> shift;
            let along = |at: usize, forward: bool, limit: usize| match forward {
                true => (at + 1).min(limit - 1),
                false => at.saturating_sub(1),
            };
            x = along(x, step & 1 != 0, WIDTH);
            y = along(y, step & 2 != 0, HEIGHT);
            let field = board.get_mut(y).and_then(|row| row.get_mut(x));
            if let Some(visits) = field.filter(|visits| **visits < last - 2) {
                *visits += 1;
            }
        }
    }
    let symbol = |row: usize, column: usize, visits: usize| match (column, row) {
        (column, row) if (column, row) == (x, y) => last,
        (column, row) if (column, row) == (WIDTH / 2, HEIGHT / 2) => last - 1,
        _ => visits,
    };
    let mut lines = vec![format!("+{title:-^WIDTH$}+")];
    for (number, row) in board.iter().enumerate() {
        let fields = row.iter().enumerate().map(|(column, visits)| {
            char::from(SYMBOLS.get(symbol(number, column, *visits)).copied().unwrap_or(b'?'))
        });
        lines.push(format!("|{}|", fields.collect::<String>()));
    }
    lines.push(format!("+{name:-^WIDTH$}+"));
    lines.join("\n")
}
