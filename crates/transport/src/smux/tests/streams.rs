//! Opening, data in turns, and every way to end.

use super::super::OpenError;
use super::*;

#[test]
fn a_first_stream_and_its_data_have_the_bytes_of_the_specification() {
    let mut client = Session::client(Config::default());
    let id = client.open().unwrap();
    assert_eq!(client.write(id, b"hi"), Ok(2));
    client.finish(id);
    let mut pipe = Vec::from([2, 0, 0, 0, 3, 0, 0, 0]);
    pipe.extend([2, 2, 2, 0, 3, 0, 0, 0, b'h', b'i']);
    pipe.extend([2, 1, 0, 0, 3, 0, 0, 0]);
    assert_eq!(sent(&mut client), pipe);
    assert_eq!(events(&mut client), [Event::FinSent { id, end: pipe.len() as u64 }]);
    assert_eq!(client.open().unwrap().value(), 5);
}

#[test]
fn data_goes_both_ways_after_the_peer_heard_of_the_stream() {
    let mut pair = Pair::new();
    let id = pair.open();
    assert_eq!(events(&mut pair.server), [Event::Opened(id)]);
    pair.client.write(id, b"question").unwrap();
    pair.settle();
    assert_eq!(events(&mut pair.server), [Event::Readable(id)]);
    assert_eq!(read_all(&mut pair.server, id), b"question");
    pair.server.write(id, b"answer").unwrap();
    pair.settle();
    assert_eq!(read_all(&mut pair.client, id), b"answer");
}

#[test]
fn a_reader_is_woken_once_for_each_time_it_found_nothing() {
    let mut pair = Pair::new();
    let id = pair.open();
    for _ in 0..3 {
        pair.client.write(id, b"x").unwrap();
        pair.settle();
    }
    assert_eq!(events(&mut pair.server), [Event::Opened(id), Event::Readable(id)]);
    let mut to = [0; 10];
    assert_eq!(pair.server.read(id, &mut to), Ok(3));
    assert_eq!(pair.server.read(id, &mut to), Err(StreamError::Blocked));
    pair.client.finish(id);
    pair.settle();
    assert_eq!(events(&mut pair.server), [Event::Readable(id)]);
    assert_eq!(pair.server.read(id, &mut to), Ok(0));
    assert_eq!(pair.server.read(id, &mut to), Err(StreamError::Closed));
}

#[test]
fn the_server_writes_on_after_our_fin_and_we_after_the_servers() {
    let mut pair = Pair::new();
    let (down, up) = (pair.open(), pair.open());
    half_close(&mut pair.client, &mut pair.server, up);
    half_close(&mut pair.server, &mut pair.client, down);
    assert_eq!((pair.client.stream_count(), pair.server.stream_count()), (0, 0), "both forget");
}

/// `first` ends its half; `second` answers, and ends too.
fn half_close(first: &mut Session, second: &mut Session, id: StreamId) {
    assert_eq!(first.write(id, b"input"), Ok(5));
    first.finish(id);
    assert_eq!(first.write(id, b"more"), Err(StreamError::Closed));
    carry(first, second);
    assert_eq!(read_all(second, id), b"input");
    assert_eq!(second.read(id, &mut [0]), Err(StreamError::Closed), "the end was read");

    assert_eq!(second.write(id, b"output"), Ok(6));
    second.finish(id);
    carry(second, first);
    assert_eq!(read_all(first, id), b"output");
}

#[test]
fn fin_follows_data_that_waited_for_credit() {
    let mut pair = Pair::new();
    let id = pair.open();
    let all = vec![1; 262_144 + 5000];
    let mut left = all.as_slice();
    while let Ok(taken @ 1..) = pair.client.write(id, left) {
        left = &left[taken..];
        pair.settle();
    }
    assert!(left.is_empty());
    pair.client.finish(id);
    pair.settle();
    assert!(!events(&mut pair.client).iter().any(|e| matches!(e, Event::FinSent { .. })));
    let mut read = read_all(&mut pair.server, id);
    assert_eq!(read.len(), 262_144);
    pair.settle();
    read.extend(read_all(&mut pair.server, id));
    assert_eq!(read, all);
    assert_eq!(pair.server.read(id, &mut [0]), Err(StreamError::Closed), "the end was read");
}

