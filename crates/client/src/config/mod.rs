//! The configuration of one destination: flags, `-o` options, `~/.ssh/config` and our `#!!` lines.
//!
//! The only place that reads configuration files or, for configuration, the environment.

mod settings;

pub use settings::*;
