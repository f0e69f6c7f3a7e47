//! What to run on the far host, from the settings and the command line, by ssh's rules.

use std::env::VarError;

use crate::config::{RequestTty, SessionType, Settings};
use crate::remote::{Program, PtyRequest, SessionRequest};
use crate::report::Reporter;
use crate::sys::tty;

/// Returns what to run; `None` for `-N`. With `remarks` it is said why there will be no terminal.
///
/// # Errors
/// What is wrong with the command, in words that are complete.
pub(crate) fn session(
    settings: &Settings,
    reporter: Reporter,
    command: Vec<u8>,
    remarks: bool,
) -> Result<Option<SessionRequest>, &'static str> {
    let command = match (&settings.remote_command, command.is_empty()) {
        (Some(_), false) => return Err("Cannot execute command-line and remote command."),
        (Some(configured), true) => configured.clone().into_bytes(),
        (None, _) => command,
    };
    let program = match settings.session_type {
        SessionType::None => return Ok(None),
        SessionType::Subsystem => {
            Program::Subsystem(String::from_utf8_lossy(&command).into_owned())
        }
        SessionType::Default if command.is_empty() => Program::Shell,
        SessionType::Default => Program::Exec(command),
    };
    let pty = wants_pty(settings, remarks.then_some(reporter), &program).then(|| PtyRequest {
        term: term(settings).unwrap_or_default(),
        size: tty::size(),
        modes: tty::modes(),
    });
    for name in &settings.send_env {
        if matches!(std::env::var(name), Err(VarError::NotUnicode(_))) {
            reporter.warning(&format_args!("{name} is not UTF-8 and is not sent"));
        }
    }
    Ok(Some(SessionRequest { program, pty, env: env(settings), agent: true, x11: true }))
}

/// ssh's words.
const NO_TERMINAL: &str = "Pseudo-terminal will not be allocated because stdin is not a terminal.";

/// Decides about the pty as ssh does.
fn wants_pty(settings: &Settings, reporter: Option<Reporter>, program: &Program) -> bool {
    let wanted = match settings.request_tty {
        RequestTty::No => false,
        RequestTty::Force => return true,
        RequestTty::Yes => true,
        RequestTty::Auto => *program == Program::Shell,
    };
    if wanted && (settings.stdin_null || !tty::stdin_is_tty()) {
        if let Some(reporter) = reporter {
            reporter.remark(&NO_TERMINAL);
        }
        return false;
    }
    wanted
}

/// Returns whether the session is one for a person, as far as the configuration tells.
pub(crate) fn is_interactive(settings: &Settings) -> bool {
    let wanted = match settings.request_tty {
        RequestTty::Force => return true,
        RequestTty::No => false,
        RequestTty::Yes => true,
        RequestTty::Auto => settings.runs_shell,
    };
    wanted && !settings.stdin_null && tty::stdin_is_tty()
}

/// Returns the kind of terminal, as the far host is to know it.
pub(crate) fn term(settings: &Settings) -> Option<String> {
    let set = settings.set_env.iter().find(|(name, _)| name == "TERM");
    set.map(|(_, value)| value.clone())
        .or_else(|| std::env::var("TERM").ok())
        .or_else(|| tty::USUAL_TERM.map(ToOwned::to_owned))
}

/// Returns the variables to send, SetEnv's after (and above) SendEnv's.
pub(crate) fn env(settings: &Settings) -> Vec<(String, String)> {
    let sent = settings.send_env.iter();
    sent.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
        .chain(settings.set_env.iter().cloned())
        .collect()
}
