//! `-W`: standard input and output lead to a port or socket beyond the far host.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::remote::{Remote, RemoteError, RemoteStream, Target};
use crate::sys::stdio::{Output, Stdin, close_stdout};

/// Bytes moved at a time.
const BUFFER: usize = 64 * 1024;

/// Connects standard input and output to `target` until the far end has said everything.
///
/// # Errors
/// When the far host does not connect, or the connection breaks.
pub async fn stdio(remote: &dyn Remote, target: Target, null: bool) -> Result<(), RemoteError> {
    let far = remote.dial(target).await?;
    let lost = |error: io::Error| RemoteError::Lost { reason: error.to_string() };
    let output = Output::stdout().map_err(lost)?;
    let input = if null { None } else { Stdin::open().ok() };
    conduct(far, input, output).await?;
    close_stdout();
    Ok(())
}

/// Carries bytes between `far` and two streams here until the far end has said everything.
///
/// # Errors
/// When the connection breaks, or nobody reads here.
pub(crate) async fn conduct(
    far: RemoteStream,
    input: Option<Stdin>,
    output: Output,
) -> Result<(), RemoteError> {
    let RemoteStream { mut read, mut write } = far;
    let broke = |error: io::Error| RemoteError::Lost { reason: error.to_string() };
    let outwards = async {
        if let Some(input) = input
            && let Err(error) = copy(input, &mut write).await
        {
            // The far end takes no more; what it says still comes.
            tracing::debug!(%error, "standard input is not read any more");
        }
        let _ = write.shutdown().await;
        std::future::pending().await
    };
    let inwards = async { copy(&mut read, output).await.map_err(broke) };
    tokio::select! {
        ended = inwards => ended,
        never = outwards => never,
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buffer).await?;
        let Some(piece) = buffer.get(..n).filter(|piece| !piece.is_empty()) else { return Ok(()) };
        to.write_all(piece).await?;
        to.flush().await?;
    }
}
