//! The server as a client sees it, through russh's client half.

use std::sync::Arc;

use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Pty, Sig};
use tempfile::TempDir;
use tssh_devsshd::{Config, DevSshd, KeyPair, Question};

struct Client {
    known_hosts: String,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        Ok(self.known_hosts.contains(&key.to_openssh().expect("a key has a text")))
    }
}

struct World {
    server: DevSshd,
    home: TempDir,
    key: KeyPair,
}

impl World {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let key = KeyPair::generate().expect("a key pair");
        let mut config = Config {
            user: "demo".into(),
            authorized_key: Some(key.public.clone()),
            home: home.path().to_owned(),
            accept_env: vec!["LC_*".into()],
            ..Config::default()
        };
        change(&mut config);
        let server = DevSshd::start(config).await.expect("the server starts");
        Self { server, home, key }
    }

    async fn connect(&self) -> Handle<Client> {
        let known_hosts = self.server.known_hosts_line();
        let config = Arc::new(client::Config::default());
        let handler = Client { known_hosts };
        client::connect(config, self.server.addr(), handler).await.expect("the server answers")
    }

    async fn login(&self) -> Handle<Client> {
        let mut handle = self.connect().await;
        let result = publickey(&mut handle, "demo", &self.key).await;
        assert!(result.success(), "the right key is let in");
        handle
    }
}

async fn publickey(handle: &mut Handle<Client>, user: &str, key: &KeyPair) -> AuthResult {
    let key = PrivateKey::from_openssh(&key.private).expect("the private key can be read");
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    handle.authenticate_publickey(user, key).await.expect("the server answers")
}

#[derive(Debug, Default)]
struct Outcome {
    stdout: String,
    stderr: String,
    status: Option<u32>,
    signal: Option<Sig>,
}

async fn outcome(mut channel: russh::Channel<client::Msg>) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => outcome.stdout += &String::from_utf8_lossy(&data),
            ChannelMsg::ExtendedData { data, .. } => {
                outcome.stderr += &String::from_utf8_lossy(&data);
            }
            ChannelMsg::ExitStatus { exit_status } => outcome.status = Some(exit_status),
            ChannelMsg::ExitSignal { signal_name, .. } => outcome.signal = Some(signal_name),
            _ => {}
        }
    }
    outcome
}

async fn exec(handle: &Handle<Client>, command: &str) -> Outcome {
    let channel = handle.channel_open_session().await.expect("a channel");
    channel.exec(true, command).await.expect("the command is sent");
    outcome(channel).await
}

#[tokio::test]
async fn a_command_gives_its_outputs_and_status_apart() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let got = exec(&handle, "echo out; echo err >&2; exit 7").await;
    assert_eq!((&*got.stdout, &*got.stderr, got.status), ("out\n", "err\n", Some(7)));
}

#[tokio::test]
async fn a_killed_command_reports_its_signal() {
    let world = World::new(|_| {}).await;
    let got = exec(&world.login().await, "kill -TERM $$").await;
    assert!(matches!(got.signal, Some(Sig::TERM)), "{got:?}");
}

#[tokio::test]
async fn a_session_lives_in_the_given_home_and_knows_its_connection() {
    let world = World::new(|_| {}).await;
    let got = exec(&world.login().await, "pwd -P; echo $HOME; echo $SSH_CONNECTION").await;
    let home = world.home.path();
    let real = home.canonicalize().expect("the home is there");
    let port = world.server.addr().port();
    let lines: Vec<_> = got.stdout.lines().collect();
    assert_eq!(lines[..2], [real.to_string_lossy(), home.to_string_lossy()]);
    assert!(lines[2].starts_with("127.0.0.1 "), "{got:?}");
    assert!(lines[2].ends_with(&format!(" 127.0.0.1 {port}")), "{got:?}");
}

#[tokio::test]
async fn end_of_input_reaches_the_command_and_its_later_output_the_client() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let channel = handle.channel_open_session().await.expect("a channel");
    channel.exec(true, "cat; echo after").await.expect("the command is sent");
    channel.data(&b"before\n"[..]).await.expect("input is sent");
    channel.eof().await.expect("the end of input is sent");
    assert_eq!(outcome(channel).await.stdout, "before\nafter\n");
}

#[tokio::test]
async fn only_accepted_variables_are_set() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let channel = handle.channel_open_session().await.expect("a channel");
    channel.set_env(false, "LC_TEST", "yes").await.expect("a variable is sent");
    channel.set_env(false, "BAD", "no").await.expect("a variable is sent");
    channel.exec(true, "echo [$LC_TEST] [$BAD]").await.expect("the command is sent");
    assert_eq!(outcome(channel).await.stdout, "[yes] []\n");
}

