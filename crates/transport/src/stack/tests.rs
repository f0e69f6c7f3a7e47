//! Two stacks that hand each other packets: what they accept, in which order
//! things leave, what they hold, and which keys they use.

use super::*;
use crate::crypt::RekeyError;
use crate::kcp::{Acked, Lost, Sent, Uncontrolled};
use crate::smux::{RECEIVE_BUDGET, WINDOW};
use testkit::Clock;

const PACKET_SIZE: u16 = 1400;

fn secrets(fill: u8) -> Secrets {
    Secrets { pass: Zeroizing::new([fill; 48]), salt: Zeroizing::new([9; 48]) }
}

fn entropy(fill: u8) -> Entropy {
    Entropy { seed: Zeroizing::new([fill; 32]), conv: 0x0102_0304 }
}

fn config() -> Config {
    Config { packet_size: PACKET_SIZE, max_streams: 2000 }
}

struct Pair {
    clock: Clock,
    client: Stack,
    server: Stack,
}

impl Pair {
    fn new() -> Self {
        Self::with(Box::new(Uncontrolled))
    }

    fn with(control: Box<dyn Control>) -> Self {
        let clock = Clock::new();
        let client = Stack::client(clock.now(), &secrets(7), entropy(1), config(), control);
        let server = Stack::server(&secrets(7), entropy(2), config(), Box::new(Uncontrolled));
        Self { clock, client, server }
    }

    /// Lets both talk until neither has anything to say, timers included.
    fn settle(&mut self) {
        self.settle_for(Duration::from_secs(3600));
    }

    /// Like [`Pair::settle`], but not for ever: a window that stays closed is
    /// asked for again and again.
    fn settle_for(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            let up = packets(&mut self.client, &self.clock);
            let down = packets(&mut self.server, &self.clock);
            if up.is_empty() && down.is_empty() {
                let now = self.clock.now();
                let due =
                    [self.client.poll_timeout(now, false), self.server.poll_timeout(now, false)];
                let Some(at) = due.into_iter().flatten().min() else { return };
                self.clock.advance_to(at.max(now + Duration::from_micros(1)));
                self.client.handle_timeout(self.clock.now());
                self.server.handle_timeout(self.clock.now());
            }
            for mut packet in up {
                let _ = self.server.handle_packet(self.clock.now(), &mut packet).unwrap();
            }
            for mut packet in down {
                let _ = self.client.handle_packet(self.clock.now(), &mut packet).unwrap();
            }
        }
    }

    /// Opens a stream with these bytes on it and lets the server hear of it.
    fn stream(&mut self, bytes: &[u8]) -> StreamId {
        let id = self.client.open().unwrap();
        assert_eq!(self.client.write(id, bytes), Ok(bytes.len()));
        self.settle();
        id
    }
}

/// All that a stack sends now, packet by packet.
fn packets(stack: &mut Stack, clock: &Clock) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    loop {
        let mut packet = Vec::new();
        if !stack.poll_transmit(clock.now(), &mut packet) {
            return packets;
        }
        assert!(packet.len() <= usize::from(PACKET_SIZE));
        packets.push(packet);
    }
}

fn events(stack: &mut Stack) -> Vec<Event> {
    std::iter::from_fn(|| stack.poll_event()).collect()
}

fn read(stack: &mut Stack, id: StreamId) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), vec![0; 65536]);
    while let Ok(len @ 1..) = stack.read(id, &mut buf) {
        all.extend_from_slice(&buf[..len]);
    }
    all
}

#[test]
fn the_server_hears_of_its_client_with_the_first_packet_that_opens() {
    let mut pair = Pair::new();
    assert_eq!(packets(&mut pair.client, &pair.clock).len(), 0, "nothing to say, nothing said");
    for mut garbage in [vec![], vec![0; 44], vec![1; 1400]] {
        let refused = pair.server.handle_packet(pair.clock.now(), &mut garbage);
        assert!(matches!(refused, Err(Dropped::Refused(_))));
    }
    let mut stranger =
        Stack::client(pair.clock.now(), &secrets(8), entropy(1), config(), Box::new(Uncontrolled));
    let id = stranger.open().unwrap();
    stranger.write(id, b"let me in").unwrap();
    for mut packet in packets(&mut stranger, &pair.clock) {
        assert!(pair.server.handle_packet(pair.clock.now(), &mut packet).is_err());
    }
    assert_eq!(events(&mut pair.server), []);
    assert_eq!(packets(&mut pair.server, &pair.clock).len(), 0, "no answer to strangers");

    let id = pair.stream(b"hello");
    let events = events(&mut pair.server);
    assert_eq!(events[0], Event::Established);
    assert!(events.contains(&Event::Stream(crate::smux::Event::Opened(id))));
    assert_eq!(read(&mut pair.server, id), b"hello");
}

