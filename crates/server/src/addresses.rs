//! Which addresses to listen on, and listening on them (PROTOCOL §1.6, §1.7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use proto::bootstrap::MAX_ADDRESSES;

use crate::cli::Family;

/// Sockets of one kind, all on the same port.
#[derive(Debug)]
pub enum Sockets {
    /// For packets in UDP.
    Udp(Vec<UdpSocket>),
    /// For packets in TCP.
    Tcp(Vec<TcpListener>),
}

/// No port could be bound.
#[derive(Debug, thiserror::Error)]
#[error("no port of {ports} is free on {addresses}{}", .last.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
pub struct NoPort {
    /// The ports as they were asked for.
    pub ports: String,
    /// The addresses tried.
    pub addresses: String,
    /// What the last attempt said.
    #[source]
    pub last: Option<io::Error>,
}

/// Returns the addresses to listen on, with port 0; never empty.
///
/// `ssh_connection` is the variable of that name: the address by which the
/// login reached this host is the one the client will use, so it is taken
/// alone where it can be bound, whatever `family` says. Otherwise every
/// address of `interfaces` that can be bound, or else a wildcard.
pub fn choose(
    ssh_connection: Option<&str>,
    interfaces: &[SocketAddr],
    family: Family,
) -> Vec<SocketAddr> {
    if let Some(address) = ssh_connection.and_then(login_address).filter(is_bindable) {
        return vec![address];
    }
    let fits = |address: &&SocketAddr| family.allows(address);
    let all: Vec<_> = interfaces.iter().filter(fits).copied().filter(is_bindable).collect();
    if !all.is_empty() {
        return all;
    }
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let use_v6 = family == Family::V6 || (family == Family::Any && is_bindable(&v6));
    vec![if use_v6 { v6 } else { SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)) }]
}

/// Returns the addresses by which a client may reach this host beside the chosen one (extension
/// `addresses`), those of the other family first: it is a family that goes away with a change of
/// network. None if the login came from this machine.
pub fn further(
    chosen: &[SocketAddr],
    interfaces: &[SocketAddr],
    family: Family,
) -> Vec<SocketAddr> {
    if chosen.iter().any(|address| address.ip().is_loopback()) {
        return Vec::new();
    }
    let mut further: Vec<SocketAddr> = interfaces
        .iter()
        .filter(|address| is_reachable(address.ip()) && family.allows(address))
        .filter(|address| !chosen.iter().any(|chosen| chosen.ip() == address.ip()))
        .copied()
        .collect();
    further.sort_by_key(|address| chosen.iter().any(|one| one.is_ipv4() == address.is_ipv4()));
    further.truncate(MAX_ADDRESSES);
    further
}

/// Returns those of the addresses listened at that a client may reach.
pub fn reachable(chosen: &[SocketAddr]) -> Vec<IpAddr> {
    let ips = chosen.iter().map(SocketAddr::ip);
    ips.filter(|ip| is_reachable(*ip)).take(MAX_ADDRESSES).collect()
}

/// Whether an address means the same on other hosts.
fn is_reachable(ip: IpAddr) -> bool {
    let is_near = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(is_near || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// Reads the server's address, the third field, with its IPv6 zone if it has one.
fn login_address(ssh_connection: &str) -> Option<SocketAddr> {
    let field = ssh_connection.split_whitespace().nth(2)?;
    let field = field.strip_prefix("::ffff:").unwrap_or(field);
    if let Ok(ip) = field.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 0));
    }
    // `std` resolves zones by name only together with a port.
    use std::net::ToSocketAddrs as _;
    field.contains('%').then(|| (field, 0).to_socket_addrs().ok()?.next()).flatten()
}

/// Returns whether a socket can be bound to `address`.
fn is_bindable(address: &SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}

/// Binds a socket for every one of `addresses` on the first of `ports` that is
/// free on all of them; `tcp` says of which kind. Returns the port as well.
///
/// # Errors
/// [`NoPort`].
pub fn bind(
    addresses: &[SocketAddr],
    ports: impl Iterator<Item = u16>,
    tcp: bool,
    ports_asked: &str,
) -> Result<(Sockets, u16), NoPort> {
    let mut last = None;
    for port in ports {
        let on_port = addresses.iter().map(|address| {
            let mut address = *address;
            address.set_port(port);
            address
        });
        let bound = if tcp {
            on_port.map(TcpListener::bind).collect::<io::Result<_>>().map(Sockets::Tcp)
        } else {
            on_port.map(UdpSocket::bind).collect::<io::Result<_>>().map(Sockets::Udp)
        };
        match bound {
            Ok(sockets) => return Ok((sockets, port)),
            Err(error) => last = Some(error),
        }
    }
    let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    Err(NoPort { ports: ports_asked.to_owned(), addresses: addresses.join(" "), last })
}