#[test]
fn a_thousand_streams_live_at_once() {
    let mut pair = Pair::new();
    let ids: Vec<StreamId> = (0..1000).map(|_| pair.client.open().unwrap()).collect();
    for id in &ids {
        pair.client.write(*id, &id.value().to_le_bytes().repeat(500)).unwrap();
        pair.client.finish(*id);
    }
    pair.settle();
    assert_eq!(pair.server.stream_count(), 1000);
    for id in &ids {
        let read = read_all(&mut pair.server, *id);
        assert_eq!(read, id.value().to_le_bytes().repeat(500), "stream {id:?}");
        pair.server.write(*id, &read).unwrap();
        pair.server.finish(*id);
    }
    pair.settle();
    for id in &ids {
        assert_eq!(read_all(&mut pair.client, *id), id.value().to_le_bytes().repeat(500));
    }
    assert_eq!((pair.client.stream_count(), pair.server.stream_count()), (0, 0));
}

#[test]
fn equals_take_turns_and_higher_priorities_go_first() {
    let mut client = Session::client(Config::default());
    let ids: Vec<StreamId> = (0..3).map(|_| client.open().unwrap()).collect();
    sent(&mut client);
    let (bulk, other, typed) = (ids[0], ids[1], ids[2]);
    client.set_priority(typed, 1);
    client.write(bulk, &[1; 5000]).unwrap();
    client.write(other, &[2; 5000]).unwrap();

    let mut turn = || {
        let mut pipe = Vec::new();
        client.poll_transmit(1000, &mut pipe);
        pipe[4]
    };
    assert_eq!([turn(), turn(), turn()], [3, 5, 3]);
    client.write(typed, b"x").unwrap();
    let mut pipe = Vec::new();
    client.poll_transmit(1000, &mut pipe);
    assert_eq!(pipe[..9], data(typed, b"x"));
    assert_eq!(pipe[9 + 4], 5, "then the others go on in turns");

    client.set_priority(bulk, 1);
    let next = sent(&mut client);
    assert_eq!(next[4], 3, "a new priority counts for what waits already");
}

#[test]
fn updates_go_before_data_and_never_before_the_syn() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.write(id, b"x").unwrap();
    pair.settle();
    pair.server.write(id, b"long").unwrap();
    read_all(&mut pair.server, id);
    let expected = [update(id, 1, 524_288), data(id, b"long")].concat();
    assert_eq!(sent(&mut pair.server), expected);

    feed(&mut pair.client, &expected);
    read_all(&mut pair.client, id);
    let late = pair.client.open().unwrap();
    pair.client.write(late, b"y").unwrap();
    let mut pipe = Vec::new();
    assert_eq!(pair.client.poll_transmit(15, &mut pipe), 0, "no room for the update before");
    let expected = [update(id, 4, 524_288), syn(late), data(late, b"y")].concat();
    assert_eq!(sent(&mut pair.client), expected);
}

#[test]
fn polls_never_give_more_than_was_asked_for() {
    let mut client = Session::client(Config::default());
    let id = client.open().unwrap();
    client.write(id, &[1; 60_000]).unwrap();
    client.finish(id);
    let mut total = 0;
    for max in 0.. {
        let mut pipe = Vec::new();
        let count = client.poll_transmit(max, &mut pipe);
        assert!(count <= max && count == pipe.len());
        total += count as u64;
        if let Some(event) = client.poll_event() {
            assert_eq!(event, Event::FinSent { id, end: total });
            break;
        }
    }
}

#[test]
fn frames_are_at_most_48_kib() {
    let mut client = Session::client(Config::default());
    let id = client.open().unwrap();
    client.write(id, &[1; 65536]).unwrap();
    let expected = [syn(id), data(id, &[1; 49152]), data(id, &[1; 16384])].concat();
    assert_eq!(sent(&mut client), expected);
}

