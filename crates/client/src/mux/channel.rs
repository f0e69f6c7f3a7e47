//! Messages and descriptors on the socket of a shared connection.

use std::io;

use host::local::{Stream, is_ours};

use super::message::MAX_MESSAGE;
use crate::sys::fdpass;
use crate::sys::stdio::{Borrowed, Owned};

/// One end. Reading is one reader's business.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: Stream,
    /// Messages go out whole.
    sending: tokio::sync::Mutex<()>,
}

impl Channel {
    /// Takes a connected socket whose peer runs as the same user, or as root.
    ///
    /// # Errors
    /// It does not, or the system does not tell.
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        if !is_ours(&stream)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the other end is another user's",
            ));
        }
        Ok(Self { stream, sending: tokio::sync::Mutex::default() })
    }

    /// Sends a message that has its length in front.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) async fn send(&self, mut message: &[u8]) -> io::Result<()> {
        let _turn = self.sending.lock().await;
        while !message.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(message) {
                Ok(sent) => message = message.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a message, without its length; `None` at the end.
    ///
    /// Not a byte further: descriptors come with the bytes behind a message. A future that is
    /// dropped may have taken a part of one.
    ///
    /// # Errors
    /// Those of the socket, a message that is too long, or an end in the middle of one.
    pub(super) async fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        if self.fill(&mut length).await? == Filled::Nothing {
            return Ok(None);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
        }
        let mut message = vec![0; length];
        match self.fill(&mut message).await? {
            Filled::Nothing if length > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Some(message)),
        }
    }

    async fn fill(&self, buffer: &mut [u8]) -> io::Result<Filled> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            self.stream.readable().await?;
            match self.stream.try_read(rest) {
                Ok(0) if filled == 0 => return Ok(Filled::Nothing),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Filled::Whole)
    }

    /// Lends a descriptor, as OpenSSH does it: with a byte of its own.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) async fn send_descriptor(&self, file: Borrowed<'_>) -> io::Result<()> {
        fdpass::lend(&self.stream, file).await
    }

    /// Takes a descriptor that the peer lends. It is not handed on to programs we start.
    ///
    /// # Errors
    /// Those of the socket; that something else came, or nothing.
    pub(super) async fn receive_descriptor(&self) -> io::Result<Owned> {
        fdpass::take(&self.stream).await
    }
}

#[derive(PartialEq, Eq)]
enum Filled {
    Whole,
    Nothing,
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::mux::message::Request;

    fn pair() -> (Channel, Channel) {
        let (one, other) = Stream::pair().expect("sockets");
        (Channel::new(one).expect("our own"), Channel::new(other).expect("our own"))
    }

    #[tokio::test]
    async fn descriptors_arrive_behind_the_message_they_belong_to() {
        let (client, master) = pair();
        let (mut read, write) = io::pipe().expect("a pipe");
        let message = Request::AliveCheck { id: 1 }.encode();
        client.send(&message).await.expect("sent");
        client.send_descriptor(write.as_fd()).await.expect("sent");
        client.send(&message).await.expect("sent");
        drop(write);
        assert_eq!(master.receive().await.expect("read").as_deref(), Some(&message[4..]));
        let lent = master.receive_descriptor().await.expect("one came");
        let flags = rustix::io::fcntl_getfd(&lent).expect("it is open");
        assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
        std::fs::File::from(lent).write_all(b"by the master").expect("it is a pipe");
        let mut text = String::new();
        read.read_to_string(&mut text).expect("it ends");
        assert_eq!(text, "by the master");
        assert_eq!(master.receive().await.expect("read").as_deref(), Some(&message[4..]));
        drop(client);
        assert_eq!(master.receive().await.expect("an end is no error"), None);
        assert!(master.receive_descriptor().await.is_err());
    }

    #[tokio::test]
    async fn lengths_are_not_believed() {
        let (client, master) = pair();
        client.send(&u32::MAX.to_be_bytes()).await.expect("sent");
        let error = master.receive().await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (client, master) = pair();
        client.send(&[0, 0, 0, 9, 1]).await.expect("sent");
        drop(client);
        let error = master.receive().await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (client, master) = pair();
        client.send(b"\0").await.expect("sent");
        let error = master.receive_descriptor().await.expect_err("a byte alone");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
