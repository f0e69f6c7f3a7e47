//! Which of our keys are offered, with what, and what becomes of them.
//!
//! Against a real OpenSSH server and agent; skipped, with a word, where there is none or we are
//! not root.

use std::fs;
use std::time::Duration;

use crate::support::{Script, SshAgent, Sshd, keygen};
use tssh::login::{Login, LoginError, connect};

async fn try_log_in(sshd: &Sshd, options: &[&str], ui: &Script) -> Result<Login, LoginError> {
    let settings = sshd.settings(options);
    tokio::time::timeout(Duration::from_secs(60), connect(&settings, ui)).await.expect("no hang")
}

/// A server that trusts certificates of `ca`, and one for the key `id`, in `else-cert.pub`.
fn certifying(kind: &str) -> Option<Sshd> {
    let sshd = Sshd::with_config("TrustedUserCAKeys @/ca.pub")?;
    sshd.make_key("ca", if kind == "rsa" { "rsa" } else { "ed25519" }, "");
    sshd.make_key("id", kind, "");
    let ca = sshd.path("ca");
    keygen(&["-s", ca.to_str().expect("ASCII"), "-I", "x", "-n", "root"], &sshd.path("id.pub"));
    fs::rename(sshd.path("id-cert.pub"), sshd.path("else")).expect("just made");
    sshd.be_known();
    Some(sshd)
}

#[tokio::test]
async fn a_certificate_file_logs_in_with_the_key_it_is_about() {
    for kind in ["ed25519", "rsa"] {
        let Some(sshd) = certifying(kind) else { return };
        let ui = Script::default();
        let options = ["CertificateFile=@/else", "IdentityFile=@/id"];
        let login = try_log_in(&sshd, &options, &ui).await;
        assert!(login.is_ok(), "{kind}: {:?}\n{}\n{}", login.err(), ui.heard(), sshd.log());
        let refused = try_log_in(&sshd, &["IdentityFile=@/id"], &ui).await;
        assert!(refused.is_err(), "{kind}: the key alone is not enough");
    }
}

#[tokio::test]
async fn the_agent_signs_for_a_certificate_file() {
    for kind in ["ed25519", "rsa"] {
        let Some(sshd) = certifying(kind) else { return };
        let agent = SshAgent::start(&sshd);
        agent.add(&sshd.path("id"));
        fs::remove_file(sshd.path("id")).expect("just made");
        let ui = Script::default();
        let options = ["CertificateFile=@/else", "IdentityAgent=@/agent", "BatchMode=yes"];
        let login = try_log_in(&sshd, &options, &ui).await;
        assert!(login.is_ok(), "{kind}: {:?}\n{}\n{}", login.err(), ui.heard(), sshd.log());
    }
}

#[tokio::test]
async fn certificates_in_the_agent_log_in() {
    let Some(sshd) = certifying("rsa") else { return };
    fs::rename(sshd.path("else"), sshd.path("id-cert.pub")).expect("there");
    let agent = SshAgent::start(&sshd);
    agent.add(&sshd.path("id"));
    let ui = Script::default();
    let login = try_log_in(&sshd, &["IdentityAgent=@/agent", "BatchMode=yes"], &ui).await;
    assert!(login.is_ok(), "{:?}\n{}", login.err(), sshd.log());
}

#[tokio::test]
async fn keys_ruled_out_by_algorithm_or_size_are_not_offered() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.make_key("id", "rsa", "");
    sshd.authorize("id");
    sshd.be_known();
    for (option, allowed) in [
        ("PubkeyAcceptedAlgorithms=ssh-ed25519", false),
        ("PubkeyAcceptedAlgorithms=-rsa-*", false),
        ("RequiredRSASize=8192", false),
        ("PubkeyAcceptedAlgorithms=rsa-sha2-256", true),
        ("PubkeyAcceptedKeyTypes=+ssh-rsa", true),
        ("RequiredRSASize=2048", true),
    ] {
        let login = try_log_in(&sshd, &["IdentityFile=@/id", option], &Script::default()).await;
        assert_eq!(login.is_ok(), allowed, "{option}: {:?}\n{}", login.err(), sshd.log());
    }
}

#[tokio::test]
async fn a_key_used_from_a_file_is_handed_to_the_agent_where_that_is_wanted() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.make_key("id", "ed25519", "secret");
    sshd.authorize("id");
    sshd.be_known();
    let agent = SshAgent::start(&sshd);
    let public = sshd.public("id");
    let key = public.split(' ').nth(1).expect("a key");
    let given = ["IdentityFile=@/id", "IdentityAgent=@/agent"];
    for (choice, answers, added) in [
        ("no", &["secret"][..], false),
        ("ask", &["secret", "no"], false),
        ("ask", &["secret", "yes"], true),
        // From here on the agent would sign: emptied after each.
        ("yes", &["secret"], true),
        ("10m", &["secret"], true),
        ("confirm 10m", &["secret"], true),
    ] {
        let ui = Script::new(match answers {
            [_] => &["secret"],
            [_, "no"] => &["secret", "no"],
            _ => &["secret", "yes"],
        });
        let option = format!("AddKeysToAgent={choice}");
        let login = try_log_in(&sshd, &[given[0], given[1], &option], &ui).await;
        assert!(login.is_ok(), "{choice}: {:?}", login.err());
        assert_eq!(agent.list().contains(key), added, "{choice}: {}", agent.list());
        agent.clear();
    }
}

