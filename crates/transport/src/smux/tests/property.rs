//! What holds for any cutting, any interleaving and any bytes.

use proptest::prelude::*;
use testkit::{Prng, with_seeds};

use super::*;

/// Frames as a peer might send them, with few ids so that they meet.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let id = (1_u32..12).prop_map(StreamId);
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let frame = prop_oneof![
        3 => id.clone().prop_map(syn),
        6 => (id.clone(), payload.clone()).prop_map(|(id, payload)| data(id, &payload)),
        1 => id.clone().prop_map(fin),
        2 => (id, any::<u32>(), any::<u32>()).prop_map(|(id, c, w)| update(id, c >> (w % 32), w)),
        1 => (5_u8.., payload).prop_map(|(cmd, payload)| {
            let mut frame = data(StreamId(3), &payload);
            frame[1] = cmd;
            frame
        }),
    ];
    proptest::collection::vec(frame, 0..60).prop_map(|frames| frames.concat())
}

/// What a session made of its input: events, and each stream's bytes.
fn outcome(mut session: Session) -> (Vec<Event>, Vec<Vec<u8>>, Vec<u8>) {
    let events = events(&mut session);
    let streams = (1..12).map(|id| read_all(&mut session, StreamId(id))).collect();
    (events, streams, sent(&mut session))
}

proptest! {
    #[test]
    fn where_the_pipe_is_cut_changes_nothing(
        pipe in frames(),
        cuts in proptest::collection::vec(1_usize..40, 1..30),
    ) {
        let mut whole = Session::server(Config::default());
        feed(&mut whole, &pipe);

        let mut parts = Session::server(Config::default());
        let (mut rest, mut cuts) = (pipe.as_slice(), cuts.iter().cycle());
        while let Some(cut) = cuts.next().filter(|_| !rest.is_empty()) {
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            feed(&mut parts, part);
            rest = after;
        }
        prop_assert_eq!(outcome(whole), outcome(parts));
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_more_than_its_limits(
        junk in proptest::collection::vec(any::<u8>(), 0..300),
        pipe in frames(),
        is_client in any::<bool>(),
    ) {
        let config = Config { max_streams: 4 };
        let mut session =
            if is_client { Session::client(config) } else { Session::server(config) };
        while session.open().is_ok() {}
        for part in [&pipe, &junk] {
            if let Ok(taken) = session.handle_bytes(part) {
                prop_assert_eq!(taken, part.len());
            }
        }
        prop_assert!(session.stream_count() <= 4);
        prop_assert!(events(&mut session).len() <= 3 * 4);
        let refusals = pipe.len() / 8 * 24;
        prop_assert!(sent(&mut session).len() <= 4 * (8 + 16 + 8) + refusals);
        for id in 1..12 {
            read_all(&mut session, StreamId(id));
            session.close(StreamId(id));
        }
        sent(&mut session);
        prop_assert_eq!(session.stream_count(), 0);
    }
}

/// One direction of one stream in the simulation.
struct Flow {
    id: StreamId,
    from_client: bool,
    length: usize,
    written: usize,
    read: usize,
    ended: bool,
}

impl Flow {
    fn byte(&self, at: usize) -> u8 {
        let salt = self.id.value() as usize + usize::from(self.from_client);
        (at.wrapping_mul(31) ^ (at >> 8) ^ salt).to_le_bytes()[0]
    }

    fn write(&mut self, pair: &mut Pair, most: usize) {
        let session = if self.from_client { &mut pair.client } else { &mut pair.server };
        let end = self.length.min(self.written + most);
        let bytes: Vec<u8> = (self.written..end).map(|at| self.byte(at)).collect();
        self.written += session.write(self.id, &bytes).unwrap_or(0);
        if self.written == self.length {
            session.finish(self.id);
        }
    }

    fn read(&mut self, pair: &mut Pair, most: usize) {
        let session = if self.from_client { &mut pair.server } else { &mut pair.client };
        let mut to = vec![0; most];
        match session.read(self.id, &mut to) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                for (n, byte) in to[..count].iter().enumerate() {
                    assert_eq!(*byte, self.byte(self.read + n), "stream {:?}", self.id);
                }
                self.read += count;
                assert!(self.read <= self.written);
            }
            Err(_) => {}
        }
    }
}

/// A pipe that delivers when and in what pieces it likes.
fn carry_some(from: &mut Session, to: &mut Session, pipe: &mut Vec<u8>, prng: &mut Prng) {
    let room = usize::try_from(prng.below(20_000)).expect("small");
    from.poll_transmit(room, pipe);
    let some = usize::try_from(prng.below(pipe.len() as u64 + 1)).expect("a length");
    let taken = to.handle_bytes(&pipe[..some]).expect("version is right");
    pipe.drain(..taken);
}

#[test]
fn every_stream_delivers_a_prefix_of_what_was_written_and_all_of_it_in_the_end() {
    with_seeds(0..40, simulate);
}

/// Streams of all kinds over a pipe that delivers when it likes.
fn simulate(seed: u64) {
    let prng = &mut Prng::new(seed);
    let mut pair = Pair::new();
    let mut flows = Vec::new();
    for _ in 0..=prng.below(8) {
        let id = pair.client.open().expect("room");
        pair.client.set_priority(id, i32::from(prng.chance(0.3)));
        for from_client in [true, false] {
            let most = 1 << (8 + prng.below(13));
            let length = usize::try_from(prng.below(most)).expect("small");
            flows.push(Flow { id, from_client, length, written: 0, read: 0, ended: false });
        }
    }
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut steps = 0;
    while flows.iter().any(|flow| !flow.ended) {
        let which = usize::try_from(prng.below(flows.len() as u64)).expect("an index");
        let most = usize::try_from(1 + prng.below(30_000)).expect("small");
        match prng.below(4) {
            0 => flows[which].write(&mut pair, most),
            1 => flows[which].read(&mut pair, most),
            2 => carry_some(&mut pair.client, &mut pair.server, &mut up, prng),
            _ => carry_some(&mut pair.server, &mut pair.client, &mut down, prng),
        }
        steps += 1;
        assert!(steps < 1_000_000, "seed {seed} is stuck");
    }
    assert!(flows.iter().all(|flow| flow.read == flow.length), "seed {seed}");
    while !up.is_empty() || !down.is_empty() || !sent_both(&mut pair, &mut up, &mut down) {
        carry_some(&mut pair.client, &mut pair.server, &mut up, prng);
        carry_some(&mut pair.server, &mut pair.client, &mut down, prng);
    }
    let left = (pair.client.stream_count(), pair.server.stream_count());
    assert_eq!(left, (0, 0), "seed {seed}");
}

/// Puts all there is into the pipes; returns whether both stay empty.
fn sent_both(pair: &mut Pair, up: &mut Vec<u8>, down: &mut Vec<u8>) -> bool {
    up.extend(sent(&mut pair.client));
    down.extend(sent(&mut pair.server));
    up.is_empty() && down.is_empty()
}