#[test]
fn a_packet_counts_once_and_never_for_its_sender() {
    let mut pair = Pair::new();
    let id = pair.client.open().unwrap();
    pair.client.write(id, b"once").unwrap();
    let [packet] = &packets(&mut pair.client, &pair.clock)[..] else { panic!("one packet") };
    let now = pair.clock.now();
    pair.server.handle_packet(now, &mut packet.clone()).unwrap();
    let again = pair.server.handle_packet(now, &mut packet.clone());
    assert_eq!(again, Err(Dropped::Refused(crypt::Refused::Replayed)));
    let back = pair.client.handle_packet(now, &mut packet.clone());
    assert_eq!(back, Err(Dropped::Refused(crypt::Refused::Reflected)));
    assert_eq!(read(&mut pair.server, id), b"once");
}

#[test]
fn the_end_of_a_stream_is_delivered_once_the_peer_has_it() {
    let mut pair = Pair::new();
    let id = pair.client.open().unwrap();
    pair.client.write(id, b"all of it").unwrap();
    pair.client.finish(id);
    let sent = packets(&mut pair.client, &pair.clock);
    assert!(!events(&mut pair.client).contains(&Event::Delivered(id)), "only sent");
    for mut packet in sent {
        pair.server.handle_packet(pair.clock.now(), &mut packet).unwrap();
    }
    pair.settle();
    assert!(events(&mut pair.client).contains(&Event::Delivered(id)));
    assert_eq!(read(&mut pair.server, id), b"all of it");
    pair.server.write(id, b"and back").unwrap();
    pair.settle();
    assert_eq!(read(&mut pair.client, id), b"and back", "the other half lives on");
}

/// Lets four packets be in flight.
#[derive(Debug)]
struct Narrow;

impl Control for Narrow {
    fn window_bytes(&self) -> usize {
        4 * 1364
    }

    fn release_at(&self) -> Option<Instant> {
        None
    }

    fn on_sent(&mut self, _: Instant, _: Sent) {}

    fn on_other_network(&mut self, _: Instant) {}

    fn on_acked(&mut self, _: Instant, _: Acked) {}

    fn on_lost(&mut self, _: Instant, _: Lost) {}
}

#[test]
fn what_is_urgent_overtakes_what_waits_for_the_link() {
    let mut pair = Pair::with(Box::new(Narrow));
    let (bulk, keys) = (pair.stream(b"b"), pair.stream(b"k"));
    read(&mut pair.server, bulk);
    read(&mut pair.server, keys);
    pair.client.set_priority(keys, 1);
    while pair.client.write(bulk, &[b'b'; 4096]).is_ok() {}
    let in_flight = packets(&mut pair.client, &pair.clock);
    pair.client.write(keys, b"x").unwrap();
    for mut packet in in_flight {
        pair.server.handle_packet(pair.clock.now(), &mut packet).unwrap();
    }
    pair.clock.advance(Duration::from_millis(10));
    pair.server.handle_timeout(pair.clock.now());
    for mut packet in packets(&mut pair.server, &pair.clock) {
        pair.client.handle_packet(pair.clock.now(), &mut packet).unwrap();
    }
    // Some bulk is cut into segments already; the key comes right behind it.
    for mut packet in packets(&mut pair.client, &pair.clock) {
        pair.server.handle_packet(pair.clock.now(), &mut packet).unwrap();
    }
    assert_eq!(read(&mut pair.server, keys), b"x");
    let waits = pair.client.write(bulk, &[0]);
    assert!(waits.is_err() || read(&mut pair.server, bulk).len() < 50_000, "bulk is behind");
}

