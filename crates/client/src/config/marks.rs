//! IPQoS: how packets are marked, so that networks can tell keystrokes from files.

/// Values of the traffic class byte, in which the two lowest bits are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// For a session with a terminal; `None` leaves it to the system.
    pub interactive: Option<u8>,
    /// For everything else.
    pub bulk: Option<u8>,
    /// Whether the configuration says so; a UDP link has its own mark otherwise.
    pub is_set: bool,
}

impl Default for Marks {
    /// `af21 cs1`, as OpenSSH.
    fn default() -> Self {
        Self { interactive: Some(0x48), bulk: Some(0x20), is_set: false }
    }
}

impl Marks {
    /// Reads the words of IPQoS: for both, or for terminals and for the rest.
    pub(super) fn parse(words: &[String]) -> Option<Self> {
        let (first, more) = words.split_first()?;
        let interactive = class(first)?;
        let bulk = match more {
            [] => interactive,
            [bulk] => class(bulk)?,
            _ => return None,
        };
        Some(Self { interactive, bulk, is_set: true })
    }

    /// Returns the mark for a connection with or without a terminal.
    #[must_use]
    pub fn of(self, is_interactive: bool) -> Option<u8> {
        if is_interactive { self.interactive } else { self.bulk }
    }
}

/// As `ssh -G` prints it.
impl std::fmt::Display for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, mark) in [self.interactive, self.bulk].into_iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            let name = CLASSES.iter().find(|(_, value)| Some(*value) == mark);
            match (name, mark) {
                (Some((name, _)), _) => write!(f, "{space}{name}")?,
                (None, Some(value)) => write!(f, "{space}0x{value:02x}")?,
                (None, None) => write!(f, "{space}none")?,
            }
        }
        Ok(())
    }
}

/// Reads one class; the inner `None` is `none`.
fn class(word: &str) -> Option<Option<u8>> {
    if word.eq_ignore_ascii_case("none") {
        return Some(None);
    }
    let known = CLASSES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|(_, value)| *value).or_else(|| number(word)).map(Some)
}

/// Reads a number as strtol(3) does: decimal, octal or hexadecimal.
fn number(word: &str) -> Option<u8> {
    let lower = word.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None if lower.len() > 1 && lower.starts_with('0') => u8::from_str_radix(&lower, 8).ok(),
        None => lower.parse().ok(),
    }
}

/// The names of ssh_config(5), in the order in which a value is named.
const CLASSES: &[(&str, u8)] = &[
    ("af11", 0x28),
    ("af12", 0x30),
    ("af13", 0x38),
    ("af21", 0x48),
    ("af22", 0x50),
    ("af23", 0x58),
    ("af31", 0x68),
    ("af32", 0x70),
    ("af33", 0x78),
    ("af41", 0x88),
    ("af42", 0x90),
    ("af43", 0x98),
    ("cs0", 0x00),
    ("cs1", 0x20),
    ("cs2", 0x40),
    ("cs3", 0x60),
    ("cs4", 0x80),
    ("cs5", 0xa0),
    ("cs6", 0xc0),
    ("cs7", 0xe0),
    ("ef", 0xb8),
    ("le", 0x04),
    ("lowdelay", 0x10),
    ("throughput", 0x08),
    ("reliability", 0x04),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &str) -> Option<Marks> {
        Marks::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn classes_have_names_and_numbers_and_one_stands_for_both() {
        for (text, shown) in [
            ("ef", "ef ef"),
            ("AF21 cs1", "af21 cs1"),
            ("lowdelay none", "lowdelay none"),
            ("0xb8 8", "ef throughput"),
            ("1 02", "0x01 0x02"),
        ] {
            assert_eq!(marks(text).expect(text).to_string(), shown);
        }
        for text in ["", "fast", "256", "-1", "ef ef ef"] {
            assert_eq!(marks(text), None, "{text}");
        }
        assert_eq!(Marks::default().to_string(), "af21 cs1");
    }
}
