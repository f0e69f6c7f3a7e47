//! Sockets that have to be set up before they are bound.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

/// Makes a UDP socket for which no call waits and which no program inherits.
///
/// # Errors
/// What the system says.
pub(crate) fn udp(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = socket_with(family, SocketType::DGRAM, CLOEXEC, Some(ipproto::UDP))?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Leaves no moment for another thread to start a program, where the system has a flag for it.
#[cfg(target_os = "linux")]
const CLOEXEC: SocketFlags = SocketFlags::CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOEXEC: SocketFlags = SocketFlags::empty();
