//! The table of keywords: what each one takes, and what becomes of it.
//!
//! Every keyword that OpenSSH 9.2 knows is here, with those of its later versions and our own.
//! Whatever is neither honoured nor listed is an error, as it is for ssh. `docs/configuration.md`
//! shows the same table to people; a test keeps the two in step.

use super::forward::Kind;
use crate::sys::account::HAS_KEYCHAIN;

/// What the arguments of a keyword must look like. Checked where they are read, in blocks that do
/// not apply too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// yes, no, true or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A port.
    Port,
    /// A number that is not negative.
    Number,
    /// A time, or `none`.
    Time,
    /// `none`, one character, or `^` and one.
    EscapeChar,
    /// One word of any kind.
    Word,
    /// One word for each line; the lines add up, and repetitions are dropped.
    Collected,
    /// Several words; the first line wins, and `none` must stand alone.
    Files,
    /// Patterns of variable names; the lines add up, and `-pattern` takes away.
    SendEnv,
    /// `NAME=value` words; the first line wins.
    SetEnv,
    /// yes, no, ask, confirm and perhaps a time, or a time.
    AddKeys,
    /// yes, no, or a time.
    Persist,
    /// The name of a facility of syslog(3).
    Facility,
    /// An amount of data, `default` or `none`, and perhaps a time.
    RekeyLimit,
    /// A forward: where to listen, and for some kinds where to connect to; the lines add up.
    Forward(Kind),
    /// `any`, `none` or destinations; the first line wins.
    Permits,
    /// An octal number.
    Octal,
    /// `none`, or rules of two lists of patterns; the first line wins.
    Aliases,
    /// One or two classes of traffic.
    Marks,
    /// `none`, or times by kind of channel; the first line wins.
    ChannelTimeouts,
    /// Jump hosts: the rest of the line as it is.
    Jump,
    /// The rest of the line as it is.
    Rest,
    /// Whatever follows; not looked at.
    Anything,
}

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It means what it means in OpenSSH (or what `docs/configuration.md` says, for our own).
    Honoured,
    /// Accepted without a word: its neglect is neither unsafe nor surprising.
    Ignored,
    /// Accepted with a warning, unless its value is one of these.
    Warned { unless: &'static [&'static str], lost: &'static str },
    /// Refused, unless its value is one of these: to go on would be unsafe or lead elsewhere.
    Refused { unless: &'static [&'static str], reason: &'static str },
}

/// One keyword.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyword {
    /// Its name, in lower case.
    pub(super) name: &'static str,
    /// Where its value is kept; several names may share a place.
    pub(super) slot: &'static str,
    /// What it takes.
    pub(super) form: Form,
    /// What becomes of it.
    pub(super) standing: Standing,
}

/// Looks a keyword up by its name in lower case.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    let keyword = KEYWORDS.iter().find(|keyword| keyword.name == name);
    keyword.or((HAS_KEYCHAIN && name == KEYCHAIN.name).then_some(&KEYCHAIN))
}

/// Apple's ssh has it; a file shared between machines names it under IgnoreUnknown.
static KEYCHAIN: Keyword = ignored("usekeychain");

/// Returns whether a keyword, in lower case, means something to us only.
pub(crate) fn is_ours(name: &str) -> bool {
    find(name).is_some_and(|keyword| OURS.iter().any(|start| keyword.name.starts_with(start)))
}

/// How our own keywords begin.
const OURS: &[&str] = &["udp", "tsshd", "logincommand", "show", "forwardudp"];

/// All keywords, in the order of the alphabet within each group.
pub(super) fn all() -> &'static [Keyword] {
    KEYWORDS
}

const fn honoured(name: &'static str, form: Form) -> Keyword {
    alias(name, name, form)
}

/// A second name for the place of another keyword.
const fn alias(name: &'static str, slot: &'static str, form: Form) -> Keyword {
    Keyword { name, slot, form, standing: Standing::Honoured }
}

const fn ignored(name: &'static str) -> Keyword {
    Keyword { name, slot: name, form: Form::Anything, standing: Standing::Ignored }
}

const fn warned(
    name: &'static str,
    unless: &'static [&'static str],
    lost: &'static str,
) -> Keyword {
    Keyword { name, slot: name, form: Form::Anything, standing: Standing::Warned { unless, lost } }
}

const fn refused(
    name: &'static str,
    unless: &'static [&'static str],
    reason: &'static str,
) -> Keyword {
    Keyword {
        name,
        slot: name,
        form: Form::Anything,
        standing: Standing::Refused { unless, reason },
    }
}

const OFF: &[&str] = &["no", "false"];

