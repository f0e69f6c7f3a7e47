//! Golden vectors of PROTOCOL §13, and what the guards and the ring promise.

use std::time::Instant;

use proptest::prelude::*;

use super::key::{PacketKey, derive};
use super::rekey::Ephemeral;
use super::*;

fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + u8::try_from(i).unwrap())
}

fn random(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

/// Client and server after the login.
fn pair() -> (Crypt, Crypt) {
    let side = |seed| Crypt::new(&counting(0), &counting(0x30), random(seed));
    (side(1), side(2))
}

fn sealed(by: &mut Crypt, plaintext: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; NONCE_LEN];
    packet.extend_from_slice(plaintext);
    by.seal(&mut packet);
    packet
}

fn open(by: &mut Crypt, packet: &[u8]) -> Result<Vec<u8>, Refused> {
    by.open(&mut packet.to_vec()).map(|plaintext| plaintext.to_vec())
}

/// A scalar as 32 bytes, from a small number.
fn scalar(number: u64) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// One whole exchange, as far as the client's new key.
fn rekey(now: Instant, machine: &mut ClientRekey, client: &mut Crypt, server: &mut Crypt) {
    let number = u8::try_from(client.generation()).unwrap();
    let request = machine.request(now, client, random(100 + number)).expect("due");
    let answer = server.answer(&request, random(200 + number)).expect("a point");
    machine.handle_answer(now, client, &answer).expect("a point");
}

const TEXT: &[u8] = b"a plaintext of some length";

#[test]
fn keys_are_derived_as_in_the_golden_vectors() {
    assert_eq!(
        hex::encode(*derive(&counting::<48>(0), &counting(0x30))),
        "66c7c1f666fb77c26cab4c4b4c120cb7b475dbdff47b8639c5d28e8fc04ef38a"
    );
    let (one, other) = (1_234_567_890_123_456_789, 9_876_543_210_987_654_321);
    let point = Ephemeral::new(scalar(other)).point();
    let secret = Ephemeral::new(scalar(one)).agree(&point).expect("a point");
    assert_eq!(
        hex::encode(*secret),
        "a2f8fe9b57581bbb78d34e77b3fa8b088039c228a1559ef435b60de380505488"
    );
    assert_eq!(
        hex::encode(*derive(secret.as_slice(), &counting(0x30))),
        "9394aab23f714a40e944a32f129142bdf998a323b786fcbfe9df6ed827043cc5"
    );
}

#[test]
fn a_packet_is_sealed_as_in_the_golden_vector() {
    let plaintext = hex::decode(
        "00000000f10022004433221151000004640000000000000000000000080000000200000003000000",
    )
    .unwrap();
    let golden = "000102030405060708090a0b756ae94281d1cea226e3bb182d372a6e7e65bfb7a8eb4b02c6b7\
                  9c172ea673427f1f2fcec38417b87be6ceb1f6d2a70b72f892082b8b7870";
    let key = PacketKey::new(&derive(&counting::<48>(0), &counting(0x30)));
    let mut packet = [&[0xee; NONCE_LEN], &plaintext[..]].concat();
    key.seal(counting(0), &mut packet, 0);
    assert_eq!(hex::encode(&packet), golden);
    assert_eq!(open(&mut pair().0, &packet), Ok(plaintext));
}

#[test]
fn a_packet_that_differs_in_one_bit_is_refused_and_the_genuine_one_still_opens() {
    let (mut client, mut server) = pair();
    let packet = sealed(&mut client, TEXT);
    for bit in 0..packet.len() * 8 {
        let mut forged = packet.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let changed = forged.clone();
        assert_eq!(server.open(&mut forged), Err(Refused::Unsealed { keys: 1 }), "bit {bit}");
        assert_eq!(forged, changed, "what was refused is as it came");
    }
    for have in 0..packet.len() {
        assert!(open(&mut server, &packet[..have]).is_err(), "cut to {have}");
    }
    assert_eq!(open(&mut server, &packet).as_deref(), Ok(TEXT));
}

