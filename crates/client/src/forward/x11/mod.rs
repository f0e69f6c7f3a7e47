//! X11 forwarding, the client's half (PROTOCOL §6.8; RFC 4254 §6.3).
//!
//! The far host gets a false cookie. Whoever connects by way of it has to show that one, and
//! the display is shown the true one in its place, which never leaves this machine.
//! Not here: what asks the far host to listen ([`crate::remote::Remote::forward_x11`]).
//!
//! What goes wrong is said in OpenSSH's words.

mod display;
pub mod setup;
mod xauth;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proxy::driver::boot_time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{Forwarder, Open, words};
use crate::remote::{RemoteStream, X11Request};
use crate::report::Reporter;
use display::Display;
use setup::{Spoof, Verdict};

/// The protocol of cookies we make up, and the bytes such a cookie has.
const PROTOCOL: &str = "MIT-MAGIC-COOKIE-1";
const COOKIE_LEN: usize = 16;

/// ForwardX11 and its companions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X11Settings {
    /// Whether there is X11 forwarding (ForwardX11).
    pub enabled: bool,
    /// Whether far programs may do everything that ours may (ForwardX11Trusted).
    pub trusted: bool,
    /// How long connections are accepted from programs that are not trusted; zero is for ever
    /// (ForwardX11Timeout).
    pub timeout: Duration,
    /// The `xauth` program (XAuthLocation).
    pub xauth: PathBuf,
}

impl Default for X11Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            trusted: false,
            timeout: Duration::from_secs(1200),
            xauth: PathBuf::from("/usr/bin/xauth"),
        }
    }
}

/// A display that far programs may reach.
struct Shown {
    display: Display,
    spoof: Spoof,
    until: Until,
    reporter: Reporter,
}

/// When connections are refused from: a time of [`boot_time`], or never. Sleep counts, as for
/// OpenSSH: the X server's own limit on the cookie goes by such a clock, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Until(Option<Duration>);

impl Until {
    /// A second more than `limit` after `now`, as with OpenSSH; zero is never.
    fn after(limit: Duration, now: Duration) -> Self {
        let grace = limit.saturating_add(Duration::from_secs(1));
        Self(Some(grace).filter(|_| !limit.is_zero()).and_then(|grace| now.checked_add(grace)))
    }

    fn is_past(self, now: Duration) -> bool {
        self.0.is_some_and(|until| now >= until)
    }
}

impl Forwarder {
    /// Leads programs on the far host to the display of this side, if the settings say so and
    /// there is one. Call it before the first session.
    pub async fn forward_x11(&self) {
        let settings = &self.0.settings.x11;
        if !settings.enabled {
            return;
        }
        let Some(shown) = Shown::find(settings, self.0.reporter).await else { return };
        let reporter = self.0.reporter;
        let request = X11Request {
            protocol: shown.spoof.protocol().to_owned(),
            cookie: shown.spoof.fake_hex(),
            screen: shown.display.screen,
            on_refusal: Arc::new(move || {
                reporter.plain_error(&"X11 forwarding request failed on channel 0");
            }),
        };
        let mut incoming = self.0.remote.forward_x11(request);
        let (shown, inner) = (Arc::new(shown), Arc::downgrade(&self.0));
        let task = tokio::spawn(async move {
            while let Some(far) = incoming.recv().await {
                let Some(inner) = inner.upgrade() else { return };
                let (shown, open) = (Arc::clone(&shown), Open::new(&inner, "x11: a display here"));
                tokio::spawn(async move {
                    shown.conduct(far).await;
                    drop(open);
                });
            }
        });
        // Ends with the connection.
        drop(task);
    }
}

impl Shown {
    /// Finds the display and its cookie; what prevents it is said.
    async fn find(settings: &X11Settings, reporter: Reporter) -> Option<Self> {
        let Some(name) = std::env::var("DISPLAY").ok().filter(|name| !name.is_empty()) else {
            tracing::debug!("X11 forwarding requested but DISPLAY not set");
            return None;
        };
        let display = match Display::parse(&name) {
            Ok(display) => display,
            Err(complaint) => {
                reporter.remark(&complaint);
                return None;
            }
        };
        let has_xauth = settings.xauth.exists();
        if !has_xauth {
            tracing::debug!("No xauth program.");
        }
        let mut until = Until(None);
        let cookie = if !has_xauth {
            None
        } else if settings.trusted {
            xauth::list(&settings.xauth, &display).await
        } else {
            until = Until::after(settings.timeout, boot_time());
            xauth::generate(&settings.xauth, &display, settings.timeout).await.ok().flatten()
        };
        let (protocol, real) = match cookie {
            Some(cookie) => cookie,
            None if !settings.trusted => {
                reporter.plain_error(
                    &"Warning: untrusted X11 forwarding setup failed: xauth key data not generated",
                );
                return None;
            }
            None => {
                reporter.remark(
                    &"Warning: No xauth data; using fake authentication data for X11 forwarding.",
                );
                (PROTOCOL.to_owned(), random(COOKIE_LEN)?)
            }
        };
        let fake = random(real.len())?;
        let spoof = Spoof::new(protocol, real.to_vec(), fake.to_vec())?;
        Some(Self { display, spoof, until, reporter })
    }

    /// Leads one connection to the display, if it knows the false cookie.
    async fn conduct(&self, mut far: RemoteStream) {
        if self.until.is_past(boot_time()) {
            tracing::info!("Rejected X11 connection after ForwardX11Timeout expired");
            return far.read.abort();
        }
        let Some(first) = self.admit(&mut far).await else {
            // As ssh: the end of data, and no answer.
            let _ = far.write.shutdown().await;
            return far.read.abort();
        };
        let mut socket = match self.display.connect().await {
            Ok(socket) => socket,
            Err(error) => {
                let words = words(&error);
                self.reporter.plain_error(&format_args!("connect {}: {words}", self.display));
                return far.read.abort();
            }
        };
        if socket.write_all(&first).await.is_ok() {
            drop(first);
            socket.conduct(far).await;
        }
    }

    /// Reads the first packet; returns what to send to the display instead.
    async fn admit(&self, far: &mut RemoteStream) -> Option<Zeroizing<Vec<u8>>> {
        let mut arrived = Vec::new();
        loop {
            match self.spoof.judge(&arrived) {
                Verdict::Pass(first) => return Some(first),
                Verdict::Refuse(reason) => {
                    tracing::debug!(reason, "X11 connection refused");
                    self.reporter
                        .remark(&"X11 connection rejected because of wrong authentication.");
                    return None;
                }
                Verdict::More => {}
            }
            match far.read.read_buf(&mut arrived).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// Returns random bytes; without a source of them there is no forwarding.
fn random(len: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_programs_have_their_time_and_a_second_and_zero_is_for_ever() {
        let second = Duration::from_secs(1);
        let until = Until::after(60 * second, 100 * second);
        assert!(!until.is_past(160 * second));
        assert!(until.is_past(161 * second));
        let never = Until::after(Duration::ZERO, 100 * second);
        assert!(!never.is_past(Duration::MAX));
        assert!(!Until::after(Duration::MAX, second).is_past(Duration::from_secs(u64::MAX)));
    }
}
