//! [`Ways`]: every means at every address, in the order they are tried.
//!
//! What worked last comes first: its means, and its address with every means. In the first connect
//! all means are tried at the first address before another one gets its turn, because it is the
//! one that the login reached; later all addresses by one means, because it is a network or a
//! family of addresses that goes away. A wire leads where its opener wants, so it comes once.
//!
//! How long each is waited for grows from round to round, so that a slow link is reached in the
//! end, and falls back in between, so that a quick one which returns is not waited for in vain:
//! with the shortest patience p the rounds are p, 2p, p, 4p, p, 2p, p, 8p and so on.
//!
//! Ways are kept as what they are, never as a place in a list: lists change.

use std::net::SocketAddr;
use std::time::Duration;

use super::Config;
use crate::path::Means;
use crate::timers::{CANDIDATE_MIN, MEANS_PATIENCE, PATIENCE_TRIPS};

/// One means at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) means: Means,
    pub(super) remote: SocketAddr,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// The last one that was proven.
    home: Option<Way>,
    /// How many were tried in vain since then.
    turn: usize,
    /// How often the best means was tried while another one was in use.
    tries: usize,
}

impl Ways {
    /// Returns the way whose turn it is; none without any address.
    pub(super) fn next(&self, config: &Config) -> Option<Way> {
        let order = self.order(config);
        order.get(self.turn.checked_rem(order.len())?).copied()
    }

    /// Returns where the best means is tried while another one is in use: at the address in use,
    /// and at the others in turn.
    pub(super) fn next_better(&mut self, config: &Config) -> Option<Way> {
        let addresses = self.addresses(config);
        let remote = *addresses.get(self.tries.checked_rem(addresses.len())?)?;
        self.tries = self.tries.wrapping_add(1);
        Some(Way { means: *config.means.first()?, remote })
    }

    /// Whether the next attempt is at something that was not tried in this round.
    pub(super) fn has_others(&self, config: &Config) -> bool {
        let next = self.turn.wrapping_add(1);
        next.checked_rem(self.order(config).len()).is_some_and(|rest| rest != 0)
    }

    /// How long the way whose turn it is may take, on a link where a round trip takes as long as
    /// this, as far as is known.
    pub(super) fn patience(&self, config: &Config, round_trip: Option<Duration>) -> Duration {
        let ways = self.order(config).len();
        let shortest = self.shortest(config, round_trip);
        let round = self.turn.checked_div(ways).unwrap_or(0).wrapping_add(1);
        // Far beyond any limit; it only must not overflow.
        let doublings = round.trailing_zeros().min(16);
        let patience = shortest.saturating_mul(1 << doublings);
        if ways > 1 { patience.min(config.connect_timeout) } else { config.connect_timeout }
    }

    /// How long an attempt at something better may take.
    pub(super) fn patience_of_try(&self, config: &Config, rtt: Option<Duration>) -> Duration {
        self.shortest(config, rtt).min(config.connect_timeout)
    }

    /// This one is in use.
    pub(super) fn on_proven(&mut self, way: Way) {
        *self = Self { home: Some(way), turn: 0, tries: self.tries };
    }

    /// The one whose turn it is did not work.
    pub(super) const fn on_failed(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// What did not work may work now: the round begins anew.
    pub(super) fn on_network(&mut self, config: &Config) {
        let ways = self.order(config).len();
        self.turn -= self.turn.checked_rem(ways).unwrap_or(0);
    }

    /// There are other addresses: what was in vain at the old ones says nothing.
    pub(super) const fn on_other_addresses(&mut self) {
        self.turn = 0;
    }

    fn shortest(&self, config: &Config, round_trip: Option<Duration>) -> Duration {
        let ways = u32::try_from(self.order(config).len()).unwrap_or(u32::MAX).max(1);
        let share = (config.connect_timeout / ways).clamp(CANDIDATE_MIN, MEANS_PATIENCE);
        let is_first = self.home.is_none();
        let usual = if is_first { share } else { MEANS_PATIENCE };
        usual.max(round_trip.unwrap_or_default().saturating_mul(PATIENCE_TRIPS))
    }

    fn order(&self, config: &Config) -> Vec<Way> {
        let addresses = self.addresses(config);
        let mut means = config.means.clone();
        let used = self.home.and_then(|home| means.iter().position(|means| *means == home.means));
        means.rotate_left(used.unwrap_or(0));
        let way = |means: Means, remote: SocketAddr, is_first: bool| {
            (is_first || !means.is_wire).then_some(Way { means, remote })
        };
        let places = || addresses.iter().copied().enumerate();
        if self.home.is_none() {
            let at = |(place, remote)| {
                means.iter().filter_map(move |means| way(*means, remote, place == 0))
            };
            return places().flat_map(at).collect();
        }
        let by = |means: &Means| {
            let means = *means;
            places().filter_map(move |(place, remote)| way(means, remote, place == 0))
        };
        means.iter().flat_map(by).collect()
    }

    /// The addresses, the one that worked last first.
    fn addresses(&self, config: &Config) -> Vec<SocketAddr> {
        let mut addresses = config.candidates.clone();
        let used = self.home.and_then(|home| addresses.iter().position(|at| *at == home.remote));
        if let Some(place) = used {
            addresses[..=place].rotate_right(1);
        }
        addresses
    }
}

#[cfg(test)]
mod tests {
    use proto::{ClientId, ServerId};