const KEYWORDS: &[Keyword] = &[
    // Honoured, as OpenSSH means them.
    honoured("addkeystoagent", Form::AddKeys),
    honoured("addressfamily", Form::Choice(&["any", "inet", "inet6"])),
    honoured("batchmode", Form::Flag),
    honoured("bindaddress", Form::Word),
    honoured("bindinterface", Form::Word),
    honoured("canonicaldomains", Form::Files),
    honoured("canonicalizefallbacklocal", Form::Flag),
    honoured("canonicalizehostname", Form::Choice(&["true", "false", "yes", "no", "always"])),
    honoured("canonicalizemaxdots", Form::Number),
    honoured("canonicalizepermittedcnames", Form::Aliases),
    honoured("casignaturealgorithms", Form::Word),
    honoured("certificatefile", Form::Collected),
    honoured("channeltimeout", Form::ChannelTimeouts),
    honoured("checkhostip", Form::Flag),
    honoured("ciphers", Form::Word),
    honoured("clearallforwardings", Form::Flag),
    honoured("compression", Form::Choice(&["yes", "no"])),
    honoured("connectionattempts", Form::Number),
    honoured("connecttimeout", Form::Time),
    honoured(
        "controlmaster",
        Form::Choice(&["true", "false", "yes", "no", "auto", "ask", "autoask"]),
    ),
    honoured("controlpath", Form::Word),
    honoured("controlpersist", Form::Persist),
    honoured("dynamicforward", Form::Forward(Kind::Dynamic)),
    honoured("enableescapecommandline", Form::Flag),
    honoured("escapechar", Form::EscapeChar),
    honoured("exitonforwardfailure", Form::Flag),
    honoured("fingerprinthash", Form::Choice(&["md5", "sha256"])),
    honoured("forkafterauthentication", Form::Flag),
    honoured("forwardagent", Form::Word),
    honoured("forwardx11", Form::Flag),
    honoured("forwardx11timeout", Form::Time),
    honoured("forwardx11trusted", Form::Flag),
    honoured("gatewayports", Form::Flag),
    honoured("globalknownhostsfile", Form::Files),
    honoured("hashknownhosts", Form::Flag),
    honoured("hostkeyalgorithms", Form::Word),
    honoured("hostkeyalias", Form::Word),
    honoured("hostname", Form::Word),
    honoured("identitiesonly", Form::Flag),
    honoured("identityagent", Form::Word),
    honoured("identityfile", Form::Collected),
    alias("identityfile2", "identityfile", Form::Collected),
    honoured("ignoreunknown", Form::Word),
    honoured("ipqos", Form::Marks),
    honoured("kbdinteractiveauthentication", Form::Flag),
    alias("challengeresponseauthentication", "kbdinteractiveauthentication", Form::Flag),
    alias("skeyauthentication", "kbdinteractiveauthentication", Form::Flag),
    alias("tisauthentication", "kbdinteractiveauthentication", Form::Flag),
    honoured("kexalgorithms", Form::Word),
    honoured("knownhostscommand", Form::Rest),
    honoured("localcommand", Form::Rest),
    honoured("localforward", Form::Forward(Kind::Local)),
    honoured("loglevel", Form::Choice(LOG_LEVELS)),
    honoured("macs", Form::Word),
    honoured("nohostauthenticationforlocalhost", Form::Flag),
    honoured("numberofpasswordprompts", Form::Number),
    honoured("passwordauthentication", Form::Flag),
    honoured("permitlocalcommand", Form::Flag),
    honoured("permitremoteopen", Form::Permits),
    honoured("port", Form::Port),
    honoured("preferredauthentications", Form::Word),
    // A jump host and a proxy command exclude each other: the first to come fills the one place.
    alias("proxycommand", "proxy", Form::Rest),
    alias("proxyjump", "proxy", Form::Jump),
    honoured("proxyusefdpass", Form::Flag),
    honoured("pubkeyacceptedalgorithms", Form::Word),
    alias("pubkeyacceptedkeytypes", "pubkeyacceptedalgorithms", Form::Word),
    honoured(
        "pubkeyauthentication",
        Form::Choice(&["true", "false", "yes", "no", "unbound", "host-bound"]),
    ),
    alias(
        "dsaauthentication",
        "pubkeyauthentication",
        Form::Choice(&["true", "false", "yes", "no", "unbound", "host-bound"]),
    ),
    honoured("refuseconnection", Form::Word),
    honoured("rekeylimit", Form::RekeyLimit),
    honoured("remotecommand", Form::Rest),
    honoured("remoteforward", Form::Forward(Kind::Remote)),
    honoured("requesttty", Form::Choice(&["true", "false", "yes", "no", "force", "auto"])),
    honoured("requiredrsasize", Form::Number),
    honoured("revokedhostkeys", Form::Word),
    honoured("securitykeyprovider", Form::Word),
    honoured("sendenv", Form::SendEnv),
    honoured("serveralivecountmax", Form::Number),
    honoured("serveraliveinterval", Form::Time),
    honoured("sessiontype", Form::Choice(&["none", "subsystem", "default"])),
    honoured("setenv", Form::SetEnv),
    honoured("stdinnull", Form::Flag),
    honoured(
        "stricthostkeychecking",
        Form::Choice(&["true", "false", "yes", "no", "ask", "off", "accept-new"]),
    ),
    honoured("streamlocalbindmask", Form::Octal),
    honoured("streamlocalbindunlink", Form::Flag),
    honoured("syslogfacility", Form::Facility),
    honoured("tag", Form::Word),
    honoured("tcpkeepalive", Form::Flag),
    alias("keepalive", "tcpkeepalive", Form::Flag),
    honoured("updatehostkeys", Form::Choice(&["true", "false", "yes", "no", "ask"])),
    honoured("user", Form::Word),
    honoured("userknownhostsfile", Form::Files),
    honoured("verifyhostkeydns", Form::Choice(&["true", "false", "yes", "no", "ask"])),
    honoured("visualhostkey", Form::Flag),
    honoured("xauthlocation", Form::Word),
    // Our own.
    honoured("logincommand", Form::Rest),
    honoured("tsshdpath", Form::Word),
    honoured("tsshdport", Form::Rest),
    alias("udpport", "tsshdport", Form::Rest),
    honoured("udpalivetimeout", Form::Time),
    honoured("udpheartbeattimeout", Form::Time),
    honoured("udpmode", Form::Word),
    honoured("udpmtu", Form::Number),
    honoured("udpoutputlog", Form::Word),
    honoured("udpproxymode", Form::Word),
    honoured("udpreconnectexitkey", Form::Word),
    honoured("udpreconnecttimeout", Form::Time),
    honoured("showfullnotifications", Form::Flag),
    honoured("shownotificationontop", Form::Flag),
    honoured("forwardudptimeout", Form::Time),
    honoured("udplocalforward", Form::Forward(Kind::LocalUdp)),
    honoured("udpremoteforward", Form::Forward(Kind::RemoteUdp)),
    refused("udpsessionattach", OFF, "attaching to a running session is not in this version"),
    refused("udpsessionname", &[], "attaching to a running session is not in this version"),
    // OpenSSH's, not honoured, and missed.
    warned(
        "pkcs11provider",
        &["none"],
        "PKCS#11 keys are not in this version; load them into ssh-agent",
    ),
    warned("tunnel", OFF, "tunnel devices are not in this version"),
    warned(
        "obscurekeystroketiming",
        OFF,
        "the times of keystrokes are not disguised in this version",
    ),
    // OpenSSH's, not honoured, and not missed.
    ignored("enablesshkeysign"),
    ignored("gssapiauthentication"),
    ignored("gssapiclientidentity"),
    ignored("gssapidelegatecredentials"),
    ignored("gssapikexalgorithms"),
    ignored("gssapikeyexchange"),
    ignored("gssapirenewalforcesrekey"),
    ignored("gssapiserveridentity"),
    ignored("gssapitrustdns"),
    ignored("hostbasedacceptedalgorithms"),
    ignored("hostbasedalgorithms"),
    ignored("hostbasedauthentication"),
    ignored("hostbasedkeytypes"),
    ignored("kbdinteractivedevices"),
    ignored("logverbose"),
    ignored("smartcarddevice"),
    ignored("tunneldevice"),
    ignored("versionaddendum"),
    ignored("warnweakcrypto"),
    // Names of the past, which ssh accepts and drops as well.
    ignored("afstokenpassing"),
    ignored("cipher"),
    ignored("compressionlevel"),
    ignored("fallbacktorsh"),
    ignored("globalknownhostsfile2"),
    ignored("kerberosauthentication"),
    ignored("kerberostgtpassing"),
    ignored("protocol"),
    ignored("protocolkeepalives"),
    ignored("rhostsauthentication"),
    ignored("rhostsrsaauthentication"),
    ignored("rsaauthentication"),
    ignored("setuptimeout"),
    ignored("useblacklistedkeys"),
    ignored("useprivilegedport"),
    ignored("userknownhostsfile2"),
    ignored("useroaming"),
    ignored("usersh"),
];

