//! SOCKS 4, 4a and 5, the server's half: from what a program sends to where it wants to go.
//!
//! Sans-IO: feed what has arrived, send what comes back. No authentication, as in OpenSSH: who
//! may connect is decided by where the listener is bound. Not here: connecting.
//! Wire: RFC 1928; SOCKS 4 and 4a are described nowhere official.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::remote::Target;

/// Longest request that is taken: a user name and a host name of SOCKS 4a with room to spare.
const LONGEST: usize = 1024;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More has to arrive.
    More,
    /// Send this, drop so many bytes of what has arrived, and go on.
    Answer(Vec<u8>, usize),
    /// Connect there; so many bytes are used up, and what follows them is the program's.
    Connect(Target, Version, usize),
    /// Send this, which may be nothing, and hang up.
    Refuse(Vec<u8>),
}

/// The dialect in which the outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// SOCKS 4 and 4a.
    Four,
    /// SOCKS 5.
    Five,
}

/// One request in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Socks {
    /// Nothing has been agreed on.
    #[default]
    Start,
    /// SOCKS 5, past the choice of a method.
    Chosen,
}

impl Socks {
    /// Looks at everything that has arrived and not been used up.
    pub fn advance(&mut self, bytes: &[u8]) -> Step {
        let step = match (*self, bytes.first()) {
            (_, None) => return Step::More,
            (Self::Start, Some(4)) => four(bytes),
            (Self::Start, Some(5)) => choose(bytes),
            (Self::Chosen, Some(5)) => five(bytes),
            _ => Some(Step::Refuse(Vec::new())),
        };
        match step {
            Some(step) => {
                if matches!(step, Step::Answer(..)) {
                    *self = Self::Chosen;
                }
                step
            }
            None if bytes.len() > LONGEST => Step::Refuse(Vec::new()),
            None => Step::More,
        }
    }
}

