//! Flow control: what is sent, granted and kept, to the byte.

use super::super::{RECEIVE_BUDGET, SEND_BUFFER};
use super::*;

/// Returns how many payload bytes of `id` are in a pipe of data frames.
fn payload(mut pipe: &[u8], id: StreamId) -> usize {
    let mut total = 0;
    while let [2, cmd, low, high, a, b, c, d, rest @ ..] = pipe {
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        if *cmd == 2 && u32::from_le_bytes([*a, *b, *c, *d]) == id.value() {
            total += len;
        }
        pipe = &rest[len..];
    }
    total
}

/// Writes until the stream takes no more; returns how many payload bytes went
/// into the pipe.
fn flood(session: &mut Session, id: StreamId) -> usize {
    let mut total = 0;
    while session.write(id, &[7; 30_000]).is_ok() {
        total += payload(&sent(session), id);
    }
    total
}

#[test]
fn a_peer_that_never_reads_gets_its_window_and_no_byte_more() {
    let mut client = Session::client(Config::default());
    let id = client.open().unwrap();
    assert_eq!(flood(&mut client, id), 262_144);
    assert_eq!(client.write(id, b"x"), Err(StreamError::Blocked));

    feed(&mut client, &update(id, 262_144, 524_288));
    let waited = payload(&sent(&mut client), id);
    assert_eq!(waited, SEND_BUFFER);
    assert_eq!(events(&mut client), [Event::Writable(id)]);
    assert_eq!(waited + flood(&mut client, id), 524_288);

    feed(&mut client, &update(id, 262_145, 524_288));
    assert_eq!(sent(&mut client), data(id, &[7]), "one read, one sent");
}

