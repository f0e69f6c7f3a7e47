//! What was decided about signals before we were started.

/// Returns whether the caller of this program had `signal` ignored, as `nohup` does.
///
/// Ask before a handler is installed; an ignored signal should stay ignored.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action the call only writes the current one to
    // the valid pointer given, and it is read only if the call succeeded.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
