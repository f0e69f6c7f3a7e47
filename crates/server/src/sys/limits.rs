//! Resource limits: the server's own, and those of the programs it starts.
//!
//! The server wants no core file, which would hold its keys, and as many
//! descriptors as it may have, for streams and sessions. Its programs get what
//! sshd had set for the login. Only soft limits are touched.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits of the login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    core: Rlimit,
    files: Rlimit,
}

impl Limits {
    /// Returns the limits this process has now.
    pub(crate) fn current() -> Self {
        Self { core: getrlimit(Resource::Core), files: getrlimit(Resource::Nofile) }
    }

    /// Sets the limits the server itself wants; what the system refuses stays as it was.
    pub(crate) fn change_for_server(self) {
        let wanted = [
            (Resource::Core, Rlimit { current: Some(0), ..self.core }),
            (Resource::Nofile, Rlimit { current: self.files.maximum, ..self.files }),
        ];
        for (resource, limit) in wanted {
            if let Err(error) = setrlimit(resource, limit) {
                tracing::warn!(?resource, %error, "a limit stays as it is");
            }
        }
    }

    /// Gives `command` these limits.
    pub(crate) fn restore_in(self, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt as _;
        let restore = move || -> io::Result<()> {
            // Soft limits below their hard ones are never refused.
            setrlimit(Resource::Core, self.core)?;
            Ok(setrlimit(Resource::Nofile, self.files)?)
        };
        // SAFETY: setrlimit is a plain system call, the values own no memory,
        // and the closure touches nothing else.
        unsafe {
            command.pre_exec(restore);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_the_limits_of_the_login() {
        let now = Limits::current();
        let login = Limits {
            core: Rlimit { current: Some(0), ..now.core },
            files: Rlimit { current: Some(123), ..now.files },
        };
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -Sc; ulimit -Sn; ulimit -Hn"]);
        login.restore_in(&mut command);
        let output = command.output().unwrap();
        let hard = now.files.maximum.map_or("unlimited".into(), |n| n.to_string());
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("0\n123\n{hard}\n"));
    }
}