/// The names of the log levels.
pub(super) const LOG_LEVELS: &[&str] =
    &["quiet", "fatal", "error", "info", "verbose", "debug", "debug1", "debug2", "debug3"];

#[cfg(test)]
mod tests {
    /// Names of the past, of OpenSSH's and Apple's.
    const OLD: &[&str] = &[
        "afstokenpassing",
        "cipher",
        "compressionlevel",
        "fallbacktorsh",
        "globalknownhostsfile2",
        "hostbasedalgorithms",
        "hostbasedkeytypes",
        "kerberosauthentication",
        "kerberostgtpassing",
        "protocol",
        "protocolkeepalives",
        "rhostsauthentication",
        "rhostsrsaauthentication",
        "rsaauthentication",
        "setuptimeout",
        "smartcarddevice",
        "useblacklistedkeys",
        "usekeychain",
        "useprivilegedport",
        "userknownhostsfile2",
        "useroaming",
        "usersh",
    ];

    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The page for people, where each keyword stands in backquotes.
    const PAGE: &str = include_str!("../../../../docs/configuration.md");

    /// Returns the words in backquotes of a section, in lower case.
    fn named(section: &str) -> BTreeSet<String> {
        let body = PAGE.split("\n## ").find_map(|part| part.strip_prefix(section));
        let body = body.expect("the section is there");
        body.split('`').skip(1).step_by(2).map(str::to_ascii_lowercase).collect()
    }

