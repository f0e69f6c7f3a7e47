//! Reading and writing the protocol's frames on streams (PROTOCOL §6.1).
//!
//! Reads take exactly one frame and not a byte more: what follows the message
//! of a stream belongs to a program. Lengths are judged by `proto::codec`.

use std::io;

use proto::codec::{self, FrameError};
use proto::json::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream failed or ended in the middle of a frame.
    #[error("stream failed: {0}")]
    Io(#[from] io::Error),
    /// The peer sent something that is no frame.
    #[error("bad frame: {0}")]
    Frame(#[from] FrameError),
}

/// Reads a command; `None` when the stream ends before one.
///
/// # Errors
/// [`ReadError`]; the place in the stream is lost.
/// # Cancel safety
/// None, as for all reads here.
pub async fn read_command(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<String>, ReadError> {
    let mut header = [0; 1];
    if stream.read(&mut header).await? == 0 {
        return Ok(None);
    }
    let [header] = header;
    let mut name = vec![0; codec::command_len(header)?];
    stream.read_exact(&mut name).await?;
    Ok(Some(codec::command_name(name)?))
}

/// Reads the bytes of a message.
///
/// # Errors
/// [`ReadError`], also for a message that is announced to be over the limit.
pub async fn read_raw_message(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ReadError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    read_body(stream, codec::message_len(header)?).await
}

/// Reads the bytes of a message; of one over the limit they are dropped as
/// they come, and `None` is returned.
///
/// # Errors
/// [`ReadError`].
pub async fn read_or_skip_message(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Vec<u8>>, ReadError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    if let Ok(len) = codec::message_len(header) {
        return Ok(Some(read_body(stream, len).await?));
    }
    let len = u64::from(u32::from_be_bytes(header));
    let skipped = tokio::io::copy(&mut stream.take(len), &mut tokio::io::sink()).await?;
    if skipped < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(None)
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    len: usize,
) -> Result<Vec<u8>, ReadError> {
    // Grows with what arrives, not with what is announced.
    let mut json = Vec::new();
    let got = stream.take(len as u64).read_to_end(&mut json).await?;
    if got < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(json)
}

/// Reads a message.
///
/// # Errors
/// [`ReadError`].
pub async fn read_message<M: Message>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, ReadError> {
    let json = read_raw_message(stream).await?;
    Ok(M::from_json(&json).map_err(FrameError::from)?)
}

/// Writes a message.
///
/// # Errors
/// Those of the stream.
pub async fn write_message<M: Message>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> io::Result<()> {
    stream.write_all(&codec::message(message)).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::open::Outcome;

    #[tokio::test]
    async fn frames_are_taken_without_the_bytes_behind_them() {
        let mut bytes = codec::command_and_message("session", &Outcome::success());
        bytes.extend_from_slice(b"input");
        let mut stream = &bytes[..];
        assert_eq!(read_command(&mut stream).await.unwrap().as_deref(), Some("session"));
        assert_eq!(read_message::<Outcome>(&mut stream).await.unwrap(), Outcome::success());
        assert_eq!(stream, b"input");
    }

    #[tokio::test]
    async fn a_message_cut_off_or_too_long_is_an_error() {
        let mut cut = &b"\x00\x00\x00\x05{}"[..];
        assert!(matches!(read_raw_message(&mut cut).await, Err(ReadError::Io(_))));
        let mut long = &b"\xff\xff\xff\xff{}"[..];
        assert!(matches!(read_raw_message(&mut long).await, Err(ReadError::Frame(_))));
        assert!(matches!(read_command(&mut &b""[..]).await, Ok(None)));
        assert!(matches!(
            read_or_skip_message(&mut &b"\xff\0\0\0{}"[..]).await,
            Err(ReadError::Io(_))
        ));
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_can_be_skipped() {
        let len = codec::MAX_MESSAGE + 1;
        let mut bytes = u32::try_from(len).unwrap().to_be_bytes().to_vec();
        bytes.resize(4 + len, b'x');
        bytes.extend_from_slice(&codec::message(&Outcome::success()));
        let mut stream = &bytes[..];
        assert_eq!(read_or_skip_message(&mut stream).await.unwrap(), None);
        let next = read_or_skip_message(&mut stream).await.unwrap().unwrap();
        assert_eq!(codec::message(&Outcome::success())[4..], next);
        assert!(stream.is_empty());
    }
}
