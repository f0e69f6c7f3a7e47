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
use crate::config::Settings;
use crate::config::answers::Answers;
use crate::config::forward::Listen;
use crate::login::{self, Echo, HostKey, Login, PromptError, Ui};

/// How long a login may take to open a connection before it counts as gone. A jump host that is
/// merely slow to connect costs a login; a dead one would cost a quarter of an hour.
const PATIENCE: Duration = Duration::from_secs(3);

/// A jump host that is logged in to again when need be.
pub struct Renewed {
    settings: Settings,
    /// What the host must show again.
    host_key: Option<HostKey>,
    /// The jump host before it.
    before: Option<Arc<dyn Remote>>,
    login: Mutex<Option<Arc<Login>>>,
}

impl Renewed {
    /// Takes a login, and what it takes to make another.
    #[must_use]
    pub fn new(login: Login, settings: &Settings, before: Option<Arc<dyn Remote>>) -> Self {
        let mut settings = settings.clone();
        // Somebody may be typing into a program by then: nothing is asked, and no password goes
        // out unseen. Which host key is good is no matter of settings; see `connect_again`.
        settings.batch_mode = true;
        settings.answers = Answers::default();
        let host_key = login.host_key().cloned();
        Self { settings, host_key, before, login: Mutex::new(Some(Arc::new(login))) }
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
        let gone = |reason: String| RemoteError::Lost {
            reason: format!("jump host {}: {reason}", self.settings.original_host),
        };
        let Some(host_key) = &self.host_key else {
            return Err(gone("its host key is not known".into()));
        };
        let stream = match &self.before {
            None => None,
            Some(before) => {
                let (host, port) = (self.settings.host_name.clone(), self.settings.port);
                Some(before.dial(Target::Tcp { host, port }).await?)
            }
        };
        let made = login::connect_again(&self.settings, stream, host_key, &Nobody).await;
        made.map_err(|error| gone(error.to_string()))
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
