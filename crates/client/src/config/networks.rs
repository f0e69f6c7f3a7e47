//! `Match localnetwork`: is an address of this machine in one of these networks?
//!
//! OpenSSH's `addr_match_cidr_list` (addrmatch.c, 9.4): `address/bits`, comma separated, `!` in
//! front of those that must not match.

use std::net::IpAddr;

/// Returns whether one of the addresses is in the list; a negated match of any is a miss for that
/// address.
///
/// # Errors
/// An entry that is no network.
pub(super) fn any_in_list(addresses: &[IpAddr], list: &str) -> Result<bool, String> {
    let mut networks = Vec::new();
    for entry in list.split(',') {
        let (negated, text) = match entry.strip_prefix('!') {
            Some(text) => (true, text),
            None => (false, entry),
        };
        let network =
            Network::parse(text).ok_or_else(|| format!("Invalid network entry \"{entry}\""))?;
        networks.push((negated, network));
    }
    Ok(addresses.iter().any(|address| {
        let within = |wanted| {
            networks.iter().any(|(negated, net)| *negated == wanted && net.contains(address))
        };
        within(false) && !within(true)
    }))
}

/// A network: the bits that all its addresses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    v4: bool,
    /// As a number of 128 bits, from the top.
    prefix: u128,
    bits: u32,
}

impl Network {
    /// Reads `address/bits` or one address. Bits behind the prefix must be zero, as for OpenSSH:
    /// they tell of a mistake.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        let network = Self { v4: address.is_ipv4(), prefix: number(&address), bits };
        (network.prefix & !network.mask() == 0).then_some(network)
    }

    fn mask(self) -> u128 {
        u128::MAX.checked_shl(128 - self.bits).unwrap_or(0)
    }

    fn contains(&self, address: &IpAddr) -> bool {
        self.v4 == address.is_ipv4() && number(address) & self.mask() == self.prefix
    }
}

/// An address as a number of 128 bits, from the top.
fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_one_of_the_networks_matches_unless_it_is_excluded() {
        let addresses = ["10.1.2.3", "fe80::1", "192.0.2.9"].map(|a| a.parse().expect("one"));
        for (list, want) in [
            ("10.0.0.0/8", true),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("172.16.0.0/12,192.0.2.0/24", true),
            ("10.0.0.0/8,!10.1.0.0/16", false),
            ("!10.1.0.0/16", false),
            ("fe80::/10", true),
            ("2001:db8::/32", false),
            ("0.0.0.0/0", true),
            ("::/0", true),
        ] {
            assert_eq!(any_in_list(&addresses, list), Ok(want), "{list}");
        }
        for list in ["10.0.0.1/8", "10.0.0.0/33", "x", "", "10.0.0.0/8,", "10.0.0.0/-1"] {
            assert!(any_in_list(&addresses, list).is_err(), "{list}");
        }
    }
}
