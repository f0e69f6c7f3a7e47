//! Generated configurations, by the thousand in `cargo xtask soak`.

use crate::place::{Place, skipped};

/// A small generator of pseudo-random numbers (xorshift64*), so that a seed names a configuration.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).expect("31 bits") % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const HOSTS: &[&str] = &["a", "b.ex", "bad.ex", "Web1", "web2", "10.0.0.7"];
const PATTERNS: &[&str] =
    &["*", "a", "?", "*.ex", "!bad.ex", "web?", "Web*", "!a", "b*", "10.*", "*1", "\"a\""];
const LISTS: &[&str] = &["a", "*.ex,!bad.ex", "*", "web*,a", "!a,*", "10.0.0.?"];
const SETTINGS: &[(&str, &[&str])] = &[
    ("Port", &["7", "2222", "65535", "\"8\""]),
    ("User", &["bob", "eve", "\"a b\"", "x#y"]),
    ("HostName", &["b.ex", "%h.net", "WEB1", "x%%y", "10.0.0.9", "::1"]),
    ("IdentityFile", &["~/.ssh/one", "/k/2", "\"/k/a b\"", "none", "/k/1"]),
    ("UserKnownHostsFile", &["~/kh /tmp/k2", "none", "/k/%n_%h", "/k/${FRUIT}_%p"]),
    ("GlobalKnownHostsFile", &["/g1 /g2", "none"]),
    ("ConnectTimeout", &["5", "1m30s", "none", "0"]),
    ("ConnectionAttempts", &["1", "3"]),
    ("ServerAliveInterval", &["0", "15", "2m"]),
    ("ServerAliveCountMax", &["1", "9"]),
    ("RequestTTY", &["yes", "no", "force", "auto"]),
    ("SendEnv", &["LANG", "LC_*", "-LC_*", "FRUIT LANG", "-F*"]),
    ("SetEnv", &["A=1", "B=\"2 3\" C=4", "A=2"]),
    ("StrictHostKeyChecking", &["yes", "no", "ask", "accept-new", "off", "false"]),
    ("EscapeChar", &["none", "^B", "%"]),
    ("LogLevel", &["quiet", "INFO", "Verbose", "debug", "DEBUG2"]),
    ("AddressFamily", &["any", "inet", "INET6"]),
    ("BatchMode", &["yes", "no"]),
    ("Compression", &["yes", "no"]),
    ("HashKnownHosts", &["yes", "no"]),
    ("HostKeyAlias", &["alias", "other.ex"]),
    ("IdentitiesOnly", &["yes", "no"]),
    ("NumberOfPasswordPrompts", &["1", "5"]),
    ("PasswordAuthentication", &["yes", "no"]),
    ("KbdInteractiveAuthentication", &["yes", "no"]),
    ("ChallengeResponseAuthentication", &["yes", "no"]),
    ("PubkeyAuthentication", &["yes", "no"]),
    ("RemoteCommand", &["echo \"a b\" # c", "none", "ls -l"]),
    ("SessionType", &["default", "none"]),
    ("StdinNull", &["yes", "no"]),
    ("ForkAfterAuthentication", &["yes", "no"]),
    ("SyslogFacility", &["LOCAL3", "auth"]),
    ("TCPKeepAlive", &["yes", "no"]),
    ("CanonicalizeHostname", &["no", "yes"]),
    ("CanonicalizeMaxDots", &["0"]),
    ("CanonicalDomains", &["no-such.invalid", "none"]),
    ("CanonicalizePermittedCNAMEs", &["*.a.ex:*.b.ex,c.ex none", "none", "a"]),
    ("VerifyHostKeyDNS", &["yes", "no", "ask"]),
    ("FingerprintHash", &["md5", "SHA256"]),
    ("IPQoS", &["ef", "af11 cs1", "none", "0x10 8"]),
    ("PreferredAuthentications", &["password", "publickey,password"]),
    ("LocalCommand", &["echo x", "true"]),
    ("PermitLocalCommand", &["yes", "no"]),
    ("IdentityAgent", &["none", "/run/agent", "SSH_AUTH_SOCK"]),
    ("XAuthLocation", &["/opt/xauth"]),
    ("ForwardX11", &["yes", "no"]),
    ("ForwardX11Timeout", &["0", "1h"]),
    ("ControlMaster", &["auto", "no", "ask", "autoask", "yes"]),
    ("ControlPersist", &["yes", "no", "10m", "0"]),
    ("EnableEscapeCommandline", &["yes", "no"]),
    ("IgnoreUnknown", &["Foo*,udp*", "Bar"]),
    ("FooBar", &["baz"]),
    ("#!!", &["UdpMode yes", "UdpMTU 1300"]),
    ("# Port", &["1"]),
    ("BindAddress", &["127.0.0.1", "10.0.0.1"]),
    ("BindInterface", &["lo", "eth0"]),
    ("AddKeysToAgent", &["yes", "no", "ask", "confirm", "5m", "confirm 1h"]),
    ("RekeyLimit", &["1G", "512M 1h", "default none", "64k 60", "default 2h"]),
    ("RequiredRSASize", &["2048", "1024"]),
    ("CheckHostIP", &["yes", "no"]),
    ("NoHostAuthenticationForLocalhost", &["yes", "no"]),
    ("UpdateHostKeys", &["yes", "no", "ask"]),
    ("VisualHostKey", &["yes", "no"]),
    ("CertificateFile", &["~/.ssh/c-%h", "/c/2"]),
    ("RevokedHostKeys", &["~/.ssh/revoked", "none"]),
    ("KnownHostsCommand", &["/bin/echo %H %h", "none"]),
    ("ControlPath", &["~/.ssh/%C", "none"]),
    ("ForwardAgent", &["yes", "no"]),
    ("LocalForward", &["8080 db:80", "*:81 [::2]:80", "/a/%h /b", "82 /c/d", "1", "x h:1"]),
    ("DynamicForward", &["1080", "[::1]:1081", "0", "/a/b"]),
    ("RemoteForward", &["0 h:1", "9000", "/s h:22", "*:0", "7 h:0"]),
    ("GatewayPorts", &["yes", "no"]),
    ("ExitOnForwardFailure", &["yes", "no"]),
    ("ClearAllForwardings", &["yes", "no"]),
    ("PermitRemoteOpen", &["any", "none", "h:22 [::1]:*", "h"]),
    ("StreamLocalBindMask", &["0111", "022", "9"]),
    ("StreamLocalBindUnlink", &["yes", "no"]),
    ("Ciphers", &["aes128-ctr", "^aes256-ctr"]),
    ("Port", &["0", "ninety", "1 2"]),
];