#[tokio::test]
async fn a_terminal_has_the_size_and_the_modes_asked_for() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let channel = handle.channel_open_session().await.expect("a channel");
    let modes = [(Pty::ECHO, 0), (Pty::VERASE, 8), (Pty::ONLCR, 0)];
    channel.request_pty(true, "vt100", 99, 33, 0, 0, &modes).await.expect("a pty is asked for");
    channel.exec(true, "stty -a; echo $TERM").await.expect("the command is sent");
    let got = outcome(channel).await.stdout;
    for part in ["rows 33; columns 99", "erase = ^H", " -echo ", "-onlcr", "vt100"] {
        assert!(got.contains(part), "{part} is missing in {got}");
    }
}

#[tokio::test]
async fn a_resize_reaches_the_program() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let mut channel = handle.channel_open_session().await.expect("a channel");
    channel.request_pty(true, "vt100", 80, 24, 0, 0, &[]).await.expect("a pty is asked for");
    let command = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    channel.exec(true, command).await.expect("the command is sent");
    while let Some(message) = channel.wait().await {
        if matches!(&message, ChannelMsg::Data { data } if data.starts_with(b"ready")) {
            break;
        }
    }
    channel.window_change(100, 50, 0, 0).await.expect("the size is sent");
    assert!(outcome(channel).await.stdout.contains("50 100"));
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_user_are_refused() {
    let world = World::new(|_| {}).await;
    let wrong = KeyPair::generate().expect("a key pair");
    let mut handle = world.connect().await;
    assert!(!publickey(&mut handle, "demo", &wrong).await.success());
    let mut handle = world.connect().await;
    assert!(!publickey(&mut handle, "other", &world.key).await.success());
}

#[tokio::test]
async fn a_password_is_let_in_after_a_wrong_one() {
    let world = World::new(|config| config.password = Some("right".into())).await;
    let mut handle = world.connect().await;
    let wrong = handle.authenticate_password("demo", "wrong").await.expect("an answer");
    assert!(!wrong.success());
    let right = handle.authenticate_password("demo", "right").await.expect("an answer");
    assert!(right.success());
}

#[tokio::test]
async fn the_right_answers_are_let_in() {
    let question = Question { prompt: "Code: ".into(), echo: true, answer: "42".into() };
    let world = World::new(|config| config.questions = vec![question]).await;
    for (answer, expected) in [("41", false), ("42", true)] {
        let mut handle = world.connect().await;
        let asked = handle.authenticate_keyboard_interactive_start("demo", None).await;
        let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } =
            asked.expect("an answer")
        else {
            panic!("the server asks its question");
        };
        assert_eq!((&*prompts[0].prompt, prompts[0].echo), ("Code: ", true));
        let answers = vec![answer.to_owned()];
        let result = handle.authenticate_keyboard_interactive_respond(answers).await;
        let accepted = matches!(result, Ok(KeyboardInteractiveAuthResponse::Success));
        assert_eq!(accepted, expected, "{answer}");
    }
}

#[tokio::test]
async fn a_command_is_hung_up_when_its_client_goes() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let mut channel = handle.channel_open_session().await.expect("a channel");
    channel.exec(true, MARKS_ITS_END).await.expect("the command is sent");
    while !matches!(channel.wait().await, Some(ChannelMsg::Data { .. }) | None) {}
    handle.disconnect(russh::Disconnect::ByApplication, "", "").await.expect("goodbye is sent");
    wait_for(&world.home.path().join("mark")).await;
}

#[tokio::test]
async fn stopping_the_server_hangs_up_what_runs() {
    let world = World::new(|_| {}).await;
    let handle = world.login().await;
    let mut channel = handle.channel_open_session().await.expect("a channel");
    channel.exec(true, MARKS_ITS_END).await.expect("the command is sent");
    while !matches!(channel.wait().await, Some(ChannelMsg::Data { .. }) | None) {}
    world.server.stop().await;
    wait_for(&world.home.path().join("mark")).await;
}

/// Writes the file `mark` when it is hung up.
///
/// Its stderr is closed by then, and the shell may have something to say there.
const MARKS_ITS_END: &str = "exec 2>/dev/null; trap 'echo hung up > mark; exit' HUP; \
    echo ready; while :; do sleep 0.01; done";

/// Waits until a file is there, and fails after a generous while.
async fn wait_for(path: &std::path::Path) {
    for _ in 0..3000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} does not appear", path.display());
}
