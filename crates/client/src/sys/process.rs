//! A second process like this one.

use std::io;

use rustix::process::Pid;

/// Which of the two we are.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The new one.
    Child,
    /// The old one; the new one's id.
    Parent(Pid),
}

/// Makes a copy of this process. Only to be called while there is one thread, since only the
/// calling one is copied, with whatever locks the others hold.
///
/// # Errors
/// What fork(2) says.
pub(crate) fn fork() -> io::Result<Forked> {
    debug_assert!(is_alone(), "threads do not survive a fork");
    // SAFETY: with one thread the child is a whole copy, in which everything may be done.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        id => Ok(Forked::Parent(Pid::from_raw(id).expect("not zero"))),
    }
}

/// Goes on in a copy of this process, and ends this one with success. Only for the thread that
/// runs everything.
///
/// # Errors
/// There are other threads, what the event loop waits with is not copied here (kqueue is not),
/// or what fork(2) says.
pub(crate) fn go_on_in_a_copy() -> io::Result<()> {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if !is_alone() {
        return Err(io::Error::other("a name is being looked up"));
    }
    match fork()? {
        Forked::Child => Ok(()),
        // SAFETY: takes a plain value and does not return. No destructor may run: the terminal,
        // sockets and pipes are the copy's.
        Forked::Parent(_) => unsafe { libc::_exit(0) },
    }
}

/// Returns whether there is no thread but this one, as far as can be known.
pub(crate) fn is_alone() -> bool {
    match std::fs::read_dir("/proc/self/task") {
        Ok(threads) => threads.count() == 1,
        Err(_) => true,
    }
}
