//! The configuration means to us what it means to OpenSSH: `ssh -G` is the oracle.
//!
//! Every case is a command line and some files; both programs resolve them, and every keyword we
//! honour must have the same value, or both must refuse. Without an `ssh` the comparison is
//! skipped with a word, and only our own expectations are checked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use tssh::cli;
use tssh::config::{Environment, resolve};

/// A directory with configuration files, and the place both programs run in.
struct Place {
    directory: tempfile::TempDir,
    environment: Environment,
}

/// What a program made of a configuration.
#[derive(Debug)]
struct Outcome {
    /// Values by keyword, in order; `None` if it refused.
    values: Option<BTreeMap<String, Vec<String>>>,
    /// What it printed to standard error, or our error's text.
    complaint: String,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut environment = Environment::of_process().expect("this process has a user");
        environment.variables = VARIABLES
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self { directory, environment }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file; `@` in the text stands for the directory.
    fn write(&self, name: &str, text: &str) {
        let text = text.replace('@', &self.directory.path().to_string_lossy());
        std::fs::write(self.path(name), text).expect("a writable directory");
    }

    /// Resolves with our own code, with `-F config` before the given arguments.
    fn ours(&self, arguments: &[&str]) -> Outcome {
        let result = cli::parse(self.arguments(arguments).into_iter())
            .map_err(|error| error.to_string())
            .and_then(|line| resolve(&line, &self.environment).map_err(|error| error.to_string()));
        match result {
            Ok(settings) => Outcome {
                values: Some(by_keyword(settings.to_lines().iter().map(String::as_str))),
                complaint: String::new(),
            },
            Err(complaint) => Outcome { values: None, complaint },
        }
    }

    /// Resolves with `ssh -G`; `None` if there is no ssh.
    fn theirs(&self, arguments: &[&str]) -> Option<Outcome> {
        let output = Command::new("ssh")
            .arg("-G")
            .args(self.arguments(arguments))
            .env_clear()
            .envs(VARIABLES.iter().copied())
            .output()
            .ok()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let values = output.status.success().then(|| by_keyword(stdout.lines()));
        Some(Outcome {
            values,
            // Its lines end as a terminal wants them.
            complaint: String::from_utf8_lossy(&output.stderr).replace('\r', "").trim().to_owned(),
        })
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<OsString> {
        let mut all = vec!["-F".into(), self.path("config").into_os_string()];
        all.extend(arguments.iter().map(OsString::from));
        all
    }

    /// Compares both programs; `None` if there is nothing to compare with, otherwise the
    /// differences.
    fn compare(&self, arguments: &[&str]) -> Option<Vec<String>> {
        let theirs = self.theirs(arguments)?;
        let ours = self.ours(arguments);
        let (Some(our_values), Some(their_values)) = (&ours.values, &theirs.values) else {
            let agree = ours.values.is_some() == theirs.values.is_some();
            let difference =
                format!("one refused: ours {:?}, theirs {:?}", ours.complaint, theirs.complaint);
            return Some(if agree { Vec::new() } else { vec![difference] });
        };
        let mut differences = Vec::new();
        for keyword in COMPARED {
            let our_value = self.normal(keyword, our_values);
            let their_value = self.normal(keyword, their_values);
            if our_value != their_value {
                differences.push(format!("{keyword}: ours {our_value:?}, theirs {their_value:?}"));
            }
        }
        Some(differences)
    }

    /// Brings values into the one form that both programs are compared in.
    fn normal(&self, keyword: &str, all: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let home = self.environment.home.to_string_lossy();
        let mut values = all.get(keyword).cloned().unwrap_or_default();
        match keyword {
            // ssh prints identity files as written; DSA and XMSS keys are gone.
            "identityfile" => {
                values.retain(|v| !v.ends_with("/id_dsa") && !v.ends_with("/id_xmss"));
                for value in &mut values {
                    if let Some(rest) = value.strip_prefix("~/") {
                        *value = format!("{home}/{rest}");
                    }
                }
                values.retain(|v| v != "none");
            }
            // ssh prints the patterns, we the variables that they match.
            "sendenv" => {
                let patterns = values.clone();
                values = VARIABLES
                    .iter()
                    .map(|(name, _)| (*name).to_owned())
                    .filter(|name| {
                        patterns.iter().any(|pattern| {
                            glob::Pattern::new(pattern).is_ok_and(|p| p.matches(name))
                        })
                    })
                    .collect();
            }
            // No limit either way.
            "connecttimeout" => {
                for value in &mut values {
                    *value = if value == "0" { "none".to_owned() } else { value.clone() };
                }
            }
            "loglevel" => {
                for value in &mut values {
                    *value = value.replace("SILENT", "QUIET");
                }
            }
            "escapechar" => {
                for value in &mut values {
                    *value = value.replace("\\^", "^");
                }
            }
            // Debian's ssh has a default of its own for batches.
            "serveraliveinterval" if all.get("batchmode").is_some_and(|v| v[0] == "yes") => {
                for value in &mut values {
                    *value = value.replace("300", "0");
                }
            }
            _ => {}
        }
        values
    }
}

fn by_keyword<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        values.entry(keyword.to_owned()).or_default().push(value.to_owned());
    }
    values
}

