//! Taking over an open file from another process (`SCM_RIGHTS`).

use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;

/// Waits for one file to come over `from`.
///
/// # Errors
/// What the system says, or that the other side ended without sending one.
pub(crate) async fn receive(from: UnixStream) -> io::Result<OwnedFd> {
    from.set_nonblocking(true)?;
    let from = tokio::net::UnixStream::from_std(from)?;
    from.async_io(Interest::READABLE, || {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut messages = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0; 1];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        recvmsg(&from, &mut buffers, &mut messages, CLOEXEC)?;
        let mut files = messages.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.next().and_then(|mut files| files.next());
        let file = file.ok_or(io::ErrorKind::UnexpectedEof)?;
        fcntl_setfd(&file, FdFlags::CLOEXEC)?;
        Ok(file)
    })
    .await
}

/// Marks a file as it comes, where the system can; not all have a flag for it.
#[cfg(target_os = "linux")]
const CLOEXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const CLOEXEC: RecvFlags = RecvFlags::empty();
