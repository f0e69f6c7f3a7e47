//! Host keys beyond known and unknown: certificates, revocation, renewal, commands, addresses.
//!
//! Against a real OpenSSH server; skipped, with a word, where there is none or we are not root.
//! What ssh-keygen(1) makes (certificates, key revocation lists) is read by us.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::support::{Script, Sshd, keygen};
use tssh::login::{HostKey, Login, LoginError, connect, connect_again};

async fn try_log_in(sshd: &Sshd, options: &[&str], ui: &Script) -> Result<Login, LoginError> {
    let given = ["IdentityFile=@/id", "BatchMode=yes"];
    let settings = sshd.settings(&[&given, options].concat());
    tokio::time::timeout(Duration::from_secs(60), connect(&settings, ui)).await.expect("no hang")
}

/// A server that lets `id` in.
fn serving(more: &str) -> Option<Sshd> {
    let sshd = Sshd::with_config(more)?;
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    Some(sshd)
}

/// A server whose host key `kind` is certified for `names` by the key `ca`.
fn certified(kind: &str, arguments: &[&str]) -> Option<Sshd> {
    let sshd =
        serving(&format!("HostKey @/host_{kind}_c\nHostCertificate @/host_{kind}_c-cert.pub"))?;
    sshd.make_key("ca", if kind == "rsa" { "rsa" } else { "ed25519" }, "");
    sshd.make_key(&format!("host_{kind}_c"), kind, "");
    let ca = sshd.path("ca");
    let mut all = vec!["-s", ca.to_str().expect("a plain path"), "-I", "host", "-h"];
    all.extend(arguments);
    keygen(&all, &sshd.path(&format!("host_{kind}_c.pub")));
    fs::write(
        sshd.path("known_hosts"),
        format!("@cert-authority [127.0.0.1]:{} {}", sshd.address.port(), sshd.public("ca")),
    )
    .expect("writable");
    Some(sshd)
}

#[tokio::test]
async fn a_host_that_an_authority_vouches_for_is_trusted() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let Some(sshd) = certified(kind, &["-n", "127.0.0.1", "-V", "+1h"]) else { return };
        let ui = Script::default();
        let login = try_log_in(&sshd, &[], &ui).await;
        assert!(login.is_ok(), "{kind}: {:?}\n{}", login.err(), ui.heard());
        assert_eq!(ui.heard(), "", "{kind}");
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_told_and_its_key_is_unknown() {
    for (arguments, options, reason) in [
        (&["-n", "elsewhere"][..], &[][..], "Certificate invalid: name is not a listed principal"),
        (&["-n", "127.0.0.1", "-V", "-2d:-1d"], &[], "Certificate invalid: expired"),
        (&["-n", "127.0.0.1", "-V", "+1d:+2d"], &[], "Certificate invalid: not yet valid"),
        (
            &["-n", "127.0.0.1"],
            &["CASignatureAlgorithms=rsa-sha2-512"],
            "Certificate signed with disallowed algorithm",
        ),
    ] {
        let Some(sshd) = certified("ed25519", arguments) else { return };
        let ui = Script::default();
        let refused = try_log_in(&sshd, options, &ui).await.err().expect("refused");
        assert!(matches!(refused, LoginError::HostKey), "{refused}");
        let heard = ui.heard();
        assert!(heard.starts_with(&format!("{reason}\n")), "{heard}");
        assert!(heard.contains("No ED25519 host key is known for"), "{heard}");
    }
}

#[tokio::test]
async fn a_revoked_authority_vouches_for_nobody() {
    let Some(sshd) = certified("ed25519", &["-n", "127.0.0.1"]) else { return };
    let both = format!("{}@revoked * {}", sshd.known_hosts(), sshd.public("ca"));
    fs::write(sshd.path("known_hosts"), both).expect("writable");
    let ui = Script::default();
    let refused = try_log_in(&sshd, &["StrictHostKeyChecking=no"], &ui).await.err();
    assert!(matches!(refused, Some(LoginError::HostKey)), "{refused:?}");
    assert!(ui.heard().contains("REVOKED HOST KEY DETECTED"), "{}", ui.heard());
}

#[tokio::test]
async fn without_an_authority_a_certified_host_is_known_by_its_plain_key() {
    let Some(sshd) = certified("ed25519", &["-n", "127.0.0.1"]) else { return };
    let port = sshd.address.port();
    let line = format!("[127.0.0.1]:{port} {}", sshd.public("host_ed25519_c"));
    fs::write(sshd.path("known_hosts"), line).expect("writable");
    try_log_in(&sshd, &[], &Script::default()).await.expect("a login");
}

