//! Reading and writing the frames of a stream (PROTOCOL §6.1), asynchronously.

use std::io;

use proto::codec::{self, FrameError};
use proto::json::Message;
use proto::open::{Outcome, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::remote::RemoteError;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReadError {
    /// The stream ended or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent something that is no frame.
    #[error("protocol error: {0}")]
    Frame(#[from] FrameError),
}

/// Reads one command, and not a byte more.
///
/// # Cancel safety
/// None: a cancelled read loses its place in the stream.
pub(crate) async fn read_command(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<String, ReadError> {
    let len = codec::command_len(stream.read_u8().await?)?;
    let mut name = vec![0; len];
    stream.read_exact(&mut name).await?;
    Ok(codec::command_name(name)?)
}

/// Reads the bytes of one message, and not a byte more. Cancel safety: none.
pub(crate) async fn read_body(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ReadError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; codec::message_len(header)?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Reads one message. Cancel safety: none.
pub(crate) async fn read_message<M: Message>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, ReadError> {
    let body = read_body(stream).await?;
    Ok(M::from_json(&body).map_err(FrameError::from)?)
}

/// Reads a response and fails when it is a refusal of `what`.
pub(crate) async fn read_response<M: Response>(
    stream: &mut (impl AsyncRead + Unpin),
    what: &str,
) -> Result<M, RemoteError> {
    let message: M = read_message(stream).await.map_err(|error| lost(what, &error))?;
    let outcome: Outcome = message.outcome();
    if outcome.is_success() {
        Ok(message)
    } else {
        Err(RemoteError::Refused { what: what.to_owned(), reason: outcome.msg })
    }
}

/// Returns the error of a stream that broke while doing `what`.
pub(crate) fn lost(what: &str, error: &dyn std::error::Error) -> RemoteError {
    RemoteError::Lost { reason: format!("{what}: {error}") }
}
