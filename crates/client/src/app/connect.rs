//! The way to the destination: host by host, each through the one before.
//!
//! On every host it is the same: log in; if UDP is wanted there, start tsshd and move over.
//! Not here: what is done at the destination.

use std::sync::{Arc, Weak};

use tokio::time::timeout;

use super::failure::Failure;
use super::{BOOTSTRAP_TERM, Run, ViaSystem};
use crate::bootstrap::{self, Started};
use crate::config::{Proxy, Settings, UdpMode, UdpProxyMode};
use crate::guard::Farewell;
use crate::link::{Link, LinkError, Near, Way};
use crate::login::{self, Login, LoginError};
use crate::remote::idle::Timed;
use crate::remote::renewed::Renewed;
use crate::remote::{Remote, RemoteError, RemoteSession, Target, system};
use crate::report::FAILURE;
use crate::request::{env, term};
use crate::sys::tty;
use crate::terminal::prompt::TtyUi;

/// The destination and the way there.
pub(super) struct Connected {
    /// The destination.
    pub(super) remote: Arc<dyn Remote>,
    /// How a guard ends what we leave on the nearest host.
    pub(super) farewell: Option<Farewell>,
    /// The jump hosts, the nearest first.
    hops: Vec<Arc<dyn Remote>>,
}

impl Connected {
    /// Leaves in good order: nothing of ours stays on any host.
    pub(super) async fn close(&self) {
        self.remote.close().await;
        close_all(&self.hops).await;
    }
}

/// Leaves jump hosts, the farthest first.
async fn close_all(hops: &[Arc<dyn Remote>]) {
    for hop in hops.iter().rev() {
        hop.close().await;
    }
}

/// One host, and how a guard ends what we leave there.
type Reached = (Arc<dyn Remote>, Option<Farewell>);

impl Run {
    /// Goes all the way.
    pub(super) async fn connect(&self) -> Result<Connected, Failure> {
        if let Some(system) = &self.system {
            let (remote, farewell) = self.connect_by(system).await?;
            return Ok(Connected { remote: self.timed(remote), farewell, hops: Vec::new() });
        }
        let mut hops: Vec<Arc<dyn Remote>> = Vec::new();
        let mut farewell = None;
        for settings in self.hops.iter().chain([&self.settings]) {
            match self.reach(settings, &hops).await {
                Ok((remote, last_words)) => {
                    // Only what is near hears them.
                    farewell = farewell.or(last_words.filter(|_| hops.is_empty()));
                    hops.push(remote);
                }
                Err(failure) => {
                    close_all(&hops).await;
                    return Err(match hops.len() < self.hops.len() {
                        true => Failure::At(settings.original_host.clone(), Box::new(failure)),
                        false => failure,
                    });
                }
            }
        }
        let remote = hops.pop().expect("the destination was reached last");
        Ok(Connected { remote: self.timed(remote), farewell, hops })
    }

    /// Puts the limits of ChannelTimeout on the destination.
    fn timed(&self, remote: Arc<dyn Remote>) -> Arc<dyn Remote> {
        Timed::around(remote, &self.settings.channel_timeouts, self.reporter)
    }

    /// Logs in to the next host, and moves over if that is wanted.
    async fn reach(
        &self,
        settings: &Settings,
        hops: &[Arc<dyn Remote>],
    ) -> Result<Reached, Failure> {
        let login = self.log_in(settings, hops).await?;
        if settings.udp.mode == UdpMode::No {
            return Ok((self.keep(login, settings, hops), None));
        }
        let login = Arc::new(login);
        match self.move_over(&login, settings, hops).await {
            Ok((link, session)) => {
                let until = link.uses_login().then(|| link.clone());
                // The login has served its purpose, unless the packets go through it; its
                // farewell costs the session nothing.
                tokio::spawn(async move {
                    if let Some(link) = until {
                        link.closed().await;
                    }
                    drop(session);
                    login.close().await;
                });
                Ok(self.linked(link, settings))
            }
            // `Host *` with `UdpMode yes` must not break what ssh can do (DESIGN D8), nor must a
            // wish for UDP farther on.
            Err(failure) if self.can_do_without(&failure, settings, hops) => {
                if tty::stderr_is_tty() {
                    let name = self.name_before(settings);
                    self.reporter
                        .warning(&format_args!("{name}{failure}; going on over plain ssh"));
                }
                Ok((self.keep_shared(login, settings, hops), None))
            }
            Err(failure) => {
                login.close().await;
                Err(failure)
            }
        }
    }

