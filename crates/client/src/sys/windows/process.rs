//! Processes: there is no copy of one, no other name for one and no session to lead.

use std::convert::Infallible;
use std::io;

use super::unsupported;

/// Which of two processes we are; there are never two.
#[derive(Debug)]
#[expect(dead_code, reason = "there are never two")]
pub(crate) enum Forked {
    /// The new one.
    Child,
    /// The old one, which can wait for the new one.
    Parent(Child),
}

/// The copy, of which there is none.
#[derive(Debug)]
pub(crate) struct Child(Infallible);

impl Child {
    /// Never called.
    pub(crate) fn wait(self) -> Option<u8> {
        match self.0 {}
    }
}

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) fn fork() -> io::Result<Forked> {
    Err(unsupported("going to the background (-f, ControlPersist)"))
}

/// Refuses.
///
/// # Errors
/// Always.
pub(crate) fn go_on_in_a_copy() -> io::Result<()> {
    Err(unsupported("leaving the console"))
}

/// Returns true: nobody has to wait for a copy.
pub(crate) fn is_alone() -> bool {
    true
}

/// Does nothing: consoles hang nobody up that has left them.
pub(crate) fn lead_session() {}

/// Refuses: only a process in the background does this.
///
/// # Errors
/// Always.
pub(crate) fn close_standard_streams(_: bool, _: bool) -> io::Result<()> {
    Err(unsupported("going to the background"))
}

/// Refuses: a program has the name of its file. So nobody guards a client that is killed; its
/// server ends after its own patience.
///
/// # Errors
/// Always.
pub(crate) fn again_as(_: &str) -> io::Result<std::process::Command> {
    Err(unsupported("starting a program under another name"))
}

/// Runs another program and ends as it ends, the nearest there is to putting it in our place.
/// Returns only if it cannot be started.
pub(crate) fn replace_us(mut command: std::process::Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(255)),
        Err(error) => error,
    }
}

/// Ends a program of ours whose connection is gone.
pub(crate) fn hang_up(child: &mut tokio::process::Child) {
    // It may have ended by itself.
    let _ = child.start_kill();
}

/// Does nothing: nobody lends us a connection.
pub(crate) fn tell_resized(_: u32) {}