#[test]
fn a_plaintext_too_short_for_a_header_is_refused() {
    let (_, mut server) = pair();
    let key = PacketKey::new(&derive(&counting::<48>(0), &counting(0x30)));
    let mut packet = vec![0; NONCE_LEN + MIN_PLAINTEXT - 1];
    key.seal(counting(0), &mut packet, 0);
    assert_eq!(open(&mut server, &packet), Err(Refused::TooShort { have: packet.len() }));
}

#[test]
fn a_packet_sent_again_or_sent_back_is_refused() {
    let (mut client, mut server) = pair();
    let first = sealed(&mut client, TEXT);
    let second = sealed(&mut client, TEXT);
    assert_ne!(first, second);
    assert_eq!(open(&mut client, &first), Err(Refused::Reflected));
    for packet in [&second, &first] {
        assert_eq!(open(&mut server, packet).as_deref(), Ok(TEXT));
        assert_eq!(open(&mut server, packet), Err(Refused::Replayed));
    }
    assert_eq!(open(&mut server, &first), Err(Refused::Replayed));
    assert_eq!(server.volume(), 2 * TEXT.len() as u64, "refused packets count for nothing");
}

#[test]
fn the_server_uses_a_new_key_when_it_has_seen_the_client_use_it() {
    let (mut client, mut server) = pair();
    let (now, mut machine) = (Instant::now(), ClientRekey::new());
    machine.start(now);
    let before = sealed(&mut client, TEXT);
    let late = sealed(&mut client, TEXT);
    rekey(now, &mut machine, &mut client, &mut server);
    assert_eq!((client.generation(), server.generation()), (1, 0));

    let from_server = sealed(&mut server, TEXT);
    assert_eq!(open(&mut server, &before).as_deref(), Ok(TEXT), "under way during the exchange");
    assert_eq!(open(&mut client, &from_server).as_deref(), Ok(TEXT));
    assert_eq!((client.generation(), server.generation()), (1, 0));

    let packet = sealed(&mut client, TEXT);
    assert_eq!(open(&mut server, &packet).as_deref(), Ok(TEXT));
    assert_eq!(server.generation(), 1);
    assert_eq!(open(&mut server, &late), Err(Refused::Unsealed { keys: 1 }), "old key dropped");

    let packet = sealed(&mut server, TEXT);
    assert_eq!(open(&mut client, &packet).as_deref(), Ok(TEXT));
    assert_eq!(client.volume(), 2 * TEXT.len() as u64, "counted for the new key alone");
}

#[test]
fn a_clients_own_packet_under_the_new_key_does_not_cost_it_the_old_one() {
    let (mut client, mut server) = pair();
    let (now, mut machine) = (Instant::now(), ClientRekey::new());
    machine.start(now);
    let from_server = sealed(&mut server, TEXT);
    rekey(now, &mut machine, &mut client, &mut server);
    let own = sealed(&mut client, TEXT);
    assert_eq!(open(&mut client, &own), Err(Refused::Reflected));
    assert_eq!(open(&mut client, &from_server).as_deref(), Ok(TEXT));
}

#[test]
fn a_late_packet_under_a_middle_key_does_not_move_the_client_back() {
    let (mut client, mut server) = pair();
    let (mut now, mut machine) = (Instant::now(), ClientRekey::new());
    machine.start(now);
    rekey(now, &mut machine, &mut client, &mut server);
    let packet = sealed(&mut client, TEXT);
    open(&mut server, &packet).expect("genuine");
    let late = sealed(&mut server, TEXT);

    now += INTERVAL;
    rekey(now, &mut machine, &mut client, &mut server);
    let packet = sealed(&mut client, TEXT);
    open(&mut server, &packet).expect("genuine");
    assert_eq!(open(&mut client, &late).as_deref(), Ok(TEXT));
    assert_eq!((client.generation(), server.generation()), (2, 2));
    let packet = sealed(&mut client, TEXT);
    assert_eq!(open(&mut server, &packet).as_deref(), Ok(TEXT));
}

