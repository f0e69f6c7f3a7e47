//! Which of our keys are offered, with what, and what becomes of them.
//!
//! Against a real OpenSSH server and agent; skipped, with a word, where there is none or we are
//! not root.

mod support;

use std::fs;
use std::time::Duration;

use support::{Script, SshAgent, Sshd, keygen};
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
