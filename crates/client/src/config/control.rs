//! Connection sharing: ControlMaster, ControlPath, ControlPersist.

use super::error::ConfigError;
use super::lex;
use super::options::{Options, is_yes};
use super::paths::Paths;
use super::settings::{ControlMaster, ControlPersist, ControlSettings};

/// Resolves them.
pub(super) fn settings(
    options: &Options,
    paths: &Paths<'_>,
) -> Result<ControlSettings, ConfigError> {
    let path = options.word("controlpath").filter(|path| !path.eq_ignore_ascii_case("none"));
    let path = path.map(|path| paths.expand("ControlPath", path)).transpose()?;
    let master = options.word("controlmaster").unwrap_or("no").to_ascii_lowercase();
    let master = match master.as_str() {
        "auto" => ControlMaster::Auto,
        "autoask" => ControlMaster::AutoAsk,
        "ask" => ControlMaster::Ask,
        word if is_yes(word) => ControlMaster::Yes,
        _ => ControlMaster::No,
    };
    let persist = options.word("controlpersist").and_then(persist);
    Ok(ControlSettings { path: path.map(Into::into), master, persist: persist.unwrap_or_default() })
}

/// Reads ControlPersist; `None` is nonsense.
pub(super) fn persist(word: &str) -> Option<ControlPersist> {
    match word.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(ControlPersist::Forever),
        "no" | "false" => Some(ControlPersist::No),
        word => lex::time(word).map(|time| match time.is_zero() {
            true => ControlPersist::Forever,
            false => ControlPersist::For(time),
        }),
    }
}
