//! The way to the server, and what it says on the way in.

use std::sync::{Arc, Mutex};

use super::*;

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_told_as_ssh_tells_them() {
    let Some(sshd) = ready() else { return };
    let mut settings = sshd.settings(&["IdentityFile=@/id"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    settings.port = free.local_addr().expect("bound").port();
    drop(free);
    let error = refusal(within(connect(&settings, &Script::default())).await).to_string();
    let port = settings.port;
    assert_eq!(error, format!("ssh: connect to host 127.0.0.1 port {port}: Connection refused"));

    settings.host_name = "no-such-host.invalid".into();
    let error = refusal(within(connect(&settings, &Script::default())).await).to_string();
    assert!(error.starts_with("ssh: Could not resolve hostname no-such-host.invalid: "), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_meets_the_connect_timeout() {
    let Some(sshd) = ready() else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = sshd.settings(&["ConnectTimeout=1"]);
    settings.port = silent.local_addr().expect("bound").port();
    let error = refusal(within(connect(&settings, &Script::default())).await);
    assert_eq!(error.to_string(), "Connection timed out during banner exchange");
}

#[tokio::test]
async fn a_banner_is_shown_without_its_escape_sequences() {
    let Some(sshd) = Sshd::with_config("Banner @/banner") else { return };
    std::fs::write(sshd.path("banner"), "be nice\n\x1b[2Jplease\n").expect("writable");
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    sshd.be_known();
    let settings = sshd.settings(&["IdentityFile=@/id"]);
    let ui = Script::default();
    within(connect(&settings, &ui)).await.expect("a login");
    assert_eq!(ui.heard(), "be nice\n\\033[2Jplease\n\n");
}

#[tokio::test]
async fn too_many_keys_are_told_in_the_servers_words() {
    let Some(sshd) = Sshd::with_config("MaxAuthTries 1") else { return };
    sshd.be_known();
    sshd.make_key("a", "ed25519", "");
    sshd.make_key("b", "ed25519", "");
    let settings = sshd.settings(&["IdentityFile=@/a", "IdentityFile=@/b"]);
    let error = refusal(within(connect(&settings, &Script::default())).await).to_string();
    assert!(
        error.contains("Received disconnect from 127.0.0.1 port")
            && error.contains(":2: Too many authentication failures"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_wants_two_proofs_gets_both() {
    let Some(sshd) = Sshd::with_config("AuthenticationMethods publickey,publickey") else { return };
    for name in ["a", "b", "c"] {
        sshd.make_key(name, "ed25519", "");
    }
    sshd.authorize("a");
    sshd.authorize("c");
    sshd.be_known();
    let options = ["IdentityFile=@/a", "IdentityFile=@/b", "IdentityFile=@/c"];
    let ui = Script::default();
    within(connect(&sshd.settings(&options), &ui)).await.expect("a, then c");
    let one = sshd.settings(&options[..2]);
    let error = refusal(within(connect(&one, &ui)).await).to_string();
    assert_eq!(error, "root@127.0.0.1: Permission denied (publickey).");
}

/// docs/decisions/0010-login-round-trips.md: a round trip less, and two unwritten properties of
/// russh that an update may change.
#[tokio::test]
async fn the_first_sessions_requests_travel_with_its_channel() {
    let Some(sshd) = ready() else { return };
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || Log(Arc::clone(&writer)))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let login = log_in(&sshd).await;
    let mut request = exec("tty -s; echo $? $TSSH_TEST");
    request.env.push(("TSSH_TEST".into(), "sent".into()));
    request.pty =
        Some(PtyRequest { term: "vt100".into(), size: TerminalSize::default(), modes: vec![] });
    let (output, _, end) = run(&login, request).await;
    assert_eq!((output.as_str(), end), ("0 sent\r\n", SessionEnd::Exited(0)));

    let text = String::from_utf8_lossy(&log.lock().expect("no panic")).into_owned();
    assert!(text.contains("sent with the channel's opening"), "{text}");
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_connection_comes_from_the_address_or_interface_asked_for() {
    let Some(sshd) = ready() else { return };
    let from = |options: &[&str]| {
        let settings = sshd.settings(&[&["IdentityFile=@/id", "BatchMode=yes"], options].concat());
        async move {
            let login = within(connect(&settings, &Script::default())).await?;
            Ok::<_, LoginError>(run(&login, exec("echo ${SSH_CONNECTION%% *}")).await.0)
        }
    };
    for (options, address) in [
        (&["BindAddress=127.0.0.9"][..], "127.0.0.9\n"),
        (&["BindAddress=localhost"], "127.0.0.1\n"),
        (&["BindInterface=lo"], "127.0.0.1\n"),
        (&["BindInterface=lo", "BindAddress=127.0.0.9"], "127.0.0.9\n"),
    ] {
        assert_eq!(from(options).await.expect("a login"), address, "{options:?}");
    }
    for (option, text) in [
        ("BindAddress=192.0.2.1", "bind 192.0.2.1: Cannot assign requested address"),
        ("BindInterface=none0", "bind none0: no suitable addresses"),
        ("BindAddress=::1", "bind ::1: Address family for hostname not supported"),
    ] {
        assert_eq!(from(&[option]).await.expect_err("refused").to_string(), text);
    }
}

#[tokio::test]
async fn the_keys_of_the_connection_are_renewed_when_rekey_limit_says_so() {
    let Some(sshd) = ready() else { return };
    let given = ["IdentityFile=@/id", "BatchMode=yes", "RekeyLimit=1M"];
    let settings = sshd.settings(&given);
    let login = within(connect(&settings, &Script::default())).await.expect("a login");
    let (output, _, end) = run(&login, exec("head -c 8000000 /dev/zero | tr '\\0' x")).await;
    assert_eq!((output.len(), end), (8_000_000, SessionEnd::Exited(0)));
    let exchanges = sshd.log().matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 3, "{exchanges} key exchanges");
}

#[tokio::test]
async fn compression_is_used_when_it_is_asked_for_and_not_otherwise() {
    for (option, used) in [("Compression=yes", true), ("Compression=no", false)] {
        let Some(sshd) = ready() else { return };
        let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes", option]);
        let login = within(connect(&settings, &Script::default())).await.expect("a login");
        let (output, _, _) = run(&login, exec("head -c 1000000 /dev/zero | tr '\\0' x")).await;
        assert_eq!(output.len(), 1_000_000);
        let log = sshd.log();
        assert_eq!(log.contains("compression: zlib@openssh.com"), used, "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_refuses_is_asked_again_after_a_second_as_often_as_is_wanted() {
    let Some(sshd) = ready() else { return };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    for (attempts, seconds) in [("1", 0), ("3", 2)] {
        let mut settings = sshd.settings(&[&format!("ConnectionAttempts={attempts}")]);
        settings.port = closed.local_addr().expect("bound").port();
        // An address of the loopback interface where nobody listens at that port.
        settings.host_name = "127.0.0.99".to_owned();
        let begun = tokio::time::Instant::now();
        let error = refusal(connect(&settings, &Script::default()).await);
        assert!(error.to_string().ends_with("Connection refused"), "{error}");
        assert_eq!(begun.elapsed().as_secs(), seconds, "pauses between {attempts}");
    }
}

#[tokio::test]
async fn a_method_that_we_lack_and_the_server_takes_is_named_where_it_is_wanted() {
    let Some(sshd) = Sshd::with_config("HostbasedAuthentication yes") else { return };
    sshd.be_known();
    for (option, is_named) in [("HostbasedAuthentication=yes", true), ("BatchMode=yes", false)] {
        let ui = Script::default();
        let error = refusal(within(connect(&sshd.settings(&[option]), &ui)).await);
        assert!(error.to_string().contains("Permission denied"), "{error}");
        let said = "tssh has no hostbased authentication; --via-ssh";
        assert_eq!(ui.heard().contains(said), is_named, "{}", ui.heard());
    }
}
