//! Requests on streams, as their answers read to the client (PROTOCOL §6.1).

use proto::open::{Outcome, Response};
use tokio::io::AsyncRead;
use transport::frames;

use crate::remote::RemoteError;

/// Reads a response and fails when it is a refusal of `what`.
pub(crate) async fn read_response<M: Response>(
    stream: &mut (impl AsyncRead + Unpin),
    what: &str,
) -> Result<M, RemoteError> {
    let message: M = frames::read_message(stream).await.map_err(|error| lost(what, &error))?;
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
