//! The command line for the system's ssh, made of ours.
//!
//! Options keep their order, because the order decides there as well. What only we understand is
//! left out; for the start of the server so is everything that concerns the session, which will
//! run elsewhere.

use std::ffi::OsString;

use super::CommandLine;
use crate::config::is_ours;

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

/// Returns whether an option of `-o` is a keyword that only we know.
fn names_ours(option: &str) -> bool {
    let end = option.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(option.len());
    is_ours(&option.get(..end).unwrap_or_default().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::parse;

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
}