#[tokio::test]
async fn keys_on_a_revocation_list_are_refused_in_every_format() {
    let Some(sshd) = certified("ed25519", &["-n", "127.0.0.1", "-z", "7"]) else { return };
    let path = |name: &str| sshd.path(name).to_str().expect("a plain path").to_owned();
    sshd.make_key("other", "ed25519", "");
    fs::write(sshd.path("list"), format!("# one\n\n{}", sshd.public("host_ed25519_c")))
        .expect("ok");
    fs::write(sshd.path("list_ca"), sshd.public("ca")).expect("writable");
    fs::write(sshd.path("list_other"), sshd.public("other")).expect("writable");
    fs::write(sshd.path("broken"), "nonsense").expect("writable");
    let krl = |name: &str, specification: &str| {
        fs::write(sshd.path("spec"), specification.replace('@', &path(""))).expect("writable");
        keygen(&["-k", "-f", &path(name), "-s", &path("ca.pub")], &sshd.path("spec"));
        path(name)
    };
    let hash = |kind: &str, name: &str| {
        let text = sshd.public(name);
        format!("{kind}: {text}")
    };
    let revoking = [
        path("list"),
        path("list_ca"),
        path("broken"),
        path("not_there"),
        krl("krl_serial", "serial: 7\n"),
        krl("krl_range", "serial: 5-9\n"),
        krl("krl_bits", "serial: 1\nserial: 3\nserial: 7\nserial: 8\nserial: 9\n"),
        krl("krl_id", "id: host\n"),
        krl("krl_key", &sshd.public("host_ed25519_c")),
        krl("krl_sha1", &hash("sha1", "host_ed25519_c")),
        krl("krl_sha256", &hash("sha256", "host_ed25519_c")),
    ];
    for file in revoking {
        let ui = Script::default();
        let option = format!("RevokedHostKeys={file}");
        let refused = try_log_in(&sshd, &[&option], &ui).await.err();
        assert!(matches!(refused, Some(LoginError::HostKey)), "{file}: {refused:?}");
        assert!(ui.heard().contains(&file), "{}", ui.heard());
    }
    let harmless = [
        path("list_other"),
        krl("krl_other", "serial: 8\nserial: 100-200\nid: else\n"),
        krl("krl_other_key", &sshd.public("other")),
        krl("krl_other_sha", &hash("sha256", "other")),
    ];
    for file in harmless {
        let option = format!("RevokedHostKeys={file}");
        let login = try_log_in(&sshd, &[&option], &Script::default()).await;
        assert!(login.is_ok(), "{file}: {:?}", login.err());
    }
}

#[tokio::test]
async fn a_command_may_say_which_keys_a_host_has() {
    let Some(sshd) = serving("") else { return };
    let script = sshd.path("keys");
    let log = sshd.path("asked");
    let text = format!("#!/bin/sh\necho \"$@\" >>{}\necho \"$1 $(cat $2)\"\n", log.display());
    fs::write(&script, text).expect("writable");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("ours");
    let command = format!(
        "KnownHostsCommand={} %H {} %I %t %f %%",
        script.display(),
        sshd.path("host_ed25519.pub").display()
    );
    let ui = Script::default();
    let options = [command.as_str(), "UserKnownHostsFile=none", "StrictHostKeyChecking=yes"];
    let login = try_log_in(&sshd, &options, &ui).await;
    assert!(login.is_ok(), "{:?}\n{}", login.err(), ui.heard());
    let asked = fs::read_to_string(&log).expect("it ran");
    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let lines: Vec<&str> = asked.lines().collect();
    assert!(lines[0].starts_with(&name) && lines[0].ends_with("ORDER NONE NONE %"), "{asked}");
    assert!(lines[1].contains("HOSTNAME ssh-ed25519 SHA256:"), "{asked}");

    let failing = ["KnownHostsCommand=/bin/false", "StrictHostKeyChecking=no"];
    let refused = try_log_in(&sshd, &failing, &ui).await.err().expect("refused").to_string();
    assert!(refused.ends_with("KnownHostsCommand failed"), "{refused}");
}

