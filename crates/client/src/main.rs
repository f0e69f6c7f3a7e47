//! The `tssh` program: command line in, exit status out. Everything else is in the library.

use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tssh::app::ViaSystem;
use tssh::background::{self, Release, Side, Waited};
use tssh::cli::{self, Action, CommandLine};
use tssh::config::{self, ControlPersist, Environment, Proxy, SessionType, Settings, UdpMode};
use tssh::remote::system::System;
use tssh::report::FAILURE;
use tssh::terminal::{prompt, raw};
use tssh::{app, guard, logging, mux};

fn main() -> ExitCode {
    if guard::is_guard() {
        return guard::main();
    }
    // The terminal is sacred, even if a bug of ours ends the program.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        raw::restore();
        prompt::restore();
        default(info);
    }));
    let line = match cli::parse(std::env::args_os().skip(1)) {
        Ok(line) => line,
        Err(error) => return fail(&error),
    };
    match line.action {
        Action::Version => return say(&mut std::io::stderr(), cli::VERSION),
        Action::Help => return say(&mut std::io::stdout(), cli::HELP),
        Action::Query => return query(line.query.as_deref().unwrap_or_default()),
        Action::Connect | Action::PrintConfig => {}
    }
    let environment = match Environment::of_process() {
        Ok(environment) => environment,
        Err(error) => return fail(&error),
    };
    if let Err(error) = config::check_flags(&line, &environment) {
        return fail(&error);
    }
    if let Err(error) = logging::redirect(line.log_file.as_deref(), line.syslog) {
        return fail(&error);
    }
    let resolved = config::resolve(&line, &environment).and_then(|settings| {
        // Whoever logs in instead of us finds the way as well.
        let goes = line.action == Action::Connect && settings.login_command.is_none();
        let hops = if goes { config::hops(&line, &environment, &settings)? } else { Vec::new() };
        Ok((settings, hops))
    });
    let (settings, hops) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return fail(&error),
    };
    if line.action == Action::PrintConfig {
        return say(&mut std::io::stdout(), &settings.to_lines().join("\n"));
    }
    connect(&line, settings, hops)
}

fn connect(line: &CommandLine, settings: Settings, hops: Vec<Settings>) -> ExitCode {
    logging::set_facility(settings.syslog_facility);
    logging::set_level(settings.log_level);
    let jump = match &settings.proxy {
        Proxy::Jump(jump) => Some(jump),
        Proxy::Direct | Proxy::Command(_) => None,
    };
    let system = settings.login_command.clone().map(|command| ViaSystem {
        jump: jump.map(|jump| line.jump_command(&command, jump)),
        whole: System::new(command.clone(), line.as_ssh()),
        login: System::new(command, line.as_ssh_login()),
    });
    if let Some(system) = system.as_ref().filter(|_| settings.udp.mode == UdpMode::No) {
        let error = system.whole.replace_us();
        return fail(&format_args!("{}: {error}", system.whole.name()));
    }
    if let Some(command) = line.control {
        return run(mux::client::control(&settings, command));
    }
    let mut release = match settings.background.then(background::split).transpose() {
        Ok(Some(Side::Waited(Waited::Released))) => return ExitCode::SUCCESS,
        Ok(Some(Side::Waited(Waited::Ended(status)))) => return status,
        Ok(Some(Side::Working(release))) => Some(release),
        Ok(None) => None,
        Err(error) => return fail(&format_args!("fork: {error}")),
    };
    let words: Vec<&[u8]> = line.command.iter().map(|word| word.as_encoded_bytes()).collect();
    let command = words.join(&b' ');
    let lender = match share(&settings, &command, &mut release) {
        Ok(lender) => lender,
        Err(status) => return status,
    };
    run(app::run(settings, hops, command, system, release, lender))
}

/// Uses the connection of another process, if there is one, or splits this one into one that lends
/// a connection and one that uses it; returns the exit status of whatever was done so.
fn share(
    settings: &Settings,
    command: &[u8],
    release: &mut Option<Release>,
) -> Result<Option<Release>, ExitCode> {
    let control = &settings.control;
    if control.path.is_none() {
        return Ok(None);
    }
    if control.master.uses_another()
        && let Some(status) = attach(settings, command, true, release)?
    {
        return Err(status);
    }
    if !control.master.lends() || control.persist == ControlPersist::No {
        return Ok(None);
    }
    match background::split() {
        Ok(Side::Working(lender)) => Ok(Some(lender)),
        Ok(Side::Waited(Waited::Ended(status))) => Err(status),
        Ok(Side::Waited(Waited::Released)) => {
            let forwards = &settings.forwards;
            if settings.session_type == SessionType::None && forwards.stdio.is_none() {
                // The connection is there, and nothing else was asked for.
                return Err(ExitCode::SUCCESS);
            }
            let status = attach(settings, command, false, release)?;
            Err(status.unwrap_or(ExitCode::from(FAILURE)))
        }
        Err(error) => Err(fail(&format_args!("fork: {error}"))),
    }
}

fn attach(
    settings: &Settings,
    command: &[u8],
    sets_up_forwards: bool,
    release: &mut Option<Release>,
) -> Result<Option<ExitCode>, ExitCode> {
    let runtime = runtime().map_err(|error| fail(&error))?;
    let attached = mux::client::attach(settings, command, sets_up_forwards, release);
    Ok(runtime.block_on(attached).map(ExitCode::from))
}

/// Runs the one thing there is to do, and makes its result the exit status.
fn run(task: impl Future<Output = u8>) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let status = runtime.block_on(task);
    // A name still being looked up must not hold the exit.
    runtime.shutdown_background();
    ExitCode::from(status)
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        // Threads are for names being looked up; a copy of the process must wait for their end.
        .thread_keep_alive(Duration::from_millis(50))
        .build()
}

/// Lists what there is of the kind asked for (`-Q`).
fn query(question: &str) -> ExitCode {
    match tssh::login::query(question) {
        Some(names) => say(&mut std::io::stdout(), &names.join("\n")),
        None => fail(&format_args!("Unsupported query \"{question}\"")),
    }
}

fn say(to: &mut dyn std::io::Write, text: &str) -> ExitCode {
    match writeln!(to, "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    logging::error(error);
    ExitCode::from(FAILURE)
}
