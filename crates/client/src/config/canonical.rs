//! CanonicalizeHostname: completing short names with a list of domains.
//!
//! Not here: CNAMEs (CanonicalizePermittedCNAMEs), for which the system's resolver gives us no
//! names. The look-up is injected, so that tests need no name server.

use super::error::ConfigError;
use super::jump::{self, Proxy};
use super::options::{Options, is_yes};

/// Returns the host name to use: completed, or as it was.
///
/// `exists` looks a name up.
///
/// # Errors
/// [`ConfigError::Canonicalization`] if no domain has the name and CanonicalizeFallbackLocal is no.
pub(super) fn host_name(
    options: &Options,
    host: &str,
    exists: impl Fn(&str) -> bool,
) -> Result<String, ConfigError> {
    // A name that a proxy will look up is the proxy's affair, as in OpenSSH.
    let always = options
        .word("canonicalizehostname")
        .is_some_and(|word| word.eq_ignore_ascii_case("always"));
    let direct = always || jump::proxy(options) == Proxy::Direct;
    if !asked_for(options) || !direct {
        return Ok(host.to_owned());
    }
    // A name with a dot at its end is complete.
    if let Some(complete) = host.strip_suffix('.')
        && !complete.is_empty()
    {
        return Ok(complete.to_owned());
    }
    let dots = host.matches('.').count();
    let most = options.word("canonicalizemaxdots");
    if dots > most.and_then(|dots| dots.parse().ok()).unwrap_or(1) {
        return Ok(host.to_owned());
    }
    for domain in options.words("canonicaldomains") {
        if domain.eq_ignore_ascii_case("none") {
            break;
        }
        let candidate = format!("{host}.{}", domain.to_ascii_lowercase());
        if exists(&candidate) {
            return Ok(candidate);
        }
    }
    match options.flag("canonicalizefallbacklocal") {
        Some(false) => Err(ConfigError::Canonicalization { host: host.to_owned() }),
        _ => Ok(host.to_owned()),
    }
}

/// Returns whether host names are to be completed.
pub(super) fn asked_for(options: &Options) -> bool {
    options
        .word("canonicalizehostname")
        .is_some_and(|word| is_yes(word) || word.eq_ignore_ascii_case("always"))
}
