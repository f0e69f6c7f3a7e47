//! The exit codes of the program (PROTOCOL §1.9).

/// Why the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The client closed it, or left.
    Normal = 0,
    /// It could not be put into the background.
    CannotDaemonise = 91,
    /// The server's output could not be handed to the login.
    CannotRelay = 92,
    /// It could not be set up; the reason was printed.
    InitFailed = 93,
    /// No client became active within the connect timeout.
    NoClient = 94,
    /// No heartbeat for the alive timeout.
    NoHeartbeat = 95,
    /// A signal told it to end, and the client did not close it first.
    Signal = 96,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
