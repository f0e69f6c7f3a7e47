//! The addresses of a network interface.

use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::{
    ffi::CStr,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    ptr,
};

/// Returns the addresses of the interface `name`, with port zero, in the system's order.
///
/// # Errors
/// What getifaddrs(3) says. An interface that is not there has no addresses.
pub(crate) fn addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
    let all = list()?.into_iter();
    Ok(all.filter(|(interface, _)| interface == name.as_bytes()).map(|(_, at)| at).collect())
}

/// Returns the addresses of all interfaces that are up.
///
/// # Errors
/// What getifaddrs(3) says.
pub(crate) fn all_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(list()?.into_iter().map(|(_, address)| address.ip()).collect())
}

/// Returns the interfaces that are up, by name, with one address each.
#[cfg(unix)]
fn list() -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
    let mut first = ptr::null_mut();
    // SAFETY: the call fills in `first`, or leaves it alone and fails.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: the list was made by getifaddrs and is freed below only; each entry but the
        // last points at the next.
        let entry = unsafe { &*next };
        // SAFETY: the name of an entry is a string that lives as long as the list.
        let entry_name = unsafe { CStr::from_ptr(entry.ifa_name) };
        let up = entry.ifa_flags & libc::IFF_UP.cast_unsigned() != 0;
        if up && !entry.ifa_addr.is_null() {
            // SAFETY: not null, and as long as its family says.
            let address = unsafe { socket_address(entry.ifa_addr) };
            found.extend(address.map(|address| (entry_name.to_bytes().to_vec(), address)));
        }
        next = entry.ifa_next;
    }
    // SAFETY: from getifaddrs, freed once; nothing above is kept.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// Reads an address; `None` for families other than IPv4 and IPv6.
///
/// # Safety
/// `address` points at a socket address of the length that its family has.
#[cfg(unix)]
unsafe fn socket_address(address: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: every socket address begins with its family.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says what it is; read byte by byte, since it may be unaligned.
            let v4 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), 0))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, 0, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Interfaces are not looked up here.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
fn list() -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_its_address_and_a_missing_one_has_none() {
        let loopback = addresses("lo").unwrap();
        assert!(loopback.contains(&SocketAddr::from(([127, 0, 0, 1], 0))), "{loopback:?}");
        assert!(addresses("no such interface").unwrap().is_empty());
        assert!(all_addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
