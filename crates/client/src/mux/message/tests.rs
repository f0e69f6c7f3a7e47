//! What is written is read again, and nothing else is believed.

use super::*;
use crate::config::forward::Kind;

fn forward(spec: &str, kind: Kind) -> Forward {
    Forward::parse(spec, kind).expect("a forward")
}

fn session() -> NewSession {
    NewSession {
        wants_tty: true,
        wants_x11: false,
        wants_agent: true,
        is_subsystem: false,
        escape: Some(b'~'),
        term: b"xterm".to_vec(),
        command: b"ls \xff".to_vec(),
        environment: vec![b"LANG=C".to_vec(), b"A=".to_vec()],
    }
}

fn requests() -> Vec<Request> {
    let mut all = vec![
        Request::Hello { version: 4 },
        Request::NewSession { id: 7, session: Box::new(session()) },
        Request::NewSession { id: 8, session: Box::default() },
        Request::AliveCheck { id: 1 },
        Request::Terminate { id: 2 },
        Request::StopListening { id: 3 },
        Request::Proxy { id: 4 },
        Request::StdioForward { id: 5, connect: Connect::Tcp { host: "h".into(), port: 22 } },
        Request::StdioForward { id: 6, connect: Connect::Unix("/a/b".into()) },
    ];
    for (spec, kind, side) in [
        ("80:db:5432", Kind::Local, Side::Local),
        ("*:80:db:5432", Kind::Local, Side::Local),
        ("/a:/b", Kind::Local, Side::Local),
        ("1080", Kind::Dynamic, Side::Local),
        ("0:h:1", Kind::Remote, Side::Remote),
        ("9000", Kind::Remote, Side::Remote),
    ] {
        let forward = forward(spec, kind);
        all.push(Request::OpenForward { id: 9, side, forward: forward.clone() });
        all.push(Request::CloseForward { id: 9, side, forward });
    }
    all
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Hello { version: 4 },
        Reply::Ok { id: 1 },
        Reply::PermissionDenied { id: 1, reason: "no".into() },
        Reply::Failure { id: 1, reason: "broken".into() },
        Reply::ExitMessage { session: 2, status: 255 },
        Reply::Alive { id: 1, pid: 99 },
        Reply::SessionOpened { id: 1, session: 2 },
        Reply::RemotePort { id: 1, port: 40000 },
        Reply::TtyAllocFail { session: 2 },
    ]
}

#[test]
fn what_is_written_is_read_again() {
    for request in requests() {
        let bytes = request.encode();
        let length = u32::try_from(bytes.len() - 4).expect("a short message");
        assert_eq!(bytes[..4], length.to_be_bytes());
        assert_eq!(Request::decode(&bytes[4..]), Ok(request));
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()[4..]), Ok(reply));
    }
}

/// Written by OpenSSH 9.2's client, and taken from its socket.
#[test]
fn openssh_s_own_bytes_are_understood() {
    let hello = hex::decode("0000000100000004").expect("hex");
    assert_eq!(Request::decode(&hello), Ok(Request::Hello { version: 4 }));
    assert_eq!(Request::Hello { version: 4 }.encode()[4..], hello);
    let alive = hex::decode("1000000400000000").expect("hex");
    assert_eq!(Request::decode(&alive), Ok(Request::AliveCheck { id: 0 }));
}

#[test]
fn what_is_cut_off_is_malformed_and_what_makes_no_sense_is_unknown() {
    for request in requests() {
        let bytes = request.encode();
        // A session's environment may end anywhere between two variables.
        if matches!(request, Request::NewSession { .. }) {
            continue;
        }
        for end in 4..bytes.len() {
            assert_eq!(Request::decode(&bytes[4..end]), Err(Malformed), "{request:?} {end}");
        }
    }
    let mut bytes = Request::NewSession { id: 7, session: Box::new(session()) }.encode();
    bytes.pop();
    assert_eq!(Request::decode(&bytes[4..]), Err(Malformed));
    let unknown = Writer::new(0x1000_00ff).u32(5).string(b"later").finish();
    assert_eq!(Request::decode(&unknown[4..]), Ok(Request::Unknown { id: 5 }));
    for (kind, listen, port) in [(4, 80, 80), (LOCAL, 0, 80), (LOCAL, 70000, 80), (LOCAL, 80, 0)] {
        let writer = Writer::new(OPEN_FORWARD).u32(5).u32(kind).string(b"").u32(listen);
        let bytes = writer.string(b"h").u32(port).finish();
        assert_eq!(Request::decode(&bytes[4..]), Ok(Request::Unknown { id: 5 }));
    }
}

#[test]
fn more_than_is_known_is_dropped() {
    let mut bytes = Reply::Ok { id: 3 }.encode();
    bytes.extend_from_slice(b"\0\0\0\x05later");
    assert_eq!(Reply::decode(&bytes[4..]), Ok(Reply::Ok { id: 3 }));
    let hello = Writer::new(HELLO).u32(4).string(b"info").string(b"x").finish();
    assert_eq!(Reply::decode(&hello[4..]), Ok(Reply::Hello { version: 4 }));
    assert_eq!(Reply::decode(&Writer::new(77).u32(0).finish()[4..]), Ok(Reply::Unknown));
}
