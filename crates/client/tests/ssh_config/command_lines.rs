//! Command lines: by hand, and as programs that call ssh write them.

use tssh::cli;
use tssh::config::resolve;

use crate::place::{Place, skipped};

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
