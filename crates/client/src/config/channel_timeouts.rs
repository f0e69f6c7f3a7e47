//! ChannelTimeout: how long the channels of a kind may be idle.

use std::time::Duration;

use super::lex;

/// Times by kind of channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelTimeouts(Vec<(String, Duration)>);

/// The word for all channels taken together.
const GLOBAL: &str = "global";

impl ChannelTimeouts {
    /// Returns whether any channel has a limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the limit for a channel of this kind, as RFC 4254 and OpenSSH call it; the first
    /// pattern that matches counts.
    #[must_use]
    pub fn of(&self, kind: &str) -> Option<Duration> {
        let mut found = self.0.iter().filter(|(pattern, _)| pattern != GLOBAL);
        let (_, limit) = found.find(|(pattern, _)| lex::matches(kind, pattern))?;
        (!limit.is_zero()).then_some(*limit)
    }

    /// Returns the limit for all channels taken together.
    #[must_use]
    pub fn global(&self) -> Option<Duration> {
        let (_, limit) = self.0.iter().find(|(pattern, _)| pattern == GLOBAL)?;
        (!limit.is_zero()).then_some(*limit)
    }

    /// Returns the words of the configuration, times in seconds.
    pub(super) fn to_words(&self) -> Vec<String> {
        self.0.iter().map(|(kind, limit)| format!("{kind}={}", limit.as_secs())).collect()
    }
}

/// Reads `none` or `kind=time` words.
pub(crate) fn parse(words: &[String]) -> Option<ChannelTimeouts> {
    if let [only] = words
        && only.eq_ignore_ascii_case("none")
    {
        return Some(ChannelTimeouts::default());
    }
    let read = |word: &String| {
        let (kind, time) = word.split_once('=').filter(|(kind, _)| !kind.is_empty())?;
        Some((kind.to_owned(), lex::time(time)?))
    };
    let limits: Vec<_> = words.iter().map(read).collect::<Option<_>>()?;
    (!limits.is_empty()).then_some(ChannelTimeouts(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Option<ChannelTimeouts> {
        parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_pattern_that_matches_counts_and_zero_is_no_limit() {
        let limits = limits("session=0 direct-*=5m *=1h global=1d").expect("sound");
        assert_eq!(limits.of("session"), None);
        assert_eq!(limits.of("direct-tcpip"), Some(Duration::from_secs(300)));
        assert_eq!(limits.of("agent-connection"), Some(Duration::from_secs(3600)));
        assert_eq!(limits.global(), Some(Duration::from_secs(86400)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert!(limits("none").expect("sound").is_empty());
        for text in ["", "session", "=5m", "session=soon", "none session=1"] {
            assert_eq!(limits(text), None, "{text}");
        }
    }
}
