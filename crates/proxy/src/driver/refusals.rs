//! [`Refusals`]: whether the server's host says that nobody listens there any more.
//!
//! One refusal proves little: it can be forged, or be a strange network's. So what counts is how
//! long there has been nothing else, at the address that answered last, from the network of the
//! last path.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::path::Route;

/// See the [module's description](self).
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Our address on the last path that was proven, and the server's.
    home: Option<(IpAddr, IpAddr)>,
    /// Since when there is nothing but refusals.
    pub(super) since: Option<Instant>,
}

impl Refusals {
    /// `remote` is none where the attempt was a wire's: that says nothing of the server's port.
    pub(super) fn on_error(
        &mut self,
        now: Instant,
        local: Option<IpAddr>,
        remote: Option<SocketAddr>,
        error: &io::Error,
    ) {
        if !self.concerns(remote) {
            return;
        }
        let is_at_home = local.is_some() && local == self.home.map(|(local, _)| local);
        if error.kind() == io::ErrorKind::ConnectionRefused && is_at_home {
            self.since.get_or_insert(now);
        } else {
            self.since = None;
        }
    }

    /// Nothing came from there at all: silence is no refusal.
    pub(super) fn on_silence(&mut self, remote: Option<SocketAddr>) {
        if self.concerns(remote) {
            self.since = None;
        }
    }

    pub(super) fn on_proven(&mut self, route: Option<Route>) {
        let home = route.and_then(|route| Some((route.local_ip?, route.remote.ip())));
        *self = Self { home, since: None };
    }

    /// Whether it is the address that answered last. Of the server's others nothing is known.
    fn concerns(&self, remote: Option<SocketAddr>) -> bool {
        let home = self.home.map(|(_, remote)| remote);
        remote.is_some_and(|remote| home.is_none_or(|home| home == remote.ip()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::path::SocketId;

    #[test]
    fn only_refusals_of_the_network_at_home_and_nothing_else_count() {
        let (home, away) = (Some(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::BROADCAST.into()));
        let server = SocketAddr::from(([192, 0, 2, 7], 61001));
        let route = |local| Some(Route::udp(SocketId(0), server, local));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let unreachable = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let start = Instant::now();
        let mut refusals = Refusals::default();
        refusals.on_proven(route(home));
        refusals.on_error(start, home, Some(server), &refused);
        refusals.on_error(start + Duration::from_secs(1), home, Some(server), &refused);
        assert_eq!(refusals.since, Some(start), "the first one counts");
        // What another address does, and a wire, is another matter.
        let other = SocketAddr::from(([192, 0, 2, 8], 61001));
        for remote in [Some(other), None] {
            refusals.on_error(start, home, remote, &unreachable);
            refusals.on_silence(remote);
            assert_eq!(refusals.since, Some(start), "{remote:?}");
        }
        for (local, error) in [(away, &refused), (None, &refused), (home, &unreachable)] {
            refusals.since = Some(start);
            refusals.on_error(start, local, Some(server), error);
            assert_eq!(refusals.since, None, "{local:?} {error}");
        }
        refusals.since = Some(start);
        refusals.on_silence(Some(server));
        assert_eq!(refusals.since, None, "silence");
        refusals.since = Some(start);
        refusals.on_proven(route(home));
        assert_eq!(refusals.since, None, "a path that works");
    }
}