/// The environment of both programs.
const VARIABLES: &[(&str, &str)] = &[
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C"),
    ("LC_TIME", "C"),
    ("PATH", "/usr/bin:/bin"),
    ("FRUIT", "pear"),
    ("SHELL", "/bin/sh"),
];

/// The keywords whose values are compared.
const COMPARED: &[&str] = &[
    "host",
    "user",
    "hostname",
    "port",
    "addkeystoagent",
    "addressfamily",
    "batchmode",
    "bindaddress",
    "bindinterface",
    "checkhostip",
    "compression",
    "connectionattempts",
    "connecttimeout",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "enableescapecommandline",
    "escapechar",
    "forkafterauthentication",
    "globalknownhostsfile",
    "hashknownhosts",
    "hostkeyalias",
    "identitiesonly",
    "identityfile",
    "kbdinteractiveauthentication",
    "loglevel",
    "nohostauthenticationforlocalhost",
    "numberofpasswordprompts",
    "passwordauthentication",
    "permitlocalcommand",
    "pubkeyauthentication",
    "proxycommand",
    "proxyjump",
    "proxyusefdpass",
    "rekeylimit",
    "remotecommand",
    "requesttty",
    "requiredrsasize",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "sessiontype",
    "setenv",
    "stdinnull",
    "stricthostkeychecking",
    "tcpkeepalive",
    "updatehostkeys",
    "userknownhostsfile",
    "visualhostkey",
];

/// Says so where there is nothing to compare with.
fn skipped() {
    // A test has no other voice than standard error.
    #[expect(clippy::print_stderr, reason = "tells why the test shows less")]
    {
        eprintln!("no ssh on this machine: not compared with OpenSSH");
    }
}

/// One configuration and what it must come to.
struct Case {
    name: &'static str,
    config: &'static str,
    arguments: &'static [&'static str],
    /// `keyword value`, or `keyword` alone for one that must be absent.
    want: &'static [&'static str],
}

const fn case(
    name: &'static str,
    config: &'static str,
    arguments: &'static [&'static str],
    want: &'static [&'static str],
) -> Case {
    Case { name, config, arguments, want }
}

