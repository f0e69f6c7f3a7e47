//! State × event of the client machine, written down so that a changed
//! transition shows in a review.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
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
        State::Roaming { search: Search::Waiting, .. } => "Roaming(waiting)",
        State::Roaming { .. } => "Roaming",
        State::Down { search: Search::Waiting, .. } => "Down(waiting)",
        State::Down { old: Some(_), .. } => "Down(old)",
        State::Down { old: None, .. } => "Down",
        State::Ended => "Ended",
    }
}

fn event_name(event: &Event) -> &str {
    match event {
        // The test's own mark: the state in between.
        Event::AttemptFailed { error: Some(state), .. } if !state.is_empty() => state,
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

/// The address of ours that packets leave from.
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

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
        client.handle_opened(now, OLD, Some(OURS));
    }
    if !matches!(state, "Idle" | "Connecting") {
        client.handle_accepted(now, OLD);
        client.handle_heartbeat(now, now);
    }
    if matches!(state, "Roaming" | "Down(old)") {
        client.renew(now, RenewReason::Requested);
        client.handle_opened(now, PathId(1), Some(OURS));
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
    let events: [(&str, Act); 15] = [
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
        ("no answer", |c, now, _| {
            c.handle_sent(now, std::iter::once(&b"typed"[..]));
            let at = c.overdue_at();
            at.into_iter().for_each(|at| c.handle_timeout(at));
        }),
        ("same route", |c, now, _| c.handle_network(now, |_| Some(OURS))),
        ("other route", |c, now, _| c.handle_network(now, |_| Some([192, 0, 2, 2].into()))),
        ("no route, route", |c, now, _| {
            c.handle_network(now, |_| None);
            c.events
                .push_back(Event::AttemptFailed { remote: None, error: Some(name(c).to_owned()) });
            c.handle_network(now, |_| Some(OURS));
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
            let out = std::iter::from_fn(|| client.poll_event());
            let out: Vec<_> = out.map(|event| event_name(&event).to_owned()).collect();
            if name(&client) != state || !out.is_empty() {
                let next = name(&client);
                writeln!(table, "{state} + {event} = {next} [{}]", out.join(" ")).unwrap();
            }
        }
    }
    assert_eq!(table, include_str!("table.txt"), "the table is now:\n{table}");
}
