//! The thread that moves packets between the devices and the [`Network`].
//!
//! It sleeps until a device has something or the next packet arrives; with
//! real-time priority and a timer without slack it is some tens of
//! microseconds late, also when both ends keep the processors busy.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::network::{LinkId, Network, Side};
use crate::sys;

/// What the thread shares with the lab.
#[derive(Debug)]
pub(crate) struct Shared {
    network: Mutex<Network>,
    wake: OwnedFd,
    stopped: AtomicBool,
}

/// Packets read from one device before the others have their turn.
const BATCH: usize = 64;

/// Longest packet, offload and its header included.
const MAX_PACKET: usize = 65_536 + Network::OFFLOAD_PREFIX;

impl Shared {
    pub(crate) fn new(network: Network) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { network: Mutex::new(network), wake, stopped: AtomicBool::new(false) })
    }

    /// Looks at or changes the network; what that makes due is done at once.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Network) -> T) -> T {
        let result = change(&mut self.lock());
        self.wake();
        result
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Can only fail when the thread has yet to see 2^64 earlier calls.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) link: LinkId,
    pub(crate) side: Side,
    pub(crate) tun: File,
}

/// Moves packets until told to stop.
pub(crate) fn run(shared: &Arc<Shared>, devices: &[Device]) {
    // Without the right to be punctual it is merely less exact.
    let _ = sys::become_punctual();
    let mut buffer = vec![0; MAX_PACKET];
    while !shared.stopped.load(Ordering::Acquire) {
        let next = {
            let mut network = shared.lock();
            deliver(&mut network, devices);
            network.poll_timeout()
        };
        let mut fds: Vec<PollFd<'_>> =
            devices.iter().map(|device| PollFd::new(&device.tun, PollFlags::IN)).collect();
        fds.push(PollFd::from_borrowed_fd(shared.wake.as_fd(), PollFlags::IN));
        let wait = next.map(|next| timespec(next.saturating_duration_since(Instant::now())));
        if poll(&mut fds, wait.as_ref()).is_err() {
            continue;
        }
        let mut network = shared.lock();
        for (device, fd) in devices.iter().zip(&fds) {
            if fd.revents().contains(PollFlags::IN) {
                collect(&mut network, device, &mut buffer);
            }
        }
        if fds.last().is_some_and(|fd| fd.revents().contains(PollFlags::IN)) {
            let _ = rustix::io::read(&shared.wake, &mut [0_u8; 8]);
        }
    }
}

/// Takes from a device what it has, up to a batch.
fn collect(network: &mut Network, device: &Device, buffer: &mut [u8]) {
    for _ in 0..BATCH {
        let read = (&device.tun).read(buffer);
        let Some(packet) = read.ok().and_then(|length| buffer.get(..length)) else { return };
        network.handle_packet(Instant::now(), device.link, device.side, packet.to_vec());
    }
}

/// Hands what has arrived to its devices.
fn deliver(network: &mut Network, devices: &[Device]) {
    while let Some((link, to, packet)) = network.poll_transmit(Instant::now()) {
        let device = devices.iter().find(|device| device.link == link && device.side == to);
        let Some(device) = device else { continue };
        // A device that is unplugged, or whose host has no room, loses it.
        while let Err(error) = (&device.tun).write(&packet) {
            if error.kind() != ErrorKind::Interrupted {
                break;
            }
        }
    }
}

fn timespec(time: std::time::Duration) -> Timespec {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() }
}
