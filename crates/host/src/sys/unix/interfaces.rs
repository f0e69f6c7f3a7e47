//! The addresses of the machine's network interfaces.

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// One address of an interface that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name, in the system's bytes.
    pub name: Vec<u8>,
    /// The address, with port 0. IPv6 addresses carry their interface as scope, which link-local
    /// ones need.
    pub address: SocketAddr,
}

/// Returns every address of every interface that is up, in the system's order.
///
/// # Errors
/// What getifaddrs(3) says.
pub fn list() -> io::Result<Vec<Interface>> {
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
        if !is_up || entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: not null, and the system's addresses are of their family's size.
        if let Some(address) = unsafe { address(entry.ifa_addr) } {
            // SAFETY: the name of an entry is a string that lives as long as the list.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_bytes().to_vec();
            found.push(Interface { name, address });
        }
    }
    // SAFETY: from getifaddrs, freed once; nothing above is kept.
    unsafe { libc::freeifaddrs(list) };
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
    fn the_loopback_interface_has_its_address() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let all = list().unwrap();
        let at = all.iter().find(|interface| interface.address == loopback).expect("it is up");
        assert!(at.name.starts_with(b"lo"), "{at:?}");
    }
}