#[test]
fn one_stalled_stream_does_not_stall_the_others() {
    let mut pair = Pair::new();
    let (stalled, other) = (pair.open(), pair.open());
    while pair.client.write(stalled, &[7; 30_000]).is_ok() {
        pair.settle();
    }
    let much: Vec<u8> = (0..4 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    assert!(pair.transfer(other, &much) == much);
    assert_eq!(read_all(&mut pair.server, stalled).len(), 262_144, "nothing of it was lost");
}

#[test]
fn reads_are_reported_as_the_specification_says() {
    let mut server = Session::server(Config::default());
    let id = StreamId(3);
    feed(&mut server, &syn(id));
    for _ in 0..20 {
        feed(&mut server, &data(id, &[1; 40_000]));
    }
    let mut read = |count: usize| {
        assert_eq!(server.read(id, &mut vec![0; count]), Ok(count));
        sent(&mut server)
    };
    assert_eq!(read(10), update(id, 10, 524_288));
    assert_eq!(read(262_143), Vec::<u8>::new());
    assert_eq!(read(1), update(id, 262_154, 524_288));
    assert_eq!(read(300_000), update(id, 562_154, 524_288));
}

#[test]
fn a_stream_that_carries_bulk_is_granted_more() {
    let mut server = Session::server(Config::default());
    let id = StreamId(3);
    feed(&mut server, &syn(id));
    let mut windows = Vec::new();
    for _ in 0..5 {
        for _ in 0..8 {
            feed(&mut server, &data(id, &[1; 32_768]));
        }
        read_all(&mut server, id);
        let pipe = sent(&mut server);
        windows.push(u32::from_le_bytes(pipe[pipe.len() - 4..].try_into().unwrap()));
    }
    assert_eq!(windows, [524_288, 524_288, 524_288, 2_097_152, 2_097_152]);
}

#[test]
fn nothing_is_reported_to_a_peer_that_finished() {
    let mut server = Session::server(Config::default());
    let id = StreamId(3);
    feed(&mut server, &[syn(id), data(id, b"all"), fin(id)].concat());
    read_all(&mut server, id);
    assert_eq!(sent(&mut server), Vec::<u8>::new());

    let id = StreamId(5);
    feed(&mut server, &[syn(id), data(id, b"all")].concat());
    read_all(&mut server, id);
    feed(&mut server, &fin(id));
    assert_eq!(sent(&mut server), Vec::<u8>::new(), "not even if the report waited already");
}

#[test]
fn a_blocked_writer_is_woken_when_half_its_buffer_is_free() {
    let mut client = Session::client(Config::default());
    let id = client.open().unwrap();
    sent(&mut client);
    while client.write(id, &[1; 10_000]).is_ok() {}
    let mut pipe = Vec::new();
    client.poll_transmit(SEND_BUFFER / 2 + 7, &mut pipe);
    assert_eq!(events(&mut client), []);
    client.poll_transmit(9, &mut pipe);
    assert_eq!(events(&mut client), [Event::Writable(id)]);
    sent(&mut client);
    assert_eq!(events(&mut client), [], "once is enough");
}

/// Fills a server's budget with streams of 200,000 bytes; returns the frame
/// that did not fit, and how much of it was taken.
fn fill(server: &mut Session) -> (StreamId, usize) {
    let payload = [1; 50_000];
    let mut total = 0;
    for id in (3..).step_by(2).map(StreamId) {
        feed(server, &syn(id));
        for _ in 0..4 {
            let taken = server.handle_bytes(&data(id, &payload)).unwrap() - 8;
            total += taken;
            if taken < payload.len() {
                assert_eq!(total, 20 * 1024 * 1024);
                assert_eq!(total, RECEIVE_BUDGET);
                return (id, taken);
            }
        }
    }
    unreachable!("ids are many");
}

#[test]
fn a_reader_that_never_reads_keeps_20_mib_and_leaves_the_rest_in_the_pipe() {
    let mut server = Session::server(Config::default());
    let (_, taken) = fill(&mut server);
    let rest = vec![1; 50_000 - taken];
    assert_eq!(server.handle_bytes(&rest), Ok(0));

    assert_eq!(server.read(StreamId(3), &mut [0; 1000]), Ok(1000));
    assert_eq!(server.handle_bytes(&rest), Ok(1000), "as much as was read");
    assert_eq!(server.handle_bytes(&rest[1000..]), Ok(0));

    server.stop(StreamId(5));
    feed(&mut server, &rest[1000..]);
}

#[test]
fn data_for_a_stream_that_nobody_reads_needs_no_room() {
    let mut server = Session::server(Config::default());
    let (blocked, taken) = fill(&mut server);
    server.stop(blocked);
    feed(&mut server, &vec![1; 50_000 - taken]);
    feed(&mut server, &data(blocked, &[1; 60_000]));
    feed(&mut server, &data(StreamId(9999), &[1; 60_000]));
}

#[test]
fn a_new_stream_is_granted_less_when_memory_is_short() {
    let mut client = Session::client(Config::default());
    let ids: Vec<StreamId> = (0..80).map(|_| client.open().unwrap()).collect();
    sent(&mut client);
    for id in &ids {
        for _ in 0..4 {
            feed(&mut client, &data(*id, &[1; 60_000]));
        }
    }
    let late = client.open().unwrap();
    let share = u32::try_from((RECEIVE_BUDGET - 80 * 240_000) / 16).unwrap();
    assert_eq!(sent(&mut client), [syn(late), update(late, 0, share)].concat());
}

#[test]
fn eighty_paused_downloads_leave_the_terminal_alone() {
    let mut pair = Pair::new();
    let terminal = pair.open();
    for _ in 0..80 {
        let paused = pair.open();
        // The first read doubles the window.
        pair.server.write(paused, b"x").unwrap();
        pair.settle();
        assert_eq!(read_all(&mut pair.client, paused), b"x");
        pair.settle();
        while pair.server.write(paused, &[7; 30_000]).is_ok() {
            pair.settle();
        }
    }
    for _ in 0..100 {
        pair.server.write(terminal, &[b'.'; 5000]).unwrap();
        pair.settle();
        assert_eq!(read_all(&mut pair.client, terminal).len(), 5000);
    }
}

#[test]
fn a_small_window_does_not_deadlock() {
    let mut client = Session::client(Config::default());
    let mut server = Session::server(Config::default());
    let id = client.open().unwrap();
    feed(&mut server, &sent(&mut client));
    // Only 256 KiB of the budget stay free, so windows are 16 KiB.
    for other in (5..).step_by(2).map(StreamId).take(84) {
        feed(&mut server, &syn(other));
        for _ in 0..4 {
            feed(&mut server, &data(other, &[1; 61_600]));
        }
    }
    sent(&mut server);
    let mut received = 0;
    while received < 2_000_000 {
        while client.write(id, &[1; 60_000]).is_ok() {}
        let pipe = sent(&mut client);
        let taken = server.handle_bytes(&pipe).unwrap();
        let now = read_all(&mut server, id).len();
        feed(&mut server, &pipe[taken..]);
        let now = now + read_all(&mut server, id).len();
        assert!(now > 0, "stuck after {received} bytes");
        received += now;
        feed(&mut client, &sent(&mut server));
    }
}
