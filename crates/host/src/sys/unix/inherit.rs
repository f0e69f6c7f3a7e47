//! What the programs we start inherit: nothing but their standard streams.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::FdFlags;

/// Marks every descriptor above standard error close-on-exec.
///
/// A caller may have left some open to us without the mark; a child that
/// outlives us would hold its pipes and locks, and a login would wait for it.
pub fn only_standard_streams() {
    // Without the listing the child merely holds more than it should.
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // SAFETY: the borrow ends with the call below, which neither closes
        // nor uses the file. A number that was closed since the listing (its
        // own was) fails with EBADF; one that was reused gets a mark that all
        // files of these programs carry anyway.
        let file = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::fcntl_setfd(file, FdFlags::CLOEXEC);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_descriptor_left_open_by_the_caller_is_not_handed_on() {
        let file = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
        only_standard_streams();
        assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
    }
}
