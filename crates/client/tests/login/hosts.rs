//! Whom we talk to: unknown, changed and revoked host keys.

use std::process::Command;

use super::*;

#[tokio::test]
async fn an_unknown_host_is_asked_about_and_remembered() {
    let Some(sshd) = ready() else { return };
    std::fs::remove_file(sshd.path("known_hosts")).expect("written by ready");
    let settings = sshd.settings(&["IdentityFile=@/id"]);
    let ui = Script::new(&["perhaps", "yes"]);
    within(connect(&settings, &ui)).await.expect("agreed to");

    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let print = Command::new("ssh-keygen")
        .args(["-lf"])
        .arg(sshd.path("host_ed25519.pub"))
        .output()
        .expect("ssh-keygen");
    let print = String::from_utf8(print.stdout).expect("text");
    let print = print.split_whitespace().nth(1).expect("size, fingerprint, comment");
    assert_eq!(
        ui.heard(),
        format!(
            "The authenticity of host '{name} ({name})' can't be established.\n\
             ED25519 key fingerprint is {print}.\n\
             This key is not known by any other names.\n\
             Are you sure you want to continue connecting (yes/no/[fingerprint])? \n\
             Please type 'yes', 'no' or the fingerprint: \n\
             Warning: Permanently added '{name}' (ED25519) to the list of known hosts.\n"
        )
    );
    let public = sshd.public("host_ed25519");
    let key = public.split_whitespace().nth(1).expect("kind, key, comment");
    assert_eq!(sshd.known_hosts(), format!("{name} ssh-ed25519 {key}\n"));

    let ui = Script::default();
    within(connect(&settings, &ui)).await.expect("known now");
    assert_eq!(ui.heard(), "");
}

#[tokio::test]
async fn an_unknown_host_is_refused_when_nobody_agrees() {
    let Some(sshd) = ready() else { return };
    std::fs::remove_file(sshd.path("known_hosts")).expect("written by ready");
    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let strict = format!(
        "No ED25519 host key is known for {name} and you have requested strict checking.\n"
    );
    for (options, answers) in [
        (&["StrictHostKeyChecking=ask"][..], &["no"][..]),
        (&["StrictHostKeyChecking=ask"], &[]),
        (&["StrictHostKeyChecking=ask", "BatchMode=yes"], &["yes"]),
        (&["StrictHostKeyChecking=yes"], &["yes"]),
    ] {
        let mut all = vec!["IdentityFile=@/id"];
        all.extend(options);
        let ui = Script::new(answers);
        let error = refusal(within(connect(&sshd.settings(&all), &ui)).await);
        assert_eq!(error.to_string(), "Host key verification failed.");
        if answers == ["yes"] {
            assert_eq!(ui.heard(), strict);
        }
        assert_eq!(sshd.known_hosts(), "");
    }
    let ui = Script::new(&["^C"]);
    let error = refusal(within(connect(&sshd.settings(&["IdentityFile=@/id"]), &ui)).await);
    assert!(matches!(error, LoginError::Interrupted));

    let new = sshd.settings(&["IdentityFile=@/id", "StrictHostKeyChecking=accept-new"]);
    within(connect(&new, &Script::default())).await.expect("new is accepted");
    assert!(sshd.known_hosts().starts_with(&name));
}

#[tokio::test]
async fn a_changed_host_key_is_refused_with_the_place_of_the_old_one() {
    let Some(sshd) = ready() else { return };
    sshd.make_key("impostor", "ecdsa", "");
    let name = format!("[127.0.0.1]:{}", sshd.address.port());
    let file = sshd.path("known_hosts");
    let text = format!("# mine\n{name} {}", sshd.public("impostor"));
    std::fs::write(&file, &text).expect("writable");

    for mode in ["yes", "ask", "accept-new"] {
        let mode = format!("StrictHostKeyChecking={mode}");
        let ui = Script::new(&["yes"]);
        let settings = sshd.settings(&["IdentityFile=@/id", &mode]);
        let error = refusal(within(connect(&settings, &ui)).await);
        assert_eq!(error.to_string(), "Host key verification failed.");
        let heard = ui.heard();
        assert!(heard.contains("REMOTE HOST IDENTIFICATION HAS CHANGED!"), "{heard}");
        assert!(heard.contains(&format!("Offending ECDSA key in {}:2", file.display())), "{heard}");
        assert!(heard.contains("you have requested strict checking."), "{heard}");
    }

    // Off: keys still log in, passwords are never sent.
    let off = ["StrictHostKeyChecking=off", "IdentityFile=@/id"];
    let ui = Script::default();
    within(connect(&sshd.settings(&off), &ui)).await.expect("a key gives nothing away");
    let heard = ui.heard();
    assert!(heard.contains("Password authentication is disabled to avoid"), "{heard}");
    assert_eq!(sshd.known_hosts(), text, "nothing is overwritten");
}

#[tokio::test]
async fn a_revoked_host_key_is_refused_whatever_the_mode() {
    let Some(sshd) = ready() else { return };
    let text = format!("@revoked * {}{}", sshd.public("host_ed25519"), sshd.known_hosts());
    std::fs::write(sshd.path("known_hosts"), text).expect("writable");
    let settings = sshd.settings(&["IdentityFile=@/id", "StrictHostKeyChecking=off"]);
    let ui = Script::default();
    refusal(within(connect(&settings, &ui)).await);
    assert!(ui.heard().contains("REVOKED HOST KEY DETECTED!"), "{}", ui.heard());
}

#[tokio::test]
async fn the_kind_of_key_the_host_is_known_by_is_asked_for_first() {
    let Some(sshd) = Sshd::with_config("HostKey @/host_ecdsa") else { return };
    sshd.make_key("host_ecdsa", "ecdsa", "");
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    let line = format!("[127.0.0.1]:{} {}", sshd.address.port(), sshd.public("host_ecdsa"));
    std::fs::write(sshd.path("known_hosts"), line).expect("writable");
    log_in(&sshd).await;
}
