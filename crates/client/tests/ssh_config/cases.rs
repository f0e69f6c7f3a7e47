//! Configurations with what they must come to.

use crate::place::{Place, skipped};

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
