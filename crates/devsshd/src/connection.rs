//! One client: who is let in, and what may be opened.
//!
//! Requests are answered here, one after the other as they arrive, because
//! russh keeps a single "wants reply" mark per channel; once a program runs,
//! its channel belongs to a task of [`crate::session`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::server::{
    self, Auth, ChannelOpenHandle, Handler, Msg, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, Disconnect, Pty};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Rules;
use crate::program::{Action, PtyRequest, Setup};
use crate::session;

/// Tasks of one connection's sessions; they end when the connection does.
type Sessions = Arc<Mutex<JoinSet<()>>>;

/// A channel that is open but runs nothing yet.
struct Opening {
    channel: Channel<Msg>,
    setup: Setup,
}

/// What the server knows about one client.
pub(crate) struct Connection {
    rules: Arc<Rules>,
    peer: SocketAddr,
    local: SocketAddr,
    opening: HashMap<ChannelId, Opening>,
    sessions: Sessions,
}

/// Serves one client until it goes or the server stops.
pub(crate) async fn serve(
    stream: TcpStream,
    ssh: Arc<server::Config>,
    connection: Connection,
    mut stopped: watch::Receiver<bool>,
) {
    let sessions = Arc::clone(&connection.sessions);
    let running = tokio::select! {
        running = server::run_stream(ssh, stream, connection) => running,
        () = stop(&mut stopped) => return,
    };
    // A client that does not speak ssh, or left before it said a word.
    let Ok(mut running) = running else { return };
    let handle = running.handle();
    tokio::select! {
        _ = &mut running => {}
        () = stop(&mut stopped) => {
            // Sessions first: their queues may be what the connection waits for.
            lock(&sessions).abort_all();
            let _ = handle
                .disconnect(Disconnect::ByApplication, String::new(), String::new())
                .await;
            let _ = tokio::time::timeout(GOODBYE, running).await;
        }
    }
    lock(&sessions).abort_all();
}

/// Waits for the server to be stopped or dropped.
pub(crate) async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

impl Connection {
    pub(crate) fn new(rules: Arc<Rules>, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { rules, peer, local, opening: HashMap::new(), sessions: Sessions::default() }
    }

    /// Refuses, and leaves all methods open for another try, as OpenSSH does.
    fn retry(&self) -> Auth {
        let methods = crate::methods(&self.rules.config);
        Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
    }

    fn is_user(&self, user: &str) -> bool {
        self.rules.config.user == user
    }

    /// Starts `action` on a channel and answers the request.
    fn start(
        &mut self,
        id: ChannelId,
        action: Option<Action>,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(action), Some(opening)) = (action, self.opening.remove(&id)) else {
            return session.channel_failure(id);
        };
        match opening.setup.start(&self.rules.config, action, self.peer, self.local) {
            Ok(program) => {
                session.channel_success(id)?;
                lock(&self.sessions).spawn(session::run(
                    opening.channel,
                    session.handle(),
                    program,
                ));
                Ok(())
            }
            Err(_) => session.channel_failure(id),
        }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let right = self.rules.config.password.as_deref() == Some(password);
        Ok(if right && self.is_user(user) { Auth::Accept } else { self.retry() })
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = self.rules.authorized_key.as_ref();
        let right = known.is_some_and(|key| key.key_data() == offer.public_key.key_data());
        Ok(if right && self.is_user(user) { Auth::Accept } else { self.retry() })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let known = self.rules.authorized_key.as_ref();
        let right = known.is_some_and(|known| known.key_data() == key.public_key.key_data());
        Ok(if right && self.is_user(user) { Auth::Accept } else { self.retry() })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let questions = &self.rules.config.questions;
        let Some(response) = response else {
            let prompts: Vec<_> =
                questions.iter().map(|q| (Cow::Owned(q.prompt.clone()), q.echo)).collect();
            return Ok(Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(""),
                prompts: Cow::Owned(prompts),
            });
        };
        let given: Vec<_> = response.collect();
        let right = !questions.is_empty()
            && given.len() == questions.len()
            && given.iter().zip(questions).all(|(given, q)| given[..] == *q.answer.as_bytes());
        Ok(if right && self.is_user(user) { Auth::Accept } else { self.retry() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.opening.insert(channel.id(), Opening { channel, setup: Setup::default() });
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.opening.remove(&channel);
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        cols: u32,
        rows: u32,
        width_px: u32,
        height_px: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(opening) = self.opening.get_mut(&channel) else {
            return session.channel_failure(channel);
        };
        opening.setup.pty = Some(PtyRequest {
            term: term.to_owned(),
            size: session::size(cols, rows, width_px, height_px),
            modes: modes.to_vec(),
        });
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let accepted =
            self.rules.config.accept_env.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => pattern == name,
            });
        match self.opening.get_mut(&channel) {
            Some(opening) if accepted => {
                opening.setup.env.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Some(Action::Shell), session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Some(Action::Command(command.to_vec())), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.start(channel, Action::subsystem(name), session)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        session.channel_failure(channel)?;
        Ok(false)
    }
}

fn lock(sessions: &Sessions) -> std::sync::MutexGuard<'_, JoinSet<()>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a stopping server waits for a client to take its goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
