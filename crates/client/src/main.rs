//! The `tssh` program: command line in, exit status out. Everything else is in the library.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use tssh::cli::{self, Action, CommandLine};
use tssh::config::{self, Environment, Settings};
use tssh::report::FAILURE;
use tssh::terminal::{prompt, raw};
use tssh::{app, guard, logging};

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
        Action::Connect | Action::PrintConfig => {}
    }
    let settings =
        Environment::of_process().and_then(|environment| config::resolve(&line, &environment));
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error),
    };
    if line.action == Action::PrintConfig {
        return say(&mut std::io::stdout(), &settings.to_lines().join("\n"));
    }
    connect(&line, settings)
}

fn connect(line: &CommandLine, settings: Settings) -> ExitCode {
    if let Err(error) = logging::start(settings.log_level, line.log_file.as_deref()) {
        return fail(&error);
    }
    let words: Vec<&[u8]> = line.command.iter().map(|word| word.as_bytes()).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let status = runtime.block_on(app::run(settings, words.join(&b' ')));
    // A name still being looked up must not hold the exit.
    runtime.shutdown_background();
    ExitCode::from(status)
}

fn say(to: &mut dyn std::io::Write, text: &str) -> ExitCode {
    match writeln!(to, "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::from(FAILURE)
}