const CASES: &[Case] = &[
    case("the first match wins", "Host *\n Port 7\nHost a\n Port 8\n", &["a"], &["port 7"]),
    case("jump hosts", "Host a\n ProxyJump x,ssh://y:7\n", &["a"], &["proxyjump x,y:7"]),
    case(
        "a jump host with all it may have",
        "",
        &["-J", "u@[::1]:99", "a"],
        &["proxyjump u@[::1]:99"],
    ),
    case("a numeric jump host", "", &["-J", "10.0.0.1", "a"], &["proxyjump [10.0.0.1]"]),
    case("no jump host after all", "ProxyJump x\n", &["-J", "none", "a"], &["proxyjump"]),
    case("-J twice", "", &["-J", "x", "-J", "y", "a"], &["refused"]),
    case("-J after ProxyCommand", "", &["-o", "ProxyCommand=nc", "-J", "y", "a"], &["refused"]),
    case(
        "ProxyCommand after -J",
        "ProxyCommand nc\n",
        &["-J", "y", "a"],
        &["proxyjump y", "proxycommand"],
    ),
    case(
        "the first of ProxyCommand and ProxyJump",
        "ProxyCommand nc -x 1 %h %p\nProxyJump y\n",
        &["a"],
        &["proxycommand nc -x 1 %h %p", "proxyjump"],
    ),
    case(
        "ProxyCommand none",
        "ProxyCommand none\nProxyJump y\n",
        &["a"],
        &["proxyjump", "proxycommand"],
    ),
    case(
        "ProxyJump none",
        "ProxyJump none\nProxyCommand nc\n",
        &["a"],
        &["proxyjump", "proxycommand nc"],
    ),
    case("a comment behind jump hosts", "ProxyJump x # y\n", &["a"], &["proxyjump x"]),
    case("a jump to the host itself", "ProxyJump a\n", &["a"], &["refused"]),
    case("a jump to the host itself by another user", "", &["-J", "u@a", "a"], &["proxyjump u@a"]),
    case(
        "bad jump hosts in a block that does not apply",
        "Host b\n ProxyJump x,\n",
        &["a"],
        &["refused"],
    ),
    case("a bad jump host", "", &["-J", "x:0", "a"], &["refused"]),
    case("fdpass", "ProxyUseFdpass yes\nProxyCommand x\n", &["a"], &["proxyusefdpass yes"]),
    case("several patterns and a question mark", "Host b x?z\n Port 7\n", &["xyz"], &["port 7"]),
    case("a negation excludes", "Host *.ex !bad.ex\n Port 7\n", &["bad.ex"], &["port 22"]),
    case(
        "a negation in front excludes too",
        "Host !bad.ex *.ex\n Port 7\n",
        &["bad.ex"],
        &["port 22"],
    ),
    case("a negation alone matches nothing", "Host !bad.ex\n Port 7\n", &["a.ex"], &["port 22"]),
    case(
        "keywords and values have no case",
        "HOST a\n pOrT 7\n Compression YES\n",
        &["a"],
        &["port 7", "compression yes"],
    ),
    case(
        "an equals sign separates",
        "Host=a\nPort=7\nUser = bob\n",
        &["a"],
        &["port 7", "user bob"],
    ),
    case(
        "quotes hold spaces",
        "IdentityFile \"/x/a b\"\nIdentityFile '/x/c d'\n",
        &["a"],
        &["identityfile /x/a b", "identityfile /x/c d"],
    ),
    case(
        "a comment ends a line",
        "Port 7 # seven\nUser bob#by\n",
        &["a"],
        &["port 7", "user bob#by"],
    ),
    case(
        "identity files add up without repetition",
        "Host a\n IdentityFile /x/1\nHost *\n IdentityFile /x/2\n IdentityFile /x/1\n",
        &["a"],
        &["identityfile /x/1", "identityfile /x/2"],
    ),
    case("IdentityFile none leaves no default", "IdentityFile none\n", &["a"], &["identityfile"]),
    case(
        "SendEnv adds up",
        "SendEnv LANG\nSendEnv LC_*\n",
        &["a"],
        &["sendenv LANG", "sendenv LC_ALL", "sendenv LC_TIME"],
    ),
    case("SendEnv takes away", "SendEnv LANG LC_*\nSendEnv -LC_*\n", &["a"], &["sendenv LANG"]),
    case(
        "only the first SetEnv counts",
        "SetEnv A=1 B=\"2 3\"\nSetEnv C=3\n",
        &["a"],
        &["setenv A=1", "setenv B=2 3"],
    ),
    case(
        "HostName knows the name as typed",
        "HostName %h.ex.org\n",
        &["a"],
        &["hostname a.ex.org"],
    ),
    case("HostName knows no other token", "HostName %n.ex.org\n", &["a"], &["refused"]),
    case(
        "known_hosts expands tokens and variables",
        "UserKnownHostsFile ~/k_%h_%p_%r_%n_%% /x/${FRUIT}\n",
        &["-p7", "bob@A"],
        &["userknownhostsfile ~/k_a_7_bob_A_% /x/pear"],
    ),
    case(
        "an unset variable is refused",
        "UserKnownHostsFile /x/${NO_SUCH}\n",
        &["a"],
        &["refused"],
    ),
    case("an unknown token is refused", "UserKnownHostsFile /x/%z\n", &["a"], &["refused"]),
    case("the connection's hash", "UserKnownHostsFile /x/%C\n", &["a"], &[]),
    case(
        "local names and numbers",
        "UserKnownHostsFile /x/%u_%i_%l_%L_%k\nHostKeyAlias other\n",
        &["a"],
        &[],
    ),
    case(
        "Match host sees HostName",
        "Host a\n HostName b.ex\nMatch host b.ex\n Port 7\n",
        &["a"],
        &["port 7"],
    ),
    case("Match host that does not match", "Match host nomatch\n Port 7\n", &["a"], &["port 22"]),
    case(
        "Match originalhost",
        "HostName b\nMatch originalhost a\n Port 7\nMatch originalhost b\n User x\n",
        &["a"],
        &["port 7"],
    ),
    case(
        "Match user set by an earlier block",
        "User bob\nMatch user bob\n Port 7\n",
        &["a"],
        &["port 7"],
    ),
    case("Match user of the command line", "Match user bob\n Port 7\n", &["bob@a"], &["port 7"]),
    case(
        "Match localuser of somebody else",
        "Match localuser nobody-here\n Port 7\n",
        &["a"],
        &["port 22"],
    ),
    case("Match exec that succeeds", "Match exec \"test %h = a\"\n Port 7\n", &["a"], &["port 7"]),
    case("Match exec that fails", "Match exec \"exit 3\"\n Port 7\n", &["a"], &["port 22"]),
    case("a negated exec", "Match !exec \"exit 3\"\n Port 7\n", &["a"], &["port 7"]),
    case(
        "a negated host",
        "Match !host a\n Port 7\nMatch !host b\n User x\n",
        &["a"],
        &["port 22", "user x"],
    ),
    case(
        "several criteria must all hold",
        "Match host a user nobody-here\n Port 7\n",
        &["a"],
        &["port 22"],
    ),
    case("Match all", "Host b\n Port 8\nMatch all\n Port 7\n", &["a"], &["port 7"]),
    case(
        "Match all after two others is refused",
        "Match host a user root all\n Port 7\n",
        &["a"],
        &["refused"],
    ),
    case("Match without criteria is refused", "Match # none\n", &["a"], &["refused"]),
    case("an unknown criterion is refused", "Match moon full\n Port 7\n", &["a"], &["refused"]),
    case(
        "Match final that does not match",
        "Match final host nope\n Port 7\n",
        &["a"],
        &["port 22"],
    ),
    case(
        "Match final is a second pass",
        "Match final host b\n Port 7\nHost a\n HostName b\n",
        &["a"],
        &["port 7"],
    ),
    case(
        "in the final pass Host sees the resolved name",
        "Host b.ex\n Port 7\nHost a\n HostName b.ex\nMatch final\n User x\n",
        &["a"],
        &["port 7", "user x"],
    ),
    case(
        "Match canonical without canonicalization",
        "Match canonical\n Port 7\n",
        &["a"],
        &["port 22"],
    ),
    case(
        "Match canonical with it",
        "CanonicalizeHostname yes\nMatch canonical\n Port 7\n",
        &["a.b.c"],
        &["port 7"],
    ),
    case(
        "Include in a block",
        "Host b\n Include @/inc\nHost a\n User x\n",
        &["a"],
        &["port 22", "user x"],
    ),
    case(
        "Include in a block that applies",
        "Host a\n Include @/in*\n User x\n",
        &["a"],
        &["port 77", "user x"],
    ),
    case(
        "the block goes on after Include",
        "Host a\n Include @/blocks\n User x\n",
        &["a"],
        &["user x"],
    ),
    case("Include of nothing", "Include @/nothing*\nPort 7\n", &["a"], &["port 7"]),
    case("Include without end", "Include @/config\n", &["a"], &["refused"]),
    case("an unknown keyword", "Prot 7\nPort 0\n", &["a"], &["refused"]),
    case("IgnoreUnknown", "IgnoreUnknown Pr*,X\nProt 7\nPort 7\n", &["a"], &["port 7"]),
    case(
        "host names become lower case",
        "Host AbC\n Port 7\n",
        &["AbC"],
        &["hostname abc", "port 7"],
    ),
    case(
        "times have units",
        "ConnectTimeout 1m30s\nServerAliveInterval 1h\n",
        &["a"],
        &["connecttimeout 90", "serveraliveinterval 3600"],
    ),
    case(
        "tabs and carriage returns",
        "Host a\r\n\tPort\t7\r\n\tUser bob \r\n",
        &["a"],
        &["port 7", "user bob"],
    ),
    case(
        "RemoteCommand keeps the rest of the line",
        "RemoteCommand echo \"a  b\" # c\n",
        &["a"],
        &["remotecommand echo \"a  b\" # c"],
    ),
    case("a port out of range", "Port 65536\n", &["a"], &["refused"]),
    case("too many words", "Port 7 8\n", &["a"], &["refused"]),
    case("no value", "Port\n", &["a"], &["refused"]),
    case("an open quote", "User \"bob\n", &["a"], &["refused"]),
    case("bad values count in blocks that do not apply", "Host b\n Port x\n", &["a"], &["refused"]),
    case("known_hosts none with others", "UserKnownHostsFile none /x\n", &["a"], &["refused"]),
    case("known_hosts none", "UserKnownHostsFile none\n", &["a"], &["userknownhostsfile none"]),
    case("addresses are written the short way", "", &["0:0::1"], &["hostname ::1"]),
    case(
        "flags come before files",
        "Port 7\nUser x\n",
        &["-p8", "-l", "y", "a"],
        &["port 8", "user y"],
    ),
    case(
        "of flags the first user and port count",
        "",
        &["-oPort=7", "-p8", "-l", "y", "x@a"],
        &["port 7", "user y"],
    ),
    case(
        "-o takes both separators",
        "",
        &["-o", "Port 7", "-oUser=bob", "a"],
        &["port 7", "user bob"],
    ),
    case("-o of a block is refused", "", &["-oHost=a", "a"], &["refused"]),
    case("-t twice forces a terminal", "RequestTTY no\n", &["-tt", "a"], &["requesttty force"]),
    case(
        "-t after the option forces one",
        "",
        &["-oRequestTTY=yes", "-t", "a"],
        &["requesttty force"],
    ),
    case("-T after -t", "", &["-tT", "a"], &["requesttty false"]),
    case("-v counts", "LogLevel ERROR\n", &["-vv", "a"], &["loglevel DEBUG2"]),
    case("-q", "LogLevel DEBUG\n", &["-q", "a"], &["loglevel QUIET"]),
    case("-4 wins over a file", "AddressFamily inet6\n", &["-4", "a"], &["addressfamily inet"]),
    case("-N asks for no session", "", &["-N", "a"], &["sessiontype none"]),
    case("-s asks for a subsystem", "", &["-s", "a", "sftp"], &["sessiontype subsystem"]),
    case(
        "-e sets the escape character",
        "EscapeChar none\n",
        &["-e", "^B", "a"],
        &["escapechar ^B"],
    ),
    case(
        "-i that is not there leaves the others",
        "IdentityFile /x/1\n",
        &["-i", "/no/such/key", "a"],
        &["identityfile /x/1"],
    ),
    case(
        "an address of the command line",
        "",
        &["-b", "127.0.0.1", "a"],
        &["bindaddress 127.0.0.1"],
    ),
    case("the last @ splits", "", &["a@b@c"], &["user a@b", "hostname c"]),
    case("a URI", "", &["ssh://bob@HOST:7"], &["user bob", "hostname host", "port 7"]),
    case("a URI's port is the last to count", "", &["-p8", "ssh://host:7/"], &["port 8"]),
];

