//! Logins where the configuration answers in place of a person: passwords, questions, codes.

use std::ffi::OsString;
use std::path::Path;

use crate::support::{Script, chmod, keygen};
use devsshd::{Config, DevSshd, Question};
use tssh::config::{Environment, Settings, resolve};
use tssh::login::{Login, LoginError, connect};

/// A home with a configuration, and a server that asks.
struct World {
    server: DevSshd,
    home: tempfile::TempDir,
}

impl World {
    async fn new(config: Config) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let config = Config { user: "someone".into(), home: home.path().into(), ..config };
        let server = DevSshd::start(config).await.expect("a server");
        let this = Self { server, home };
        std::fs::create_dir(this.path("")).expect("an empty home");
        std::fs::write(this.path("known_hosts"), this.server.known_hosts_line()).expect("writable");
        this
    }

    async fn asking(questions: &[(&str, bool, &str)]) -> Self {
        let questions = questions.iter().map(|&(prompt, echo, answer)| Question {
            prompt: prompt.into(),
            echo,
            answer: answer.into(),
        });
        Self::new(Config { questions: questions.collect(), ..Config::default() }).await
    }

    async fn with_password(password: &str) -> Self {
        Self::new(Config { password: Some(password.into()), ..Config::default() }).await
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(".ssh").join(name)
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writable");
        chmod(&self.path(name), 0o600);
    }

    /// Settings for the host `box`, from the files of this home.
    fn settings(&self, options: &[&str]) -> Settings {
        let common = [
            "HostName=127.0.0.1".to_owned(),
            "User=someone".into(),
            format!("Port={}", self.server.addr().port()),
            "GlobalKnownHostsFile=/dev/null".into(),
            "IdentityAgent=none".into(),
        ];
        let mut args: Vec<OsString> = Vec::new();
        for option in common.iter().map(String::as_str).chain(options.iter().copied()) {
            args.extend(["-o".into(), option.into()]);
        }
        args.push("box".into());
        let line = tssh::cli::parse(args.into_iter()).expect("a command line");
        let environment = Environment {
            home: self.home.path().into(),
            user: "someone".into(),
            uid: 1000,
            host_name: "here".into(),
            variables: Vec::new(),
            system_config: self.home.path().join("none"),
        };
        resolve(&line, &environment).expect("a configuration")
    }

    /// Logs in; what a person heard, and was asked.
    async fn log_in(
        &self,
        options: &[&str],
        answers: &[&'static str],
    ) -> (Result<Login, LoginError>, String) {
        let ui = Script::new(answers);
        let result = connect(&self.settings(options), &ui).await;
        (result, ui.heard())
    }

    /// Logs in and checks that nobody was asked or told anything.
    #[track_caller]
    fn assert_silent((result, heard): (Result<Login, LoginError>, String)) {
        assert!(result.is_ok(), "{:?}\n{heard}", result.err());
        assert_eq!(heard, "");
    }
}

const PROMPT: &str = "someone@127.0.0.1's password: ";
const AGAIN: &str = "Permission denied, please try again.";

#[tokio::test]
async fn a_password_of_the_password_file_logs_in_where_nobody_can_be_asked() {
    let world = World::with_password("open sesame").await;
    world
        .write("password", "Host other\n Password wrong\nHost box\n Password open sesame # ours\n");
    World::assert_silent(world.log_in(&["BatchMode=yes"], &[]).await);
}

#[tokio::test]
async fn a_password_of_a_line_that_ssh_takes_for_a_comment_logs_in() {
    let world = World::with_password("a # b").await;
    world.write("config", "Host box\n #!! Password \"a # b\"\n");
    World::assert_silent(world.log_in(&[], &[]).await);
}

