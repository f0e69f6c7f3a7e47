//! The addresses of a network interface.

use std::io;
use std::net::SocketAddr;
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
#[cfg(unix)]
pub(crate) fn addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
    let mut list = ptr::null_mut();
    // SAFETY: the call fills in `list`, or leaves it alone and fails.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: the list was made by getifaddrs and is freed below only; each entry but the
        // last points at the next.
        let entry = unsafe { &*next };
        // SAFETY: the name of an entry is a string that lives as long as the list.
        let entry_name = unsafe { CStr::from_ptr(entry.ifa_name) };
        if entry_name.to_bytes() == name.as_bytes() && !entry.ifa_addr.is_null() {
            // SAFETY: not null, and as long as its family says.
            found.extend(unsafe { socket_address(entry.ifa_addr) });
        }
        next = entry.ifa_next;
    }
    // SAFETY: from getifaddrs, freed once; nothing above is kept.
    unsafe { libc::freeifaddrs(list) };
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

/// Interfaces are not looked up by name here.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub(crate) fn addresses(_: &str) -> io::Result<Vec<SocketAddr>> {
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
    }
}