#[test]
fn reset_drops_what_was_not_sent() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.write(id, b"secret").unwrap();
    pair.client.reset(id);
    assert_eq!(sent(&mut pair.client), fin(id));
    assert_eq!(pair.client.write(id, b"x"), Err(StreamError::Closed));
}

#[test]
fn a_reader_that_stops_ends_the_writer() {
    let mut pair = Pair::new();
    let id = pair.open();
    while pair.server.write(id, &[1; 10_000]).is_ok() {
        pair.settle();
    }
    events(&mut pair.server);
    pair.client.close(id);
    pair.settle();
    assert_eq!(pair.client.stream_count(), 0);
    let events = events(&mut pair.server);
    assert!(events.contains(&Event::Stopped(id)), "{events:?}");
    assert_eq!(pair.server.write(id, b"x"), Err(StreamError::Stopped));
    assert_eq!(pair.server.read(id, &mut [0]), Ok(0), "and our FIN came too");
    assert_eq!(pair.server.stream_count(), 0);
}

#[test]
fn a_reader_that_stops_after_its_own_fin_still_says_so() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.finish(id);
    pair.settle();
    pair.client.stop(id);
    assert_eq!(sent(&mut pair.client), update(id, 0, 0));
    assert_eq!(pair.client.stream_count(), 0);
}

#[test]
fn a_writer_is_told_once_that_nobody_reads_and_not_after_its_end() {
    let mut server = Session::server(Config::default());
    let [three, five] = [3, 5].map(StreamId);
    feed(&mut server, &[syn(three), syn(five)].concat());
    server.finish(five);
    sent(&mut server);
    events(&mut server);
    feed(&mut server, &[update(three, 0, 0), update(three, 0, 0), update(five, 0, 0)].concat());
    assert_eq!(events(&mut server), [Event::Stopped(three)]);
    assert_eq!(sent(&mut server), fin(three));
}

#[test]
fn a_reference_writer_is_told_nothing_of_a_stop() {
    let mut pair = Pair::reference();
    let id = pair.open();
    // An UPD is due when reading ends.
    for _ in 0..6 {
        pair.server.write(id, &[1; 50_000]).unwrap();
        pair.settle();
    }
    let mut to = vec![0; 300_000];
    assert_eq!(pair.client.read(id, &mut to), Ok(262_144));
    pair.client.stop(id);
    assert_eq!(sent(&mut pair.client), Vec::<u8>::new());
    pair.client.finish(id);
    assert_eq!(sent(&mut pair.client), fin(id));
    assert_eq!(pair.client.stream_count(), 0);
}

#[test]
fn stopping_reads_leaves_writing_alone() {
    let mut pair = Pair::new();
    let id = pair.open();
    pair.client.stop(id);
    assert_eq!(sent(&mut pair.client), update(id, 0, 0));
    assert_eq!(pair.client.read(id, &mut [0]), Err(StreamError::Closed));
    feed(&mut pair.client, &data(id, b"late"));
    assert_eq!(pair.transfer(id, b"still here"), b"still here");
}

#[test]
fn open_waits_for_a_place() {
    let mut client = Session::client(Config { max_streams: 1 });
    let first = client.open().unwrap();
    assert_eq!(client.open(), Err(OpenError::TooMany));
    sent(&mut client);
    client.close(first);
    sent(&mut client);
    assert!(events(&mut client).contains(&Event::Available));
    let second = client.open().unwrap();
    client.close(second);
    sent(&mut client);
    assert!(!events(&mut client).contains(&Event::Available), "nobody waited this time");
}

#[test]
fn only_the_client_opens_streams() {
    let mut pair = Pair::new();
    assert_eq!(pair.server.open(), Err(OpenError::NoIds));
    feed(&mut pair.client, &syn(StreamId(2)));
    assert_eq!(pair.client.stream_count(), 0);
    let refusal = [update(StreamId(2), 0, 0), fin(StreamId(2))].concat();
    assert_eq!(sent(&mut pair.client), refusal);
}
