//! The addresses of the machine's network interfaces.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Returns every address of every interface that is up, with port 0.
///
/// IPv6 addresses carry their interface as scope, which link-local ones need.
///
/// # Errors
/// The system's, when it lists none.
pub(crate) fn addresses() -> io::Result<Vec<SocketAddr>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is valid for the call, which fills it in.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: the call succeeded, so the list is a chain of valid entries that
    // ends with null and stays until it is freed below.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let is_up = entry.ifa_flags & libc::IFF_UP.cast_unsigned() != 0;
        if is_up && !entry.ifa_addr.is_null() {
            // SAFETY: not null, and the system's addresses are of their family's size.
            found.extend(unsafe { address(entry.ifa_addr) });
        }
    }
    // SAFETY: from getifaddrs, freed once.
    unsafe { libc::freeifaddrs(list) };
    found.dedup();
    Ok(found)
}

/// Reads an IPv4 or IPv6 address.
///
/// # Safety
/// `raw` points to a socket address that is as long as its family says.
unsafe fn address(raw: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: the caller's promise; read unaligned, as nothing is said of alignment.
    let family = unsafe { (&raw const (*raw).sa_family).read_unaligned() };
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says so.
            let v4 = unsafe { raw.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, 0).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says so.
            let v6 = unsafe { raw.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, 0, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_addresses() {
        let all = addresses().unwrap();
        assert!(all.iter().any(|address| address.ip() == Ipv4Addr::LOCALHOST));
    }
}
