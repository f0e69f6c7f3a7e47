//! The pty of a session: its master on the runtime, its slave for the program.
//!
//! Reads are gathered: the kernel hands out 4 KiB at most at a time, and one
//! packet's worth of work for each would cost most of the throughput.
//! On Linux a read of an empty master first lets the kernel finish what the
//! program has written ([`Master::read_now`]), so that after the program's end
//! one look tells whether anything is left, and no grace period is needed.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use pty_process::{Command, Pts};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios, Winsize};
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

/// The master side of a pty. Dropping it hangs up the program.
#[derive(Debug)]
pub(crate) struct Master(AsyncFd<OwnedFd>);

/// The slave side, until the program has been started on it.
pub(crate) struct Slave {
    pts: Pts,
    path: OsString,
}

/// Opens a pty.
///
/// # Errors
/// The system's, when there are none left.
pub(crate) fn open() -> io::Result<(Master, Slave)> {
    let (pty, pts) = pty_process::open().map_err(to_io)?;
    let path = rustix::pty::ptsname(&pty, Vec::new())?;
    let master = OwnedFd::from(pty);
    // SAFETY: the descriptor is owned by the value that is registered, and
    // nothing here closes or replaces it before that value is dropped.
    let master = unsafe { AsyncFd::register(master) }.map_err(io::Error::from)?;
    Ok((Master(master), Slave { pts, path: OsString::from_vec(path.into_bytes()) }))
}

impl Slave {
    /// Returns the path of the terminal, as in `SSH_TTY`.
    pub(crate) fn path(&self) -> &OsString {
        &self.path
    }

    /// Changes the terminal's modes.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn change_modes(&self, change: impl FnOnce(&mut Termios)) -> io::Result<()> {
        let mut modes = termios::tcgetattr(&self.pts)?;
        change(&mut modes);
        Ok(termios::tcsetattr(&self.pts, OptionalActions::Now, &modes)?)
    }

    /// Starts `command` on the terminal, as leader of a session of its own.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn spawn(self, command: tokio::process::Command) -> io::Result<Child> {
        Command::from(command).spawn(self.pts).map_err(to_io)
    }
}

impl Master {
    /// Waits for output and reads what is there, up to the size of `buffer`.
    ///
    /// Returns 0 once no program holds the terminal any more.
    ///
    /// # Errors
    /// The system's.
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|master| gather(master.get_ref(), buffer)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Reads what is there without waiting; `None` when there is nothing, 0
    /// bytes at the end as for [`Master::read`].
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match gather(self.0.get_ref(), buffer) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes all of `bytes` as the terminal's input.
    ///
    /// # Errors
    /// The system's; above all when no program holds the terminal any more.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            let result = ready.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?));
            if let Ok(result) = result {
                bytes = bytes.get(result?..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn resize(&self, size: Winsize) -> io::Result<()> {
        Ok(termios::tcsetwinsize(self.0.get_ref(), size)?)
    }

    /// Returns the terminal's size.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn size(&self) -> io::Result<Winsize> {
        Ok(termios::tcgetwinsize(self.0.get_ref())?)
    }

    /// Returns whether these bytes of input, now written, hold a key that
    /// interrupts the program and by that drops the terminal's output
    /// (INTR or QUIT, with ISIG and without NOFLSH).
    pub(crate) fn interrupts(&self, bytes: &[u8]) -> bool {
        let Ok(modes) = termios::tcgetattr(self.0.get_ref()) else { return false };
        let flushes = modes.local_modes.contains(LocalModes::ISIG)
            && !modes.local_modes.contains(LocalModes::NOFLSH);
        let keys = [SpecialCodeIndex::VINTR, SpecialCodeIndex::VQUIT];
        let keys = keys.map(|key| modes.special_codes[key]);
        // 0 is a key that is switched off.
        flushes && keys.iter().any(|key| *key != 0 && bytes.contains(key))
    }

    /// Returns the process group in the terminal's foreground.
    pub(crate) fn foreground(&self) -> Option<Pid> {
        termios::tcgetpgrp(self.0.get_ref()).ok()
    }
}

/// Reads until there is no more or `buffer` is full. The end is 0 bytes; an
/// error after the first bytes is left for the next call to find again.
fn gather(master: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::read(master, room) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(_) if filled > 0 => break,
            // Linux says EIO when the last program has closed the slave.
            Err(Errno::IO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

fn to_io(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(errno) => errno.into(),
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_a_program_printed_can_be_read_after_its_end() {
        let (master, slave) = open().unwrap();
        let mut command = tokio::process::Command::new("sh");
        // The background job keeps the slave open, so that there is no end of output.
        command.args(["-c", "(trap '' HUP; sleep 60) & echo $!; printf %4000s x"]);
        let mut child = slave.spawn(command).unwrap();
        child.wait().await.unwrap();
        let (mut output, mut buffer) = (Vec::new(), vec![0; 64]);
        while let Some(n) = master.read_now(&mut buffer).unwrap().filter(|n| *n > 0) {
            output.extend_from_slice(&buffer[..n]);
        }
        let text = String::from_utf8(output).unwrap();
        let (job, rest) = text.split_once("\r\n").unwrap();
        let job = Pid::from_raw(job.parse().unwrap()).unwrap();
        rustix::process::kill_process(job, rustix::process::Signal::KILL).unwrap();
        assert_eq!(rest.len(), 4000, "output before the end is whole");
    }

    #[tokio::test]
    async fn keys_interrupt_where_the_terminal_s_modes_say_so() {
        let (master, slave) = open().unwrap();
        let is_key = |master: &Master| [b"x\x03y", b"a\x1cb", b"abc"].map(|b| master.interrupts(b));
        assert_eq!(is_key(&master), [true, true, false]);
        slave.change_modes(|modes| modes.local_modes.insert(LocalModes::NOFLSH)).unwrap();
        assert_eq!(is_key(&master), [false; 3], "a terminal that flushes nothing");
        slave
            .change_modes(|modes| {
                modes.local_modes.remove(LocalModes::NOFLSH | LocalModes::ISIG);
            })
            .unwrap();
        assert_eq!(is_key(&master), [false; 3], "keys that are the program's");
    }

    #[tokio::test]
    async fn the_end_of_the_last_program_is_the_end_of_output() {
        let (master, slave) = open().unwrap();
        let mut command = tokio::process::Command::new("echo");
        command.arg("hello");
        let mut child = slave.spawn(command).unwrap();
        let (mut output, mut buffer) = (Vec::new(), [0; 256]);
        loop {
            match master.read(&mut buffer).await.unwrap() {
                0 => break,
                n => output.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(output, b"hello\r\n");
        assert!(child.wait().await.unwrap().success());
    }
}
