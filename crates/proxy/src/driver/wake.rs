//! [`WakeList`]: wakes everybody who waits for the same thing.

use std::task::{Context, Waker};

/// Wakers of several tasks, each kept once.
#[derive(Debug, Default)]
pub(super) struct WakeList(Vec<Waker>);

impl WakeList {
    /// Remembers the task to wake.
    pub(super) fn add(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|known| known.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    /// Wakes and forgets all.
    pub(super) fn wake(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}
