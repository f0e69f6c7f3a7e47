//! The program `netlab`: its command line, for use in a shell.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::control;
use crate::network::{LinkConfig, Side};
use crate::{Conditions, Lab, sys, why_not};

const HELP: &str = "\
usage: netlab [-S SOCKET] COMMAND

  start [--links N] [--seed N] [--offload] [WORDS] [-- PROGRAM ...]
                     make the hosts and links and hold them; WORDS are conditions of
                     every link, such as delay=50ms; PROGRAM runs in the client's
                     host, and the lab ends with it
  exec client|server PROGRAM ...
                     run a program in a host of the running lab
and, told to the running lab:
";

/// Where labs are controlled unless told otherwise.
const SOCKET: &str = "/run/netlab.sock";

/// Runs the program with its arguments.
///
/// # Errors
/// A sentence for a person.
pub fn run(args: &[String]) -> Result<ExitCode, String> {
    let (socket, words) = match args {
        [flag, socket, words @ ..] if flag == "-S" => (PathBuf::from(socket), words),
        words => (PathBuf::from(SOCKET), words),
    };
    let names: Vec<&str> = words.iter().map(String::as_str).collect();
    match names[..] {
        [] | ["help" | "-h" | "--help"] => {
            print(&format!("{HELP}{}\n", control::HELP))?;
            Ok(ExitCode::SUCCESS)
        }
        ["start", ref words @ ..] => start(&socket, words),
        ["exec", side, program, ref rest @ ..] => Err(exec(&socket, side, program, rest)),
        _ => {
            let answer = ask(&socket, words)?;
            match answer.strip_prefix("error: ") {
                Some(why) => Err(why.trim_end().to_owned()),
                None => print(&answer).map(|()| ExitCode::SUCCESS),
            }
        }
    }
}

/// Says something to the person at the terminal.
#[expect(clippy::print_stderr, reason = "the program's own words")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|why| format!("cannot print: {why}"))
}

/// Makes a lab and holds it.
fn start(socket: &Path, words: &[&str]) -> Result<ExitCode, String> {
    if let Some(why) = why_not() {
        return Err(why.to_owned());
    }
    let (words, program) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    let lab = make(words)?;
    if let [program, args @ ..] = program {
        let mut command = Command::new(program);
        command.args(args);
        let child = lab.host(Side::Client).spawn(&mut command);
        let status = child.and_then(|mut child| child.wait());
        let status = status.map_err(|why| format!("{program}: {why}"))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(ExitCode::from(code.unwrap_or(255)));
    }
    if UnixStream::connect(socket).is_ok() {
        return Err(format!("a lab is running already at {}", socket.display()));
    }
    // What a lab that was killed has left behind.
    let _ = fs::remove_file(socket);
    let cannot = |why| format!("{}: {why}", socket.display());
    let listener = UnixListener::bind(socket).map_err(cannot)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    say(&format!(
        "two hosts, {} link(s); the server is {} and {}; end with: netlab stop",
        lab.links(),
        crate::SERVER_V4,
        crate::SERVER_V6
    ));
    let served = lab.serve(&listener).map_err(cannot);
    let _ = fs::remove_file(socket);
    served.map(|()| ExitCode::SUCCESS)
}

/// Makes the lab that the words after `start` describe.
fn make(words: &[&str]) -> Result<Lab, String> {
    let (mut links, mut seed, mut offload) = (1_u8, 1, false);
    let mut conditions = Conditions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a number"));
        let number = |why: std::num::ParseIntError| format!("{word}: {why}");
        match *word {
            "--links" => links = value()?.parse().map_err(number)?,
            "--seed" => seed = value()?.parse().map_err(number)?,
            "--offload" => offload = true,
            word => conditions.set(word).map_err(|bad| bad.to_string())?,
        }
    }
    if !(1..=200).contains(&links) {
        return Err("a lab has 1 to 200 links".to_owned());
    }
    let link = LinkConfig { offload, ..LinkConfig::both(conditions) };
    let builder = (0..links).fold(Lab::builder().seed(seed), |lab, _| lab.link(link));
    builder.start().map_err(control::reason)
}

/// Becomes a program in a host of the running lab; returns why it cannot.
fn exec(socket: &Path, side: &str, program: &str, args: &[&str]) -> String {
    let namespace = match ask(socket, &["host".to_owned(), side.to_owned()]) {
        Ok(path) => path,
        Err(why) => return why,
    };
    if let Some(why) = namespace.strip_prefix("error: ") {
        return why.trim_end().to_owned();
    }
    let entered = fs::File::open(namespace.trim_end());
    match entered.and_then(|namespace| sys::enter_namespace(&namespace.into())) {
        Ok(()) => format!("{program}: {}", Command::new(program).args(args).exec()),
        Err(why) => format!("cannot enter the host: {why}"),
    }
}

/// Tells the running lab something.
fn ask(socket: &Path, words: &[String]) -> Result<String, String> {
    let none = |why| format!("no lab answers at {} ({why}); netlab start", socket.display());
    control::ask(socket, words).map_err(none)
}