#[test]
fn a_new_key_is_asked_for_at_the_start_each_hour_and_each_gibibyte_but_one_at_a_time() {
    let (mut client, mut server) = pair();
    let (now, mut machine) = (Instant::now(), ClientRekey::new());
    assert!(!machine.is_due(now, &client) && machine.poll_timeout().is_none(), "no bus yet");
    machine.start(now);
    assert_eq!(machine.poll_timeout(), Some(now));
    let request = machine.request(now, &client, random(3)).expect("at the start");

    let much_later = now + INTERVAL * 5;
    assert!(machine.is_in_flight());
    assert_eq!(machine.request(much_later, &client, random(3)), None, "one is in flight");
    assert_eq!(machine.poll_timeout(), None);
    machine.start(much_later);
    assert!(machine.is_in_flight(), "a second start asks for nothing");

    let answer = server.answer(&request, random(4)).expect("a point");
    machine.handle_answer(now, &mut client, &answer).expect("a point");
    assert_eq!(machine.poll_timeout(), Some(now + INTERVAL));
    let just_before = now + INTERVAL - std::time::Duration::from_nanos(1);
    assert!(!machine.is_due(just_before, &client));
    assert!(machine.is_due(now + INTERVAL, &client));

    // Sealing a gibibyte would take the test seconds; the counter is what matters.
    client.ring.add_volume(VOLUME - TEXT.len() as u64 - 1);
    sealed(&mut client, TEXT);
    assert!(!machine.is_due(just_before, &client), "one byte is missing");
    sealed(&mut client, TEXT);
    assert!(machine.is_due(now, &client));
    rekey(now, &mut machine, &mut client, &mut server);
    assert!(!machine.is_due(now, &client), "the new key has sealed nothing yet");
}

#[test]
fn answers_that_were_not_asked_for_and_points_off_the_curve_change_nothing() {
    let (mut client, mut server) = pair();
    let (now, mut machine) = (Instant::now(), ClientRekey::new());
    let point = Ephemeral::new(random(9)).point();
    assert_eq!(machine.handle_answer(now, &mut client, &point), Err(RekeyError::Unasked));
    assert_eq!(machine.poll_timeout(), None);

    let off_the_curve = [4; POINT_LEN];
    let infinity = [0; POINT_LEN];
    let mut hybrid = point;
    hybrid[0] = 6 | (point[POINT_LEN - 1] & 1);
    let mut compressed = point[..33].to_vec();
    compressed[0] = 2 | (point[POINT_LEN - 1] & 1);
    for bad in [&off_the_curve[..], &infinity, &hybrid, &compressed, &[0], &[], &point[1..]] {
        assert_eq!(server.answer(bad, random(4)), Err(RekeyError::BadPoint), "{bad:?}");
        machine = ClientRekey::new();
        machine.start(now);
        machine.request(now, &client, random(3)).expect("due");
        assert_eq!(machine.handle_answer(now, &mut client, bad), Err(RekeyError::BadPoint));
    }
    assert_eq!((client.generation(), server.generation()), (0, 0));
    let packet = sealed(&mut client, TEXT);
    assert_eq!(open(&mut server, &packet).as_deref(), Ok(TEXT));
}

#[test]
fn a_client_that_asks_for_keys_and_uses_none_is_refused_after_a_few() {
    let (mut client, mut server) = pair();
    let request = Ephemeral::new(random(3)).point();
    for _ in 1..MAX_KEYS {
        server.answer(&request, random(4)).expect("room for a key");
    }
    assert_eq!(server.answer(&request, random(4)), Err(RekeyError::TooManyKeys));
    let packet = sealed(&mut client, TEXT);
    assert_eq!(open(&mut server, &packet).as_deref(), Ok(TEXT));
}

#[test]
fn randomness_outside_the_curves_order_still_gives_a_secret() {
    let (zero, beyond) = (Ephemeral::new(random(0)), Ephemeral::new(random(0xff)));
    let (a, b) = (zero.point(), beyond.point());
    assert_eq!(zero.agree(&b).expect("a point"), beyond.agree(&a).expect("a point"));
}

