//! Patterns of sshd_config: `*` and `?`, lists with `!`, addresses with masks.

use std::net::IpAddr;

/// Returns whether `text` matches `pattern` with its `*` and `?`.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    // Where to go on after the last `*`, should what follows it not match.
    let (mut t, mut p, mut retry) = (0, 0, None);
    loop {
        match (pattern.get(p), text.get(t)) {
            (Some('*'), _) => {
                retry = Some((t, p + 1));
                p += 1;
            }
            (Some(wanted), Some(got)) if *wanted == '?' || wanted == got => {
                t += 1;
                p += 1;
            }
            (None, None) => return true,
            _ => match retry {
                Some((from, after)) if from < text.len() => {
                    retry = Some((from + 1, after));
                    (t, p) = (from + 1, after);
                }
                _ => return false,
            },
        }
    }
}

/// Returns whether a comma-separated list matches by `test`, where a negated
/// entry that matches decides against.
fn list(list: &str, mut test: impl FnMut(&str) -> bool) -> bool {
    let mut found = false;
    for entry in list.split(',') {
        match entry.strip_prefix('!') {
            Some(entry) if test(entry) => return false,
            Some(_) => {}
            None => found = found || test(entry),
        }
    }
    found
}

/// Returns whether `text` matches a list of patterns.
pub(crate) fn matches_list(text: &str, patterns: &str) -> bool {
    list(patterns, |pattern| matches(text, pattern))
}

/// Returns whether `address` matches a list of patterns and `ADDRESS/BITS`.
pub(crate) fn matches_address(address: IpAddr, patterns: &str) -> bool {
    let text = address.to_string();
    list(patterns, |pattern| match pattern.split_once('/') {
        Some((network, bits)) => in_network(address, network, bits),
        None => {
            pattern.parse().map_or_else(|_| matches(&text, pattern), |ip: IpAddr| ip == address)
        }
    })
}

fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let ((a, width), (n, _)) = (wide(address), wide(network));
    let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
    address.is_ipv4() == network.is_ipv4() && bits <= width && (a & mask) == (n & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (text, pattern, expected) in [
            ("LC_ALL", "LC_*", true),
            ("LANG", "LC_*", false),
            ("abc", "a?c", true),
            ("ac", "a?c", false),
            ("aXbXc", "a*b*c", true),
            ("aXbX", "a*b*c", false),
            ("", "*", true),
            ("", "", true),
            ("x", "", false),
            ("aaab", "*ab", true),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn a_negated_entry_decides_against() {
        assert!(matches_list("alice", "bob,al*"));
        assert!(!matches_list("alice", "*,!alice"));
        assert!(!matches_list("alice", "!bob"));
    }

    #[test]
    fn addresses_match_by_network() {
        let matches = |ip: &str, list| matches_address(ip.parse().unwrap(), list);
        assert!(matches("10.1.2.3", "10.0.0.0/8"));
        assert!(!matches("11.1.2.3", "10.0.0.0/8"));
        assert!(!matches("10.1.2.3", "*,!10.1.0.0/16"));
        assert!(matches("2001:db8::5", "2001:db8::/32"));
        assert!(!matches("2001:db8::5", "0.0.0.0/0"));
        assert!(matches("10.1.2.3", "0.0.0.0/0"));
        assert!(matches("10.1.2.3", "10.1.*"));
        assert!(matches("::1", "0:0:0:0:0:0:0:1"));
    }
}
