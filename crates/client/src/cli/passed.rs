//! The command line for the system's ssh, made of ours.
//!
//! Options keep their order, because the order decides there as well. What only we understand is
//! left out; for the start of the server so is everything that concerns the session, which will
//! run elsewhere.

use std::ffi::OsString;

use super::CommandLine;
use crate::config::{Jump, is_ours};

/// Options of ours alone, or that are of no use when we call ssh.
const OURS_ALONE: &str = "GQV";

/// Options about the way to the host and the login; the others are about the session.
const ABOUT_THE_LOGIN: &str = "246BCEFJKPSabciklmopqvxy";

impl CommandLine {
    /// Returns the arguments by which ssh does what we were asked for.
    #[must_use]
    pub fn as_ssh(&self) -> Vec<OsString> {
        let mut arguments = self.options_for_ssh(|letter| !OURS_ALONE.contains(letter));
        arguments.extend(["--".into(), self.destination.clone()]);
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    /// Returns the arguments by which ssh logs in and runs the one command that follows them.
    #[must_use]
    pub fn as_ssh_login(&self) -> Vec<OsString> {
        let fixed = ["RemoteCommand=none", "RequestTTY=no", "ClearAllForwardings=yes"];
        let mut arguments: Vec<OsString> = vec!["-T".into()];
        for option in fixed {
            arguments.extend(["-o".into(), option.into()]);
        }
        arguments.extend(self.options_for_ssh(|letter| ABOUT_THE_LOGIN.contains(letter)));
        arguments.extend(["--".into(), self.destination.clone()]);
        arguments
    }

    /// Returns the command by which ssh leads to the host behind a jump host, tokens not yet
    /// expanded: as OpenSSH calls itself for ProxyJump.
    ///
    /// `program` is what stands for ssh.
    #[must_use]
    pub fn jump_command(&self, program: &[String], jump: &Jump) -> String {
        let mut words = program.to_vec();
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([flag.to_owned(), value]);
            }
        };
        add("-l", jump.user.clone());
        add("-p", jump.port.map(|port| port.to_string()));
        add("-J", jump.before.clone());
        let file = self.passed.iter().rev().find(|(letter, _)| *letter == 'F');
        add("-F", file.and_then(|(_, value)| value.clone()));
        words.extend(self.passed.iter().filter(|(letter, _)| *letter == 'v').map(|_| "-v".into()));
        let quoted: Vec<_> = words.iter().map(|word| shell_quoted(word)).collect();
        format!("{} -W '[%h]:%p' -- {}", quoted.join(" "), shell_quoted(&jump.host))
    }

    fn options_for_ssh(&self, wanted: impl Fn(char) -> bool) -> Vec<OsString> {
        let mut arguments = Vec::new();
        for (letter, value) in &self.passed {
            let ours = *letter == 'o' && value.as_deref().is_some_and(names_ours);
            if !wanted(*letter) || ours {
                continue;
            }
            arguments.push(format!("-{letter}").into());
            arguments.extend(value.iter().map(OsString::from));
        }
        arguments
    }
}

/// Quotes a word for a shell, and for the expansion of tokens before that.
fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''").replace('%', "%%"))
}

/// Returns whether an option of `-o` is a keyword that only we know.
fn names_ours(option: &str) -> bool {
    let end = option.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(option.len());
    is_ours(&option.get(..end).unwrap_or_default().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::Jump;

    fn words(list: Vec<std::ffi::OsString>) -> String {
        list.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ssh_gets_its_own_options_and_none_of_ours() {
        let line = [
            "--via-ssh",
            "--udp",
            "-tp22",
            "-o",
            "UdpMTU=1300",
            "-oUser=x",
            "h",
            "-v",
            "-L1:h:2",
            "--",
            "ls",
            "-l",
        ];
        let line = parse(line.iter().map(Into::into)).expect("a command line");
        assert_eq!(words(line.as_ssh()), "-t -p 22 -o User=x -v -L 1:h:2 -- h ls -l");
        let login = words(line.as_ssh_login());
        assert!(login.ends_with(" -p 22 -o User=x -v -- h"), "{login}");
        assert!(!login.contains("-t") && !login.contains("-L"), "{login}");
    }

    #[test]
    fn a_jump_host_gets_what_openssh_would_give_it() {
        let line = parse(["--via-ssh", "-vF", "a b", "-p7", "h"].iter().map(Into::into));
        let jump = Jump {
            before: Some("x,y:2".to_owned()),
            user: Some("o'x%".to_owned()),
            host: "j".to_owned(),
            port: Some(9),
        };
        let command = line.expect("a command line").jump_command(&["ssh".to_owned()], &jump);
        assert_eq!(
            command,
            "'ssh' '-l' 'o'\\''x%%' '-p' '9' '-J' 'x,y:2' '-F' 'a b' '-v' -W '[%h]:%p' -- 'j'"
        );
    }
}
