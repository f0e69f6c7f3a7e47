//! What there is on a command line, and clap scanning it; meaning is the parent's business.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{UsageError, refuse};

/// The name of the first operand.
pub(super) const HOST: &str = "host";
/// The name of the other operands.
pub(super) const COMMAND: &str = "command";
/// Short options without a value, and those with one.
const SWITCHES: &[&str] = &[
    "2", "4", "6", "A", "C", "G", "M", "N", "T", "V", "X", "Y", "a", "f", "g", "k", "n", "q", "s",
    "t", "v", "x", "y",
];
pub(super) const VALUED: &[&str] = &[
    "B", "D", "E", "F", "J", "L", "O", "P", "Q", "R", "S", "W", "b", "c", "e", "i", "l", "m", "o",
    "p",
];
/// Our own options without a value, and those with one.
const LONG_SWITCHES: &[&str] =
    &["debug", "help", "kcp", "quic", "tcp", "udp", "version", "via-ssh"];
const LONG_VALUED: &[&str] = &["tsshd-path", "tsshd-port"];

/// What there is: options by name, the host, and the command, whose words end all options.
pub(super) fn grammar() -> Command {
    let short = |name: &&'static str| named(name).short(name.chars().next().unwrap_or_default());
    let long = |name: &&'static str| named(name).long(*name);
    let switches = SWITCHES.iter().map(short).chain(LONG_SWITCHES.iter().map(long));
    let valued = VALUED.iter().map(short).chain(LONG_VALUED.iter().map(long));
    Command::new("tssh")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(switches.map(|arg| arg.num_args(0).default_missing_value("")))
        .args(valued.map(|arg| arg.allow_hyphen_values(true)))
        .arg(Arg::new(HOST).value_parser(value_parser!(OsString)))
        .arg(
            Arg::new(COMMAND)
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString)),
        )
}

/// An option that may be repeated; each occurrence is kept with its place.
fn named(name: &'static str) -> Arg {
    Arg::new(name).action(ArgAction::Append)
}

/// One option on the line.
pub(super) struct Given<'a> {
    /// Its place, counted in clap's way from the left.
    pub(super) place: usize,
    pub(super) name: &'static str,
    pub(super) value: &'a str,
}

/// Returns the options that were given, from left to right.
pub(super) fn in_order(matches: &ArgMatches) -> Vec<Given<'_>> {
    let mut all = Vec::new();
    for name in [SWITCHES, VALUED, LONG_SWITCHES, LONG_VALUED].concat() {
        let values = matches.get_many::<String>(name).unwrap_or_default();
        let places = matches.indices_of(name).unwrap_or_default();
        all.extend(places.zip(values).map(|(place, value)| Given { place, name, value }));
    }
    all.sort_by_key(|given| given.place);
    all
}

/// Turns clap's refusal into ours.
pub(super) fn explain(error: &clap::Error) -> UsageError {
    let argument = match error.get(ContextKind::InvalidArg) {
        // The option as typed, and what clap would call its value.
        Some(ContextValue::String(text)) => text.split(' ').next().unwrap_or_default(),
        _ => "",
    };
    let name = argument.trim_start_matches('-').to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument => refuse(argument),
        ErrorKind::InvalidValue => UsageError::MissingArgument(name),
        ErrorKind::TooManyValues => UsageError::UnwantedArgument(name),
        ErrorKind::InvalidUtf8 => UsageError::BadValue("argument is not valid UTF-8".to_owned()),
        _ => UsageError::BadValue(error.to_string()),
    }
}
