//! What the standard library has no words for: TUN devices, namespaces,
//! real-time scheduling. Linux only.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Opens a new TUN device in the network namespace of the calling thread.
///
/// Packets are read and written one at a time, without blocking; the device
/// is gone when the file is closed. With `offload` each packet is preceded by
/// a `virtio_net_hdr` of ten bytes and may be one that is yet to be split.
pub(crate) fn open_tun(name: &str, offload: bool) -> io::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | if offload { libc::IFF_VNET_HDR } else { 0 };
    // SAFETY: plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: an open file, and a request of the type this call takes.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw const request) })?;
    if offload {
        let all = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6;
        // Kernels before 6.2 do not know of UDP.
        let set = set_offload(&tun, all);
        set.or_else(|_| set_offload(&tun, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))?;
    }
    Ok(tun)
}

fn set_offload(tun: &File, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: an open file; the call takes its flags by value.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, flags) })
}

// linux/if_tun.h
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// Moves the calling thread into a new network namespace and returns that.
pub(crate) fn new_namespace() -> io::Result<OwnedFd> {
    // SAFETY: only flags that share memory or files would be of concern.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_namespace(namespace: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd;
    let kind = Some(LinkNameSpaceType::Network);
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?)
}

/// Lets the calling thread run whenever it wants to, and wake when it asked to.
pub(crate) fn become_punctual() -> io::Result<()> {
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; the parameters are read during the call.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
