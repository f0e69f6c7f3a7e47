//! [`TcpPort`]: packets framed by a 16-bit length on one TCP connection.
//!
//! Wire: `docs/protocol.md` §2.4. All frames of one transmit leave in one write;
//! what the system does not take at once is kept, and nothing more is accepted
//! until it is gone, so the queue is bounded by one transmit.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::udp::mark;
use crate::socket::Transmit;

/// Largest packet; a larger frame ends the connection (PROTOCOL §2.1: 1452 for
/// QUIC, 1500 for KCP).
pub(super) const FRAME_MAX: usize = 1500;

/// DSCP 46 in the IPv4 TOS byte (PROTOCOL §2.6).
const TOS_V4: u32 = 46 << 2;

/// Largest segment of a TCP connection, in either direction: it fits through
/// any link that IPv6 allows. A narrower link than both ends have, whose
/// routers do not say so, would swallow every full segment for good, and few
/// systems probe for that (DESIGN D16). It costs half a percent.
#[cfg(unix)]
const SEGMENT_MAX: u32 = 1220;

/// Room to read several frames at once.
const READ_BUFFER: usize = 64 * 1024;

/// One TCP connection.
#[derive(Debug)]
pub(super) struct TcpPort {
    io: TcpStream,
    frames: FrameReader,
    unsent: Vec<u8>,
}

/// Connects to a server.
pub(super) async fn connect(remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = match remote {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Before it connects, so that the server is told as well.
    #[cfg(unix)]
    if let Err(error) = SockRef::from(&socket).set_tcp_mss(SEGMENT_MAX) {
        tracing::debug!(%error, "cannot set the segment size");
    }
    socket.connect(remote).await
}

impl TcpPort {
    /// Takes over a connection.
    pub(super) fn new(io: TcpStream) -> io::Result<Self> {
        io.set_nodelay(true)?;
        if let Err(error) = SockRef::from(&io).set_tos_v4(TOS_V4) {
            tracing::debug!(%error, "cannot set DSCP");
        }
        Ok(Self { io, frames: FrameReader::default(), unsent: Vec::new() })
    }

    /// Marks what is sent from now on with a traffic class.
    pub(super) fn mark(&self, class: u8) {
        mark(&self.io, self.io.local_addr(), class);
    }

    /// Returns the local address.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Reads what is there and hands every whole frame to `take`.
    ///
    /// # Errors
    /// When the connection ended or a frame is oversize; it is to be closed.
    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.io.poll_read_ready(cx))?;
            match self.io.try_read(self.frames.space()) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => return Poll::Ready(self.frames.filled(n, &mut take)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Whether earlier packets still wait for room.
    pub(super) const fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends all packets of `transmit`.
    ///
    /// # Errors
    /// `WouldBlock` while [`TcpPort::is_blocked`]; anything else ends the connection.
    pub(super) fn send(&mut self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_blocked() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for packet in transmit.packets() {
            let Ok(len) = u16::try_from(packet.len()) else { continue };
            self.unsent.extend_from_slice(&len.to_be_bytes());
            self.unsent.extend_from_slice(packet);
        }
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Becomes ready when nothing waits for room any more. One task may wait.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_blocked() {
            ready!(self.io.poll_write_ready(cx))?;
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                flushed => return Poll::Ready(flushed),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let n = self.io.try_write(&self.unsent)?;
            self.unsent.drain(..n);
        }
        Ok(())
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    buf: Vec<u8>,
    len: usize,
}

impl FrameReader {
    /// Returns where to read to; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.buf.is_empty() {
            self.buf.resize(READ_BUFFER, 0);
        }
        // Less than one frame is ever left over, so there is room.
        self.buf.get_mut(self.len..).unwrap_or_default()
    }

    /// Takes `n` more bytes as read and hands out whole frames.
    pub(super) fn filled(&mut self, n: usize, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        self.len = (self.len + n).min(self.buf.len());
        let mut rest = self.buf.get(..self.len).unwrap_or_default();
        while let Some((head, body)) = rest.split_first_chunk::<2>() {
            let size = usize::from(u16::from_be_bytes(*head));
            if size > FRAME_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "oversize frame"));
            }
            let Some((packet, after)) = body.split_at_checked(size) else { break };
            take(packet);
            rest = after;
        }
        let left = rest.len();
        self.buf.copy_within(self.len - left..self.len, 0);
        self.len = left;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_of(chunks: &[&[u8]]) -> io::Result<Vec<Vec<u8>>> {
        let (mut reader, mut out) = (FrameReader::default(), Vec::new());
        for chunk in chunks {
            reader.space()[..chunk.len()].copy_from_slice(chunk);
            reader.filled(chunk.len(), &mut |frame: &[u8]| out.push(frame.to_vec()))?;
        }
        Ok(out)
    }

    #[test]
    fn frames_come_whole_however_the_stream_is_cut() {
        let stream = [0, 3, b'a', b'b', b'c', 0, 0, 0, 1, b'd'];
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            let frames = frames_of(&[a, b]).expect("well formed");
            assert_eq!(frames, [b"abc".to_vec(), vec![], b"d".to_vec()], "cut at {cut}");
        }
    }

    #[test]
    fn oversize_frame_is_an_error_before_its_body_arrives() {
        assert!(frames_of(&[&[0x05, 0xdd]]).is_err());
        assert!(frames_of(&[&[0x05, 0xdc]]).is_ok_and(|frames| frames.is_empty()));
    }
}