#[test]
fn a_stream_that_nobody_reads_holds_its_window_and_stalls_nobody() {
    let mut pair = Pair::new();
    let (stalled, lively) = (pair.stream(b"s"), pair.stream(b"l"));
    read(&mut pair.server, stalled); // from now on its window is known
    let mut held = 0;
    loop {
        match pair.client.write(stalled, &[0; 16384]) {
            Ok(len) => held += len,
            Err(_) => {
                let before = held;
                pair.settle();
                held += pair.client.write(stalled, &[0; 16384]).unwrap_or(0);
                if held == before {
                    break;
                }
            }
        }
    }
    let most = WINDOW as usize + crate::smux::SEND_BUFFER;
    assert!(held <= most, "{held} bytes were taken, {most} is the most");
    for _ in 0..100 {
        pair.client.write(lively, &[1; 10_000]).unwrap();
        pair.settle();
        assert!(!read(&mut pair.server, lively).is_empty());
    }
}

#[test]
fn a_peer_that_never_reads_is_held_to_the_budget_and_loses_nothing() {
    let mut pair = Pair::new();
    let streams: Vec<_> = (0..200).map(|_| pair.stream(b"x")).collect();
    let mut written = vec![1_usize; streams.len()];
    let mut progress = true;
    while std::mem::take(&mut progress) {
        for (id, written) in streams.iter().zip(&mut written) {
            if let Ok(len) = pair.client.write(*id, &[b'x'; 65536]) {
                *written += len;
                progress = true;
            }
        }
        pair.settle_for(Duration::from_secs(10));
    }
    let arrived = pair.server.smux.unread();
    assert!(arrived <= RECEIVE_BUDGET, "{arrived} bytes are held");
    let mut read_back = vec![0; streams.len()];
    while read_back != written {
        let before = read_back.clone();
        for (id, got) in streams.iter().zip(&mut read_back) {
            *got += read(&mut pair.server, *id).len();
        }
        pair.settle_for(Duration::from_secs(200));
        assert!(read_back != before || read_back == written, "it goes on");
    }
}

#[test]
fn a_thousand_streams_are_open_at_once_and_closed_ones_leave_nothing() {
    let mut pair = Pair::new();
    let streams: Vec<_> = (0..1000).map(|_| pair.client.open().unwrap()).collect();
    for id in &streams {
        pair.client.write(*id, &id.value().to_le_bytes()).unwrap();
    }
    pair.settle();
    assert_eq!(pair.server.stream_count(), 1000);
    for id in &streams {
        assert_eq!(read(&mut pair.server, *id), id.value().to_le_bytes());
        pair.client.finish(*id);
        pair.server.finish(*id);
    }
    pair.settle();
    for id in &streams {
        for stack in [&mut pair.client, &mut pair.server] {
            assert_eq!(stack.read(*id, &mut [0]), Ok(0), "the end");
        }
    }
    assert_eq!((pair.client.stream_count(), pair.server.stream_count()), (0, 0));
}

#[test]
fn datagrams_pass_both_ways_and_those_of_another_conversation_do_not() {
    let mut pair = Pair::new();
    pair.stream(b"x");
    events(&mut pair.client);
    events(&mut pair.server);
    let largest = vec![5; pair.client.max_datagram_size()];
    for payload in [largest, Vec::new()] {
        pair.client.send_datagram(payload.clone());
        pair.server.send_datagram(payload.clone());
        pair.settle();
        assert_eq!(events(&mut pair.server), [Event::Datagram(payload.clone())]);
        assert_eq!(events(&mut pair.client), [Event::Datagram(payload)]);
    }
    // A client of the same secrets that begins a second conversation.
    let other = Entropy { conv: 0x0506_0708, ..entropy(3) };
    let mut second =
        Stack::client(pair.clock.now(), &secrets(7), other, config(), Box::new(Uncontrolled));
    let id = second.open().unwrap();
    second.write(id, b"me too").unwrap();
    second.send_datagram(b"me too".to_vec());
    for mut packet in packets(&mut second, &pair.clock) {
        let _ = pair.server.handle_packet(pair.clock.now(), &mut packet);
    }
    assert_eq!(events(&mut pair.server), []);
}

