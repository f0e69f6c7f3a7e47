//! State × event of the client machine, written down so that a changed
//! transition shows in a review.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proto::path_auth::PathAck;
use proto::{ClientId, ServerId};

use super::{Client, Config, Event, RenewReason, Search, State};
use crate::path::{Change, SocketId};
use crate::seal::{ProxyKey, Sealer};
use crate::socket::PathId;

const SECOND: Duration = Duration::from_secs(1);

fn name(client: &Client) -> &'static str {
    match &client.state {
        State::Idle => "Idle",
        State::Connecting { .. } => "Connecting",
        State::Up { .. } => "Up",
        State::Roaming { search: Search::Pausing { .. }, .. } => "Roaming(pausing)",
        State::Roaming { .. } => "Roaming",
        State::Down { old: Some(_), .. } => "Down(old)",
        State::Down { old: None, .. } => "Down",
        State::Ended => "Ended",
    }
}

fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Open { .. } => "open",
        Event::Close { .. } => "close",
        Event::Proven { change: Change::First, .. } => "first",
        Event::Proven { change: Change::Moved { .. }, .. } => "moved",
        Event::Proven { change: Change::Restored { .. }, .. } => "restored",
        Event::AttemptFailed { .. } => "attempt-failed",
        Event::Lost { .. } => "lost",
        Event::ConnectFailed { .. } => "connect-failed",
    }
}

/// The path in use, if there is or was one; the other one is being asked for.
const OLD: PathId = PathId(0);

fn client() -> Client {
    let candidates = vec![([203, 0, 113, 9], 61001).into()];
    Client::new(Config::new(ClientId(1), ServerId(2), ProxyKey::new([3; 32]), candidates))
}

fn in_state(state: &str, now: Instant) -> Client {
    let mut client = client();
    if state != "Idle" {
        client.start(now);
        client.handle_opened(now, OLD, None);
    }
    if !matches!(state, "Idle" | "Connecting") {
        client.handle_accepted(now, OLD);
        client.handle_heartbeat(now, now);
    }
    if matches!(state, "Roaming" | "Down(old)") {
        client.renew(now, RenewReason::Requested);
        client.handle_opened(now, PathId(1), None);
    }
    if state == "Down(old)" {
        client.handle_timeout(now + 3 * SECOND);
    }
    if state == "Ended" {
        client.close();
    }
    while client.poll_event().is_some() {}
    assert_eq!(name(&client), state);
    client
}

#[test]
fn every_event_in_every_state() {
    let start = Instant::now();
    type Act = fn(&mut Client, Instant, PathId);
    let events: [(&str, Act); 11] = [
        ("start", |c, now, _| c.start(now)),
        ("renew", |c, now, _| c.renew(now, RenewReason::Requested)),
        ("ack", |c, now, new| {
            let ack = PathAck { server: ServerId(2), serial: c.serial() }.encode();
            let ack = Sealer::new(&ProxyKey::new([3; 32])).seal([0; 12], ack);
            c.handle_packet(now, SocketId(new.0), &ack);
        }),
        ("accepted, new", |c, now, new| c.handle_accepted(now, new)),
        ("accepted, in use", |c, now, _| c.handle_accepted(now, OLD)),
        ("failed, new", |c, now, new| c.handle_failed(now, new, String::new())),
        ("failed, in use", |c, now, _| c.handle_failed(now, OLD, String::new())),
        ("silence", |c, _, _| {
            let at = c.silent_at();
            at.into_iter().for_each(|at| c.handle_timeout(at));
        }),
        ("attempt over", |c, _, _| {
            let at = c.attempt().map(|a| a.deadline);
            at.into_iter().for_each(|at| {
                c.contact = Some(at);
                c.handle_timeout(at);
            });
        }),
        ("slept a minute", |c, now, _| c.handle_clock_jump(now, 60 * SECOND)),
        ("close", |c, _, _| c.close()),
    ];
    let mut table = String::new();
    for state in ["Idle", "Connecting", "Up", "Roaming", "Down(old)", "Ended"] {
        for (event, act) in &events {
            let mut client = in_state(state, start);
            // Well after the last transition, before any deadline.
            let now = start + if state == "Down(old)" { 4 * SECOND } else { SECOND };
            let new = client.attempt().map_or(PathId(99), |attempt| attempt.id);
            act(&mut client, now, new);
            let out: Vec<_> =
                std::iter::from_fn(|| client.poll_event()).map(|e| event_name(&e)).collect();
            if name(&client) != state || !out.is_empty() {
                let next = name(&client);
                writeln!(table, "{state} + {event} = {next} [{}]", out.join(" ")).unwrap();
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "the table is now:\n{table}");
}
