//! Logging in to a real OpenSSH server, to Dropbear and to one of our own, and what runs over the
//! login.
//!
//! Skipped, with a word, where there is no sshd or we are not root.

mod answers;
mod connecting;
mod dropbear;
mod host_keys;
mod hosts;
mod identities;
mod keys;
mod prompts;
mod sessions;
mod support;

use std::time::Duration;

use support::{Script, SshAgent, Sshd, chmod, keygen};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tssh::login::{Login, LoginError, connect};
use tssh::remote::{
    Program, PtyRequest, Remote, RemoteError, SessionEnd, SessionRequest, TerminalSize,
};

/// Nothing here takes as long; a hang shows as this, not as a silent CI.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("no hang")
}

/// A server that knows `id` and that is known.
fn ready() -> Option<Sshd> {
    let sshd = Sshd::start()?;
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    sshd.be_known();
    Some(sshd)
}

async fn log_in(sshd: &Sshd) -> Login {
    let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes"]);
    let ui = Script::default();
    match within(connect(&settings, &ui)).await {
        Ok(login) => login,
        Err(error) => panic!("{error}\n{}\n{}", ui.heard(), sshd.log()),
    }
}

fn refusal(result: Result<Login, LoginError>) -> LoginError {
    result.err().expect("the login is refused")
}

fn exec(command: &str) -> SessionRequest {
    SessionRequest {
        program: Program::Exec(command.into()),
        pty: None,
        env: Vec::new(),
        agent: false,
        x11: false,
    }
}

/// Runs a command without input; its output, its errors and how it ended.
async fn run(remote: &impl Remote, request: SessionRequest) -> (String, String, SessionEnd) {
    let session = within(remote.open_session(request)).await.expect("it starts");
    drop(session.input);
    let error = async {
        match session.error {
            Some(error) => text(error).await,
            None => String::new(),
        }
    };
    let (output, error, end) =
        within(async { tokio::join!(text(session.output), error, session.end) }).await;
    (output, error, end)
}

async fn text(mut from: impl AsyncRead + Unpin) -> String {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.expect("readable");
    String::from_utf8_lossy(&all).into_owned()
}