/// A key on a security token for which a script stands: openssl signs as a token would. Returns
/// the script, which is called as OpenSSH's `ssh-sk-helper` is; `None` without openssl.
fn token(sshd: &Sshd) -> Option<std::path::PathBuf> {
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::{LineEnding, private, public};

    let openssl = |arguments: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        command.current_dir(sshd.path("")).args(arguments).output().ok()
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "token.pem"])?;
    let spki = openssl(&["pkey", "-in", "token.pem", "-pubout", "-outform", "DER"])?.stdout;
    let point: [u8; 32] = spki[spki.len() - 32..].try_into().expect("32 bytes");
    let public = public::SkEd25519::new(public::Ed25519PublicKey(point), "ssh:");
    let pair = private::SkEd25519::new(public, 1, b"handle".to_vec()).expect("short");
    let key = PrivateKey::new(private::KeypairData::SkEd25519(pair), "token").expect("a key");
    let text = key.to_openssh(LineEnding::LF).expect("writable");
    fs::write(sshd.path("token"), text.as_bytes()).expect("writable");
    crate::support::chmod(&sshd.path("token"), 0o600);
    let line = key.public_key().to_openssh().expect("writable");
    fs::write(sshd.path("token.pub"), format!("{line}\n")).expect("writable");
    sshd.authorize("token");

    // Where the message begins: behind versions and the like, the key, and the provider.
    let blob = 4 + 26 + 4 + 32 + 4 + 4 + 1 + 4 + 6 + 4;
    let at = 1 + 4 + 1 + 4 + (4 + blob) + (4 + "internal".len()) + 4 + 1;
    let script = format!(
        "#!/bin/sh
cd \"$(dirname \"$0\")\"
number() {{ od -An -tu1 | awk '{{print (($1*256+$2)*256+$3)*256+$4}}'; }}
length=$(dd bs=1 count=4 2>/dev/null | number)
dd bs=1 count=$length of=request 2>/dev/null
length=$(tail -c +{start} request | head -c 4 | number)
tail -c +{at} request | head -c $length >message
{{ printf ssh: | openssl dgst -sha256 -binary
  printf '\\001\\000\\000\\000\\007'
  openssl dgst -sha256 -binary message; }} >signed
openssl pkeyutl -sign -inkey token.pem -rawin -in signed -out signature
printf '\\000\\000\\000\\160\\005\\000\\000\\000\\001\\000\\000\\000\\147'
printf '\\000\\000\\000\\032sk-ssh-ed25519@openssh.com\\000\\000\\000\\100'
cat signature
printf '\\001\\000\\000\\000\\007'
",
        start = at - 4,
    );
    let helper = sshd.path("helper");
    fs::write(&helper, script).expect("writable");
    crate::support::chmod(&helper, 0o700);
    Some(helper)
}

#[tokio::test]
async fn a_key_on_a_security_token_logs_in_by_opensshs_helper() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.be_known();
    let Some(helper) = token(&sshd) else { return };
    let mut settings = sshd.settings(&["IdentityFile=@/token"]);
    settings.security_keys.helper = Some(helper);
    let ui = Script::default();
    let limit = Duration::from_secs(60);
    let login = tokio::time::timeout(limit, connect(&settings, &ui)).await.expect("no hang");
    assert!(login.is_ok(), "{:?}\n{}\n{}", login.err(), ui.heard(), sshd.log());
    let heard = ui.heard();
    assert!(heard.starts_with("Confirm user presence for key ED25519-SK SHA256:"), "{heard}");
    assert!(heard.ends_with("User presence confirmed\n"), "{heard}");
}

#[tokio::test]
async fn a_token_that_is_not_there_is_named_and_the_next_key_logs_in() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.be_known();
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    let Some(helper) = token(&sshd) else { return };
    // As the real one answers without a token.
    fs::write(
        &helper,
        "#!/bin/sh\nprintf '\\000\\000\\000\\011\\005\\000\\000\\000\\000\\000\\000\\000\\074'\n",
    )
    .expect("writable");
    let mut settings = sshd.settings(&["IdentityFile=@/token", "IdentityFile=@/id"]);
    for (helper, said) in [
        (Some(helper), "signing failed for ED25519-SK \""),
        (None, "without ssh-sk-helper, keys on a security token sign through ssh-agent only"),
    ] {
        settings.security_keys.helper = helper;
        let ui = Script::default();
        let limit = Duration::from_secs(60);
        let login = tokio::time::timeout(limit, connect(&settings, &ui)).await.expect("no hang");
        assert!(login.is_ok(), "{:?}\n{}\n{}", login.err(), ui.heard(), sshd.log());
        assert!(ui.heard().contains(said), "{}", ui.heard());
    }
}
