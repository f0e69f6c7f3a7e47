//! What the files come to, for a host.

use proptest::prelude::*;

use super::*;

fn canonical(config: &str, host: &str, known: &[&str]) -> Result<Settings, ConfigError> {
    let line = CommandLine::to_host(host);
    let environment = Environment::of_process().expect("this process has a user");
    let draft = Draft::new(&line, &environment, Some(config));
    draft.run(|name| known.contains(&name).then(Found::default))
}

const DOMAINS: &str = "CanonicalizeHostname yes\nCanonicalDomains One.ex two.ex\n";

#[test]
fn short_names_are_completed_and_the_files_read_again() {
    let config = format!("{DOMAINS}Host *.two.ex\n Port 7\nMatch canonical\n User bob\n");
    let settings = canonical(&config, "web", &["web.two.ex"]).expect("a known name");
    assert_eq!(settings.host_name, "web.two.ex");
    assert_eq!((settings.port, settings.user.as_str()), (7, "bob"));
    assert_eq!(settings.original_host, "web");
}

#[test]
fn complete_names_and_addresses_are_left_alone() {
    let known = ["a.b.one.ex", "10.0.0.1.one.ex"];
    for (host, want) in [("a.b.", "a.b"), ("a.b.c", "a.b.c"), ("10.0.0.1", "10.0.0.1")] {
        let settings = canonical(DOMAINS, host, &known).expect("a name");
        assert_eq!(settings.host_name, want);
    }
}

#[test]
fn an_unknown_name_is_looked_up_as_it_is_unless_that_is_forbidden() {
    let settings = canonical(DOMAINS, "web", &[]).expect("the fallback");
    assert_eq!(settings.host_name, "web");
    let strict = format!("{DOMAINS}CanonicalizeFallbackLocal no\n");
    assert!(matches!(canonical(&strict, "web", &[]), Err(ConfigError::Canonicalization { .. })));
}

#[test]
fn an_alias_is_followed_where_a_rule_permits_it() {
    let rules = "CanonicalizePermittedCNAMEs *.one.ex:*.real.ex,other.ex\n";
    let follow = |config: &str, host: &str, target: &str| {
        let line = CommandLine::to_host(host);
        let environment = Environment::of_process().expect("this process has a user");
        let draft = Draft::new(&line, &environment, Some(config));
        let found = Found { canonical_name: Some(target.to_owned()) };
        let looked_up = |name: &str| name.ends_with(".ex").then(|| found.clone());
        draft.run(looked_up).expect("a name").host_name
    };
    let wanted = format!("{DOMAINS}{rules}Host *.real.ex\n Port 7\n");
    assert_eq!(follow(&wanted, "web", "Box.real.ex."), "box.real.ex");
    assert_eq!(follow(&wanted, "web", "box.elsewhere.ex"), "web.one.ex");
    // A name with enough dots is not completed, but followed.
    assert_eq!(follow(&wanted, "a.b.one.ex", "other.ex"), "other.ex");
    assert_eq!(follow(rules, "web.one.ex", "box.real.ex"), "web.one.ex", "it was not asked for");
}

#[test]
fn what_would_lead_elsewhere_is_refused_and_what_is_only_missed_is_said() {
    for config in ["UdpSessionAttach yes\n", "RefuseConnection no\n"] {
        assert!(parse_file(config.as_bytes()).is_err(), "{config}");
    }
    for config in ["ForwardAgent no\n", "ClearAllForwardings yes\nLocalForward 1 h:2\n"] {
        let settings = parse_file(config.as_bytes()).expect(config);
        assert_eq!(settings.warnings, [""; 0], "{config}");
    }
    for (config, word) in
        [("Tunnel yes\n", "tunnel"), ("#!! EncPassword 73656372657\n", "encpassword")]
    {
        let warnings = parse_file(config.as_bytes()).expect(config).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(word), "{warnings:?}");
        assert!(!warnings[0].contains("7365"), "a secret is shown: {warnings:?}");
    }
}

#[test]
fn the_agent_is_named_in_all_of_its_ways() {
    for (value, want) in [
        ("none", IdentityAgent::None),
        ("SSH_AUTH_SOCK", IdentityAgent::Environment),
        ("$HOME", IdentityAgent::Path("/home/user".into())),
        ("$NO_SUCH", IdentityAgent::None),
        ("${HOME}/a", IdentityAgent::Path("/home/user/a".into())),
        ("~/%h", IdentityAgent::Path("/home/user/host".into())),
    ] {
        let config = format!("IdentityAgent {value}\n");
        let settings = parse_file(config.as_bytes()).expect("a sound line");
        assert_eq!(settings.identity_agent, want);
    }
}

#[test]
fn identity_files_are_expanded() {
    let config = "IdentityFile ~/.ssh/%r@%h_%p\nIdentityFile ${HOME}/%%\n";
    let settings = parse_file(config.as_bytes()).expect("a sound file");
    let paths: Vec<_> = settings.identity_files.iter().map(|f| f.path.as_path()).collect();
    assert_eq!(paths, [Path::new("/home/user/.ssh/user@host_22"), Path::new("/home/user/%")]);
}

proptest! {
    /// Whatever a file holds, reading it ends with settings or an error.
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _read = parse_file(&bytes);
    }

    /// The same for text that looks like configuration.
    #[test]
    fn no_lines_make_it_panic(
        lines in proptest::collection::vec(
            (0..keywords::all().len() + 3, "[ =\t\"'#%$!{}~,*?a-z0-9\\\\:/@-]{0,24}"),
            0..12,
        )
    ) {
        let text: String = lines
            .iter()
            .map(|(row, value)| {
                let blocks = ["host", "match host", "match exec"];
                let known = keywords::all().get(*row).map(|keyword| keyword.name);
                let name = known.unwrap_or(blocks[row % blocks.len()]);
                format!("{name} {value}\n")
            })
            .collect();
        let _read = parse_file(text.as_bytes());
    }
}
