//! Carrying bytes between a stream and something near: a socket, a pipe, a terminal.
//!
//! Each direction ends on its own, as an end of data. A failure ends both, and
//! travels: the far side learns that the near end broke *after* it has been
//! given all that came before (see [`RecvStream::abort`]).
//! Not here: what the near thing is, and how a break is shown to it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{RecvStream, SendStream};

/// What a buffer has to begin with; most connections carry little.
const FIRST_BUFFER_BYTES: usize = 16 * 1024;

/// What it grows to under bulk, where fewer and larger reads count.
const LARGEST_BUFFER_BYTES: usize = 256 * 1024;

/// The reading half of a connection that leads through a tunnel.
pub trait FarRead: AsyncRead + Send + Unpin {
    /// Tells the far side that what it sends went to something that broke.
    fn abort(&mut self);
}

/// The writing half of a connection that leads through a tunnel.
pub trait FarWrite: AsyncWrite + Send + Unpin {
    /// Waits until the far side takes no more; returns whether it broke the connection off.
    fn stopped(&self) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

impl FarRead for RecvStream {
    fn abort(&mut self) {
        Self::abort(self);
    }
}

impl FarWrite for SendStream {
    fn stopped(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Self::stopped(self)
    }
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both directions came to their end.
    Whole,
    /// The near end broke; the far side has been told.
    NearBroke,
    /// The far side broke; a socket should show that to its peer as a reset.
    FarBroke,
}

/// Carries bytes both ways until both directions have ended, or one failed.
///
/// # Cancel safety
/// Dropping the future cuts the connection off.
pub async fn relay<R, W>(
    near_read: R,
    near_write: W,
    far_read: &mut (impl FarRead + ?Sized),
    far_write: &mut (impl FarWrite + ?Sized),
) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let stopped = far_write.stopped();
    let broke = AtomicBool::new(false);
    let outwards = async {
        let sent = async {
            copy(near_read, &mut *far_write).await?;
            far_write.shutdown().await.map_err(CopyError::Write)
        };
        tokio::select! {
            // First, so that a break is known before the end of data that comes with it.
            biased;
            by_peer = stopped => broke.store(by_peer, Relaxed),
            sent = sent => match sent {
                // What comes back is still good, and the end of it tells how this ended.
                Ok(()) | Err(CopyError::Write(_)) => {}
                Err(CopyError::Read(error)) => return Err(near(&error)),
            },
        }
        Ok(())
    };
    let inwards = async {
        let mut near_write = near_write;
        match copy(&mut *far_read, &mut near_write).await {
            // The near end is to see the break, not an end.
            Ok(()) if broke.load(Relaxed) => Err(Ended::FarBroke),
            Ok(()) => near_write.shutdown().await.map_err(|error| near(&error)),
            Err(CopyError::Read(error)) => {
                tracing::debug!(%error, "the far side of a forwarded connection broke");
                Err(Ended::FarBroke)
            }
            Err(CopyError::Write(error)) => Err(near(&error)),
        }
    };
    let both = tokio::try_join!(biased; outwards, inwards);
    match both {
        Ok(_) if broke.load(Relaxed) => Ended::FarBroke,
        Ok(_) => Ended::Whole,
        Err(ended) => {
            if ended == Ended::NearBroke {
                // The break first: the far side is to know it when the end of data comes.
                far_read.abort();
                // An error means that there is nobody left to tell.
                let _ = far_write.shutdown().await;
            }
            ended
        }
    }
}

fn near(error: &io::Error) -> Ended {
    tracing::debug!(%error, "the near side of a forwarded connection broke");
    Ended::NearBroke
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end of data.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), CopyError> {
    let mut buffer = vec![0; FIRST_BUFFER_BYTES];
    loop {
        let n = from.read(&mut buffer).await.map_err(CopyError::Read)?;
        let Some(piece) = buffer.get(..n).filter(|piece| !piece.is_empty()) else { break };
        to.write_all(piece).await.map_err(CopyError::Write)?;
        to.flush().await.map_err(CopyError::Write)?;
        if n == buffer.len() && n < LARGEST_BUFFER_BYTES {
            buffer = vec![0; n * 2];
        }
    }
    Ok(())
}
