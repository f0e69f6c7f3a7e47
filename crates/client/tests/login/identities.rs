//! Our keys: encrypted, of old formats, certified, badly kept, in an agent.

use std::process::Command;

use super::*;

#[tokio::test]
async fn an_encrypted_key_is_asked_for_only_when_the_server_takes_it() {
    let Some(sshd) = ready() else { return };
    sshd.make_key("secret", "ed25519", "open sesame");
    let settings = sshd.settings(&["IdentityFile=@/secret"]);

    let ui = Script::new(&["open sesame"]);
    let denied = refusal(within(connect(&settings, &ui)).await);
    assert_eq!(denied.to_string(), "root@127.0.0.1: Permission denied (publickey).");
    assert_eq!(ui.heard(), "", "no passphrase is asked for in vain");

    sshd.authorize("secret");
    let ui = Script::new(&["wrong", "open sesame"]);
    within(connect(&settings, &ui)).await.expect("the second answer is right");
    let prompt = format!("Enter passphrase for key '{}': \n", sshd.path("secret").display());
    assert_eq!(ui.heard(), prompt.repeat(2));

    let settings = sshd.settings(&["IdentityFile=@/secret", "BatchMode=yes"]);
    let ui = Script::new(&["open sesame"]);
    refusal(within(connect(&settings, &ui)).await);
    assert_eq!(ui.heard(), "", "batch mode asks nothing");
}

#[tokio::test]
async fn old_key_formats_and_kinds_log_in() {
    let Some(sshd) = ready() else { return };
    let cases: [(&str, &str, &[&str]); 4] = [
        ("rsa", "rsa", &[]),
        ("ecdsa", "ecdsa", &[]),
        ("pem", "rsa", &["-m", "PEM"]),
        ("pkcs8", "ecdsa", &["-m", "PKCS8"]),
    ];
    for (name, kind, format) in cases {
        let path = sshd.path(name);
        let mut arguments = vec!["-t", kind, "-N", "", "-C", name];
        arguments.extend(format);
        arguments.push("-f");
        keygen(&arguments, &path);
        sshd.authorize(name);
        let settings = sshd.settings(&[&format!("IdentityFile=@/{name}"), "BatchMode=yes"]);
        let ui = Script::default();
        let result = within(connect(&settings, &ui)).await;
        if let Err(error) = result {
            panic!("{name}: {error}\n{}", ui.heard());
        }
    }
}

#[tokio::test]
async fn a_certificate_beside_the_key_logs_in() {
    for kind in ["ed25519", "rsa"] {
        let Some(sshd) = Sshd::with_config("TrustedUserCAKeys @/ca.pub") else { return };
        sshd.make_key("ca", "ed25519", "");
        sshd.make_key("id", kind, "");
        let ca = sshd.path("ca");
        let ca = ca.to_str().expect("ASCII");
        keygen(&["-s", ca, "-I", "someone", "-n", "root"], &sshd.path("id.pub"));
        sshd.be_known();
        log_in(&sshd).await;
    }
}

#[tokio::test]
async fn a_key_others_can_read_is_not_used() {
    let Some(sshd) = ready() else { return };
    chmod(&sshd.path("id"), 0o644);
    let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes"]);
    let ui = Script::default();
    refusal(within(connect(&settings, &ui)).await);
    let heard = ui.heard();
    assert!(heard.contains("WARNING: UNPROTECTED PRIVATE KEY FILE!"), "{heard}");
    assert!(heard.contains("Permissions 0644 for '"), "{heard}");
    assert!(heard.trim_end().ends_with("bad permissions"), "{heard}");
}

/// An agent of our own, killed with its guard.

#[tokio::test]
async fn the_agents_keys_log_in_and_a_key_it_will_not_use_does_not_end_the_login() {
    let Some(sshd) = ready() else { return };
    let agent = SshAgent::start(&sshd);
    sshd.make_key("held", "ed25519", "");
    agent.add(&sshd.path("held"));
    std::fs::remove_file(sshd.path("held")).expect("just made");
    sshd.authorize("held");

    let options = ["IdentityAgent=@/agent", "BatchMode=yes"];
    let settings = sshd.settings(&options);
    within(connect(&settings, &Script::default())).await.expect("the agent signs");

    // Told apart by its public half alone, as IdentitiesOnly wants it.
    let only =
        sshd.settings(&[options[0], options[1], "IdentitiesOnly=yes", "IdentityFile=@/held.pub"]);
    within(connect(&only, &Script::default())).await.expect("named by its .pub");
    let other = sshd.settings(&[options[0], options[1], "IdentitiesOnly=yes"]);
    refusal(within(connect(&other, &Script::default())).await);

    // `-c` asks a person, and there is none: the agent refuses to sign.
    sshd.make_key("asks", "ed25519", "");
    let status = Command::new("ssh-add")
        .args(["-q", "-c"])
        .arg(sshd.path("asks"))
        .env("SSH_AUTH_SOCK", &agent.socket)
        .status()
        .expect("ssh-add comes with ssh");
    assert!(status.success());
    std::fs::write(sshd.path("authorized_keys"), "").expect("writable");
    sshd.authorize("asks");
    sshd.authorize("id");
    let settings = sshd.settings(&[options[0], options[1], "IdentityFile=@/id"]);
    within(connect(&settings, &Script::default())).await.expect("the file's key is next");
}
