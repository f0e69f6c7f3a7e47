//! State × event of the server machine, written down so that a changed
//! transition shows in a review.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proto::path_auth::PathAuth;
use proto::{ClientId, PathSerial, ServerId};

use super::{Config, Event, Liveness, Paths, Server};
use crate::path::{Change, Route, SocketId, Verdict};
use crate::seal::{ProxyKey, Sealer};
use crate::socket::PathId;

const H: Duration = Duration::from_secs(3);

fn name(server: &Server) -> String {
    let paths = match server.paths {
        Paths::Unclaimed => "Unclaimed",
        Paths::Pending(_) => "Pending",
        Paths::Active(_) => "Active",
        Paths::Roaming { .. } => "Roaming",
    };
    let liveness = match server.liveness {
        Liveness::Unwatched | Liveness::Fresh { .. } => "",
        Liveness::Silent { knocked: None, .. } => ", silent",
        Liveness::Silent { knocked: Some(_), .. } => ", knocked",
    };
    format!("{paths}{liveness}")
}

fn event_name(event: Event) -> &'static str {
    match event {
        Event::Proven { change: Change::First, .. } => "first",
        Event::Proven { change: Change::Moved { .. }, .. } => "moved",
        Event::Proven { change: Change::Restored { .. }, .. } => "restored",
        Event::Silent => "silent",
        Event::Back => "back",
        Event::Recovered => "recovered",
        Event::Lost => "lost",
        Event::Goodbye => "goodbye",
        Event::Knock => "knock",
        Event::Close { .. } => "close",
    }
}

fn from(n: u16) -> Route {
    Route::tcp(SocketId(n.into()), ([198, 51, 100, 1], n).into(), None)
}

/// Where the path in use leads, the pending one, and nowhere yet.
const ACTIVE: u16 = 1;
const PENDING: u16 = 2;
const NEW: u16 = 3;

fn auth(serial: u64) -> Vec<u8> {
    let auth = PathAuth { client: ClientId(1), serial: PathSerial(serial) };
    Sealer::new(&ProxyKey::new([3; 32])).seal([0; 12], auth.encode()).to_vec()
}

fn in_state(state: &str, now: Instant) -> Server {
    let mut server = Server::new(Config {
        client_id: ClientId(1),
        server_id: ServerId(2),
        proxy_key: ProxyKey::new([3; 32]),
    });
    if state != "Unclaimed" && state != "Pending" {
        server.handle_packet(now, &from(ACTIVE), &auth(1));
        server.handle_accepted(now, PathId(0));
        server.set_bus_up(now, H, false);
    }
    if matches!(state, "Pending" | "Roaming") {
        server.handle_packet(now, &from(PENDING), &auth(2));
    }
    if matches!(state, "Active, silent" | "Pending, knocked" | "Roaming, knocked") {
        server.handle_timeout(now + H);
    }
    if matches!(state, "Pending, knocked" | "Roaming, knocked") {
        server.handle_packet(now + H, &from(PENDING), &auth(2));
    }
    if state == "Pending, knocked" {
        server.handle_failed(&from(ACTIVE));
    }
    while server.poll_event().is_some() {}
    server.ack = None;
    assert_eq!(name(&server), state);
    server
}

#[test]
fn every_event_in_every_state() {
    let start = Instant::now();
    let now = start + H + Duration::from_millis(1);
    type Act = fn(&mut Server, Instant) -> Verdict;
    let events: [(&str, Act); 13] = [
        ("auth, new address", |s, now| s.handle_packet(now, &from(NEW), &auth(9))),
        ("auth, new address, old serial", |s, now| {
            let serial = s.serial().0;
            s.handle_packet(now, &from(NEW), &auth(serial))
        }),
        ("data, new address", |s, now| s.handle_packet(now, &from(NEW), &[1; 50])),
        ("auth, pending", |s, now| {
            let serial = s.serial().0;
            s.handle_packet(now, &from(PENDING), &auth(serial))
        }),
        ("older auth, pending", |s, now| s.handle_packet(now, &from(PENDING), &auth(0))),
        ("data, pending", |s, now| s.handle_packet(now, &from(PENDING), &[1; 50])),
        ("dummy, pending", |s, now| s.handle_packet(now, &from(PENDING), &[1; 16])),
        ("data, active", |s, now| s.handle_packet(now, &from(ACTIVE), &[1; 50])),
        ("accepted, pending", |s, now| {
            let id = s.routes().pending.map_or(PathId(99), |pending| pending.path.id);
            s.handle_accepted(now, id);
            Verdict::Consumed
        }),
        ("accepted, active", |s, now| {
            let id = s.active().map_or(PathId(99), |path| path.id);
            s.handle_accepted(now, id);
            Verdict::Consumed
        }),
        ("failed, active", |s, _| {
            s.handle_failed(&from(ACTIVE));
            Verdict::Consumed
        }),
        ("silence", |s, _| {
            let at = s.poll_timeout();
            at.into_iter().for_each(|at| s.handle_timeout(at));
            Verdict::Consumed
        }),
        ("2 H of silence", |s, now| {
            s.handle_timeout(now);
            s.handle_timeout(now + 3 * H);
            Verdict::Consumed
        }),
    ];
    let states = [
        "Unclaimed",
        "Pending",
        "Active",
        "Roaming",
        "Active, silent",
        "Pending, knocked",
        "Roaming, knocked",
    ];
    let mut table = String::new();
    for state in states {
        for (event, act) in &events {
            let mut server = in_state(state, start);
            let verdict = match act(&mut server, now) {
                Verdict::Deliver { unproven: true, .. } => "deliver, unproven",
                Verdict::Deliver { unproven: false, .. } => "deliver",
                Verdict::Consumed => "",
                Verdict::Refused => "refused",
            };
            let mut out: Vec<_> =
                std::iter::from_fn(|| server.poll_event()).map(event_name).collect();
            out.extend(Some("ack").filter(|_| server.ack.is_some()));
            out.extend(Some(verdict).filter(|verdict| !verdict.is_empty()));
            let next = name(&server);
            writeln!(table, "{state} + {event} = {next} [{}]", out.join(" ")).unwrap();
        }
    }
    assert_eq!(table, include_str!("table.txt"), "the table is now:\n{table}");
}
