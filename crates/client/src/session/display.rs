//! The program's output on its way to the terminal, with the notice beside it.
//!
//! Bytes go through as they come. The notice's own go out only when the
//! program's have stopped, and are taken back before they go on.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::BUFFER;
use super::notice::{Keys, Notice};
use crate::remote::{HealthWatch, Outage, TerminalSize};
use crate::sys::stdio::Output;

/// A terminal that shows a session of a link.
pub(super) struct Display {
    notice: Mutex<Notice>,
    /// Told that the notice wants something written.
    wake: Notify,
    outage: Mutex<Option<Outage>>,
}

impl Display {
    pub(super) fn new(notice: Notice) -> Self {
        Self { notice: Mutex::new(notice), wake: Notify::new(), outage: Mutex::new(None) }
    }

    /// Takes keys on their way to the program.
    pub(super) fn on_keys(&self, keys: &[u8]) -> Keys {
        let outage = lock(&self.outage).clone();
        let keys = lock(&self.notice).on_keys(Instant::now(), keys, outage.as_ref());
        self.wake.notify_one();
        keys
    }

    /// Takes a new size of the terminal.
    pub(super) fn on_size(&self, size: TerminalSize) {
        lock(&self.notice).on_size(size);
        self.wake.notify_one();
    }

    /// Shows nothing of ours any more: the terminal is somebody else's.
    pub(super) fn retire(&self) {
        lock(&self.notice).retire();
        self.wake.notify_one();
    }

    /// Makes room for something else, which the caller prints once this is done.
    pub(super) async fn make_room(&self, to: &mut Output) -> io::Result<()> {
        let bytes = {
            let mut notice = lock(&self.notice);
            notice.on_print();
            notice.take_output()
        };
        to.write_all(&bytes).await
    }

    /// Shows the program's output until its end, as [`super::copy`] does.
    pub(super) async fn show(
        &self,
        mut from: Box<dyn AsyncRead + Send + Unpin>,
        mut to: Output,
        mut health: Box<dyn HealthWatch>,
        turn: &tokio::sync::Mutex<()>,
    ) -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER];
        let mut has_work = false;
        loop {
            let timer = self.on_health(health.as_ref());
            let bytes = lock(&self.notice).take_output();
            if !bytes.is_empty() {
                let _turn = turn.lock().await;
                to.write_all(&bytes).await?;
            }
            let due = async {
                match timer {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = health.changed() => {}
                n = from.read(&mut buffer) => {
                    let n = match n {
                        Ok(n) if n > 0 => n,
                        end => return Ok(end.inspect_err(log_break).is_ok()),
                    };
                    let bytes = buffer.get(..n).unwrap_or_default();
                    let _turn = turn.lock().await;
                    let before = {
                        let mut notice = lock(&self.notice);
                        notice.on_program(bytes);
                        notice.take_output()
                    };
                    to.write_all(&before).await?;
                    to.write_all(bytes).await?;
                    has_work = true;
                }
                () = self.wake.notified() => {}
                () = due => {}
                // Nothing else to do: look at what the program has printed.
                () = std::future::ready(()), if has_work => has_work = lock(&self.notice).work(),
            }
        }
    }

    /// Looks how the link is, and returns the notice's timer.
    fn on_health(&self, health: &dyn HealthWatch) -> Option<Instant> {
        let (now, outage) = (Instant::now(), health.outage());
        let mut notice = lock(&self.notice);
        notice.on_health(now, outage.as_ref());
        notice.on_time(now, outage.as_ref());
        *lock(&self.outage) = outage;
        notice.timer()
    }
}

fn log_break(error: &io::Error) {
    tracing::debug!(%error, "output broke");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
