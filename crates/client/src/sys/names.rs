//! Names of hosts that are aliases of others.

#[cfg(unix)]
use std::ffi::{CStr, CString};
#[cfg(unix)]
use std::ptr;

/// Looks a host name up with the system's resolver.
///
/// `None`: it has no address. The inner name is the one it is an alias of, itself if it is none,
/// and may be missing. Blocks.
#[cfg(unix)]
pub(crate) fn canonical(name: &str) -> Option<Option<String>> {
    let name = CString::new(name).ok()?;
    // SAFETY: all fields are numbers or pointers, for which zero is a sound value.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    hints.ai_flags = libc::AI_CANONNAME;
    let mut found = ptr::null_mut();
    // SAFETY: name and hints outlive the call, which fills in `found` or fails.
    if unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &raw const hints, &raw mut found) }
        != 0
    {
        return None;
    }
    // SAFETY: the call succeeded, so there is a first entry, freed below only.
    let canonical = unsafe { (*found).ai_canonname };
    let text = (!canonical.is_null()).then(|| {
        // SAFETY: not null, and a string that lives as long as the list.
        unsafe { CStr::from_ptr(canonical) }.to_string_lossy().into_owned()
    });
    // SAFETY: from getaddrinfo, freed once; nothing of it is kept.
    unsafe { libc::freeaddrinfo(found) };
    Some(text)
}

/// Looks a host name up; aliases are not told apart here.
#[cfg(not(unix))]
pub(crate) fn canonical(name: &str) -> Option<Option<String>> {
    use std::net::ToSocketAddrs as _;

    (name, 0u16).to_socket_addrs().is_ok().then_some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_there_has_a_canonical_one_and_another_none() {
        assert!(canonical("localhost").is_some());
        assert_eq!(canonical("no-such-host.invalid"), None);
        assert_eq!(canonical("a\0b"), None);
    }
}
