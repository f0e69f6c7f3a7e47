//! Command lines, and what they come to.

use super::*;

fn line(words: &[&str]) -> CommandLine {
    parse(words.iter().map(Into::into)).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn refusal(words: &[&str]) -> UsageError {
    let result = parse(words.iter().map(Into::into));
    result.expect_err(&format!("{words:?} is refused"))
}

fn option(text: &str) -> Flag {
    Flag::Option(text.to_owned())
}

#[test]
fn words_after_the_host_are_options_until_the_command_begins() {
    for (words, command) in [
        (&["h"][..], &[][..]),
        (&["h", "ls", "-l", "-v"], &["ls", "-l", "-v"]),
        (&["h", "-v", "ls", "-p", "3"], &["ls", "-p", "3"]),
        (&["h", "--", "-v"], &["-v"]),
        (&["--", "h", "-v"], &["-v"]),
        (&["-v", "--", "h", "--", "x"], &["--", "x"]),
        (&["h", "-", "x"], &["-", "x"]),
        (&["h", "x", "--udp", "--"], &["x", "--udp", "--"]),
        (&["h", ""], &[""]),
    ] {
        let line = line(words);
        assert_eq!(line.host, "h", "{words:?}");
        assert_eq!(line.command, command, "{words:?}");
    }
}

#[test]
fn options_may_be_clustered_and_have_their_value_attached() {
    for words in [
        &["-tv", "-p", "22", "h"][..],
        &["-tvp22", "h"],
        &["-tvp", "22", "h"],
        &["-t", "h", "-v", "-p22"],
    ] {
        let flags = line(words).flags;
        assert_eq!(flags, [Flag::Terminal, Flag::Verbose, option("Port 22")], "{words:?}");
    }
    assert_eq!(line(&["-o", "-v", "h"]).flags, [option("-v")]);
    assert_eq!(line(&["-oPort=1", "h"]).flags, [option("Port=1")]);
    assert_eq!(line(&["-l", "--", "h"]).flags, [option("User \"--\"")]);
    assert_eq!(line(&["-tl", "h", "g"]).flags, [Flag::Terminal, option("User \"h\"")]);
    assert_eq!(line(&["-vvv", "h"]).flags, [Flag::Verbose, Flag::Verbose, Flag::Verbose]);
}

#[test]
fn values_reach_the_reader_of_lines_unchanged() {
    for user in ["bob", "a b", "x\\y", "#1", "=z"] {
        let flags = line(&["-l", user, "h"]).flags;
        let [Flag::Option(text)] = &flags[..] else {
            panic!("one option, not {flags:?}");
        };
        let settings = crate::config::resolve(
            &line(&["-F", "none", "-o", text, "h"]),
            &crate::config::Environment::of_process().expect("a user"),
        );
        assert_eq!(settings.expect("a sound option").user, user);
    }
}

#[test]
fn our_options_mix_with_those_of_ssh() {
    let line = line(&["--udp", "-v", "h", "--tsshd-path=/x y", "--debug", "ls"]);
    assert!(line.link.udp && line.debug);
    assert_eq!(line.flags, [Flag::Verbose, option("TsshdPath \"/x y\"")]);
    assert_eq!(line.command, ["ls"]);
}

#[test]
fn destinations_are_taken_apart_as_ssh_does() {
    for (word, user, host, port) in [
        ("host", None, "host", None),
        ("bob@host", Some("bob"), "host", None),
        ("a@b@host", Some("a@b"), "host", None),
        ("bob@[::1]", Some("bob"), "::1", None),
        ("[fe80::1%lo]", None, "fe80::1%lo", None),
        ("::1", None, "::1", None),
        ("ssh://host", None, "host", None),
        ("ssh://host:7/", None, "host", Some(7)),
        ("ssh://a%40b@host", Some("a@b"), "host", None),
        ("ssh://bob;x=y@host", Some("bob"), "host", None),
        ("ssh://bob@[::1]:22", Some("bob"), "::1", Some(22)),
        ("ssh://[::1]", None, "::1", None),
        ("SSH://host", None, "SSH://host", None),
    ] {
        let line = line(&[word]);
        assert_eq!(line.host, host, "{word}");
        let user = user.map(|user| option(&format!("User \"{user}\"")));
        let port = port.map(|port: u16| option(&format!("Port {port}")));
        let flags: Vec<_> = user.into_iter().chain(port).collect();
        assert_eq!(line.flags, flags, "{word}");
    }
}

#[test]
fn malformed_destinations_are_refused() {
    for word in [
        "",
        "@host",
        "bob@",
        "ssh://",
        "ssh://host:0",
        "ssh://host:x",
        "ssh://host/dir",
        "ssh://%zz",
        "ssh://@h",
        "[]",
    ] {
        assert_eq!(refusal(&[word]), UsageError::Destination, "{word}");
    }
    for word in ["a b", "h;id", "$(id)", "x`id`", "bob@-oProxyCommand=id", "h\n"] {
        let text = refusal(&[word]).to_string();
        assert_eq!(text, "hostname contains invalid characters", "{word:?}");
    }
    assert_eq!(refusal(&[]), UsageError::Destination);
    assert_eq!(refusal(&["-v"]), UsageError::Destination);
}

#[test]
fn options_that_we_lack_are_refused_by_name_and_others_with_the_usage() {
    for flag in ["-I", "-K", "--attach"] {
        let text = refusal(&[flag, "1:h:2", "h"]).to_string();
        assert!(text.starts_with(&format!("{flag} is not in this version: ")), "{text}");
    }
    assert_eq!(refusal(&["-tK", "h"]), refusal(&["-K", "h"]));
    for flag in ["-j", "-h", "-Z", "--nonsense", "-ü"] {
        let text = refusal(&[flag, "h"]).to_string();
        assert!(text.starts_with("unknown option -- "), "{text}");
        assert!(text.contains("usage: tssh "), "{text}");
    }
    assert!(matches!(refusal(&["h", "-p"]), UsageError::MissingArgument(_)));
    assert!(matches!(refusal(&["--udp=yes", "h"]), UsageError::UnwantedArgument(_)));
    assert_eq!(refusal(&["-s", "h"]), UsageError::NoSubsystem);
    assert_eq!(refusal(&["-p0", "h"]).to_string(), "Bad port '0'");
}

#[test]
fn forwards_are_checked_where_they_stand() {
    let flags = line(&["-L8080:db:80", "-D", "1080", "-R0:h:1", "-g", "h"]).flags;
    let forward = |slot, spec: &str| Flag::Forward(slot, spec.to_owned());
    assert_eq!(
        flags,
        [
            forward("localforward", "8080:db:80"),
            forward("dynamicforward", "1080"),
            forward("remoteforward", "0:h:1"),
            Flag::Replace("gatewayports", "yes".to_owned()),
        ]
    );
    for (words, text) in [
        (["-L", "8080"], "Bad local forwarding specification '8080'"),
        (["-D", "x"], "Bad dynamic forwarding specification 'x'"),
        (["-R", "1:h:0"], "Bad remote forwarding specification '1:h:0'"),
        (["-W", "80"], "Bad stdio forwarding specification '80'"),
        (["-Wh:1", "-Wh:2"], "stdio forward already specified"),
    ] {
        assert_eq!(refusal(&[words[0], words[1], "h"]).to_string(), text);
    }
    assert_eq!(
        line(&["-W", "[::1]:22", "h"]).flags,
        [Flag::Stdio(Connect::Tcp { host: "::1".to_owned(), port: 22 })]
    );
}

#[test]
fn what_we_do_not_have_may_be_switched_off() {
    let off = Flag::Replace("forwardx11", "no".to_owned());
    assert_eq!(line(&["-xk2", "h"]).flags, [off]);
}

#[test]
fn one_request_may_be_made_of_whoever_shares_its_connection() {
    for (word, command) in [
        ("check", ControlCommand::Check),
        ("forward", ControlCommand::Forward),
        ("cancel", ControlCommand::Cancel),
        ("exit", ControlCommand::Exit),
        ("stop", ControlCommand::Stop),
        ("proxy", ControlCommand::Proxy),
    ] {
        assert_eq!(line(&["-O", word, "h"]).control, Some(command));
    }
    for (words, text) in [
        (&["-Ofoo", "h"][..], "Invalid multiplex command."),
        (&["-Ocheck", "-Oexit", "h"], "Multiplexing command already specified"),
        (&["-Ocheck", "-Wa:1", "h"], "Cannot specify stdio forward with -O"),
        (&["-Wa:1", "-Ocheck", "h"], "Cannot specify multiplexing command with -W"),
    ] {
        assert_eq!(refusal(words).to_string(), text);
    }
}

#[test]
fn version_and_help_need_nothing_else() {
    for (words, action) in [
        (&["-V"][..], Action::Version),
        (&["--version"], Action::Version),
        (&["h", "-vV"], Action::Version),
        (&["--help"], Action::Help),
        (&["-G", "h"], Action::PrintConfig),
    ] {
        assert_eq!(line(words).action, action, "{words:?}");
    }
}

#[test]
fn the_table_for_users_of_openssh_says_what_becomes_of_every_flag() {
    const PAGE: &str = include_str!("../../../../docs/openssh-compat.md");
    let mut told = Vec::new();
    for row in PAGE.lines().filter(|row| row.starts_with("| `-")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for flag in cells[1].split('`').filter(|flag| flag.starts_with('-')) {
            let words = [flag, "1:h:2", "h", "c"];
            let words = if flag == "-O" { ["-O", "check", "h", "c"] } else { words };
            let refused = matches!(
                parse(words.iter().map(OsString::from)),
                Err(UsageError::NotSupported { .. })
            );
            assert_eq!(refused, cells[2] == "no", "{row}");
            told.extend(flag.chars().nth(1));
        }
    }
    // The flags of ssh(1).
    let mut all: Vec<char> = "46AaBbCcDEeFfGgIiJKkLlMmNnOoPpQqRSsTtVvWwXxYy".chars().collect();
    all.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, all);
}

#[test]
fn every_flag_of_the_help_is_taken() {
    let flags = HELP.lines().filter_map(|line| line.strip_prefix("  -"));
    for flag in flags.flat_map(|line| line.split("  ").next().unwrap_or_default().split(", ")) {
        let flag = flag.trim_start_matches('-');
        let mut parts = flag.split(' ');
        let name = parts.next().unwrap_or_default();
        let dashes = if name.len() == 1 { "-" } else { "--" };
        let mut words = vec![format!("{dashes}{name}")];
        let value = match name {
            "L" => "1:h:2",
            "W" => "h:1",
            "O" => "check",
            _ => "1",
        };
        words.extend(parts.next().map(|_| value.to_owned()));
        words.extend(["h", "c"].map(str::to_owned));
        let result = parse(words.iter().map(OsString::from));
        assert!(result.is_ok(), "{words:?}: {result:?}");
    }
}
