//! Child processes: their sessions, their signals, how they ended.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal};

/// Makes `command` lead a session of its own, without a terminal.
pub(crate) fn lead_session(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: setsid is async-signal-safe, and the closure touches nothing else.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}

/// Sends a signal to a process group; one that is gone is no error.
pub(crate) fn signal_group(leader: Pid, signal: Signal) -> io::Result<()> {
    match rustix::process::kill_process_group(leader, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the signal named as in RFC 4254 §6.10.
pub(crate) fn signal_by_name(name: &str) -> Option<Signal> {
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With this status.
    Exited(i32),
    /// By a signal, named as in RFC 4254 §6.10 where it has a name there.
    Signaled(String),
}

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Self {
        let Some(number) = status.signal() else { return Self::Exited(status.code().unwrap_or(0)) };
        let named = SIGNALS.iter().find(|(_, signal)| signal.as_raw() == number);
        // OpenSSH's spelling for what the RFC does not name.
        let other = || "SIG@openssh.com".to_owned();
        Self::Signaled(named.map_or_else(other, |(name, _)| (*name).to_owned()))
    }
}

/// The names of RFC 4254 §6.10, and two that OpenSSH understands besides.
const SIGNALS: [(&str, Signal); 15] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("CONT", Signal::CONT),
    ("TSTP", Signal::TSTP),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_carry_status_or_signal_name() {
        assert_eq!(Ending::from(ExitStatus::from_raw(7 << 8)), Ending::Exited(7));
        assert_eq!(Ending::from(ExitStatus::from_raw(15)), Ending::Signaled("TERM".into()));
        assert_eq!(
            Ending::from(ExitStatus::from_raw(libc::SIGXCPU)),
            Ending::Signaled("SIG@openssh.com".into())
        );
    }

    #[test]
    fn every_name_finds_its_signal_and_others_none() {
        assert_eq!(signal_by_name("INT"), Some(Signal::INT));
        assert_eq!(signal_by_name("SIGINT"), None);
        assert_eq!(signal_by_name(""), None);
    }
}