#[test]
fn debug_shows_no_secret() {
    let (client, _) = pair();
    let mut machine = ClientRekey::new();
    let now = Instant::now();
    machine.start(now);
    machine.request(now, &client, random(3)).expect("due");
    assert_eq!(format!("{client:?}"), "Crypt { generation: 0, volume: 0, .. }");
    assert_eq!(format!("{machine:?}"), "ClientRekey { state: InFlight(Ephemeral(hidden)) }");
}

/// One step of a session in which messages overtake packets and packets each other.
#[derive(Clone, Copy, Debug)]
enum Step {
    ClientSends,
    ServerSends,
    ToServer(prop::sample::Index),
    ToClient(prop::sample::Index),
    HourPassesAndClientAsks,
    ServerAnswers,
    ClientTakesAnswer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::ClientSends),
        3 => Just(Step::ServerSends),
        3 => any::<prop::sample::Index>().prop_map(Step::ToServer),
        3 => any::<prop::sample::Index>().prop_map(Step::ToClient),
        1 => Just(Step::HourPassesAndClientAsks),
        1 => Just(Step::ServerAnswers),
        1 => Just(Step::ClientTakesAnswer),
    ]
}

proptest! {
    #[test]
    fn random_bytes_open_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut client, mut server) = pair();
        prop_assert!(open(&mut client, &bytes).is_err());
        let _ = server.answer(&bytes, random(4));
    }

    #[test]
    fn what_one_side_seals_the_other_opens(
        plaintext in prop::collection::vec(any::<u8>(), MIN_PLAINTEXT..1500),
    ) {
        let (mut client, mut server) = pair();
        let packet = sealed(&mut client, &plaintext);
        prop_assert_eq!(packet.len(), plaintext.len() + OVERHEAD);
        prop_assert_eq!(open(&mut server, &packet), Ok(plaintext));
    }

    /// Whatever was lost, delayed or repeated before, and wherever the exchanges
    /// stand: a packet sealed now opens on the other side, once.
    #[test]
    fn any_order_of_packets_and_exchanges_keeps_both_sides_talking(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let (mut client, mut server) = pair();
        let (mut now, mut machine) = (Instant::now(), ClientRekey::new());
        machine.start(now);
        let (mut to_server, mut to_client) = (Vec::<Vec<u8>>::new(), Vec::<Vec<u8>>::new());
        let (mut request, mut answer) = (None, None);
        for (number, step) in steps.into_iter().enumerate() {
            let fresh = random(u8::try_from(number).unwrap());
            match step {
                Step::ClientSends => to_server.push(sealed(&mut client, TEXT)),
                Step::ServerSends => to_client.push(sealed(&mut server, TEXT)),
                Step::ToServer(index) if !to_server.is_empty() => {
                    let _ = open(&mut server, index.get::<Vec<u8>>(&to_server));
                }
                Step::ToClient(index) if !to_client.is_empty() => {
                    let _ = open(&mut client, index.get::<Vec<u8>>(&to_client));
                }
                Step::ToServer(_) | Step::ToClient(_) => {}
                Step::HourPassesAndClientAsks => {
                    now += INTERVAL;
                    request = machine.request(now, &client, fresh).or(request);
                }
                Step::ServerAnswers => {
                    if let Some(point) = request.take() {
                        answer = server.answer(&point, fresh).ok();
                    }
                }
                Step::ClientTakesAnswer => {
                    if let Some(point) = answer.take() {
                        let _ = machine.handle_answer(now, &mut client, &point);
                    }
                }
            }
            // Not after every step, for what arrives changes the keys in use.
            if number % 4 == 3 {
                let packet = sealed(&mut client, TEXT);
                prop_assert_eq!(open(&mut server, &packet), Ok(TEXT.to_vec()));
                prop_assert_eq!(open(&mut server, &packet), Err(Refused::Replayed));
            }
            if number % 4 == 1 {
                let packet = sealed(&mut server, TEXT);
                prop_assert_eq!(open(&mut client, &packet), Ok(TEXT.to_vec()));
            }
        }
    }
}
