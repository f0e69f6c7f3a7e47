//! Peers that are odd, broken or mean.

use super::super::SessionError;
use super::*;

const THREE: StreamId = StreamId(3);

#[test]
fn frames_of_unknown_streams_change_nothing() {
    let mut server = Session::server(Config::default());
    let nine = StreamId(9);
    feed(&mut server, &[fin(nine), data(nine, b"late"), update(nine, 7, 7)].concat());
    assert_eq!(server.stream_count(), 0);
    assert_eq!(events(&mut server), []);
    assert_eq!(sent(&mut server), Vec::<u8>::new());
}

#[test]
fn repeated_syn_and_fin_and_data_after_fin_are_ignored() {
    let mut server = Session::server(Config::default());
    feed(&mut server, &[syn(THREE), data(THREE, b"all"), syn(THREE), fin(THREE)].concat());
    feed(&mut server, &[fin(THREE), data(THREE, b"more"), fin(THREE), syn(THREE)].concat());
    assert_eq!(events(&mut server), [Event::Opened(THREE), Event::Readable(THREE)]);
    let mut to = [0; 10];
    assert_eq!(server.read(THREE, &mut to), Ok(3));
    assert_eq!(server.read(THREE, &mut to), Ok(0));
    assert_eq!(server.write(THREE, b"answer"), Ok(6), "FIN does not end our half");
    assert_eq!(sent(&mut server), data(THREE, b"answer"));
}

#[test]
fn streams_may_be_opened_in_any_order_but_each_only_once() {
    let mut server = Session::server(Config::default());
    let [five, seven, nine] = [5, 7, 9].map(StreamId);
    feed(&mut server, &[syn(nine), syn(five), data(five, b"x"), syn(THREE), syn(seven)].concat());
    assert_eq!(server.stream_count(), 4);
    assert_eq!(read_all(&mut server, five), b"x");
    for id in [THREE, five, seven, nine] {
        server.close(id);
        sent(&mut server);
    }
    events(&mut server);
    feed(&mut server, &[syn(five), syn(seven), syn(nine), syn(THREE)].concat());
    assert_eq!(events(&mut server), []);
}

#[test]
fn of_the_ids_passed_over_only_the_last_are_remembered() {
    let mut server = Session::server(Config::default());
    feed(&mut server, &[syn(StreamId(u32::MAX)), syn(THREE), syn(StreamId(u32::MAX - 2))].concat());
    let last = Event::Opened(StreamId(u32::MAX - 2));
    assert!(events(&mut server).contains(&last));
    assert_eq!(server.stream_count(), 2, "three is forgotten");
}

#[test]
fn unknown_commands_are_skipped_amid_a_stream() {
    let mut server = Session::server(Config::default());
    let unknown = [&[2, 5, 4, 0, 3, 0, 0, 0][..], &[2, 1, 0, 0]].concat();
    let nop = [2, 3, 0, 0, 0, 0, 0, 0];
    let pipe = [&syn(THREE), &data(THREE, b"a"), &unknown[..], &nop, &data(THREE, b"b")].concat();
    feed(&mut server, &pipe);
    assert_eq!(read_all(&mut server, THREE), b"ab");
}

#[test]
fn another_version_ends_the_session_for_good() {
    let mut server = Session::server(Config::default());
    feed(&mut server, &syn(THREE));
    let error = Err(SessionError::Version(1));
    assert_eq!(server.handle_bytes(&[1, 0, 0, 0, 5, 0, 0, 0]), error);
    assert_eq!(server.handle_bytes(&syn(StreamId(5))), error);
    assert_eq!(server.stream_count(), 1, "what was there can still be used and closed");
    server.close(THREE);
    assert_eq!(sent(&mut server), fin(THREE));
    assert_eq!(server.stream_count(), 0);
}

#[test]
fn streams_over_the_limit_are_refused_and_their_data_dropped() {
    let mut server = Session::server(Config { max_streams: 2 });
    let [five, seven] = [5, 7].map(StreamId);
    feed(&mut server, &[syn(THREE), syn(five), syn(seven), data(seven, b"x")].concat());
    assert_eq!(events(&mut server), [Event::Opened(THREE), Event::Opened(five)]);
    assert_eq!(sent(&mut server), fin(seven));

    feed(&mut server, &fin(THREE));
    read_all(&mut server, THREE);
    server.close(THREE);
    sent(&mut server);
    feed(&mut server, &syn(StreamId(9)));
    assert!(events(&mut server).contains(&Event::Opened(StreamId(9))), "there is a place again");
}

#[test]
fn a_refused_writer_of_ours_is_told() {
    let mut client = Session::client(Config::default());
    let mut server = Session::server(Config { max_streams: 0 });
    server.tell_stops();
    let id = client.open().unwrap();
    feed(&mut server, &sent(&mut client));
    feed(&mut client, &sent(&mut server));
    assert_eq!(events(&mut client), [Event::Stopped(id), Event::Readable(id)]);
    assert_eq!(client.write(id, b"x"), Err(StreamError::Stopped));
    assert_eq!(client.read(id, &mut [0]), Ok(0));
}

#[test]
fn a_flood_of_streams_is_refused_while_the_peer_takes_it_and_then_ends_the_session() {
    let mut server = Session::server(Config { max_streams: 10 });
    let mut ids = (3..).step_by(2).map(StreamId);
    for id in ids.by_ref().take(5000) {
        feed(&mut server, &syn(id));
        sent(&mut server);
    }
    for id in ids.by_ref().take(1024) {
        feed(&mut server, &syn(id));
    }
    let last = syn(ids.next().unwrap());
    assert_eq!(server.handle_bytes(&last), Err(SessionError::RefusalsUnread));
    assert_eq!(server.stream_count(), 10);
    assert_eq!(sent(&mut server).len(), 1024 * 8);
}

#[test]
fn updates_that_nobody_can_mean_change_nothing() {
    let mut pair = Pair::new();
    let id = pair.open();
    feed(&mut pair.client, &update(id, 1, 0));
    feed(&mut pair.client, &update(id, u32::MAX, 0));
    assert_eq!(events(&mut pair.client), []);
    assert_eq!(pair.transfer(id, b"goes on"), b"goes on");
}

#[test]
fn reads_that_are_never_reported_do_not_queue_up() {
    let mut server = Session::server(Config::default());
    feed(&mut server, &syn(THREE));
    let mut total = 0;
    for _ in 0..200 {
        feed(&mut server, &data(THREE, &[1; 60_000]));
        total += u32::try_from(read_all(&mut server, THREE).len()).unwrap();
    }
    assert_eq!(sent(&mut server), update(THREE, total, 2_097_152), "one, with the latest total");
}