    use super::*;
    use crate::path::Carrier;
    use crate::seal::ProxyKey;
    use crate::timers::CONNECT_TIMEOUT;

    const WIRE: Means = Means::wire(Carrier::Tcp);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 61001))
    }

    fn config(means: &[Means], addresses: u8) -> Config {
        let candidates = (1..=addresses).map(address).collect();
        let key = ProxyKey::new([0; 32]);
        Config { means: means.to_vec(), ..Config::new(ClientId(1), ServerId(2), key, candidates) }
    }

    /// The next round, as means and last byte of the address.
    fn round(ways: &mut Ways, config: &Config) -> Vec<(Means, SocketAddr)> {
        let mut round = Vec::new();
        loop {
            let Way { means, remote } = ways.next(config).expect("there are addresses");
            round.push((means, remote));
            let is_last = !ways.has_others(config);
            ways.on_failed();
            if is_last {
                return round;
            }
        }
    }

    #[test]
    fn the_first_connect_tries_everything_at_the_address_of_the_login_first() {
        let config = config(&[Means::UDP, Means::TCP, WIRE], 2);
        let expected = [
            (Means::UDP, address(1)),
            (Means::TCP, address(1)),
            (WIRE, address(1)),
            (Means::UDP, address(2)),
            (Means::TCP, address(2)),
        ];
        let mut ways = Ways::default();
        assert_eq!(round(&mut ways, &config), expected);
        assert_eq!(round(&mut ways, &config), expected, "and again");
    }

    #[test]
    fn later_what_worked_last_comes_first_and_then_its_means_at_the_other_addresses() {
        let config = config(&[Means::UDP, Means::TCP, WIRE], 2);
        let mut ways = Ways::default();
        ways.on_proven(Way { means: Means::TCP, remote: address(2) });
        let expected = [
            (Means::TCP, address(2)),
            (Means::TCP, address(1)),
            (WIRE, address(2)),
            (Means::UDP, address(2)),
            (Means::UDP, address(1)),
        ];
        assert_eq!(round(&mut ways, &config), expected);
        let tries = [(); 3].map(|()| ways.next_better(&config).expect("there are addresses"));
        let at = |last| Way { means: Means::UDP, remote: address(last) };
        assert_eq!(tries, [at(2), at(1), at(2)]);
    }

    #[test]
    fn addresses_may_come_and_go_between_any_two_steps() {
        let mut ways = Ways::default();
        let (few, many) = (config(&[Means::UDP], 1), config(&[Means::UDP], 3));
        ways.on_proven(Way { means: Means::UDP, remote: address(3) });
        assert_eq!(round(&mut ways, &few), [(Means::UDP, address(1))], "the other one is gone");
        ways.on_other_addresses();
        assert_eq!(round(&mut ways, &many)[0], (Means::UDP, address(3)), "it is back");
        assert_eq!(ways.next(&config(&[Means::UDP], 0)), None);
        assert!(!ways.has_others(&config(&[Means::UDP], 0)));
    }

    #[test]
    fn patience_grows_from_round_to_round_up_to_the_connect_timeout_and_falls_back_in_between() {
        let config = config(&[Means::UDP, Means::TCP], 1);
        let mut ways = Ways::default();
        let patience = |ways: &mut Ways, rtt| {
            let patience = ways.patience(&config, rtt);
            round(ways, &config);
            patience.as_secs()
        };
        let rounds: Vec<_> = (0..9).map(|_| patience(&mut ways, None)).collect();
        assert_eq!(rounds, [2, 4, 2, 8, 2, 4, 2, 10, 2]);
        // A link known to be slow has more from the start.
        let mut ways = Ways::default();
        let slow = Some(Duration::from_millis(1_200));
        assert_eq!(ways.patience(&config, slow), 3_600 * Duration::from_millis(1));
        ways.on_proven(Way { means: Means::UDP, remote: address(1) });
        let rounds: Vec<_> = (0..3).map(|_| patience(&mut ways, slow)).collect();
        assert_eq!(rounds, [3, 7, 3]);
    }

    #[test]
    fn a_single_way_has_the_whole_time() {
        let ways = Ways::default();
        assert_eq!(ways.patience(&config(&[Means::UDP], 1), None), CONNECT_TIMEOUT);
    }
}
