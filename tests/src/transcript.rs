//! [`Transcript`]: everything a program has written so far, and waiting for more of it.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::DEADLINE;

/// A growing record of one output, filled by a thread of its own.
///
/// The thread always reads, so a test never stops a program by not listening.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Transcript {
    /// Starts recording `output` until its end (or a read error, which is a pty's end).
    pub(crate) fn record(mut output: impl Read + Send + 'static) -> Self {
        let transcript = Self::default();
        let writer = transcript.clone();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            loop {
                match output.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(read) => writer.append(&chunk[..read]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            writer.lock().ended = true;
            writer.0.changed.notify_all();
        });
        transcript
    }

    /// Returns a copy of everything so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Waits for the end and returns everything.
    pub(crate) fn whole(&self) -> Result<Vec<u8>, Missing> {
        self.wait(Instant::now() + DEADLINE, |bytes, ended| ended.then(|| bytes.to_vec()))
    }

    /// Waits until `needle` appears at or after `from`; returns where it ends.
    pub(crate) fn wait_for_bytes(&self, needle: &[u8], from: usize) -> Result<usize, Missing> {
        self.wait_for_bytes_until(needle, from, Instant::now() + DEADLINE)
    }

    /// The same with a deadline of its own.
    pub(crate) fn wait_for_bytes_until(
        &self,
        needle: &[u8],
        from: usize,
        deadline: Instant,
    ) -> Result<usize, Missing> {
        let mut searched = from;
        self.wait(deadline, |bytes, _| {
            let start = searched.min(bytes.len());
            let found = find(&bytes[start..], needle).map(|at| start + at + needle.len());
            searched = bytes.len().saturating_sub(needle.len()).max(from);
            found
        })
    }

    /// Waits until `accept` finds what it wants in the bytes from `from` on.
    pub(crate) fn wait_for_match<T>(
        &self,
        from: usize,
        mut accept: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, Missing> {
        self.wait(Instant::now() + DEADLINE, |bytes, _| {
            accept(bytes.get(from..).unwrap_or_default())
        })
    }

    fn wait<T>(
        &self,
        deadline: Instant,
        mut probe: impl FnMut(&[u8], bool) -> Option<T>,
    ) -> Result<T, Missing> {
        let mut state = self.lock();
        loop {
            if let Some(found) = probe(&state.bytes, state.ended) {
                return Ok(found);
            }
            if state.ended {
                return Err(Missing::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missing::TimedOut);
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn append(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why what was waited for did not come.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The output ended without it.
    Ended,
    /// The deadline passed.
    TimedOut,
}

/// Returns where `needle` first occurs.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Returns the last part of `bytes` as text, for messages.
pub(crate) fn tail(bytes: &[u8]) -> String {
    const SHOWN: usize = 4000;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned();
    text.escape_debug().to_string().replace("\\n", "\n")
}
