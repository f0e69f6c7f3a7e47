//! The configuration of one destination: flags, `-o` options, `~/.ssh/config` and our `#!!` lines.
//!
//! The only place that reads configuration files or, for configuration, the environment.
//! Three steps, three types: [`CommandLine`](crate::cli::CommandLine) and files give raw
//! `Options` (words with file and line); [`resolve`] turns these into [`Settings`]; each layer
//! takes from them what it needs.
//!
//! The rules are OpenSSH's: the first value of a keyword wins, flags come before the user's file
//! and that before the system's, and `ssh -G` is the oracle of the tests. What is not honoured is
//! listed in `docs/configuration.md`, and never dropped without a word where that could hurt.
//! A line `#!! Keyword value` is a comment for ssh and a line like any other for us.

pub mod answers;
pub mod canonical;
pub mod channel_timeouts;
mod control;
mod criteria;
mod dump;
mod environment;
mod error;
mod expand;
mod files;
pub mod forward;
mod host_keys;
mod jump;
mod keywords;
mod lex;
pub mod marks;
mod networks;
mod options;
mod paths;
mod resolve;
pub mod settings;
mod udp;

pub use environment::Environment;
pub use error::{BadLine, ConfigError};
pub(crate) use expand::percent;
pub use jump::{Jump, Proxy, hops};
pub(crate) use keywords::is_ours;
pub use resolve::{check_flags, parse_file, resolve};
pub use settings::*;
