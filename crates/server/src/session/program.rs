//! What a session runs: StartMessage turned into a program and its arguments
//! (PROTOCOL §6.4, DESIGN D8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use proto::open::StartMessage;

use crate::config::{Policy, Refusal};
use crate::sys::account::Account;

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The file to execute.
    pub(crate) path: PathBuf,
    /// What the program sees as its own name.
    pub(crate) name: OsString,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// What was asked for, when it was replaced by a forced command.
    pub(crate) replaced: Option<OsString>,
    /// Whether this is the user's login shell.
    pub(crate) is_login_shell: bool,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The configuration forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No such subsystem.
    #[error("subsystem {0:?} is not configured on this host")]
    NoSubsystem(String),
    /// The message asks for nothing.
    #[error("the request names neither a shell nor a command nor a subsystem")]
    Nothing,
}

/// Where systems keep their sftp-server.
const SFTP_SERVERS: [&str; 7] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/sftp-server",
    "/usr/local/libexec/sftp-server",
    "/usr/lib/misc/sftp-server",
];

/// The subsystem name that sshd serves without a program of its own.
const INTERNAL_SFTP: &str = "internal-sftp";

impl Program {
    /// Returns what `start` asks for.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub(crate) fn of(
        start: &StartMessage,
        account: &Account,
        policy: &Policy,
    ) -> Result<Self, ProgramError> {
        if let Some(forced) = policy.forced_command()? {
            let line = sftp_or(forced).unwrap_or_else(|| forced.into());
            let mut program = Self::shell_command(account, line);
            program.replaced = asked_for(start, policy)?;
            return Ok(program);
        }
        if !start.subsystem.is_empty() {
            let line = subsystem_line(&start.subsystem, policy);
            let line = line.ok_or_else(|| ProgramError::NoSubsystem(start.subsystem.clone()))?;
            return Ok(Self::shell_command(account, line));
        }
        if start.shell {
            return Ok(Self::login_shell(account));
        }
        if !start.command.0.is_empty() {
            let line = OsString::from_vec(start.command.0.clone());
            return Ok(Self::shell_command(account, line));
        }
        if start.name.is_empty() {
            return Err(ProgramError::Nothing);
        }
        Ok(Self::words(&start.name, &start.args))
    }

    fn login_shell(account: &Account) -> Self {
        let mut name = OsString::from("-");
        name.push(base_name(&account.shell));
        Self {
            path: account.shell.clone(),
            name,
            arguments: Vec::new(),
            replaced: None,
            is_login_shell: true,
        }
    }

    /// A command line for the user's shell, as sshd runs it.
    fn shell_command(account: &Account, line: OsString) -> Self {
        Self {
            path: account.shell.clone(),
            name: base_name(&account.shell).to_owned(),
            arguments: vec!["-c".into(), line],
            replaced: None,
            is_login_shell: false,
        }
    }

    /// Words of a client without extension `command`, run as the reference runs them.
    fn words(name: &str, args: &[String]) -> Self {
        let needs_shell =
            name == "cd" || args.iter().any(|arg| arg.starts_with("~/")) || !is_in_path(name);
        let (path, arguments) = if needs_shell {
            let words = std::iter::once(name).chain(args.iter().map(String::as_str));
            let line: Vec<_> = words.map(quoted_if_spaced).collect();
            ("sh", vec!["-c".into(), line.join(" ").into()])
        } else {
            (name, args.iter().map(OsString::from).collect())
        };
        Self {
            path: path.into(),
            name: path.into(),
            arguments,
            replaced: None,
            is_login_shell: false,
        }
    }
}

/// Returns the command line of a subsystem.
fn subsystem_line(name: &str, policy: &Policy) -> Option<OsString> {
    match policy.subsystem(name) {
        Some(line) => Some(sftp_or(line).unwrap_or_else(|| line.into())),
        None if name == "sftp" => sftp_or(INTERNAL_SFTP),
        None => None,
    }
}

/// Returns the system's sftp-server in place of sshd's internal one, with the
/// same arguments; `None` for any other line.
fn sftp_or(line: &str) -> Option<OsString> {
    let arguments = line.strip_prefix(INTERNAL_SFTP)?;
    if !arguments.is_empty() && !arguments.starts_with(char::is_whitespace) {
        return None;
    }
    let server = SFTP_SERVERS.iter().find(|path| Path::new(path).is_file())?;
    Some(format!("{server}{arguments}").into())
}