impl Version {
    /// Returns what tells the program how its request went.
    #[must_use]
    pub fn outcome(self, connected: bool) -> Vec<u8> {
        match self {
            Self::Four => vec![0, if connected { 90 } else { 91 }, 0, 0, 0, 0, 0, 0],
            // The address we connect from is the far host's business: all zeros, as from OpenSSH.
            Self::Five => vec![5, if connected { 0 } else { 5 }, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// SOCKS 4: command, port, address, user name; 4a: and a host name, if the address is 0.0.0.x.
fn four(bytes: &[u8]) -> Option<Step> {
    let ([_, command, port @ ..], rest) = bytes.split_first_chunk::<4>()?;
    let (address, rest) = rest.split_first_chunk::<4>()?;
    let (_user, rest) = terminated(rest)?;
    let (host, rest) = match address {
        [0, 0, 0, last] if *last != 0 => terminated(rest)?,
        [a, b, c, d] => (Ipv4Addr::new(*a, *b, *c, *d).to_string().into_bytes(), rest),
    };
    if *command != 1 {
        return Some(Step::Refuse(Version::Four.outcome(false)));
    }
    Some(connect(host, u16::from_be_bytes(*port), Version::Four, bytes.len() - rest.len()))
}

/// Takes a string that ends with a NUL.
fn terminated(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((text.to_vec(), rest.get(1..)?))
}

/// SOCKS 5: the methods the program knows; ours is "none".
fn choose(bytes: &[u8]) -> Option<Step> {
    let ([_, count], rest) = bytes.split_first_chunk::<2>()?;
    let methods = rest.get(..usize::from(*count))?;
    Some(match methods.contains(&0) {
        true => Step::Answer(vec![5, 0], 2 + methods.len()),
        false => Step::Refuse(vec![5, 0xff]),
    })
}

/// SOCKS 5: command, kind of address, address, port.
fn five(bytes: &[u8]) -> Option<Step> {
    let ([_, command, _reserved, kind], rest) = bytes.split_first_chunk::<4>()?;
    let (host, rest) = match kind {
        1 => {
            let (address, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*address).to_string().into_bytes(), rest)
        }
        3 => {
            let (length, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            (name.to_vec(), rest)
        }
        4 => {
            let (address, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*address).to_string().into_bytes(), rest)
        }
        _ => return Some(refused(8)),
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    if *command != 1 {
        return Some(refused(7));
    }
    Some(connect(host, u16::from_be_bytes(*port), Version::Five, bytes.len() - rest.len()))
}

fn refused(code: u8) -> Step {
    Step::Refuse(vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0])
}

fn connect(host: Vec<u8>, port: u16, version: Version, used: usize) -> Step {
    match String::from_utf8(host) {
        // A name with such characters can be none, and would be quoted in messages.
        Ok(host) if !host.is_empty() && !host.chars().any(char::is_control) => {
            Step::Connect(Target::Tcp { host, port }, version, used)
        }
        _ => Step::Refuse(version.outcome(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Target {
        Target::Tcp { host: host.to_owned(), port }
    }

    /// Feeds one byte more at a time until something is to be done.
    fn drip(socks: &mut Socks, bytes: &[u8]) -> Step {
        let steps = (0..=bytes.len()).map(|n| socks.advance(&bytes[..n]));
        steps.into_iter().find(|step| *step != Step::More).unwrap_or(Step::More)
    }

    #[test]
    fn socks_4_names_an_address_and_4a_a_host() {
        let request = b"\x04\x01\x00\x50\x0a\x00\x00\x05bob\0";
        let want = Step::Connect(tcp("10.0.0.5", 80), Version::Four, request.len());
        assert_eq!(drip(&mut Socks::default(), request), want);
        let request = b"\x04\x01\x01\xbb\x00\x00\x00\x01\0db.example\0";
        let want = Step::Connect(tcp("db.example", 443), Version::Four, request.len());
        assert_eq!(drip(&mut Socks::default(), request), want);
    }

    #[test]
    fn socks_5_chooses_a_method_and_takes_three_kinds_of_address() {
        for (address, host) in [
            (&b"\x01\x7f\x00\x00\x01"[..], "127.0.0.1"),
            (b"\x03\x02db", "db"),
            (b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", "::1"),
        ] {
            let mut socks = Socks::default();
            assert_eq!(drip(&mut socks, b"\x05\x02\x02\x00"), Step::Answer(vec![5, 0], 4));
            let request = [&b"\x05\x01\x00"[..], address, b"\x00\x16"].concat();
            let want = Step::Connect(tcp(host, 22), Version::Five, request.len());
            assert_eq!(drip(&mut socks, &request), want);
        }
    }

    #[test]
    fn what_the_program_says_early_is_left_to_it() {
        let mut socks = Socks::Chosen;
        let step = socks.advance(b"\x05\x01\x00\x03\x02db\x00\x16SSH-2.0");
        assert_eq!(step, Step::Connect(tcp("db", 22), Version::Five, 9));
    }

    #[test]
    fn requests_for_more_than_a_connection_are_refused_in_their_own_dialect() {
        let refuse = |mut socks: Socks, bytes: &[u8]| match socks.advance(bytes) {
            Step::Refuse(answer) => answer,
            step => panic!("{step:?}"),
        };
        assert!(refuse(Socks::Start, b"GET / HTTP/1.1").is_empty());
        assert_eq!(refuse(Socks::Start, b"\x05\x01\x02"), [5, 0xff]);
        assert_eq!(refuse(Socks::Start, b"\x04\x02\x00\x50\x0a\x00\x00\x05\0")[1], 91);
        assert_eq!(refuse(Socks::Chosen, b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")[1], 7);
        assert_eq!(refuse(Socks::Chosen, b"\x05\x01\x00\x09")[1], 8);
        assert_eq!(refuse(Socks::Chosen, b"\x05\x01\x00\x03\x00\x00\x16")[1], 5);
        let endless = [b"\x04\x01\x00\x50\x0a\x00\x00\x05".to_vec(), vec![b'a'; 2000]].concat();
        assert!(refuse(Socks::Start, &endless).is_empty());
    }
}