/// Waits until known_hosts is as wanted.
async fn until_known(sshd: &Sshd, wanted: impl Fn(&str) -> bool) {
    let waiting = async {
        while !wanted(&sshd.known_hosts()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "{}", sshd.known_hosts());
}

/// A server with two keys, of which known_hosts has one, and one that the server has no more.
fn renewing() -> Option<Sshd> {
    let sshd = serving("HostKey @/host_ecdsa")?;
    sshd.make_key("host_ecdsa", "ecdsa", "");
    sshd.make_key("gone", "rsa", "");
    sshd.be_known();
    let gone = sshd.public("gone");
    let lines = format!(
        "# mine\nother.example ssh-ed25519 AAAA\n{}[127.0.0.1]:{} {gone}",
        sshd.known_hosts(),
        sshd.address.port()
    );
    fs::write(sshd.path("known_hosts"), lines).expect("writable");
    Some(sshd)
}

fn key_of(sshd: &Sshd, name: &str) -> String {
    sshd.public(name).split(' ').nth(1).expect("a key").to_owned()
}

#[tokio::test]
async fn keys_that_a_known_host_announces_and_proves_replace_its_old_ones() {
    let Some(sshd) = renewing() else { return };
    let login = try_log_in(&sshd, &["UpdateHostKeys=yes"], &Script::default()).await;
    let _login = login.expect("a login");
    let new = key_of(&sshd, "host_ecdsa");
    until_known(&sshd, |text| text.contains(&new)).await;
    let known = sshd.known_hosts();
    assert!(known.starts_with("# mine\nother.example ssh-ed25519 AAAA\n"), "{known}");
    assert!(known.contains(&key_of(&sshd, "host_ed25519")), "{known}");
    assert!(!known.contains(&key_of(&sshd, "gone")), "{known}");
}

#[tokio::test]
async fn announced_keys_are_taken_over_only_with_consent_where_it_is_asked_for() {
    for (answer, taken) in [("no", false), ("yes", true)] {
        let Some(sshd) = renewing() else { return };
        let ui = Script::new(match answer {
            "yes" => &["yes"],
            _ => &["no"],
        });
        let options = ["UpdateHostKeys=ask", "BatchMode=no"];
        let given = sshd.settings(&[&["IdentityFile=@/id"][..], &options].concat());
        let login = connect(&given, &ui).await;
        login.expect("a login");
        assert!(ui.heard().contains("Accept updated hostkeys? (yes/no): "), "{}", ui.heard());
        let known = sshd.known_hosts();
        assert_eq!(known.contains(&key_of(&sshd, "host_ecdsa")), taken, "{known}");
    }
}

#[tokio::test]
async fn any_key_is_accepted_on_the_loopback_interface_where_that_is_wanted() {
    let Some(sshd) = serving("") else { return };
    let options = ["NoHostAuthenticationForLocalhost=yes", "StrictHostKeyChecking=yes"];
    try_log_in(&sshd, &options, &Script::default()).await.expect("a login");
    assert_eq!(sshd.known_hosts(), "");
    let aliased = [&options[..], &["HostKeyAlias=else"]].concat();
    assert!(try_log_in(&sshd, &aliased, &Script::default()).await.is_err());
}

#[tokio::test]
async fn a_host_key_is_drawn_as_ssh_keygen_draws_it() {
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let Some(sshd) = serving(&format!("HostKey @/host_{kind}_d")) else { return };
        let key = sshd.make_key(&format!("host_{kind}_d"), kind, "");
        let line = format!(
            "[127.0.0.1]:{} {}",
            sshd.address.port(),
            sshd.public(&format!("host_{kind}_d"))
        );
        fs::write(sshd.path("known_hosts"), line).expect("writable");
        for hash in ["SHA256", "MD5"] {
            let ui = Script::default();
            let options = ["VisualHostKey=yes", &format!("FingerprintHash={hash}")];
            try_log_in(&sshd, &options, &ui).await.expect("a login");
            let ssh_keygen = std::process::Command::new("ssh-keygen")
                .args(["-lv", "-E", hash, "-f"])
                .arg(&key)
                .output();
            let drawn = String::from_utf8(ssh_keygen.expect("it runs").stdout).expect("text");
            let (line, picture) = drawn.split_once('\n').expect("two lines and more");
            let fingerprint = line.split(' ').nth(1).expect("a fingerprint");
            let want = format!("Host key fingerprint is {fingerprint}\n{picture}");
            assert_eq!(ui.heard(), want);
        }
    }
}

#[tokio::test]
async fn a_short_rsa_host_key_is_refused() {
    let Some(sshd) = serving("HostKey @/host_rsa") else { return };
    sshd.make_key("host_rsa", "rsa", "");
    let options =
        ["HostKeyAlgorithms=rsa-sha2-256", "RequiredRSASize=8192", "StrictHostKeyChecking=no"];
    let refused = try_log_in(&sshd, &options, &Script::default()).await.err().expect("refused");
    assert_eq!(refused.to_string(), "Bad server host key: Invalid key length");
}