    /// Returns whether the login will do, where there is no link.
    fn can_do_without(
        &self,
        failure: &Failure,
        settings: &Settings,
        hops: &[Arc<dyn Remote>],
    ) -> bool {
        let is_on_the_way = hops.len() < self.hops.len();
        // Everything was tried, and nothing gets through but the login (DESIGN D4).
        let tried_all = hops.is_empty()
            && settings.udp.proxy_mode == UdpProxyMode::Auto
            && !matches!(settings.proxy, Proxy::Command(_));
        match failure {
            Failure::Start(error) => !settings.udp.explicit && error.leaves_login_usable(),
            // A gateway may let nothing but ssh pass.
            Failure::Link(LinkError::Silent { .. }) => {
                tried_all || (!settings.udp.explicit && is_on_the_way)
            }
            _ => false,
        }
    }

    /// As [`Run::keep`], unless somebody else still has the login.
    fn keep_shared(
        &self,
        login: Arc<Login>,
        settings: &Settings,
        hops: &[Arc<dyn Remote>],
    ) -> Arc<dyn Remote> {
        match Arc::try_unwrap(login) {
            Ok(login) => self.keep(login, settings, hops),
            Err(login) => login,
        }
    }

    /// Returns how what is said of a host begins: with its name, unless it is the destination.
    fn name_before(&self, settings: &Settings) -> String {
        match settings.original_host == self.settings.original_host {
            true => String::new(),
            false => format!("jump host {}: ", settings.original_host),
        }
    }

    /// Starts the server over a login and connects to it.
    async fn move_over(
        &self,
        login: &Arc<Login>,
        settings: &Settings,
        hops: &[Arc<dyn Remote>],
    ) -> Result<(Link, RemoteSession), Failure> {
        let way = self.way(login, settings, hops)?;
        let settings = fitted(settings, &way);
        let term = term(&settings).unwrap_or_else(|| BOOTSTRAP_TERM.into());
        let started =
            bootstrap::start_server(login.as_ref(), &settings, &term, env(&settings)).await;
        let Started { info, session } = started.map_err(Failure::Start)?;
        let through: Weak<dyn Remote> = Arc::<Login>::downgrade(login);
        let link = Link::connect_by(info, &way, Some(through), &settings.udp).await;
        Ok((link.map_err(Failure::Link)?, session))
    }

    /// Returns the host that is reached by its login alone; as a jump host on the way to a link,
    /// which outlives logins, it is logged in to again when need be.
    fn keep(&self, login: Login, settings: &Settings, hops: &[Arc<dyn Remote>]) -> Arc<dyn Remote> {
        let beyond = self.hops.iter().chain([&self.settings]).skip(hops.len() + 1);
        match beyond.into_iter().any(|host| host.udp.mode != UdpMode::No) {
            true => Arc::new(Renewed::new(login, settings, hops.last().cloned())),
            false => Arc::new(login),
        }
    }

    /// Returns how packets get to the host of a login.
    fn way(
        &self,
        login: &Login,
        settings: &Settings,
        hops: &[Arc<dyn Remote>],
    ) -> Result<Way, Failure> {
        if let Some(hop) = hops.last() {
            return Ok(Way::Through(hop.clone(), settings.host_name.clone()));
        }
        if let Proxy::Command(template) = &settings.proxy {
            let failed = |reason| Failure::Login(LoginError::ProxyCommand { reason });
            return Way::by_command(settings, template).map_err(failed);
        }
        let peer = login.peer_addr();
        let peer = peer.ok_or(Failure::Link(LinkError::Malformed("address of the login")))?;
        let round_trip = login.round_trip();
        let name = Some((settings.host_name.clone(), settings.address_family));
        Ok(Way::Direct(Near { peer, round_trip, name }))
    }

