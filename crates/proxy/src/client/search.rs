//! The parts of the client's state: a path in use, and the search for one.

use std::time::{Duration, Instant};

use super::ways::Way;
use crate::path::{Path, Route};
use crate::socket::PathId;
use crate::timers::{CALM, ERROR_SPACING_MAX, ERROR_SPACING_MIN, TRY_SPACING_MAX, TRY_SPACING_MIN};

/// A proven path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) path: Path,
    pub(super) proven_at: Instant,
    /// The next dummy; none once a packet from here was accepted.
    pub(super) next_dummy: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Search {
    /// Waiting before the next attempt.
    Pausing { until: Instant },
    /// Waiting for the system to say that there is a way to the server.
    Waiting,
    /// One path is being asked for.
    Asking(Attempt),
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: PathId,
    pub(super) way: Way,
    /// Made to find out if the best means works again; the path in use is good enough.
    pub(super) is_try: bool,
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    /// The way there, once the socket is open.
    pub(super) route: Option<Route>,
    pub(super) next_auth: Option<Instant>,
    /// Bytes that may still be copied there before the next auth packet.
    pub(super) allowance: u64,
    /// Which of the unanswered packets is copied there next.
    pub(super) next_copy: usize,
}

/// When the best means is tried again, while another one is in use.
#[derive(Debug)]
pub(super) struct Tries {
    pub(super) at: Option<Instant>,
    spacing: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self { at: None, spacing: TRY_SPACING_MIN }
    }
}

impl Tries {
    /// A path was proven, by the best means or by another one.
    pub(super) fn on_proven(&mut self, now: Instant, is_best: bool, same_network: bool) {
        if is_best || !same_network {
            *self = Self::default();
        }
        self.at = (!is_best).then_some(now + self.spacing);
    }

    /// The network changed: what did not work may work now.
    pub(super) fn on_network(&mut self, now: Instant) {
        self.spacing = TRY_SPACING_MIN;
        self.at = self.at.map(|at| at.min(now + TRY_SPACING_MIN));
    }

    /// It is being tried.
    pub(super) fn on_try(&mut self, now: Instant) {
        self.spacing = (self.spacing * 2).min(TRY_SPACING_MAX);
        self.at = Some(now + self.spacing);
    }
}

/// Spaces renewals that are caused by errors.
#[derive(Debug, Default)]
pub(super) struct ErrorSpacing {
    not_before: Option<Instant>,
    spacing: Option<Duration>,
}

impl ErrorSpacing {
    /// Returns when the next attempt may begin, and widens the spacing.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let at = self.not_before.map_or(now, |t| t.max(now));
        let spacing = self.spacing.map_or(ERROR_SPACING_MIN, |s| (s * 2).min(ERROR_SPACING_MAX));
        *self = Self { not_before: Some(at + spacing), spacing: Some(spacing) };
        at
    }

    /// The same, but begins with the shortest spacing again when there was
    /// nothing to space for a while.
    pub(super) fn next_unless_calm(&mut self, now: Instant) -> Instant {
        if self.not_before.is_some_and(|at| now >= at + CALM) {
            *self = Self::default();
        }
        self.next(now)
    }
}
