//! Lines, words, patterns and times as OpenSSH's configuration files spell them.
//!
//! Pure text functions, equal to `strdelim`, `argv_split`, `match_pattern_list` and `convtime` of
//! OpenSSH 9.2 (`misc.c`, `match.c`); no keyword is known here. Nothing panics on any input.

use std::time::Duration;

use zeroize::Zeroizing;

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The keyword, in lower case.
    pub(super) keyword: String,
    /// What follows the keyword and its separator, without white space at either end.
    pub(super) rest: Zeroizing<String>,
    /// Whether the line began with `#!!`, so that ssh takes it for a comment.
    pub(super) hidden: bool,
}

/// Takes a line apart; `None` for blank lines and comments.
pub(super) fn line(text: &str) -> Option<Line> {
    // A NUL ends the line, as it does for a C program.
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.trim_end_matches(|c| is_space(c) || c == '\x0c');
    let (text, hidden) = match text.trim_start_matches(is_space).strip_prefix("#!!") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let mut rest = Some(text);
    let mut keyword = delimited(&mut rest)?;
    if keyword.is_empty() {
        keyword = delimited(&mut rest)?;
    }
    if keyword.is_empty() || keyword.starts_with('#') {
        return None;
    }
    Some(Line {
        keyword: keyword.to_ascii_lowercase(),
        rest: Zeroizing::new(rest.unwrap_or_default().trim_start_matches(is_space).to_owned()),
        hidden,
    })
}

/// Takes the next word of `rest`: up to white space, one `=`, or a closing quote.
///
/// An empty word means that `rest` began with a separator, which is now skipped.
/// `None` at the end, and for a quote that is not closed.
pub(super) fn delimited(rest: &mut Option<&str>) -> Option<String> {
    let text = (*rest)?;
    let Some(at) = text.find(|c| is_space(c) || c == '"' || c == '=') else {
        *rest = None;
        return Some(text.to_owned());
    };
    let (word, tail) = text.split_at(at);
    if let Some(quoted) = tail.strip_prefix('"') {
        let Some((quoted, after)) = quoted.split_once('"') else {
            *rest = None;
            return None;
        };
        *rest = Some(after.trim_start_matches(is_space));
        return Some(format!("{word}{quoted}"));
    }
    let spaced = !tail.starts_with('=');
    let mut after = tail.get(1..).unwrap_or_default().trim_start_matches(is_space);
    if spaced && let Some(skipped) = after.strip_prefix('=') {
        after = skipped.trim_start_matches(is_space);
    }
    *rest = Some(after);
    Some(word.to_owned())
}

/// A quote that is opened and not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidQuotes;

/// Splits the rest of a line into arguments; a `#` at the start of a word begins a comment.
///
/// Both quotes join and protect; a backslash escapes quotes, itself and, outside quotes, a space.
pub(super) fn arguments(text: &str) -> Result<Vec<String>, InvalidQuotes> {
    let mut arguments = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|&c| c == ' ' || c == '\t').is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(arguments),
            Some(_) => arguments.push(argument(&mut chars)?),
        }
    }
}

fn argument(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, InvalidQuotes> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                let escaped = chars.next_if(|&next| {
                    matches!(next, '\'' | '"' | '\\') || (quote.is_none() && next == ' ')
                });
                word.push(escaped.unwrap_or('\\'));
            }
            (' ' | '\t', None) => return Ok(word),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => word.push(c),
        }
    }
    match quote {
        None => Ok(word),
        Some(_) => Err(InvalidQuotes),
    }
}

/// Returns whether `text` matches a pattern of `*`, `?` and literal characters, case included.
pub(super) fn matches(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern: Vec<char> = pattern.chars().collect();
    let (mut t, mut p) = (0, 0);
    // Where to go on after a mismatch: past the last star, one character further.
    let mut retry = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((t, p));
                p += 1;
            }
            Some(&want) if want == '?' || want == c => {
                t += 1;
                p += 1;
            }
            _ => {
                let Some((at, star)) = retry else {
                    return false;
                };
                retry = Some((at + 1, star));
                t = at + 1;
                p = star + 1;
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&c| c == '*')
}

