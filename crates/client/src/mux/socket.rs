//! The socket where processes that share a connection meet: its file, made and found safely.
//!
//! It is made under another name, for its owner alone, and put in its place in one step that
//! replaces nothing; so a client finds a socket that listens, or none. One whose owner is gone is
//! removed by who would stand there itself ([`local::clear_dead`]).

use std::io;
use std::path::{Path, PathBuf};

use host::local::{self, Listener, SocketFile, Stream};

/// Letters that make the first name unlike any other.
const RANDOM_LETTERS: usize = 16;

/// A socket that listens in its place.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: Listener,
    /// Removed when dropped, unless another has taken its place.
    pub(super) file: SocketFile,
}

/// Why there is no socket of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Somebody else's is in its place.
    #[error("ControlSocket {} already exists, disabling multiplexing", .0.display())]
    Taken(PathBuf),
    /// The name does not fit into an address.
    #[error("path \"{}\" too long for a unix socket", .0.display())]
    TooLong(PathBuf),
    /// The system's words.
    #[error("cannot listen at {}: {source}", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Listens at `path`.
///
/// # Errors
/// [`ListenError`].
pub(super) fn listen(path: &Path) -> Result<Listening, ListenError> {
    let first = first_name(path);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidInput => ListenError::TooLong(first.clone()),
        _ => ListenError::System { path: path.to_owned(), source },
    };
    let listener = local::listen(&first, 0o177).map_err(failed)?;
    let linked = std::fs::hard_link(&first, path);
    // A name too many harms nobody.
    let _ = std::fs::remove_file(&first);
    match linked {
        Ok(()) => Ok(Listening { listener, file: SocketFile::at(path) }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ListenError::Taken(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

fn first_name(path: &Path) -> PathBuf {
    let mut random = [0; RANDOM_LETTERS];
    getrandom::fill(&mut random).expect("the system has a source of randomness");
    let letters: String = random.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(letters);
    name.into()
}

/// Connects to whoever listens at `path`; a process that does not accept is an error, not a wait.
///
/// # Errors
/// The system's words.
pub(super) async fn connect(path: &Path) -> io::Result<Stream> {
    local::connect(path).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owner_s_alone_and_takes_nobody_s_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control");
        let first = listen(&path).expect("the place is free");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        connect(&path).await.expect("it listens");
        assert!(matches!(listen(&path), Err(ListenError::Taken(_))));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
        drop(first);
        assert!(!path.exists(), "the file goes with the socket");
        let long = dir.path().join("x".repeat(90));
        assert!(matches!(listen(&long), Err(ListenError::TooLong(_))));
    }
}