#[test]
fn of_datagrams_that_cannot_leave_the_oldest_are_dropped() {
    let mut pair = Pair::new();
    pair.stream(b"x");
    for number in 0..=DATAGRAM_QUEUE {
        pair.client.send_datagram(number.to_le_bytes().to_vec());
    }
    pair.settle();
    let first = events(&mut pair.server)
        .into_iter()
        .find_map(|event| if let Event::Datagram(payload) = event { Some(payload) } else { None });
    assert_eq!(first, Some(1_usize.to_le_bytes().to_vec()));
}

/// Carries one key exchange over; returns whether there was one to carry.
fn exchange_keys(pair: &mut Pair) -> bool {
    let now = pair.clock.now();
    let Some(request) = pair.client.request_keys(now, Zeroizing::new([11; 32])) else {
        return false;
    };
    let answer = pair.server.answer_keys(&request, Zeroizing::new([12; 32])).unwrap();
    pair.client.handle_key_answer(now, &answer).unwrap();
    true
}

#[test]
fn keys_are_exchanged_at_the_start_and_every_hour_and_streams_do_not_notice() {
    let mut pair = Pair::new();
    let id = pair.stream(b"before");
    assert!(!pair.client.has_exchanged_keys());
    assert!(exchange_keys(&mut pair), "the first is due at once");
    let exchanged_at = pair.clock.now();
    assert!(pair.client.has_exchanged_keys());
    assert!(!pair.server.has_exchanged_keys(), "nothing with the new key has come");
    pair.client.write(id, b", after").unwrap();
    pair.settle();
    assert!(pair.server.has_exchanged_keys());
    assert_eq!(read(&mut pair.server, id), b"before, after");

    assert!(!exchange_keys(&mut pair), "not again so soon");
    let due = pair.client.keys_due_at().unwrap();
    assert_eq!(due, exchanged_at + Duration::from_secs(3600));
    pair.clock.advance_to(due);
    assert!(exchange_keys(&mut pair));
}

#[test]
fn a_recording_cannot_be_opened_with_what_the_login_carried() {
    let mut pair = Pair::new();
    let id = pair.stream(b"x");
    exchange_keys(&mut pair);
    pair.client.write(id, b"secret").unwrap();
    let recorded = packets(&mut pair.client, &pair.clock);
    let mut thief = Stack::server(&secrets(7), entropy(4), config(), Box::new(Uncontrolled));
    for mut packet in recorded {
        let opened = thief.handle_packet(pair.clock.now(), &mut packet);
        assert!(matches!(opened, Err(Dropped::Refused(_))), "{opened:?}");
    }
}

#[test]
fn messages_of_an_exchange_nobody_asked_for_change_nothing() {
    let mut pair = Pair::new();
    let id = pair.stream(b"x");
    let now = pair.clock.now();
    let answer = [4; 65];
    let random = || Zeroizing::new([1; 32]);
    assert_eq!(
        pair.client.handle_key_answer(now, &answer),
        Err(KeyExchangeError::Rekey(RekeyError::Unasked))
    );
    assert_eq!(pair.server.handle_key_answer(now, &answer), Err(KeyExchangeError::Unexpected));
    assert_eq!(pair.client.answer_keys(&answer, random()), Err(KeyExchangeError::Unexpected));
    assert_eq!(
        pair.server.answer_keys(&answer, random()),
        Err(KeyExchangeError::Rekey(RekeyError::BadPoint))
    );
    assert_eq!(pair.server.request_keys(now, random()), None);
    pair.client.write(id, b"y").unwrap();
    pair.settle();
    assert_eq!(read(&mut pair.server, id), b"xy");
}

#[test]
fn closing_ends_the_streams_and_sends_what_was_written() {
    let mut pair = Pair::new();
    let id = pair.stream(b"");
    pair.client.write(id, b"last words").unwrap();
    pair.client.close(pair.clock.now());
    for mut packet in packets(&mut pair.client, &pair.clock) {
        pair.server.handle_packet(pair.clock.now(), &mut packet).unwrap();
    }
    assert_eq!(read(&mut pair.server, id), b"last words");
    assert_eq!(pair.server.read(id, &mut [0]), Err(StreamError::Closed), "the end was read");
}

