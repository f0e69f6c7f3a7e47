//! Nothing a peer sends panics, hangs or grows memory past the windows.

use super::*;

/// Numbers near what matters, and anywhere.
fn number(prng: &mut Prng, near: u32) -> u32 {
    match prng.below(4) {
        0 => near.wrapping_add(prng.below(8) as u32),
        1 => near.wrapping_sub(prng.below(2000) as u32),
        2 => near.wrapping_add(prng.below(2000) as u32),
        _ => prng.next_u64() as u32,
    }
}

fn hostile_packet(prng: &mut Prng, near: u32, time: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    let commands =
        [Command::Push, Command::Ack, Command::WindowAsk, Command::WindowTell, Command::Ack];
    for _ in 0..=prng.below(40) {
        let mut data = vec![0; prng.below(60) as usize];
        prng.fill(&mut data);
        let segment = Segment {
            conv: CONV,
            command: commands[prng.below(5) as usize],
            fragment: prng.next_u64() as u8,
            window: prng.next_u64() as u16,
            ts: Ts(number(prng, time)),
            sn: Sn(number(prng, near)),
            una: Sn(number(prng, near)),
            data: &data,
        };
        segment.encode(&mut packet);
    }
    if prng.chance(0.2) {
        let at = prng.below(packet.len() as u64) as usize;
        packet[at] = prng.next_u64() as u8;
    }
    if prng.chance(0.1) {
        packet.truncate(prng.below(packet.len() as u64) as usize);
    }
    packet
}

#[test]
fn hostile_segments_neither_panic_nor_grow_memory() {
    with_seeds(0..200, |seed| {
        let (mut prng, clock) = (Prng::new(seed), Clock::new());
        let start = (Sn(prng.next_u64() as u32), Ts(prng.next_u64() as u32));
        let mut kcp = new_kcp(&clock, Config { start, ..config() });
        for _ in 0..300 {
            let now = clock.now();
            kcp.send(now, &[7; 3000][..prng.below(3000) as usize]);
            let origin = if prng.chance(0.5) { Origin::Received } else { Origin::Recovered };
            let time = start.1.0.wrapping_add(clock.elapsed().as_millis() as u32);
            let _refused =
                kcp.handle_packet(now, &hostile_packet(&mut prng, start.0.0, time), origin);
            kcp.handle_timeout(now);
            if prng.chance(0.5) {
                kcp.recv(&mut [0; 500]);
            }
            if prng.chance(0.8) {
                let mut packets = 0;
                while kcp.poll_transmit(now, &mut Vec::new()) {
                    packets += 1;
                    assert!(packets < 5000, "seed {seed}: sends without end");
                }
                assert!(kcp.poll_timeout().is_none_or(|at| at > now), "seed {seed}: spins");
            }
            if prng.chance(0.1) {
                kcp.reset_rto(now);
            }
            let (slots, acks) = kcp.receiver.held();
            let (outstanding, lost, unsent) = kcp.sender.held();
            assert!(slots <= 1024 && acks <= 1024, "seed {seed}: {slots} {acks}");
            assert!(outstanding <= 1024 && lost <= 1024, "seed {seed}: {outstanding} {lost}");
            assert!(unsent <= 128 * 1024, "seed {seed}: {unsent}");
            assert!(kcp.rto() <= Duration::from_secs(60));
            clock.advance(Duration::from_millis(prng.below(200)));
        }
    });
}

#[test]
fn random_bytes_are_refused_and_change_nothing() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let before = format!("{kcp:?}");
    let mut prng = Prng::new(1);
    for len in 0..2000 {
        let mut packet = vec![0; len];
        prng.fill(&mut packet);
        assert!(kcp.handle_packet(clock.now(), &packet, Origin::Received).is_err());
    }
    assert_eq!(format!("{kcp:?}"), before);
}

#[test]
fn a_packet_with_one_bad_segment_is_refused_as_a_whole() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let good = Segment {
        conv: CONV,
        command: Command::Push,
        fragment: 0,
        window: 7,
        ts: Ts(1),
        sn: Sn(0),
        una: Sn(0),
        data: b"x",
    };
    let mut packet = Vec::new();
    good.encode(&mut packet);
    Segment { conv: CONV + 1, ..good }.encode(&mut packet);
    let refused = kcp.handle_packet(clock.now(), &packet, Origin::Received);
    assert_eq!(refused, Err(Refused::ForeignConversation { got: CONV + 1, ours: CONV }));
    assert!(!kcp.is_readable());
    assert_eq!(kcp.poll_timeout(), None);
}

#[test]
fn a_peer_that_repeats_itself_while_we_cannot_send_is_owed_a_window_of_acks_at_most() {
    let clock = Clock::new();
    let mut kcp = new_kcp(&clock, config());
    let mut packet = Vec::new();
    for sn in (0..5000).rev() {
        let (ts, una, window) = (Ts(0), Sn(0), 1024);
        let (command, sn) = (Command::Push, Sn(sn));
        let segment =
            Segment { conv: CONV, command, fragment: 0, window, ts, sn, una, data: &[0; 50] };
        segment.encode(&mut packet);
    }
    for _ in 0..3 {
        kcp.handle_packet(clock.now(), &packet, Origin::Received).unwrap();
    }
    assert_eq!(kcp.receiver.held(), (1024, 1024));
}
