//! A small ssh server for the demo and for tests: no root, no OpenSSH, one user.
//!
//! [`DevSshd::start`] listens on a free port of 127.0.0.1 with a host key made
//! on the spot, lets in exactly the logins its [`Config`] names, and runs
//! shells, commands and sftp as the calling user, with the environment a real
//! server gives them (`SSH_CONNECTION` above all, which tells tsshd where to
//! listen). Sessions live in [`Config::home`]; nothing else is written to.
//! When a connection ends, the process groups of its sessions get SIGHUP.
//!
//! Not a server to leave on a network: no PAM, no accounting, no forwarding,
//! no limits, and a session whose program does not read its input holds up the
//! others of the same connection. The end-to-end suite uses a real sshd.
#![forbid(unsafe_code)]

mod connection;
mod modes;
mod program;
mod session;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use russh::{MethodKind, MethodSet, server};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use connection::Connection;

/// What the server accepts, and where its sessions live.
#[derive(Clone, Default)]
pub struct Config {
    /// The only user name that is let in.
    pub user: String,
    /// The public key that is let in, as one line of `authorized_keys`.
    pub authorized_key: Option<String>,
    /// The password that is let in; `None` does not offer the method.
    pub password: Option<String>,
    /// The questions of keyboard-interactive; empty does not offer the method.
    pub questions: Vec<Question>,
    /// `$HOME`, `$TMPDIR` and working directory of every session.
    pub home: PathBuf,
    /// Names of variables a client may set; a final `*` matches any rest.
    pub accept_env: Vec<String>,
    /// Further variables of every session.
    pub set_env: Vec<(String, String)>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and answers stay out.
        f.debug_struct("Config").field("user", &self.user).field("home", &self.home).finish()
    }
}

/// One question of keyboard-interactive authentication and its right answer.
#[derive(Clone)]
pub struct Question {
    /// The text the client shows.
    pub prompt: String,
    /// Whether the client shows what is typed.
    pub echo: bool,
    /// The only answer that is let in.
    pub answer: String,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("prompt", &self.prompt).finish_non_exhaustive()
    }
}

/// An Ed25519 key pair for a client, in OpenSSH's file formats.
pub struct KeyPair {
    /// One line of a `.pub` file or of `authorized_keys`, without its end.
    pub public: String,
    /// The text of the private key file, unencrypted.
    pub private: String,
}

impl KeyPair {
    /// Makes a new key pair.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> io::Result<Self> {
        let key = random_key()?;
        let private = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
        let public = key.public_key().to_openssh().map_err(io::Error::other)?;
        Ok(Self { public, private: private.to_string() })
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A running server; dropping it without [`stop`](Self::stop) ends it as well, but does not wait.
#[derive(Debug)]
pub struct DevSshd {
    addr: SocketAddr,
    host_key: PublicKey,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl DevSshd {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// Must be called inside a tokio runtime, which then serves it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] when the authorized key cannot be read;
    /// otherwise what the system says to listening or to making a host key.
    pub async fn start(config: Config) -> io::Result<Self> {
        let authorized_key = config
            .authorized_key
            .as_deref()
            .map(PublicKey::from_openssh)
            .transpose()
            .map_err(|err| io::Error::new(io::ErrorKind::InvalidInput, err))?;
        let host_key = random_key()?;
        let public = host_key.public_key().clone();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let ssh = Arc::new(ssh_config(&config, host_key));
        let rules = Arc::new(Rules { config, authorized_key });
        let accepting = tokio::spawn(accept(listener, ssh, rules, stopped));
        Ok(Self { addr, host_key: public, stop, accepting })
    }

    /// Returns the address the server listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the line that makes this server known: `[127.0.0.1]:port key`.
    #[must_use]
    pub fn known_hosts_line(&self) -> String {
        let key = self.host_key.to_openssh().unwrap_or_default();
        format!("[{}]:{} {key}\n", self.addr.ip(), self.addr.port())
    }

    /// Ends every connection and its sessions, and waits for them.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // Its only error would be a panic inside, which the test would have shown.
        let _ = self.accepting.await;
    }
}

/// The configuration with its key decoded, shared by all connections.
#[derive(Debug)]
struct Rules {
    config: Config,
    authorized_key: Option<PublicKey>,
}

async fn accept(
    listener: TcpListener,
    ssh: Arc<server::Config>,
    rules: Arc<Rules>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // What can fail here is one client's doing, or a lack of
                // descriptors that only the end of others can cure.
                let Ok((stream, peer)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let Ok(local) = stream.local_addr() else { continue };
                let connection = Connection::new(Arc::clone(&rules), peer, local);
                connections.spawn(connection::serve(
                    stream,
                    Arc::clone(&ssh),
                    connection,
                    stopped.clone(),
                ));
            }
            Some(_) = connections.join_next() => {}
            () = connection::stop(&mut stopped) => break,
        }
    }
    while connections.join_next().await.is_some() {}
}

/// The methods that can let somebody in.
fn methods(config: &Config) -> MethodSet {
    let mut methods = MethodSet::empty();
    if config.authorized_key.is_some() {
        methods.push(MethodKind::PublicKey);
    }
    if !config.questions.is_empty() {
        methods.push(MethodKind::KeyboardInteractive);
    }
    if config.password.is_some() {
        methods.push(MethodKind::Password);
    }
    methods
}

fn ssh_config(config: &Config, host_key: PrivateKey) -> server::Config {
    server::Config {
        methods: methods(config),
        keys: vec![host_key],
        nodelay: true,
        inactivity_timeout: None,
        // Nothing here is worth guessing, and tests should not wait.
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    }
}

fn random_key() -> io::Result<PrivateKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|err| io::Error::other(err.to_string()))?;
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}
