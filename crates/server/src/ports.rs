//! Which ports to try, and in what order (PROTOCOL §1.6).

use std::ops::RangeInclusive;

/// The ports tried when none are asked for.
pub const DEFAULT: &str = "61001-61999";

/// Ranges of ports to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// No part of the list names a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no valid port in {0:?}; write for example 61001-61999 or 7000,7010-7020")]
pub struct NoPorts(String);

impl Ports {
    /// Reads a list: segments separated by commas, in them tokens separated by
    /// blanks: `N`, `A-B` or `A - B`. Bad tokens are dropped.
    ///
    /// # Errors
    /// [`NoPorts`] when nothing valid is left.
    pub fn parse(list: &str) -> Result<Self, NoPorts> {
        let ranges: Vec<_> = list.split(',').flat_map(segment).collect();
        if ranges.is_empty() {
            Err(NoPorts(list.chars().take(200).collect()))
        } else {
            Ok(Self(ranges))
        }
    }

    /// Returns the ports in the order to try them: ranges shuffled, each from
    /// a random start with wrap-around. `random` returns a number below its argument.
    pub fn candidates(
        mut self,
        mut random: impl FnMut(usize) -> usize,
    ) -> impl Iterator<Item = u16> {
        for i in (1..self.0.len()).rev() {
            self.0.swap(i, random(i + 1));
        }
        let starts: Vec<_> = self.0.iter().map(|range| random(range.len())).collect();
        self.0.into_iter().zip(starts).flat_map(|(range, start)| {
            let skipped = range.clone().take(start);
            range.skip(start).chain(skipped)
        })
    }
}

fn segment(segment: &str) -> Vec<RangeInclusive<u16>> {
    let mut tokens = segment.split_whitespace().peekable();
    let mut ranges = Vec::new();
    while let Some(token) = tokens.next() {
        let range = if tokens.next_if_eq(&"-").is_some() {
            tokens.next().and_then(|end| range(token, end))
        } else {
            match token.split_once('-') {
                Some((start, end)) => range(start, end),
                None => range(token, token),
            }
        };
        match range {
            Some(range) => ranges.push(range),
            None => tracing::warn!(token, "ignoring a bad port"),
        }
    }
    ranges
}

fn range(start: &str, end: &str) -> Option<RangeInclusive<u16>> {
    let (start, end) = (port(start)?, port(end)?);
    (start <= end).then_some(start..=end)
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_bad_tokens_dropped() {
        let parse = |list: &str| Ports::parse(list).map(|ports| ports.0);
        assert_eq!(parse("7000"), Ok(vec![7000..=7000]));
        assert_eq!(parse("7000,8000-8010"), Ok(vec![7000..=7000, 8000..=8010]));
        assert_eq!(parse(" 1 - 3  9 , x 5"), Ok(vec![1..=3, 9..=9, 5..=5]));
        assert_eq!(parse("0,65536,9-8,70,a-b"), Ok(vec![70..=70]));
        assert!(parse("").is_err());
        assert!(parse("0").is_err());
    }

    #[test]
    fn every_port_is_tried_once_from_a_random_start() {
        let ports = Ports::parse("10-14,90").unwrap();
        let tried: Vec<u16> = ports.candidates(|below| below - 1).collect();
        assert_eq!(tried, [14, 10, 11, 12, 13, 90]);
        let ports = Ports::parse("10-14,90").unwrap();
        let tried: Vec<u16> = ports.candidates(|_| 0).collect();
        assert_eq!(tried, [90, 10, 11, 12, 13, 14]);
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Ports::parse(DEFAULT).unwrap().candidates(|_| 0).count(), 999);
    }
}