/// Binds TCP listeners beside UDP sockets, on the same addresses and port, and one for those who
/// come through the login. `None` if the port is taken.
pub fn bind_beside(addresses: &[SocketAddr], port: u16) -> Option<Vec<TcpListener>> {
    let on_port = |address: &SocketAddr| {
        let mut address = *address;
        address.set_port(port);
        TcpListener::bind(address)
    };
    let mut listeners: Vec<_> = addresses.iter().map(on_port).collect::<io::Result<_>>().ok()?;
    // Fails where it is among those above.
    listeners.extend(on_port(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
    Some(listeners)
}

/// Binds what can be bound of further addresses, on the port that is in use already, and returns
/// which those are. `beside` are the TCP listeners beside UDP sockets.
pub fn bind_further(
    further: &[SocketAddr],
    port: u16,
    sockets: &mut Sockets,
    beside: Option<&mut Vec<TcpListener>>,
) -> Vec<IpAddr> {
    let mut bound = Vec::new();
    let mut beside = beside;
    for address in further {
        let mut address = *address;
        address.set_port(port);
        let added = match sockets {
            Sockets::Udp(sockets) => UdpSocket::bind(address).map(|socket| sockets.push(socket)),
            Sockets::Tcp(listeners) => TcpListener::bind(address).map(|one| listeners.push(one)),
        };
        match added {
            Ok(()) => bound.push(address.ip()),
            // Taken there: one address less.
            Err(error) => {
                tracing::debug!(%address, %error, "not listened at");
                continue;
            }
        }
        if let Some(listeners) = &mut beside {
            listeners.extend(TcpListener::bind(address));
        }
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 0))
    }

    #[test]
    fn the_address_of_the_login_is_taken_alone_whatever_the_family() {
        let connection = Some("192.0.2.1 50000 127.0.0.1 22");
        assert_eq!(choose(connection, &[v4(2)], Family::V6), [v4(1)]);
        let mapped = Some("::ffff:192.0.2.1 50000 ::ffff:127.0.0.1 22");
        assert_eq!(choose(mapped, &[v4(2)], Family::Any), [v4(1)]);
    }

    #[test]
    fn without_a_usable_login_address_every_bindable_one_is_taken() {
        // 198.51.100.0/24 is for documentation, so it cannot be bound (NAT in front of sshd).
        for connection in [None, Some(""), Some("198.51.100.1 1 198.51.100.2 22"), Some("a b c d")]
        {
            let foreign = SocketAddr::from(([198, 51, 100, 7], 0));
            let got = choose(connection, &[v4(1), foreign, v4(2)], Family::Any);
            assert_eq!(got, [v4(1), v4(2)], "{connection:?}");
        }
    }

    #[test]
    fn without_any_address_the_wildcard_is_left() {
        let got = choose(None, &[v4(1)], Family::V6);
        assert_eq!(got, [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))]);
        let got = choose(None, &[], Family::V4);
        assert_eq!(got, [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))]);
    }

    #[test]
    fn further_addresses_are_those_that_others_can_reach_the_other_family_first() {
        let all =
            ["127.0.0.1", "192.0.2.1", "192.0.2.2", "169.254.1.1", "::1", "fe80::1", "2001:db8::1"]
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0));
        let named = |chosen: &[SocketAddr], family| -> Vec<_> {
            further(chosen, &all, family).iter().map(|one| one.ip().to_string()).collect()
        };
        assert_eq!(named(&all[1..2], Family::Any), ["2001:db8::1", "192.0.2.2"]);
        assert_eq!(named(&all[6..], Family::Any), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(named(&all[1..2], Family::V4), ["192.0.2.2"]);
        assert!(named(&all[..1], Family::Any).is_empty(), "the client is on this machine");
        let many: Vec<_> = (1..20).map(|n| SocketAddr::from(([192, 0, 2, n], 0))).collect();
        assert_eq!(further(&many[..1], &many, Family::Any).len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_further_address_whose_port_is_taken_is_left_out() {
        let mut sockets = Sockets::Udp(vec![UdpSocket::bind(v4(1)).unwrap()]);
        let Sockets::Udp(first) = &sockets else { panic!("UDP") };
        let port = first[0].local_addr().unwrap().port();
        let mut taken = v4(4);
        taken.set_port(port);
        let _taken = UdpSocket::bind(taken).unwrap();
        let mut beside = Vec::new();
        let bound = bind_further(&[v4(4), v4(5)], port, &mut sockets, Some(&mut beside));
        assert_eq!(bound, [v4(5).ip()]);
        let Sockets::Udp(all) = sockets else { panic!("UDP") };
        assert_eq!((all.len(), beside.len()), (2, 1));
    }

    #[test]
    fn a_port_taken_on_one_address_is_passed_over_on_all() {
        let taken = UdpSocket::bind(v4(2)).unwrap();
        let taken = taken.local_addr().unwrap().port();
        let free = UdpSocket::bind(v4(3)).unwrap().local_addr().unwrap().port();
        let addresses = [v4(1), v4(2)];
        let (sockets, port) = bind(&addresses, [taken, free].into_iter(), false, "two").unwrap();
        assert_eq!(port, free);
        let Sockets::Udp(sockets) = sockets else { panic!("UDP was asked for") };
        let bound: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        assert_eq!(bound, [free, free]);
    }

    #[test]
    fn an_occupied_range_is_named() {
        let taken = TcpListener::bind(v4(1)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(&[v4(1)], std::iter::once(port), true, "7000").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("no port of 7000 is free on 127.0.0.1: "), "{text}");
    }
}
