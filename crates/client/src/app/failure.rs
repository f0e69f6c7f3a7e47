//! [`Failure`]: why nothing could be run, in words for the person who asked.

use crate::bootstrap::StartError;
use crate::link::LinkError;
use crate::login::LoginError;
use crate::remote::RemoteError;
use crate::report::Reporter;

/// Why nothing could be run.
pub(super) enum Failure {
    Login(LoginError),
    Start(StartError),
    Link(LinkError),
    Remote {
        error: RemoteError,
        linked: bool,
    },
    Usage(&'static str),
    /// Another program did the work, and ended so.
    Replaced(u8),
    /// On the way: at this jump host.
    At(String, Box<Self>),
}

impl Failure {
    /// Prints it.
    pub(super) fn report(&self, reporter: Reporter) {
        match self {
            // In ssh's own words, which are complete.
            Self::Login(error) => reporter.plain_error(error),
            // The refusals of a login come in ssh's own words, too.
            Self::Remote { error: RemoteError::Refused { reason, .. }, linked: false } => {
                reporter.plain_error(reason);
            }
            Self::Remote { error, .. } => reporter.error(error, None),
            Self::Usage(text) => reporter.plain_error(text),
            Self::Replaced(_) => {}
            Self::Start(error) => reporter.error(error, Some(start_hint(error))),
            Self::Link(error) => reporter.error(error, link_hint(error).as_deref()),
            Self::At(_, failure) => match &**failure {
                Self::Login(_) => reporter.plain_error(self),
                Self::Start(error) => reporter.error(self, Some(start_hint(error))),
                Self::Link(error) => reporter.error(self, link_hint(error).as_deref()),
                failure => failure.report(reporter),
            },
        }
    }
}

/// What went wrong, without a next step.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Login(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::Remote { error, .. } => error.fmt(f),
            Self::Usage(text) => f.write_str(text),
            Self::Replaced(status) => write!(f, "another program ended with status {status}"),
            Self::At(host, failure) => write!(f, "jump host {host}: {failure}"),
        }
    }
}

/// The next step after the server program did not come up.
fn start_hint(error: &StartError) -> &'static str {
    match error {
        StartError::Missing { .. } => {
            "Install tsshd there, name it with --tsshd-path, or use plain ssh with --tcp."
        }
        _ => "Use plain ssh with --tcp, or see what the server program says with --debug.",
    }
}

/// The next step after the link did not come up.
fn link_hint(error: &LinkError) -> Option<String> {
    match error {
        LinkError::Silent { carrier, port, .. } => Some(format!(
            "A firewall may block {carrier} port {port}: open it, choose other ports with \
             --tsshd-port{}, or use plain ssh with --tcp.",
            if *carrier == "UDP" { ", use TCP with -o UdpProxyMode=TCP" } else { "" },
        )),
        LinkError::NoKeys(_) | LinkError::Info(_) => {
            Some("Install the same version of tssh and tsshd on both hosts.".into())
        }
        _ => None,
    }
}