/// Writes some lines of configuration.
fn generate(dice: &mut Dice, lines: usize, depth: usize, place: &Place) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        let line = match dice.below(10) {
            0 | 1 => {
                let patterns: Vec<_> = (0..=dice.below(3)).map(|_| dice.pick(PATTERNS)).collect();
                format!("Host {}", patterns.join(" "))
            }
            2 => format!("Match {}", criteria(dice)),
            3 if depth < 3 => {
                let name = format!("part{depth}{}", dice.below(3));
                let count = 1 + dice.below(6);
                let part = generate(dice, count, depth + 1, place);
                place.write(&name, &part);
                let star = dice.pick(&["", "*"]);
                format!("Include @/{name}{star}")
            }
            _ => {
                // The last rows hold mistakes; they are rare, so that most files are sound.
                let rows = SETTINGS.len() - usize::from(dice.below(12) > 0);
                let (keyword, values) = SETTINGS[dice.below(rows)];
                let separator = dice.pick(&[" ", "\t", "=", " = ", "  "]);
                let indent = dice.pick(&["", "  ", "\t"]);
                let end = dice.pick(&["", "", " ", "\r"]);
                format!("{indent}{keyword}{separator}{}{end}", dice.pick(values))
            }
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn criteria(dice: &mut Dice) -> String {
    let mut words = Vec::new();
    for _ in 0..=dice.below(2) {
        let name = dice.pick(&[
            "host",
            "originalhost",
            "user",
            "localuser",
            "exec",
            "final",
            "canonical",
            "all",
        ]);
        let not = dice.pick(&["", "", "!"]);
        words.push(match name {
            "final" | "canonical" | "all" => format!("{not}{name}"),
            "user" | "localuser" => {
                format!("{not}{name} {}", dice.pick(&["bob,eve", "root", "!bob,*"]))
            }
            "exec" => format!(
                "{not}{name} {}",
                dice.pick(&["true", "\"exit 1\"", "\"test %h = b.ex\"", "\"test %n = a\""])
            ),
            _ => format!("{not}{name} {}", dice.pick(LISTS)),
        });
    }
    words.join(" ")
}

/// What ssh takes from blocks that do not apply as well (docs/configuration.md, departures).
const TAKEN_ANYWHERE: &[&str] = &["syslogfacility:", "streamlocalbindmask:"];

#[test]
fn generated_configurations_resolve_as_ssh_resolves_them() {
    let count = std::env::var("TSSH_CONFIG_CASES").ok();
    let count: u64 = count.and_then(|count| count.parse().ok()).unwrap_or(400);
    let mut differences = Vec::new();
    let mut sound = 0;
    for seed in 1..=count {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let place = Place::new();
        let lines = 3 + dice.below(25);
        let config = generate(&mut dice, lines, 0, &place);
        place.write("config", &config);
        let host = dice.pick(HOSTS);
        let flags = [
            &[][..],
            &["-p99"],
            &["-l", "eve"],
            &["-oUser=bob", "-t"],
            &["-vq"],
            &["-oStrictHostKeyChecking=no", "-6"],
        ];
        let mut arguments = flags[dice.below(flags.len())].to_vec();
        arguments.push(host);
        sound += u64::from(place.ours(&arguments).values.is_some());
        let Some(mut found) = place.compare(&arguments) else {
            return skipped();
        };
        found.retain(|difference| {
            !TAKEN_ANYWHERE.iter().any(|keyword| difference.starts_with(keyword))
        });
        if !found.is_empty() {
            let found = found.join("\n");
            differences.push(format!("seed {seed}, {arguments:?}: {found}\n{config}"));
        }
    }
    assert!(sound * 2 > count, "only {sound} of {count} configurations were accepted");
    assert!(
        differences.is_empty(),
        "{} of {count} differ\n{}",
        differences.len(),
        differences.iter().take(5).cloned().collect::<Vec<_>>().join("\n")
    );
}
