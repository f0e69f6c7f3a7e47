//! CanonicalizeHostname and its companions: completing short names with a list of domains, and
//! following aliases.
//!
//! The look-up is injected, so that tests need no name server.

use super::error::ConfigError;
use super::jump::{self, Proxy};
use super::lex;
use super::options::{Options, is_yes};

/// What a look-up found: the name that the one asked for is an alias of, if the resolver says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// As getaddrinfo(3) calls it, the canonical name.
    pub(super) canonical_name: Option<String>,
}

/// The keywords about canonical names, as `-G` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonicalization {
    /// CanonicalizeHostname.
    pub mode: Mode,
    /// CanonicalDomains; empty is `none`.
    pub domains: Vec<String>,
    /// CanonicalizeFallbackLocal.
    pub fallback_local: bool,
    /// CanonicalizeMaxDots.
    pub max_dots: usize,
    /// CanonicalizePermittedCNAMEs: patterns of aliases, and of what they may lead to.
    pub permitted_aliases: Vec<(String, String)>,
}

/// CanonicalizeHostname.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Names stay as they are.
    No,
    /// Short names are completed, unless a proxy looks them up.
    Yes,
    /// Even then.
    Always,
}

impl Canonicalization {
    /// Reads the keywords.
    pub(super) fn new(options: &Options) -> Self {
        let mode = match options.word("canonicalizehostname") {
            Some(word) if word.eq_ignore_ascii_case("always") => Mode::Always,
            Some(word) if is_yes(word) => Mode::Yes,
            _ => Mode::No,
        };
        let is_set = |word: &&String| !word.eq_ignore_ascii_case("none");
        let domains = options.words("canonicaldomains").iter().take_while(is_set);
        let aliases = options.words("canonicalizepermittedcnames").iter().filter(is_set);
        Self {
            mode,
            domains: domains.cloned().collect(),
            fallback_local: options.flag("canonicalizefallbacklocal").unwrap_or(true),
            max_dots: options
                .word("canonicalizemaxdots")
                .and_then(|dots| dots.parse().ok())
                .unwrap_or(1),
            permitted_aliases: aliases.filter_map(|word| permitted_alias(word)).collect(),
        }
    }

    /// Returns what counts in the end: how names are completed is settled before the files are
    /// read a second time, as in OpenSSH.
    pub(super) fn settled(self, options: &Options) -> Self {
        let Self { domains, permitted_aliases, .. } = Self::new(options);
        Self { domains, permitted_aliases, ..self }
    }

    /// Returns whether host names are to be completed.
    pub(super) fn is_wanted(&self) -> bool {
        self.mode != Mode::No
    }

    /// Returns the host name to use: completed, followed, or as it was.
    ///
    /// `direct` says that no proxy looks the name up.
    ///
    /// # Errors
    /// [`ConfigError::Canonicalization`] if no domain has the name and CanonicalizeFallbackLocal
    /// is no.
    pub(super) fn host_name(
        &self,
        host: &str,
        direct: bool,
        look_up: impl Fn(&str) -> Option<Found>,
    ) -> Result<String, ConfigError> {
        // A name that a proxy will look up is the proxy's affair, as in OpenSSH.
        let ours = direct || self.mode == Mode::Always;
        if self.is_wanted()
            && ours
            && let Some((name, found)) = self.complete(host, &look_up)?
        {
            return Ok(self.follow(name, &found));
        }
        if !self.is_wanted() || self.permitted_aliases.is_empty() || !ours {
            return Ok(host.to_owned());
        }
        // A name that does not resolve is reported when it is connected to.
        Ok(match look_up(host) {
            Some(found) => self.follow(host.to_owned(), &found),
            None => host.to_owned(),
        })
    }

    /// Completes a name; `None` if it stays as it is.
    fn complete(
        &self,
        host: &str,
        look_up: impl Fn(&str) -> Option<Found>,
    ) -> Result<Option<(String, Found)>, ConfigError> {
        // A name with a dot at its end is complete.
        if let Some(complete) = host.strip_suffix('.')
            && !complete.is_empty()
        {
            let found = look_up(host).unwrap_or_default();
            return Ok(Some((complete.to_owned(), found)));
        }
        if host.matches('.').count() > self.max_dots {
            return Ok(None);
        }
        for domain in &self.domains {
            let candidate = format!("{host}.{}", domain.to_ascii_lowercase());
            if let Some(found) = look_up(&candidate) {
                return Ok(Some((candidate, found)));
            }
        }
        match self.fallback_local {
            true => Ok(None),
            false => Err(ConfigError::Canonicalization { host: host.to_owned() }),
        }
    }

    /// Follows an alias where a rule permits it.
    fn follow(&self, name: String, found: &Found) -> String {
        let Some(canonical) = found.canonical_name.as_deref() else { return name };
        let canonical = canonical.strip_suffix('.').unwrap_or(canonical).to_ascii_lowercase();
        let permits = |(from, to): &(String, String)| {
            lex::matches_host(&name, from) && lex::matches_host(&canonical, to)
        };
        if canonical.is_empty() || canonical == name || !self.permitted_aliases.iter().any(permits)
        {
            return name;
        }
        canonical
    }
}

/// Reads one rule of CanonicalizePermittedCNAMEs: `*`, or patterns of aliases and of targets.
pub(super) fn permitted_alias(word: &str) -> Option<(String, String)> {
    if word == "*" {
        return Some(("*".to_owned(), "*".to_owned()));
    }
    let word = word.to_ascii_lowercase();
    let (from, to) = word.split_once(':').filter(|(_, to)| !to.is_empty())?;
    Some((from.to_owned(), to.to_owned()))
}

/// Returns whether the name is looked up by us and not by a proxy.
pub(super) fn is_direct(options: &Options) -> bool {
    jump::proxy(options) == Proxy::Direct
}