/// What `SSH_ORIGINAL_COMMAND` says under a forced command: nothing for a shell, and for a
/// subsystem, which has to be one, its command.
fn asked_for(start: &StartMessage, policy: &Policy) -> Result<Option<OsString>, ProgramError> {
    let name = &start.subsystem;
    if !name.is_empty() {
        let line = subsystem_line(name, policy);
        let line = line.ok_or_else(|| ProgramError::NoSubsystem(name.clone()))?;
        return Ok(Some(policy.subsystem(name).map_or(line, OsString::from)));
    }
    if !start.command.0.is_empty() {
        return Ok(Some(OsString::from_vec(start.command.0.clone())));
    }
    let words = std::iter::once(&start.name).chain(&start.args);
    let words: Vec<_> = words.map(|word| quoted_if_spaced(word)).collect();
    Ok((!start.shell).then(|| words.join(" ").into()))
}

fn quoted_if_spaced(word: &str) -> String {
    if word.contains(char::is_whitespace) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.to_owned()
    }
}

fn is_in_path(name: &str) -> bool {
    if name.contains('/') {
        return is_executable(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| is_executable(&dir.join(name)))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn base_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_else(|| OsStr::from_bytes(b"sh"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::json::Bytes;

    fn account() -> Account {
        Account {
            name: "alice".into(),
            home: "/home/alice".into(),
            shell: "/usr/bin/zsh".into(),
            groups: vec![],
            is_root: false,
        }
    }

    fn program(start: &StartMessage, sshd_config: &str) -> Result<Program, ProgramError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sshd_config");
        std::fs::write(&file, sshd_config).unwrap();
        let policy = Policy::from_files(Some(file), None, &account(), "", None);
        Program::of(start, &account(), &policy)
    }

    fn line(start: &StartMessage, sshd_config: &str) -> Vec<String> {
        let program = program(start, sshd_config).unwrap();
        let all = std::iter::once(&program.name).chain(&program.arguments);
        all.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn words(name: &str, args: &[&str]) -> StartMessage {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        StartMessage { name: name.into(), args, ..StartMessage::default() }
    }

    #[test]
    fn shells_and_raw_commands_are_the_user_s_shell() {
        let shell = StartMessage { shell: true, ..StartMessage::default() };
        assert_eq!(line(&shell, ""), ["-zsh"]);
        let command = StartMessage { command: Bytes(b"a | 'b'".to_vec()), ..Default::default() };
        assert_eq!(line(&command, ""), ["zsh", "-c", "a | 'b'"]);
        assert!(matches!(program(&StartMessage::default(), ""), Err(ProgramError::Nothing)));
    }

    #[test]
    fn words_run_as_the_reference_runs_them() {
        assert_eq!(line(&words("sh", &["-c", "ls | wc"]), ""), ["sh", "-c", "ls | wc"]);
        assert_eq!(line(&words("cd", &["a b"]), ""), ["sh", "-c", "cd 'a b'"]);
        assert_eq!(line(&words("ls", &["~/x", "|", "wc"]), ""), ["sh", "-c", "ls ~/x | wc"]);
        assert_eq!(line(&words("no-such-program", &["x"]), ""), ["sh", "-c", "no-such-program x"]);
    }

    #[test]
    fn subsystems_come_from_the_configuration_or_the_system() {
        let sftp = StartMessage { subsystem: "sftp".into(), ..StartMessage::default() };
        assert_eq!(line(&sftp, "Subsystem sftp /opt/sftp -l X"), ["zsh", "-c", "/opt/sftp -l X"]);
        let other = StartMessage { subsystem: "other".into(), ..StartMessage::default() };
        assert!(matches!(program(&other, ""), Err(ProgramError::NoSubsystem(_))));
        let Some(server) = SFTP_SERVERS.iter().find(|path| Path::new(path).is_file()) else {
            return;
        };
        assert_eq!(line(&sftp, ""), ["zsh", "-c", server]);
        let internal = line(&sftp, "Subsystem sftp internal-sftp -f AUTH");
        assert_eq!(internal, ["zsh", "-c", &format!("{server} -f AUTH")]);
    }

    #[test]
    fn a_forced_command_replaces_everything() {
        let shell = StartMessage { shell: true, ..StartMessage::default() };
        assert_eq!(line(&shell, "ForceCommand menu"), ["zsh", "-c", "menu"]);
        let forced = program(&words("ls", &["a b"]), "ForceCommand menu").unwrap();
        assert_eq!(forced.replaced, Some("ls 'a b'".into()));
        let extra = StartMessage { subsystem: "extra".into(), ..StartMessage::default() };
        let config = "ForceCommand menu\nSubsystem extra /bin/extra -x";
        assert_eq!(program(&extra, config).unwrap().replaced, Some("/bin/extra -x".into()));
        assert!(program(&extra, "ForceCommand menu").is_err(), "there is no such subsystem");
    }
}
