//! Golden plaintexts of PROTOCOL §13, and what loss and odd peers do.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// One KCP segment, PUSH sn 0, with a smux SYN.
const SEGMENT: &str = "4433221151000004640000000000000000000000080000000200000003000000";

/// Data packets as their sender makes them: `room | segments`, then the header.
fn data(encoder: &mut Encoder, now: Instant, segments: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut plaintext = [&[0xee; HEADER_LEN], segments].concat();
    let parity = encoder.encode_data(now, &mut plaintext).map(|id| {
        let mut copy = plaintext.clone();
        id.encode(&mut copy);
        copy
    });
    (plaintext, parity)
}

/// A packet with a header of the test's choosing.
fn packet(seqid: u32, kind: u16, segments: &[u8]) -> Vec<u8> {
    let size = u16::try_from(segments.len() + SIZE_LEN).unwrap();
    [&seqid.to_le_bytes()[..], &kind.to_le_bytes(), &size.to_le_bytes(), segments].concat()
}

#[test]
fn plaintexts_are_those_of_the_golden_vectors() {
    let segment = hex::decode(SEGMENT).unwrap();
    let now = Instant::now();
    let (plaintext, parity) = data(&mut Encoder::new(Parity::WhileBusy), now, &segment);
    assert_eq!(hex::encode(&plaintext), format!("00000000f1002200{SEGMENT}"));
    assert_eq!(parity, None, "nothing was sent before");

    let mut parity = plaintext.clone();
    encode::ParityId::golden(1).encode(&mut parity);
    assert_eq!(hex::encode(&parity), format!("01000000f2002200{SEGMENT}"));

    let mut datagram = Vec::new();
    encode_datagram(0x1122_3344, &[&b"hi"[..], &1u64.to_be_bytes()].concat(), &mut datagram);
    assert_eq!(hex::encode(datagram), "fffffffff30010004433221168690000000000000001");
}

#[test]
fn no_parity_is_sent_unless_asked_for_and_its_numbers_are_skipped() {
    let now = Instant::now();
    let mut encoder = Encoder::default();
    for seqid in [0u32, 2, 4] {
        let (plaintext, parity) = data(&mut encoder, now, b"segment");
        assert_eq!(plaintext[..4], seqid.to_le_bytes());
        assert_eq!(parity, None);
    }
}

#[test]
fn parity_follows_data_that_came_soon_after_other_data() {
    let mut encoder = Encoder::new(Parity::WhileBusy);
    let start = Instant::now();
    assert_eq!(data(&mut encoder, start, b"first").1, None);
    let soon = start + PARITY_GAP - Duration::from_millis(1);
    let (_, parity) = data(&mut encoder, soon, b"second");
    assert_eq!(parity, Some(packet(3, TYPE_PARITY, b"second")));
    assert_eq!(data(&mut encoder, soon + PARITY_GAP, b"third").1, None);
}

#[test]
fn numbers_wrap_so_that_data_stays_even_and_recovery_goes_on() {
    let now = Instant::now();
    let mut encoder = Encoder::new(Parity::WhileBusy);
    let mut decoder = Decoder::new();
    encoder.start_at(0xffff_fffa);
    let mut seqids = Vec::new();
    for number in 0..4u8 {
        let (plaintext, parity) = data(&mut encoder, now, &[number]);
        seqids.push(u32::from_le_bytes(*plaintext.first_chunk().unwrap()));
        // Every other data packet is lost.
        if number % 2 == 0 {
            assert_eq!(decoder.decode(&plaintext), Ok(Shard::Data(&[number])));
        } else {
            let parity = parity.expect("busy");
            assert_eq!(decoder.decode(&parity), Ok(Shard::Recovered(&[number])));
            assert_eq!(decoder.decode(&parity), Ok(Shard::Spent));
        }
    }
    assert_eq!(seqids, [0xffff_fffa, 0xffff_fffc, 0, 2]);
}

#[test]
fn parity_is_spent_once_its_data_came_and_data_is_passed_on_even_after_its_parity() {
    let mut decoder = Decoder::new();
    let (first, second) = (packet(0, TYPE_DATA, b"one"), packet(2, TYPE_DATA, b"two"));
    assert_eq!(decoder.decode(&first), Ok(Shard::Data(b"one")));
    assert_eq!(decoder.decode(&packet(1, TYPE_PARITY, b"one")), Ok(Shard::Spent));
    assert_eq!(decoder.decode(&packet(3, TYPE_PARITY, b"two")), Ok(Shard::Recovered(b"two")));
    assert_eq!(decoder.decode(&second), Ok(Shard::Data(b"two")));
}

#[test]
fn parity_that_is_late_by_more_than_the_window_is_spent() {
    let mut decoder = Decoder::new();
    decoder.decode(&packet(200, TYPE_DATA, b"new")).unwrap();
    let late = packet(200 - 2 * 63 + 1, TYPE_PARITY, b"late");
    assert_eq!(decoder.decode(&late), Ok(Shard::Recovered(b"late")));
    assert_eq!(decoder.decode(&late), Ok(Shard::Spent));
    let too_late = packet(200 - 2 * 64 + 1, TYPE_PARITY, b"too late");
    assert_eq!(decoder.decode(&too_late), Ok(Shard::Spent));
}

