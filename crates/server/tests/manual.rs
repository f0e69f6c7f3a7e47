//! The manual page names every option of the help text, and no other.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::collections::BTreeSet;

use tsshd::cli::USAGE;

const PAGE: &str = include_str!("../../../docs/man/tsshd.1");

/// The words that look like long options.
fn options(text: &str) -> BTreeSet<&str> {
    let is_of_word = |c: char| c.is_ascii_lowercase() || c == '-';
    text.split(|c| !is_of_word(c)).filter(|word| word.starts_with("--")).collect()
}

#[test]
fn the_manual_and_the_help_have_the_same_options() {
    let page = PAGE.replace("\\-", "-");
    assert_eq!(options(&page), options(USAGE).union(&["--udp"].into()).copied().collect());
}

#[test]
fn the_manual_says_what_each_exit_status_means() {
    use tsshd::Exit;

    for exit in [
        Exit::Normal,
        Exit::CannotDaemonise,
        Exit::CannotRelay,
        Exit::InitFailed,
        Exit::NoClient,
        Exit::NoHeartbeat,
        Exit::Signal,
    ] {
        assert!(PAGE.contains(&format!("\n.B {}\n", exit as u8)), "{exit:?}");
    }
}