#[tokio::test]
async fn a_command_prints_the_password_and_learns_whose() {
    let world = World::with_password("box-someone").await;
    world.write("config", "#!! PasswordCommand printf '%%s-%%s' %n %r\n");
    chmod(&world.path("config"), 0o644);
    World::assert_silent(world.log_in(&[], &[]).await);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_then_a_person_is_asked() {
    let world = World::with_password("right").await;
    world.write("password", "Password wrong\n");
    let (result, heard) = world.log_in(&[], &["right"]).await;
    assert!(result.is_ok(), "{:?}", result.err());
    assert_eq!(heard, format!("{AGAIN}\n{PROMPT}\n"));
}

#[tokio::test]
async fn a_command_that_fails_is_named_and_a_person_asked() {
    let world = World::with_password("right").await;
    world.write("password", "PasswordCommand sh -c 'echo right; exit 3'\n");
    let (result, heard) = world.log_in(&[], &["right"]).await;
    assert!(result.is_ok(), "{:?}", result.err());
    let failed = "The answer kept as password cannot be used: sh: exit status: 3";
    assert_eq!(heard, format!("{failed}\n{PROMPT}\n"));
}

#[tokio::test]
async fn a_password_that_others_can_read_is_not_used() {
    let world = World::with_password("right").await;
    world.write("password", "Password right\n");
    chmod(&world.path("password"), 0o644);
    let warnings = world.settings(&[]).warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("line 1: password is not used") && warning.contains("chmod 600"));
    let (result, heard) = world.log_in(&["BatchMode=yes"], &[]).await;
    assert!(result.is_err(), "{heard}");
}

#[tokio::test]
async fn what_another_program_sealed_is_named_and_not_guessed() {
    let world = World::with_password("right").await;
    world.write("password", "encPassword 00112233\n");
    let warnings = world.settings(&[]).warnings;
    assert!(warnings.iter().any(|w| w.contains("encpassword was sealed")), "{warnings:?}");
    assert!(!warnings.iter().any(|warning| warning.contains("00112233")), "{warnings:?}");
}

#[tokio::test]
async fn keywords_of_ssh_in_the_password_file_are_passed_over_with_a_word() {
    let world = World::with_password("right").await;
    world.write("password", "User nobody\nUdpMTU 1300\n");
    let settings = world.settings(&[]);
    assert_eq!((settings.user.as_str(), settings.udp.mtu), ("someone", Some(1300)));
    assert!(
        settings.warnings.iter().any(|w| w.contains("user belongs")),
        "{:?}",
        settings.warnings
    );
}

#[tokio::test]
async fn questions_are_answered_by_number_by_their_words_and_as_passwords() {
    let questions =
        [("Pet? ", true, "rex"), ("Password: ", false, "right"), ("City? ", true, "Ys")];
    let world = World::asking(&questions).await;
    let city = hex::encode("City?");
    let text = format!("QuestionAnswer1 rex\nPassword right\n{city} Ys\n");
    world.write("password", &text);
    World::assert_silent(world.log_in(&["BatchMode=yes"], &[]).await);
}

#[tokio::test]
async fn a_command_for_a_question_gets_it_as_one_word_whatever_it_says() {
    let question = "$(touch /tmp/x) '; \"";
    let world = World::asking(&[(question, true, "[$(touch /tmp/x) '; \"]")]).await;
    world.write("password", "OtpCommand1 printf [%%s] %q\n");
    World::assert_silent(world.log_in(&[], &[]).await);
}

#[tokio::test]
async fn a_code_is_computed_from_its_secret() {
    // Which one is good now is a matter of time: the person is asked for the other question only.
    let world = World::asking(&[("Code: ", false, "never"), ("Pet? ", true, "rex")]).await;
    world.write("password", "TotpSecret1 GEZDGNBVGY3TQOJQ\n");
    let (result, heard) = world.log_in(&["NumberOfPasswordPrompts=1"], &["rex"]).await;
    assert!(result.is_err());
    assert_eq!(heard, "(someone@127.0.0.1) Pet? \n");
}

#[tokio::test]
async fn the_passphrase_of_a_key_is_found_by_its_file_s_name_or_the_host_s() {
    for text in ["Host id_mine\n Passphrase open sesame\n", "Host box\n Passphrase open sesame\n"] {
        let keys = tempfile::tempdir().expect("a temporary directory");
        let key = keys.path().join("id_mine");
        keygen(&["-q", "-t", "ed25519", "-N", "open sesame", "-f"], &key);
        let public = std::fs::read_to_string(public_of(&key)).expect("beside it");
        let config = Config { authorized_key: Some(public), ..Config::default() };
        let world = World::new(config).await;
        world.write("password", text);
        let identity = format!("IdentityFile={}", key.display());
        World::assert_silent(world.log_in(&[&identity, "BatchMode=yes"], &[]).await);
    }
}

fn public_of(key: &Path) -> std::path::PathBuf {
    key.with_extension("pub")
}