#[test]
fn a_jump_over_the_whole_window_forgets_what_came_before_it() {
    for jump in [63, 64, 65, 128, 1 << 20] {
        let mut decoder = Decoder::new();
        decoder.decode(&packet(0, TYPE_DATA, b"before")).unwrap();
        let parity = packet(2 * jump + 1, TYPE_PARITY, b"after");
        assert_eq!(decoder.decode(&parity), Ok(Shard::Recovered(b"after")), "jump of {jump}");
    }
}

#[test]
fn a_peer_that_numbers_its_packets_otherwise_gets_its_data_through() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(&packet(7, TYPE_DATA, b"odd")), Ok(Shard::Data(b"odd")));
    assert_eq!(decoder.decode(&packet(6, TYPE_PARITY, b"even")), Ok(Shard::Spent));
    for seqid in [MODULUS, MODULUS + 1] {
        assert_eq!(decoder.decode(&packet(seqid, TYPE_DATA, b"high")), Ok(Shard::Data(b"high")));
        assert_eq!(decoder.decode(&packet(seqid, TYPE_PARITY, b"high")), Ok(Shard::Spent));
    }
    let bare = hex::decode(SEGMENT).unwrap();
    assert_eq!(decoder.decode(&bare), Ok(Shard::Data(&bare)));
    // None of this has moved the window.
    assert_eq!(decoder.decode(&packet(1, TYPE_PARITY, b"one")), Ok(Shard::Recovered(b"one")));
}

#[test]
fn a_size_that_lies_is_refused_and_spoils_nothing() {
    let mut decoder = Decoder::new();
    for kind in [TYPE_PARITY, TYPE_DATAGRAM] {
        for size in [0u16, 1, 8, 0xffff] {
            let mut lying = packet(1, kind, b"12345");
            lying[6..8].copy_from_slice(&size.to_le_bytes());
            assert_eq!(decoder.decode(&lying), Err(Malformed), "size {size}");
        }
    }
    assert_eq!(decoder.decode(&packet(9, TYPE_DATAGRAM, b"123")), Err(Malformed), "half a conv");
    assert_eq!(decoder.decode(&packet(0, TYPE_DATA, b"")[..7]), Err(Malformed));
    assert_eq!(decoder.decode(b"short"), Err(Malformed));
    assert_eq!(decoder.decode(&packet(1, TYPE_PARITY, b"one")), Ok(Shard::Recovered(b"one")));
    let mut padded = packet(3, TYPE_PARITY, b"two");
    padded.extend_from_slice(b"padding");
    assert_eq!(decoder.decode(&padded), Ok(Shard::Recovered(b"two")));
}

proptest! {
    #[test]
    fn random_plaintexts_are_taken_or_refused(
        plaintexts in prop::collection::vec(
            (any::<u32>(), 0xf0..0xf5u16, prop::collection::vec(any::<u8>(), 0..40)),
            0..50,
        ),
    ) {
        let mut decoder = Decoder::new();
        for (seqid, kind, rest) in plaintexts {
            let plaintext =
                [&seqid.to_le_bytes()[..], &kind.to_le_bytes(), rest.as_slice()].concat();
            for end in 0..=plaintext.len() {
                let _ = decoder.decode(&plaintext[..end]);
            }
        }
    }

    #[test]
    fn datagrams_arrive_as_they_were_sent(
        conv in any::<u32>(),
        payload in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let mut plaintext = Vec::new();
        encode_datagram(conv, &payload, &mut plaintext);
        prop_assert_eq!(plaintext.len(), DATAGRAM_HEADER_LEN + payload.len());
        let shard = Decoder::new().decode(&plaintext);
        prop_assert_eq!(shard, Ok(Shard::Datagram { conv, payload: &payload }));
    }

    /// Of each group in a window's reach, whatever is lost, repeated or
    /// overtaken: one body is passed on as new if either packet came, and
    /// never two as recovered.
    #[test]
    fn a_body_is_recovered_once_and_only_if_its_data_did_not_come_first(
        start in prop_oneof![Just(0u32), Just(0xffff_fff0), 0..MODULUS / 2],
        arrivals in prop::collection::vec((0..60usize, any::<bool>()), 0..200),
    ) {
        let now = Instant::now();
        let mut encoder = Encoder::new(Parity::WhileBusy);
        encoder.start_at(start & !1);
        data(&mut encoder, now, b"before");
        let groups: Vec<_> = (0..60u8).map(|number| data(&mut encoder, now, &[number])).collect();
        let mut decoder = Decoder::new();
        let mut known = [false; 60];
        for (number, as_parity) in arrivals {
            let (plaintext, parity) = &groups[number];
            let body = [u8::try_from(number).unwrap()];
            if as_parity {
                let expected = if known[number] { Shard::Spent } else { Shard::Recovered(&body) };
                prop_assert_eq!(decoder.decode(parity.as_ref().expect("busy")), Ok(expected));
            } else {
                prop_assert_eq!(decoder.decode(plaintext), Ok(Shard::Data(&body)));
            }
            known[number] = true;
        }
    }
}