#[test]
fn only_a_packet_newer_than_all_before_proves_its_path() {
    let mut pair = Pair::new();
    let id = pair.client.open().unwrap();
    let say = |pair: &mut Pair| {
        pair.client.write(id, b"word").unwrap();
        packets(&mut pair.client, &pair.clock).remove(0)
    };
    let (first, kept_back, last) = (say(&mut pair), say(&mut pair), say(&mut pair));
    let now = pair.clock.now();
    assert_eq!(pair.server.handle_packet(now, &mut first.clone()), Ok(true));
    assert_eq!(pair.server.handle_packet(now, &mut last.clone()), Ok(true));
    // Somebody in the middle sends it later, from elsewhere.
    assert_eq!(pair.server.handle_packet(now, &mut kept_back.clone()), Ok(false));
    assert_eq!(read(&mut pair.server, id), b"wordwordword", "it counts as data all the same");
    pair.client.send_datagram(b"anything".to_vec());
    let datagram = packets(&mut pair.client, &pair.clock).remove(0);
    assert_eq!(pair.server.handle_packet(now, &mut datagram.clone()), Ok(false));
}

#[test]
fn a_packet_kept_until_its_nonce_is_forgotten_is_refused_for_its_age() {
    let mut pair = Pair::new();
    let id = pair.client.open().unwrap();
    pair.client.write(id, b"word").unwrap();
    let old = packets(&mut pair.client, &pair.clock).remove(0);
    let now = pair.clock.now();
    assert_eq!(pair.server.handle_packet(now, &mut old.clone()), Ok(true));
    let mut chunk = [0; 4096];
    let refused = loop {
        let refused = pair.server.handle_packet(pair.clock.now(), &mut old.clone());
        if refused != Err(Dropped::Refused(crypt::Refused::Replayed)) {
            break refused;
        }
        while pair.client.write(id, &chunk).is_ok() {}
        pair.settle();
        while let Ok(1..) = pair.server.read(id, &mut chunk) {}
    };
    assert_eq!(refused, Err(Dropped::Stale));
}

#[test]
fn sixty_fast_streams_that_stop_being_read_together_leave_room_for_others() {
    let mut pair = Pair::new();
    let fast: Vec<_> = (0..60).map(|_| pair.stream(b"x")).collect();
    let other = pair.stream(b"y");
    read(&mut pair.server, other);
    let mut chunk = vec![0; 65536];
    // All are fast and read, for long enough that windows are what they will be.
    for _ in 0..40 {
        for id in &fast {
            while pair.client.write(*id, &chunk).is_ok() {}
        }
        pair.settle_for(Duration::from_millis(100));
        for id in &fast {
            while let Ok(1..) = pair.server.read(*id, &mut chunk) {}
        }
    }
    // Then nobody reads any of them, and the peer sends what it may.
    loop {
        let before = pair.server.smux.unread();
        for id in &fast {
            while pair.client.write(*id, &chunk).is_ok() {}
        }
        pair.settle_for(Duration::from_secs(1));
        if pair.server.smux.unread() == before {
            break;
        }
    }
    pair.client.write(other, b"still there").unwrap();
    pair.settle_for(Duration::from_secs(1));
    assert_eq!(read(&mut pair.server, other), b"still there");
}

#[test]
fn debug_output_shows_nothing_of_what_is_sent() {
    let mut pair = Pair::new();
    let id = pair.stream(b"swordfish");
    pair.client.send_datagram(b"swordfish".to_vec());
    pair.client.write(id, b"swordfish").unwrap();
    let datagram = Event::Datagram(b"swordfish".to_vec());
    let text = format!("{:?} {:?} {:?}", pair.client.smux, pair.server.smux, pair.client.kcp);
    let text = format!("{text} {:?} {datagram:?} {:?}", pair.client, secrets(7));
    let typed = format!("{:?}", b"swordfish");
    let inner = typed.trim_matches(['[', ']']);
    assert!(!text.contains(inner) && !text.contains("swordfish"), "{text}");
}