    #[test]
    fn the_page_for_people_says_the_same_of_every_keyword() {
        let mut sections: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for keyword in all() {
            let section = match keyword.standing {
                Standing::Honoured => "Keywords honoured",
                Standing::Refused { .. } => "Keywords refused",
                Standing::Warned { .. } => "Keywords accepted with a warning",
                Standing::Ignored => "Keywords accepted and ignored",
            };
            sections.entry(section).or_default().insert(keyword.name.to_owned());
        }
        let known: BTreeSet<String> = all().iter().map(|k| k.name.to_owned()).collect();
        for (section, keywords) in sections {
            let mut named = named(section);
            // What else stands in backquotes are values, criteria and keywords named in passing.
            named.retain(|word| known.contains(word));
            assert_eq!(named, keywords, "{section}");
        }
    }

    /// The table for users of OpenSSH: each keyword in lower case, and whether it is honoured.
    fn table() -> BTreeMap<String, bool> {
        const PAGE: &str = include_str!("../../../../docs/openssh-compat.md");
        let body = PAGE.split("\n## ").find_map(|part| part.strip_prefix("Keywords\n"));
        let rows = body.expect("the section is there").lines();
        let rows = rows.filter_map(|row| row.strip_prefix("| `")?.split_once("` | "));
        rows.map(|(name, rest)| (name.to_ascii_lowercase(), rest.starts_with("yes |"))).collect()
    }

    /// What makes a block, and has no row of ours.
    const BLOCKS: [&str; 3] = ["host", "match", "include"];

    #[test]
    fn the_table_for_users_of_openssh_says_what_becomes_of_every_keyword() {
        let mut table = table();
        for block in BLOCKS {
            assert_eq!(table.remove(block), Some(true), "{block}");
        }
        for (name, is_honoured) in &table {
            let keyword = find(name).unwrap_or_else(|| panic!("{name} is no keyword"));
            assert_eq!(keyword.standing == Standing::Honoured, *is_honoured, "{name}");
            assert!(!is_ours(name), "{name} is not OpenSSH's");
        }
        let missing = all().iter().filter(|keyword| {
            let is_old = keyword.name != keyword.slot || OLD.contains(&keyword.name);
            !is_ours(keyword.name) && !is_old && !table.contains_key(keyword.name)
        });
        assert_eq!(missing.map(|keyword| keyword.name).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn the_table_has_every_keyword_that_the_installed_ssh_knows() {
        let table = table();
        let Ok(output) = std::process::Command::new("ssh").args(["-F", "none", "-G", "h"]).output()
        else {
            return;
        };
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let name = line.split(' ').next().unwrap_or_default().to_ascii_lowercase();
            assert!(table.contains_key(&name), "{name} is not in the table");
        }
        // The manual page has those that are printed only where they are set.
        let manual = "/usr/share/man/man5/ssh_config.5.gz";
        let Ok(output) = std::process::Command::new("zcat").arg(manual).output() else { return };
        let manual = String::from_utf8_lossy(&output.stdout);
        let names = manual.lines().filter_map(|line| line.strip_prefix(".It Cm "));
        let begin = |name: &&str| name.starts_with(|c: char| c.is_ascii_uppercase());
        for name in names.filter_map(|rest| rest.split(' ').next()).filter(begin) {
            let name = name.to_ascii_lowercase();
            assert!(table.contains_key(&name), "{name} is not in the table");
        }
    }

    #[test]
    fn no_name_stands_twice_and_all_are_in_lower_case() {
        let names: BTreeSet<&str> = all().iter().map(|keyword| keyword.name).collect();
        assert_eq!(names.len(), all().len());
        assert!(names.iter().all(|name| name.to_ascii_lowercase() == *name));
    }
}
