//! Open files on their way between processes (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;

use super::stdio::{Borrowed, Owned};

/// Lends a file over `to`, as OpenSSH does it: with a byte of its own.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn lend(to: &UnixStream, file: Borrowed<'_>) -> io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        let fits = control.push(SendAncillaryMessage::ScmRights(&files));
        debug_assert!(fits, "the space is for one descriptor");
        sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        Ok(())
    };
    to.async_io(Interest::WRITABLE, send).await
}

/// Waits for a file to come over `from`. It is not handed on to programs we start.
///
/// # Errors
/// Those of the socket; that something else came, or nothing.
pub(crate) async fn take(from: &UnixStream) -> io::Result<Owned> {
    let receive = || {
        // More than one is not expected, but must not be lost and left open.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, CLOEXEC)?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut files = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.next().and_then(|mut files| files.next());
        file.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came"))
    };
    let file = from.async_io(Interest::READABLE, receive).await?;
    fcntl_setfd(&file, FdFlags::CLOEXEC)?;
    Ok(file)
}

/// Runs a command that connects, and takes the socket that it hands over on its standard output.
///
/// # Errors
/// It cannot be started, or hands nothing over.
pub(crate) async fn take_socket_of(mut command: Command) -> io::Result<TcpStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let twin = theirs.try_clone()?;
    let mut child = command.stdin(Stdio::from(theirs)).stdout(Stdio::from(twin)).spawn()?;
    // It holds copies of the child's end, whose closing is to be seen.
    drop(command);
    ours.set_nonblocking(true)?;
    let socket = take(&UnixStream::from_std(ours)?).await;
    // It has done its part; how it ends is of no interest.
    tokio::spawn(async move { child.wait().await });
    let socket = std::net::TcpStream::from(socket?);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// Marks a file as it comes, where the system can; not all have a flag for it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOEXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOEXEC: RecvFlags = RecvFlags::empty();
