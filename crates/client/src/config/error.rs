//! [`ConfigError`]: why the configuration of a destination is not usable.

use std::path::PathBuf;

use super::options::Origin;

/// Why the configuration was refused. Its text is complete, in OpenSSH's words where it has any;
/// the exit status is 255. Nothing was connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Lines of a file are not understood; as in ssh, all of them are named.
    #[error(
        "{}\n{}: terminating, {} bad configuration options",
        join(lines),
        path.display(),
        lines.len()
    )]
    BadLines {
        /// The file.
        path: PathBuf,
        /// Its bad lines, in order.
        lines: Vec<BadLine>,
    },
    /// A `-o` option or the value of a flag is not understood.
    #[error("{problem}")]
    BadOption {
        /// What is wrong with it.
        problem: String,
    },
    /// A file could have been written by somebody else.
    #[error("Bad owner or permissions on {}", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// The file of `-F` cannot be read.
    #[error("Can't open user config file {}: {}", path.display(), system_text(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Included files include each other too deeply, or in a circle.
    #[error("Too many recursive configuration includes")]
    TooDeep,
    /// A token or variable in a value cannot be expanded.
    #[error("{keyword}: {problem}")]
    Expansion {
        /// The keyword.
        keyword: &'static str,
        /// What cannot be expanded.
        problem: String,
    },
    /// A keyword that this version does not honour and must not ignore.
    #[error("{origin}: {keyword}: {reason}")]
    NotSupported {
        /// Where it was set.
        origin: String,
        /// The keyword.
        keyword: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// The host cannot be found among the canonical domains, and may not be looked up otherwise.
    #[error("Could not resolve host \"{host}\"")]
    Canonicalization {
        /// The name as typed.
        host: String,
    },
    /// Settings that exclude each other, or that no connection could be made with.
    #[error("{0}")]
    Conflict(&'static str),
    /// `RefuseConnection` applies.
    #[error("RefuseConnection requested: {0}")]
    Refused(String),
    /// A jump host is reached by way of itself.
    #[error("jumphost loop via {0}")]
    JumpLoop(String),
    /// Another program is to log in to a jump host, which only it could go on from.
    #[error(
        "jump host {0}: LoginCommand is not possible for a jump host; \
         set it for the destination, or none for this host"
    )]
    JumpByCommand(String),
    /// The account of the user cannot be found.
    #[error("No user exists for uid {0}")]
    NoAccount(u32),
}

/// A line that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// File, line and problem.
    pub(super) problem: String,
}

impl ConfigError {
    pub(super) fn not_supported(
        origin: &Origin,
        keyword: &'static str,
        reason: impl Into<String>,
    ) -> Self {
        Self::NotSupported { origin: origin.to_string(), keyword, reason: reason.into() }
    }
}

fn join(lines: &[BadLine]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.problem.as_str()).collect();
    lines.join("\n")
}

/// Returns the system's text for an error, without Rust's `(os error 2)`.
pub(super) fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}
