//! The criteria of `Match` lines.
//!
//! Evaluated from left to right, as in OpenSSH (`match_cfg_line`, 9.2, and `tagged`, `command`,
//! `sessiontype`, `version` of its later versions). A criterion that cannot be evaluated makes
//! the line an error: its block is never applied by guess.

use std::net::IpAddr;

use host::interfaces;

use super::expand::{self, Tokens};
use super::files::Pass;
use super::{lex, networks};
use crate::sys::account;

/// Returns whether all criteria of a line hold.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn evaluate(pass: &mut Pass<'_>, criteria: &str) -> Result<bool, String> {
    let mut rest = Some(criteria);
    let mut holds = true;
    let mut seen = 0;
    while let Some(written) = lex::delimited(&mut rest) {
        if written.is_empty() || written.starts_with('#') {
            break;
        }
        let (negated, name) = match written.strip_prefix('!') {
            Some(name) => (true, name.to_ascii_lowercase()),
            None => (false, written.to_ascii_lowercase()),
        };
        if name == "all" {
            let next = lex::delimited(&mut rest).unwrap_or_default();
            if seen > 1 || !(next.is_empty() || next.starts_with('#')) {
                return Err(format!("'{written}' cannot be combined with other Match attributes"));
            }
            return Ok(holds && !negated);
        }
        seen += 1;
        if name == "final" || name == "canonical" {
            pass.wants_final |= name == "final";
            holds &= pass.is_final != negated;
            continue;
        }
        let argument = lex::delimited(&mut rest).unwrap_or_default();
        if argument.is_empty() || argument.starts_with('#') {
            return Err(format!("Missing Match criteria for {name}"));
        }
        // A command is only run when all before it held; everything else has no effect.
        if name == "exec" && !holds {
            continue;
        }
        holds &= criterion(pass, &name, &argument)? != negated;
    }
    match seen {
        0 => Err("One or more attributes required for Match".to_owned()),
        _ => Ok(holds),
    }
}

fn criterion(pass: &Pass<'_>, name: &str, argument: &str) -> Result<bool, String> {
    let options = &*pass.options;
    let environment = pass.environment;
    let user = options.word("user").unwrap_or(&environment.user);
    Ok(match name {
        "host" => lex::matches_host(&host(pass)?, argument),
        "originalhost" => lex::matches_host(pass.original_host, argument),
        "user" => lex::matches_list(user, argument),
        "localuser" => lex::matches_list(&environment.user, argument),
        "tagged" => lex::matches_list(options.word("tag").unwrap_or_default(), argument),
        "command" => lex::matches_list(pass.command, argument),
        "version" => lex::matches_list(VERSION, argument),
        "sessiontype" => lex::matches_list(session_type(pass), &argument.to_ascii_lowercase()),
        "localnetwork" => {
            let addresses = match pass.inert {
                true => Vec::new(),
                false => local_addresses().map_err(|error| {
                    format!("match localnetwork: {}", super::error::system_text(&error))
                })?,
            };
            networks::any_in_list(&addresses, argument)?
        }
        "exec" => {
            let tokens = Tokens {
                environment,
                host: &host(pass)?,
                original_host: pass.original_host,
                port: options.word("port").and_then(|port| port.parse().ok()).unwrap_or(22),
                user,
                jump_host: None,
                host_key_alias: options.word("hostkeyalias"),
            };
            let command = tokens.expand(argument)?;
            !pass.inert && succeeds(pass, &command)?
        }
        _ => return Err(format!("Unsupported Match attribute {name}")),
    })
}

/// The addresses of this machine.
fn local_addresses() -> std::io::Result<Vec<IpAddr>> {
    Ok(interfaces::list()?.into_iter().map(|interface| interface.address.ip()).collect())
}

/// What `Match version` is compared with.
const VERSION: &str = concat!("tssh_", env!("CARGO_PKG_VERSION"));

/// The host that criteria see: in the final pass the resolved name, before that HostName so far.
fn host(pass: &Pass<'_>) -> Result<String, String> {
    if pass.is_final {
        return Ok(pass.host.to_owned());
    }
    match pass.options.word("hostname") {
        Some(name) => expand::host_name(name, pass.original_host),
        None => Ok(pass.original_host.to_owned()),
    }
}

fn session_type<'a>(pass: &'a Pass<'_>) -> &'a str {
    match pass.options.word("sessiontype") {
        Some("none") => "none",
        Some("subsystem") => "subsystem",
        _ if pass.command.is_empty() => "shell",
        _ => "exec",
    }
}

/// Runs a command with the user's shell and returns whether it succeeded.
fn succeeds(pass: &Pass<'_>, command: &str) -> Result<bool, String> {
    use std::process::{Command, Stdio};
    let (usual, option) = account::COMMAND_SHELL;
    let shell = pass.environment.variable("SHELL").unwrap_or(usual);
    Command::new(shell)
        .args([option, command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map(|status| status.success())
        .map_err(|error| {
            format!("match exec '{command}' error: {}", super::error::system_text(&error))
        })
}