#[tokio::test]
async fn with_check_host_ip_a_named_hosts_address_is_written_down_and_compared() {
    let Some(sshd) = serving("") else { return };
    // The name is the alias of nothing: only the address differs from it.
    let options = ["CheckHostIP=yes", "StrictHostKeyChecking=accept-new", "HostName=localhost"];
    let family = [&options[..], &["AddressFamily=inet"]].concat();
    let ui = Script::default();
    try_log_in(&sshd, &family, &ui).await.expect("a login");
    let port = sshd.address.port();
    let known = sshd.known_hosts();
    assert!(known.starts_with(&format!("[localhost]:{port},[127.0.0.1]:{port} ")), "{known}");

    sshd.make_key("wrong", "ed25519", "");
    let lines = format!(
        "[localhost]:{port} {}[127.0.0.1]:{port} {}",
        sshd.public("host_ed25519"),
        sshd.public("wrong")
    );
    fs::write(sshd.path("known_hosts"), lines).expect("writable");
    let ui = Script::default();
    let refused = try_log_in(&sshd, &family, &ui).await.err();
    assert!(matches!(refused, Some(LoginError::HostKey)), "{refused:?}");
    assert!(ui.heard().contains("differs from the key for the IP address"), "{}", ui.heard());
}

#[tokio::test]
async fn an_old_server_with_an_sha1_key_is_reached_only_when_asked_for_by_name() {
    let more = "HostKeyAlgorithms ssh-rsa\nHostKey @/host_rsa\nPubkeyAcceptedAlgorithms ssh-rsa";
    let Some(sshd) = serving(more) else { return };
    sshd.make_key("host_rsa", "rsa", "");
    sshd.make_key("id_rsa", "rsa", "");
    sshd.authorize("id_rsa");
    let line = format!("[127.0.0.1]:{} {}", sshd.address.port(), sshd.public("host_rsa"));
    fs::write(sshd.path("known_hosts"), line).expect("writable");
    let ui = Script::default();
    let refused = try_log_in(&sshd, &[], &ui).await.err().expect("refused").to_string();
    assert!(refused.contains("no matching host key type found. Their offer: ssh-rsa"), "{refused}");
    let options = ["HostKeyAlgorithms=+ssh-rsa", "PubkeyAcceptedAlgorithms=ssh-rsa"];
    let settings = sshd.settings(&[&options[..], &["IdentityFile=@/id_rsa"]].concat());
    let login = connect(&settings, &ui).await;
    assert!(login.is_ok(), "{:?}\n{}", login.err(), sshd.log());
}

#[tokio::test]
async fn a_host_logged_in_to_again_shows_its_first_key_whatever_else_is_trusted() {
    let Some(sshd) = serving("") else { return };
    sshd.make_key("other", "ed25519", "");
    sshd.be_known();
    let right = sshd.public("host_ed25519");
    // Known without its port as well.
    let without_port = format!("{}127.0.0.1 {right}", sshd.known_hosts());
    let key = |name: &str| HostKey::from_openssh(sshd.public(name).trim()).expect("a key");
    let again = async |pinned: &str, options: &[&str]| {
        let given = ["IdentityFile=@/id", "BatchMode=yes"];
        let settings = sshd.settings(&[&given, options].concat());
        let (ui, pinned) = (Script::default(), key(pinned));
        let login = connect_again(&settings, None, &pinned, &ui);
        tokio::time::timeout(Duration::from_secs(60), login).await.expect("no hang").err()
    };
    for options in [
        &[][..],
        &["NoHostAuthenticationForLocalhost=yes"],
        &["StrictHostKeyChecking=no"],
        &["VerifyHostKeyDNS=yes"],
        &["KnownHostsCommand=/bin/cat @/known_hosts"],
    ] {
        fs::write(sshd.path("known_hosts"), &without_port).expect("writable");
        let other = again("other", options).await;
        assert!(matches!(other, Some(LoginError::HostKey)), "{options:?}: {other:?}");
        // And what is known by now makes the right one no worse.
        let line = format!("[127.0.0.1]:{} {}", sshd.address.port(), sshd.public("other"));
        fs::write(sshd.path("known_hosts"), line).expect("writable");
        let same = again("host_ed25519", options).await;
        assert!(same.is_none(), "{options:?}: {same:?}");
    }
    fs::write(sshd.path("known_hosts"), format!("@revoked * {right}")).expect("writable");
    let revoked = again("host_ed25519", &["NoHostAuthenticationForLocalhost=yes"]).await;
    assert!(matches!(revoked, Some(LoginError::HostKey)), "{revoked:?}");
}