    async fn log_in(
        &self,
        settings: &Settings,
        hops: &[Arc<dyn Remote>],
    ) -> Result<Login, Failure> {
        let ui = TtyUi::new(settings.log_level, settings.askpass.clone());
        let Some(before) = hops.last() else {
            return login::connect(settings, &ui).await.map_err(Failure::Login);
        };
        let (host, port) = (settings.host_name.clone(), settings.port);
        let dial = before.dial(Target::Tcp { host: host.clone(), port });
        let stream = match settings.connect_timeout {
            None => dial.await,
            Some(limit) => timeout(limit, dial).await.unwrap_or_else(|_| {
                Err(RemoteError::Lost { reason: "Connection timed out".into() })
            }),
        };
        let stream = stream.map_err(|error| {
            let reason = match error {
                RemoteError::Refused { reason, .. } => reason,
                error => error.to_string(),
            };
            let name = self.hops.get(hops.len() - 1).map_or("", |hop| &hop.original_host);
            Failure::Login(LoginError::Jump { via: name.to_owned(), host, port, reason })
        })?;
        login::connect_through(settings, stream, &ui).await.map_err(Failure::Login)
    }

    /// Starts the server by another program's login.
    async fn connect_by(&self, system: &ViaSystem) -> Result<Reached, Failure> {
        let way = self.way_beside(system)?;
        let settings =
            &way.as_ref().map_or(self.settings.clone(), |way| fitted(&self.settings, way));
        let term = term(settings).unwrap_or_else(|| BOOTSTRAP_TERM.into());
        let started =
            match bootstrap::start_server(&system.login, settings, &term, env(settings)).await {
                Ok(started) => started,
                Err(error) if settings.udp.explicit => return Err(Failure::Start(error)),
                Err(error) => {
                    if tty::stderr_is_tty() {
                        self.reporter.warning(&format_args!("{error}; going on over plain ssh"));
                    }
                    let status = system.whole.run().await.ok().and_then(|status| status.code());
                    let status = status.and_then(|status| u8::try_from(status).ok());
                    return Err(Failure::Replaced(status.unwrap_or(FAILURE)));
                }
            };
        let way = match way {
            Some(way) => way,
            None => Way::Direct(near(settings).await?),
        };
        let Started { info, session } = started;
        let link = Link::connect_by(info, &way, None, &settings.udp).await;
        drop(session);
        Ok(self.linked(link.map_err(Failure::Link)?, settings))
    }

    /// Returns how packets get to the host where another program found the way there; `None` for
    /// the address of its name.
    fn way_beside(&self, system: &ViaSystem) -> Result<Option<Way>, Failure> {
        let mut settings = self.settings.clone();
        let template = match (&self.settings.proxy, &system.jump) {
            (Proxy::Command(template), _) => template,
            (Proxy::Jump(_), Some(template)) => {
                settings.proxy_hands_over = false;
                template
            }
            _ => return Ok(None),
        };
        let failed = |reason| Failure::Login(LoginError::ProxyCommand { reason });
        Way::by_command(&settings, template).map(Some).map_err(failed)
    }

    /// Passes on what the server of a link has to say.
    fn linked(&self, link: Link, settings: &Settings) -> Reached {
        let (source, reporter) = (link.clone(), self.reporter);
        let name = self.name_before(settings);
        tokio::spawn(async move {
            while let Some(warning) = source.next_warning().await {
                reporter.warning(&format_args!("{name}server: {warning}"));
            }
        });
        let farewell = link.farewell().cloned();
        (Arc::new(link), farewell)
    }
}

/// Looks up where the destination is, which a login by another program does not tell.
async fn near(settings: &Settings) -> Result<Near, Failure> {
    let (host, family) = (settings.host_name.as_str(), settings.address_family);
    let found = system::address_of(host, |address| family.allows(address)).await;
    let failed = |reason| Failure::Login(LoginError::Resolve { host: host.to_owned(), reason });
    Ok(Near { name: Some((host.to_owned(), family)), ..Near::from(found.map_err(failed)?) })
}

/// Returns the settings with what the way there asks for: a carrier it can carry, and packets
/// that fit.
fn fitted(settings: &Settings, way: &Way) -> Settings {
    let mut settings = settings.clone();
    if !way.carries_datagrams() {
        settings.udp.proxy_mode = UdpProxyMode::Tcp;
    }
    if settings.udp.proxy_mode == UdpProxyMode::Auto && !matches!(way, Way::Direct(_)) {
        settings.udp.proxy_mode = UdpProxyMode::Udp;
    }
    settings.udp.mtu = settings.udp.mtu.or(way.packet_size());
    settings
}