/// Returns whether `text` matches a comma-separated list of patterns and none of its `!` negations.
pub(super) fn matches_list(text: &str, list: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(text, pattern) => return false,
            Some(_) => {}
            None => found |= matches(text, pattern),
        }
    }
    found
}

/// [`matches_list`] for host names, which have no case.
pub(super) fn matches_host(host: &str, list: &str) -> bool {
    matches_list(&host.to_ascii_lowercase(), &list.to_ascii_lowercase())
}

/// Reads a time: seconds, or numbers with the units `s m h d w` (`1h30m`); `None` if malformed.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let mut tail = tail.chars();
        let unit = match tail.next().map(|c| c.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 60 * 60,
            Some('d') => 24 * 60 * 60,
            Some('w') => 7 * 24 * 60 * 60,
            Some(_) => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = tail.as_str();
    }
    // OpenSSH counts in a C int.
    (total <= i32::MAX as u64).then(|| Duration::from_secs(total))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_keyword_and_rest_however_they_are_separated() {
        for text in [
            "Port 7",
            "port=7",
            "  PORT = 7  ",
            "\tPort\t7\r\n",
            "\"Port\" 7",
            "=Port=7",
            "Po\"rt\" 7",
        ] {
            let line = line(text).unwrap_or_else(|| panic!("{text:?} says something"));
            assert_eq!((line.keyword.as_str(), line.rest.as_str()), ("port", "7"), "{text:?}");
            assert!(!line.hidden);
        }
    }

    #[test]
    fn comments_say_nothing_unless_they_are_meant_for_us() {
        for text in ["", "   ", "# Port 7", "#Port 7", "#!Port 7", "#!!", "#!! # Port 7"] {
            assert_eq!(line(text), None, "{text:?}");
        }
        for text in ["#!! UdpMode yes", "  #!!UdpMode=yes"] {
            let line = line(text).expect("a hidden line");
            assert_eq!((line.keyword.as_str(), line.rest.as_str()), ("udpmode", "yes"));
            assert!(line.hidden);
        }
    }

    #[test]
    fn arguments_are_split_as_ssh_splits_them() {
        for (text, want) in [
            ("a b\tc", vec!["a", "b", "c"]),
            ("a # b", vec!["a"]),
            ("a#b", vec!["a#b"]),
            ("\"a b\" 'c d'", vec!["a b", "c d"]),
            ("x\"a b\"y", vec!["xa by"]),
            ("a\\ b", vec!["a b"]),
            ("\"a\\ b\"", vec!["a\\ b"]),
            ("a\\\"b \\\\ \\n", vec!["a\"b", "\\", "\\n"]),
            ("\"\" x", vec!["", "x"]),
            ("", vec![]),
        ] {
            assert_eq!(arguments(text).expect(text), want, "{text:?}");
        }
        assert_eq!(arguments("\"a"), Err(InvalidQuotes));
        assert_eq!(arguments("a'"), Err(InvalidQuotes));
    }

    #[test]
    fn patterns_match_as_in_ssh() {
        for (text, pattern, want) in [
            ("abc", "*", true),
            ("abc", "a*c", true),
            ("abc", "a?c", true),
            ("abc", "a?", false),
            ("", "*", true),
            ("", "?", false),
            ("aXbXc", "*X?", true),
            ("abc", "ABC", false),
            ("a.b.c", "*.b.*", true),
        ] {
            assert_eq!(matches(text, pattern), want, "{text} against {pattern}");
        }
        assert!(matches_list("a.ex", "*.ex,!bad.ex"));
        assert!(!matches_list("bad.ex", "*.ex,!bad.ex"));
        assert!(!matches_list("a", "!b"));
        assert!(matches_host("HOST.Ex", "host.*"));
    }

    #[test]
    fn a_long_row_of_stars_is_matched_in_reasonable_time() {
        let pattern = "*a".repeat(60);
        assert!(!matches(&"a".repeat(59), &pattern));
        assert!(!matches(&format!("{}b", "a".repeat(2000)), &pattern));
    }

    #[test]
    fn times_have_units_and_bounds() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("1m30s", 90), ("1h30", 3630), ("1W2D", 777_600)]
        {
            assert_eq!(time(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1 m", "99999999999", "99999999999999999999", "1m m"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
