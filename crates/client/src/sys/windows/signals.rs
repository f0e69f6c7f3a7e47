//! What the console tells programs, under the names of Unix' signals.

use std::future::poll_fn;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::signal::windows;
use tokio::sync::mpsc;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalKind(i32);

impl SignalKind {
    /// Ctrl-C, where the console does not hand it over as a key.
    #[must_use]
    pub fn interrupt() -> Self {
        Self(2)
    }

    /// The system ends.
    #[must_use]
    pub fn terminate() -> Self {
        Self(15)
    }

    /// The console is closed.
    #[must_use]
    pub fn hangup() -> Self {
        Self(1)
    }

    /// Ctrl-Break.
    #[must_use]
    pub fn quit() -> Self {
        Self(3)
    }

    /// The console's size has changed.
    #[must_use]
    pub fn window_change() -> Self {
        Self(28)
    }

    /// Returns the number that such a signal has on Unix.
    #[must_use]
    pub fn as_raw_value(&self) -> i32 {
        self.0
    }
}

/// Listens for one kind of event.
#[derive(Debug)]
pub struct Signal(Source);

#[derive(Debug)]
enum Source {
    Interrupt(windows::CtrlC),
    Quit(windows::CtrlBreak),
    Close(windows::CtrlClose),
    Shutdown(windows::CtrlShutdown),
    Resize(mpsc::Receiver<()>),
}

/// Starts to listen for events of a kind.
///
/// # Errors
/// The system's.
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    Ok(Signal(match kind.0 {
        2 => Source::Interrupt(windows::ctrl_c()?),
        3 => Source::Quit(windows::ctrl_break()?),
        1 => Source::Close(windows::ctrl_close()?),
        15 => Source::Shutdown(windows::ctrl_shutdown()?),
        _ => {
            let (tell, told) = mpsc::channel(1);
            RESIZED.lock().unwrap_or_else(PoisonError::into_inner).push(tell);
            Source::Resize(told)
        }
    }))
}

impl Signal {
    /// Waits for the next event.
    pub async fn recv(&mut self) -> Option<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`Signal::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        match &mut self.0 {
            Source::Interrupt(source) => source.poll_recv(cx),
            Source::Quit(source) => source.poll_recv(cx),
            Source::Close(source) => source.poll_recv(cx),
            Source::Shutdown(source) => source.poll_recv(cx),
            Source::Resize(source) => source.poll_recv(cx),
        }
    }
}

/// Who wants to know of a new size.
static RESIZED: Mutex<Vec<mpsc::Sender<()>>> = Mutex::new(Vec::new());

/// Tells everybody who wants to know that the console's size has changed.
pub(super) fn tell_resized() {
    let mut listeners = RESIZED.lock().unwrap_or_else(PoisonError::into_inner);
    listeners.retain(|listener| {
        // One that has not looked yet will see the last size.
        !matches!(listener.try_send(()), Err(mpsc::error::TrySendError::Closed(())))
    });
}

/// Returns false: nobody has events ignored for us.
#[must_use]
pub fn is_ignored(_: i32) -> bool {
    false
}
