//! Logins that ask a person: passwords and keyboard-interactive dialogues.
//!
//! Against the small ssh server of the demo, which asks whatever a test wants, and against a
//! real one with a PAM service of its own.

use std::ffi::OsString;

use crate::support::{Script, Sshd};
use devsshd::{Config, DevSshd, Question};
use tokio::io::AsyncReadExt as _;
use tssh::config::{Environment, Settings, resolve};
use tssh::login::{Login, LoginError, connect};
use tssh::remote::{Program, Remote as _, SessionEnd, SessionRequest};

struct World {
    server: DevSshd,
    home: tempfile::TempDir,
}

impl World {
    async fn new(password: Option<&str>, questions: &[(&str, bool, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let questions = questions.iter().map(|&(prompt, echo, answer)| Question {
            prompt: prompt.into(),
            echo,
            answer: answer.into(),
        });
        let server = DevSshd::start(Config {
            user: "someone".into(),
            password: password.map(Into::into),
            questions: questions.collect(),
            home: home.path().into(),
            ..Config::default()
        })
        .await
        .expect("a server");
        std::fs::write(home.path().join("known_hosts"), server.known_hosts_line())
            .expect("writable");
        Self { server, home }
    }

    fn settings(&self, options: &[&str]) -> Settings {
        let mut args: Vec<OsString> = ["-F", "/dev/null", "-l", "someone"].map(Into::into).into();
        let at = self.home.path().display();
        let fixed = [
            format!("Port={}", self.server.addr().port()),
            format!("UserKnownHostsFile={at}/known_hosts"),
            "GlobalKnownHostsFile=/dev/null".into(),
            "IdentityAgent=none".into(),
            format!("IdentityFile={at}/no_such_key"),
        ];
        for option in fixed.iter().map(String::as_str).chain(options.iter().copied()) {
            args.extend(["-o".into(), option.into()]);
        }
        args.push("127.0.0.1".into());
        let line = tssh::cli::parse(args.into_iter()).expect("a command line");
        resolve(&line, &Environment::of_process().expect("a user")).expect("a configuration")
    }

    /// Logs in with these answers; what was heard besides the missing key.
    async fn log_in(
        &self,
        options: &[&str],
        answers: &[&'static str],
    ) -> (Result<Login, LoginError>, String) {
        let ui = Script::new(answers);
        let result = connect(&self.settings(options), &ui).await;
        let heard = ui.heard();
        let heard = heard.lines().filter(|line| !line.starts_with("no such identity"));
        (result, heard.collect::<Vec<_>>().join("\n"))
    }
}

const PROMPT: &str = "someone@127.0.0.1's password: ";
const AGAIN: &str = "Permission denied, please try again.";

fn refusal(result: Result<Login, LoginError>) -> String {
    result.err().map(|error| error.to_string()).expect("the login is refused")
}

#[tokio::test]
async fn a_right_password_logs_in_after_a_wrong_one() {
    let world = World::new(Some("right"), &[]).await;
    let (result, heard) = world.log_in(&[], &["wrong", "right"]).await;
    assert_eq!(heard, [PROMPT, AGAIN, PROMPT].join("\n"));
    let login = result.expect("a login");
    let request = SessionRequest {
        program: Program::Exec(b"exit 5".to_vec()),
        pty: None,
        env: Vec::new(),
        agent: false,
        x11: false,
    };
    let session = login.open_session(request).await.expect("a session");
    assert_eq!(session.end.await, SessionEnd::Exited(5));
}

#[tokio::test]
async fn a_status_counts_only_when_all_output_has_come() {
    // Written when the shell is gone, so behind its status; the output stays open.
    const COMMAND: &[u8] =
        b"(while kill -0 $$; do sleep 0.01; done 2>/dev/null; echo more; exec sleep 600) & exit 0";
    let world = World::new(Some("right"), &[]).await;
    let (result, _) = world.log_in(&[], &["right"]).await;
    let login = result.expect("a login");
    let request = SessionRequest {
        program: Program::Exec(COMMAND.to_vec()),
        pty: None,
        env: Vec::new(),
        agent: false,
        x11: false,
    };
    let mut session = login.open_session(request).await.expect("a session");
    let mut more = [0; 5];
    session.output.read_exact(&mut more).await.expect("what comes behind the status");
    assert_eq!(&more, b"more\n");
    world.server.stop().await;
    assert_eq!(session.end.await, SessionEnd::Unknown);
}

#[tokio::test]
async fn three_wrong_passwords_are_the_end() {
    let world = World::new(Some("right"), &[]).await;
    let (result, heard) = world.log_in(&[], &["a", "b", "c", "right"]).await;
    assert_eq!(refusal(result), "someone@127.0.0.1: Permission denied (password).");
    assert_eq!(heard, [PROMPT, AGAIN, PROMPT, AGAIN, PROMPT].join("\n"));
}

#[tokio::test]
async fn the_interrupt_key_at_the_prompt_ends_the_login() {
    let world = World::new(Some("right"), &[]).await;
    let (result, _) = world.log_in(&[], &["^C"]).await;
    assert!(matches!(result, Err(LoginError::Interrupted)));
}

#[tokio::test]
async fn batch_mode_and_a_missing_terminal_send_no_password() {
    let world = World::new(Some(""), &[]).await;
    for (options, heard_prompt) in [(&["BatchMode=yes"][..], ""), (&[], PROMPT)] {
        let (result, heard) = world.log_in(options, &[]).await;
        assert_eq!(refusal(result), "someone@127.0.0.1: Permission denied (password).");
        assert_eq!(heard, heard_prompt);
    }
}

#[tokio::test]
async fn questions_are_asked_in_the_servers_words_and_named_as_such() {
    let questions = [("Password: ", false, "right"), ("\x1b[2JCode: ", true, "123456")];
    let world = World::new(Some("unused"), &questions).await;
    let (result, heard) = world.log_in(&[], &["right", "wrong", "right", "123456"]).await;
    result.expect("the second dialogue is right");
    let dialogue = "(someone@127.0.0.1) Password: \n(someone@127.0.0.1) \\033[2JCode: ";
    assert_eq!(heard, [dialogue, dialogue].join("\n"));
}

#[tokio::test]
async fn preferred_methods_come_first_and_others_are_left_out() {
    let world = World::new(Some("right"), &[("Code: ", true, "1")]).await;
    let (result, heard) =
        world.log_in(&["PreferredAuthentications=password,keyboard-interactive"], &["right"]).await;
    result.expect("by password");
    assert_eq!(heard, PROMPT);
    let (result, heard) = world.log_in(&["PreferredAuthentications=publickey"], &["right"]).await;
    refusal(result);
    assert_eq!(heard, "");
}

#[tokio::test]
async fn a_host_whose_key_has_changed_gets_no_password_even_when_unchecked() {
    let world = World::new(Some("right"), &[("Code: ", true, "1")]).await;
    let other = DevSshd::start(Config { home: world.home.path().into(), ..Config::default() })
        .await
        .expect("another key");
    let line = other.known_hosts_line();
    let key = line.split_once(' ').expect("host and key").1;
    let text = format!("[127.0.0.1]:{} {key}", world.server.addr().port());
    std::fs::write(world.home.path().join("known_hosts"), text).expect("writable");
    let (result, heard) = world.log_in(&["StrictHostKeyChecking=off"], &["right"]).await;
    refusal(result);
    assert!(!heard.contains(PROMPT) && !heard.contains("Code: "), "{heard}");
}

/// Logs in to a real sshd that knows `right`; what was heard besides the missing key.
async fn log_in_by_pam(
    option: &str,
    answers: &[&'static str],
) -> Option<(Result<Login, LoginError>, String, Sshd)> {
    let methods = "PasswordAuthentication yes\nKbdInteractiveAuthentication yes";
    let sshd = Sshd::with_pam(methods, "right")?;
    sshd.be_known();
    let ui = Script::new(answers);
    let result = connect(&sshd.settings(&[option]), &ui).await;
    let heard = ui.heard();
    let heard: Vec<&str> =
        heard.lines().filter(|line| !line.starts_with("no such identity")).collect();
    Some((result, heard.join("\n"), sshd))
}

#[tokio::test]
async fn a_real_server_takes_a_password_after_a_wrong_one() {
    let option = "PreferredAuthentications=password";
    let Some((login, heard, sshd)) = log_in_by_pam(option, &["wrong", "right"]).await else {
        return;
    };
    assert!(login.is_ok(), "{:?}\n{heard}\n{}", login.err(), sshd.log());
    let prompt = "root@127.0.0.1's password: ";
    assert_eq!(heard, [prompt, AGAIN, prompt].join("\n"));
}

#[tokio::test]
async fn a_real_server_takes_answers_after_a_wrong_one() {
    let option = "PreferredAuthentications=keyboard-interactive";
    let Some((login, heard, sshd)) = log_in_by_pam(option, &["wrong", "right"]).await else {
        return;
    };
    assert!(login.is_ok(), "{:?}\n{heard}\n{}", login.err(), sshd.log());
    let prompt = "(root@127.0.0.1) Password: ";
    assert_eq!(heard, [prompt, prompt].join("\n"));
}

#[tokio::test]
async fn a_real_server_that_refuses_to_the_end_is_quoted() {
    let option = "NumberOfPasswordPrompts=1";
    let Some((login, heard, _sshd)) = log_in_by_pam(option, &["wrong", "wrong"]).await else {
        return;
    };
    let methods = "publickey,password,keyboard-interactive";
    let denied = format!("root@127.0.0.1: Permission denied ({methods}).");
    assert_eq!(refusal(login), denied);
    assert_eq!(heard, "(root@127.0.0.1) Password: \nroot@127.0.0.1's password: ");
}
