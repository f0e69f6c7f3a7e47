//! [`Renewed`]: a jump host without a link, reached anew when its login is gone.
//!
//! A login is one TCP connection, which no change of address survives. A link
//! that lies behind it does survive, if somebody logs in again: without a
//! question, and only when a new path is asked for. So nothing of a jump host
//! but [`Remote::dial`] is of use here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    BoxFuture, Remote, RemoteError, RemoteListener, RemoteSession, RemoteStream, SessionRequest,
    Target,
};
use crate::config::answers::Answers;
use crate::config::forward::Listen;
use crate::config::{Settings, StrictHostKeyChecking};
use crate::login::{self, Echo, Login, PromptError, Ui};

/// How long a login may take to open a connection before it counts as gone. A jump host that is
/// merely slow to connect costs a login; a dead one would cost a quarter of an hour.
const PATIENCE: Duration = Duration::from_secs(3);

/// A jump host that is logged in to again when need be.
pub struct Renewed {
    settings: Settings,
    /// The jump host before it.
    before: Option<Arc<dyn Remote>>,
    login: Mutex<Option<Arc<Login>>>,
}

impl Renewed {
    /// Takes a login, and what it takes to make another.
    #[must_use]
    pub fn new(login: Login, settings: &Settings, before: Option<Arc<dyn Remote>>) -> Self {
        let mut settings = settings.clone();
        // Somebody may be typing into a program by then: nothing is asked, and no host is taken
        // whose key is not known, or is another one now. No password goes out unseen.
        settings.batch_mode = true;
        settings.strict_host_key_checking = StrictHostKeyChecking::Yes;
        settings.answers = Answers::default();
        Self { settings, before, login: Mutex::new(Some(Arc::new(login))) }
    }

    async fn dial_anew(&self, target: Target) -> Result<RemoteStream, RemoteError> {
        let mut login = self.login.lock().await;
        if let Some(login) = login.clone() {
            match timeout(PATIENCE, login.dial(target.clone())).await {
                Ok(Err(error @ RemoteError::Refused { .. })) => return Err(error),
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(_)) | Err(_) => tracing::debug!("the jump host's login is gone"),
            }
        }
        *login = None;
        let anew = Arc::new(self.log_in().await?);
        *login = Some(anew.clone());
        anew.dial(target).await
    }

    async fn log_in(&self) -> Result<Login, RemoteError> {
        let made = match &self.before {
            None => login::connect(&self.settings, &Nobody).await,
            Some(before) => {
                let (host, port) = (self.settings.host_name.clone(), self.settings.port);
                let stream = before.dial(Target::Tcp { host, port }).await?;
                login::connect_through(&self.settings, stream, &Nobody).await
            }
        };
        made.map_err(|error| RemoteError::Lost {
            reason: format!("jump host {}: {error}", self.settings.original_host),
        })
    }

    fn cannot(&self) -> RemoteError {
        let reason = "it is only on the way".into();
        RemoteError::Refused { what: format!("jump host {}", self.settings.original_host), reason }
    }
}

impl Remote for Renewed {
    fn open_session(&self, _: SessionRequest) -> BoxFuture<'_, Result<RemoteSession, RemoteError>> {
        Box::pin(async { Err(self.cannot()) })
    }

    fn dial(&self, target: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        Box::pin(self.dial_anew(target))
    }

    fn listen(&self, _: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>> {
        Box::pin(async { Err(self.cannot()) })
    }

    fn forward_agent(&self) -> mpsc::Receiver<RemoteStream> {
        mpsc::channel(1).1
    }

    fn closed(&self) -> BoxFuture<'_, RemoteError> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Whoever is about to log in has given up by then.
            if let Some(login) = self.login.lock().await.take() {
                login.close().await;
            }
        })
    }

    fn roams(&self) -> bool {
        false
    }
}

/// Nobody is there to be asked, or to read.
struct Nobody;

impl Ui for Nobody {
    fn ask<'a>(
        &'a self,
        _: &'a str,
        _: Echo,
    ) -> BoxFuture<'a, Result<Zeroizing<String>, PromptError>> {
        Box::pin(async { Err(PromptError::NoTerminal) })
    }

    fn permit<'a>(&'a self, _: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }

    fn tell(&self, text: &str) {
        tracing::debug!(text, "a jump host's login");
    }

    fn warn(&self, text: &str) {
        tracing::debug!(text, "a jump host's login");
    }

    fn banner(&self, _: &str) {}
}
