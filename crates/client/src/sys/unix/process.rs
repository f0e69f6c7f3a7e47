//! Processes: a second one like this, others that we start, and leaving the terminal.

use std::io;

use std::os::unix::process::CommandExt as _;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Which of the two we are.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The new one.
    Child,
    /// The old one, which can wait for the new one.
    Parent(Child),
}

/// The copy, for the process that it was made from.
#[derive(Debug)]
pub(crate) struct Child(Pid);

impl Child {
    /// Waits for its end; returns its exit status, if it had one.
    pub(crate) fn wait(self) -> Option<u8> {
        let status = waitpid(Some(self.0), WaitOptions::empty());
        let status = status.ok().flatten().and_then(|(_, status)| status.exit_status());
        status.and_then(|status| u8::try_from(status).ok())
    }
}

/// Makes a copy of this process. Only to be called while there is one thread, since only the
/// calling one is copied, with whatever locks the others hold.
///
/// # Errors
/// What fork(2) says.
pub(crate) fn fork() -> io::Result<Forked> {
    debug_assert!(is_alone(), "threads do not survive a fork");
    // SAFETY: with one thread the child is a whole copy, in which everything may be done.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        id => Ok(Forked::Parent(Child(Pid::from_raw(id).expect("not zero")))),
    }
}

/// Goes on in a copy of this process, and ends this one with success. Only for the thread that
/// runs everything.
///
/// # Errors
/// There are other threads, what the event loop waits with is not copied here (kqueue is not),
/// or what fork(2) says.
pub(crate) fn go_on_in_a_copy() -> io::Result<()> {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if !is_alone() {
        return Err(io::Error::other("a name is being looked up"));
    }
    match fork()? {
        Forked::Child => Ok(()),
        // SAFETY: takes a plain value and does not return. No destructor may run: the terminal,
        // sockets and pipes are the copy's.
        Forked::Parent(_) => unsafe { libc::_exit(0) },
    }
}

/// Returns whether there is no thread but this one, as far as can be known.
pub(crate) fn is_alone() -> bool {
    match std::fs::read_dir("/proc/self/task") {
        Ok(threads) => threads.count() == 1,
        Err(_) => true,
    }
}

/// Leaves the terminal: its signals and hang-up are not for us any more, nor is what is typed.
pub(crate) fn lead_session() {
    // Fails only for the leader of a group, which a new process is not.
    let _ = rustix::process::setsid();
}

/// Puts nothing in the place of standard input, and of the others as asked.
///
/// # Errors
/// There is no descriptor left.
pub(crate) fn close_standard_streams(output: bool, error: bool) -> io::Result<()> {
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    if output {
        rustix::stdio::dup2_stdout(&nothing)?;
    }
    if error {
        rustix::stdio::dup2_stderr(&nothing)?;
    }
    Ok(())
}

/// Returns this program, to be started again under another name (`argv[0]`).
///
/// # Errors
/// The system does not say where it is.
pub(crate) fn again_as(name: &str) -> io::Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg0(name);
    Ok(command)
}

/// Puts another program in our place; returns only if that fails.
pub(crate) fn replace_us(mut command: std::process::Command) -> io::Error {
    command.exec()
}

/// Tells a program of ours that its connection is gone.
pub(crate) fn hang_up(child: &mut tokio::process::Child) {
    signal(child.id(), Signal::HUP);
}

/// Tells the process with this id that the size of the terminal has changed.
pub(crate) fn tell_resized(id: u32) {
    signal(Some(id), Signal::WINCH);
}

fn signal(id: Option<u32>, signal: Signal) {
    let id = id.and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id.and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(id, signal);
    }
}
