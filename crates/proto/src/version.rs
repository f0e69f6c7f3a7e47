//! Protocol version and its negotiation (PROTOCOL §1.8).

/// The protocol version we speak.
pub const PROTO_VERSION: u64 = 1;

/// Our program version, as sent in `ServerVer` and `ClientVer`: three numbers.
pub const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The first program version that understands protocol 0 as we know it.
const OLDEST_PROGRAM: [u32; 3] = [0, 1, 6];

/// Returns the version both ends understand.
#[must_use]
pub fn effective(theirs: u64) -> u64 {
    theirs.min(PROTO_VERSION)
}

/// Why a peer's version cannot be worked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The peer is older than anything we can talk to.
    #[error("version {0} is too old, at least 0.1.6 is needed")]
    TooOld(String),
    /// The peer's version is not three numbers.
    #[error("version {0:?} is malformed")]
    Malformed(String),
}

/// Checks a peer that announced protocol `proto` and program version `program`.
///
/// From protocol 1 on the program version is not looked at.
///
/// # Errors
/// [`VersionError`] for a protocol 0 peer older than 0.1.6 or with a malformed version.
pub fn check(proto: u64, program: &str) -> Result<(), VersionError> {
    if proto >= 1 {
        return Ok(());
    }
    let program = if program.is_empty() { "0.0.0" } else { program };
    let malformed = || VersionError::Malformed(program.chars().take(40).collect());
    let mut numbers = [0u32; 3];
    let mut parts = program.split('.');
    for number in &mut numbers {
        *number = parts.next().and_then(|p| p.parse().ok()).ok_or_else(malformed)?;
    }
    if parts.next().is_some() {
        return Err(malformed());
    }
    if numbers < OLDEST_PROGRAM {
        return Err(VersionError::TooOld(program.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_protocol_one_on_the_program_version_does_not_matter() {
        assert_eq!(check(1, "nonsense"), Ok(()));
        assert_eq!(effective(7), 1);
        assert_eq!(effective(0), 0);
    }

    #[test]
    fn protocol_zero_peers_older_than_0_1_6_are_refused() {
        assert_eq!(check(0, "0.1.6"), Ok(()));
        assert_eq!(check(0, "1.0.0"), Ok(()));
        assert_eq!(check(0, "0.1.5"), Err(VersionError::TooOld("0.1.5".into())));
        assert_eq!(check(0, ""), Err(VersionError::TooOld("0.0.0".into())));
        assert_eq!(check(0, "0.1"), Err(VersionError::Malformed("0.1".into())));
        assert_eq!(check(0, "0.1.6.1"), Err(VersionError::Malformed("0.1.6.1".into())));
    }
}