#[test]
fn each_case_comes_to_what_it_must_and_to_what_ssh_makes_of_it() {
    let mut compared = true;
    let mut differences = Vec::new();
    for case in CASES {
        let place = Place::new();
        place.write("config", case.config);
        place.write("inc", "Port 77\n");
        place.write("blocks", "Host zzz\n Port 9\n");
        let ours = place.ours(case.arguments);
        let home = place.environment.home.to_string_lossy().into_owned();
        for want in case.want {
            if *want == "refused" {
                assert!(ours.values.is_none(), "{}: not refused", case.name);
                continue;
            }
            let values = ours.values.as_ref();
            let values = values.unwrap_or_else(|| panic!("{}: {}", case.name, ours.complaint));
            let (keyword, value) = want.split_once(' ').unwrap_or((want, ""));
            let found = values.get(keyword).cloned().unwrap_or_default();
            match value {
                "" => assert!(found.is_empty(), "{}: {found:?}", case.name),
                value => assert!(
                    found.contains(&value.replace('~', &home)),
                    "{}: {keyword} is {found:?}, not {value}",
                    case.name
                ),
            }
        }
        match place.compare(case.arguments) {
            Some(found) => differences.extend(found.iter().map(|d| format!("{}: {d}", case.name))),
            None => compared = false,
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    if !compared {
        skipped();
    }
}

/// Command lines whose meaning must be that of ssh, accepted or not.
const LINES: &[&[&str]] = &[
    &["h", "--", "cmd", "-v"],
    &["h", "-p", "3", "cmd", "-p", "4"],
    &["--", "h", "-p", "5"],
    &["-tvp22", "h"],
    &["-tvp", "22", "h"],
    &["-l", "a", "-l", "b", "c@h"],
    &["c@h", "-l", "b"],
    &["-p1", "ssh://h:2", "-p3"],
    &["ssh://h:2", "-p3"],
    &["-l", "a;b", "h"],
    &["-oUser='a;b'", "h"],
    &["-l", "-x", "h"],
    &["-o=Port=3", "h"],
    &["-oPort 3", "h"],
    &["-o", "\tUser =  bob", "h"],
    &["-oUser=\"a b\"", "h"],
    &["-oSendEnv=LANG", "-oSendEnv=LC_*", "h"],
    &["-xak2", "h"],
    &["-4", "-6", "h"],
    &["-oAddressFamily=inet6", "-4", "h"],
    &["-4", "-oAddressFamily=inet6", "h"],
    &["-T", "-t", "h"],
    &["-t", "-oRequestTTY=no", "h"],
    &["-n", "h", "cmd"],
    &["-N", "-T", "h"],
    &["-N", "-s", "h", "sftp"],
    &["-oSessionType=none", "-s", "h", "sftp"],
    &["-s", "h"],
    &["-C", "-oCompression=no", "h"],
    &["-e", "none", "h"],
    &["-e", "^^", "h"],
    &["-e", "abc", "h"],
    &["-vvvv", "h"],
    &["-qv", "h"],
    &["-v", "-oLogLevel=ERROR", "h"],
    &["-oLogLevel=ERROR", "-v", "h"],
    &["-p", "70000", "h"],
    &["-p", "22x", "h"],
    &["-p"],
    &["-j", "h"],
    &[],
    &["-v"],
    &["a b"],
    &["h;x"],
    &["@h"],
    &["a@b@H"],
    &["ssh://a%40b@h"],
    &["ssh://u;x=y@h:7"],
    &["ssh://h:0"],
    &["ssh://h/x"],
    &["SSH://H"],
    &["-ofoo", "h"],
    &["-ofoo=bar", "h"],
    &["-oIgnoreUnknown=foo", "-ofoo=bar", "h"],
    &["-oMatch=all", "h"],
    &["-oHostKeyAlias=ABC", "-oUserKnownHostsFile=/x/%k", "h"],
    &["-oUserKnownHostsFile=/x/%k_%n_%h", "ABC"],
    &["-oConnectionAttempts=0", "h"],
    &["-oServerAliveCountMax=0", "-oNumberOfPasswordPrompts=0", "h"],
    &["-oConnectTimeout=0", "h"],
    &["-oInclude=/x", "h"],
];

#[test]
fn command_lines_mean_what_they_mean_to_ssh() {
    let place = Place::new();
    place.write("config", "");
    for arguments in LINES {
        let Some(found) = place.compare(arguments) else {
            return skipped();
        };
        assert!(found.is_empty(), "{arguments:?}: {}", found.join("\n"));
    }
}

/// Forwards on the command line, alone and with what suppresses them.
const FORWARDS: &[&[&str]] = &[
    &["-L8080:db:80", "-L[::1]:81:/x/y", "-L/a/b:/c/d", "-D1080", "-D*:1081", "-g", "h"],
    &["-R0:h:1", "-R9000", "-R/s/p:h:22", "-R*:0", "-oRemoteForward=10 h:11", "h"],
    &["-L1:h:2", "-oLocalForward=1 h:2", "-oLocalForward=3 h:4", "h"],
    &["-L1:h:2", "-oClearAllForwardings=yes", "h"],
    &["-Wh:22", "-L1:h:2", "h"],
    &["-Wh:22", "-L1:h:2", "-oClearAllForwardings=no", "-oExitOnForwardFailure=no", "h"],
];

#[test]
fn forwards_of_the_command_line_are_those_of_ssh() {
    let place = Place::new();
    place.write("config", "Host h\n LocalForward 5 x:6\n");
    for arguments in FORWARDS {
        let Some(found) = place.compare(arguments) else {
            return skipped();
        };
        assert!(found.is_empty(), "{arguments:?}: {}", found.join("\n"));
    }
}

/// What programs that call ssh put on its command line: sftp, scp, rsync, git, Ansible.
const CALLERS: &[&[&str]] = &[
    &[
        "-oForwardX11 no",
        "-oPermitLocalCommand no",
        "-oClearAllForwardings yes",
        "-o",
        "ForwardAgent no",
        "-l",
        "bob",
        "-s",
        "--",
        "h",
        "sftp",
    ],
    &[
        "-x",
        "-oPermitLocalCommand=no",
        "-oClearAllForwardings=yes",
        "-oRemoteCommand=none",
        "-oRequestTTY=no",
        "-oForwardAgent=no",
        "-l",
        "bob",
        "--",
        "h",
        "scp -t /tmp",
    ],
    &["-l", "bob", "h", "rsync", "--server", "-vlogDtpre.iLsfxCIvu", ".", "x"],
    &["-o", "SendEnv=GIT_PROTOCOL", "-p", "22", "git@h", "git-upload-pack 'x.git'"],
    &[
        "-C",
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=60s",
        "-o",
        "KbdInteractiveAuthentication=no",
        "-o",
        "PreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey",
        "-o",
        "PasswordAuthentication=no",
        "-o",
        "User=\"bob\"",
        "-o",
        "ConnectTimeout=10",
        "-o",
        "ControlPath=\"~/.ansible/cp/x\"",
        "-tt",
        "h",
        "/bin/sh -c 'echo ~'",
    ],
];

#[test]
fn programs_that_call_ssh_are_served_without_a_word() {
    let place = Place::new();
    place.write("config", "ForwardAgent yes\nLocalForward 1 h:2\nRequestTTY force\n");
    for arguments in &CALLERS[..2] {
        let line = cli::parse(place.arguments(arguments).into_iter()).expect("a command line");
        let settings = resolve(&line, &place.environment).expect("sound settings");
        assert_eq!(settings.warnings, [""; 0], "{arguments:?}");
    }
    for arguments in CALLERS {
        assert!(place.ours(arguments).values.is_some(), "{arguments:?}");
        let Some(found) = place.compare(arguments) else {
            return skipped();
        };
        assert!(found.is_empty(), "{arguments:?}: {}", found.join("\n"));
    }
}

#[test]
fn bad_files_are_reported_in_the_words_of_ssh() {
    let place = Place::new();
    for config in [
        "Prot 7\nPort 7\n\nPort x\n",
        "Port 7 8\n",
        "User \"bob\n",
        "Compression maybe\nConnectTimeout soon\n",
        "Port\n",
        "SendEnv A=B\nSetEnv A\n",
    ] {
        place.write("config", config);
        let Some(theirs) = place.theirs(&["a"]) else {
            return skipped();
        };
        let ours = place.ours(&["a"]);
        assert_eq!(ours.complaint, theirs.complaint, "{config}");
    }
}

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
        let Some(found) = place.compare(&arguments) else {
            return skipped();
        };
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

#[test]
fn lines_for_us_are_read_by_us_and_not_by_ssh() {
    let place = Place::new();
    place.write(
        "config",
        "Host a\n #!! UdpMode yes\n #!!TsshdPath=/opt/tsshd\n#!! TsshdPort 7000-7010, 8000\nHost b\n #!! Port 9\n",
    );
    let values = place.ours(&["a"]).values.expect("a sound file");
    assert_eq!(values["udpmode"], ["QUIC"]);
    assert_eq!(values["tsshdpath"], ["/opt/tsshd"]);
    assert_eq!(values["tsshdport"], ["7000-7010,8000"]);
    let values = place.ours(&["b"]).values.expect("a sound file");
    assert_eq!((&values["udpmode"][0][..], &values["port"][0][..]), ("no", "9"));
    if let Some(theirs) = place.theirs(&["b"]) {
        assert_eq!(theirs.values.expect("comments")["port"], ["22"]);
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut place = Place::new();
    place.environment.home = place.directory.path().to_owned();
    place.environment.system_config = place.path("none");
    std::fs::create_dir(place.path(".ssh")).expect("a directory");
    place.write(".ssh/config", "Port 7\n");
    let port = |place: &Place| {
        let line = cli::parse(["a".into()].into_iter()).expect("a command line");
        resolve(&line, &place.environment).map(|settings| settings.port)
    };
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our file");
    };
    mode(&place.path(".ssh/config"), 0o644);
    assert_eq!(port(&place).expect("a safe file"), 7);
    mode(&place.path(".ssh/config"), 0o664);
    let refusal = port(&place).expect_err("an unsafe file").to_string();
    assert!(refusal.starts_with("Bad owner or permissions on "), "{refusal}");
}

#[test]
fn a_block_for_a_network_applies_where_this_machine_is_in_it() {
    // Newer than the ssh of some distributions, so there is no oracle.
    let place = Place::new();
    for (network, port) in [("127.0.0.0/8", "7"), ("203.0.113.0/24", "22")] {
        place.write("config", &format!("Match localnetwork {network}\n Port 7\n"));
        let values = place.ours(&["h"]).values.expect("sound");
        assert_eq!(values["port"], [port], "{network}");
    }
    place.write("config", "Match localnetwork 127.0.0.1/8\n Port 7\n");
    assert!(place.ours(&["h"]).complaint.contains("Invalid network entry"));
}
