//! Targets for what strangers say at the beginning of a forwarded connection.

use tssh::forward::socks::{Socks, Step};
use tssh::forward::x11::setup::{Spoof, Verdict};

/// A SOCKS request. It comes to the same whether it arrives whole or byte by byte, and uses up
/// no more than has arrived.
pub fn socks(data: &[u8]) {
    // What is longer than any request is refused, if it arrives in pieces while it is waited for.
    let data = data.get(..1024).unwrap_or(data);
    assert_eq!(conversation(data, data.len().max(1)), conversation(data, 1));
}

/// What is said, and how it ends, when `data` arrives in pieces of `size`.
fn conversation(data: &[u8], size: usize) -> (Vec<u8>, Option<Step>) {
    let mut socks = Socks::default();
    let (mut said, mut waiting) = (Vec::new(), Vec::new());
    for piece in data.chunks(size) {
        waiting.extend_from_slice(piece);
        loop {
            match socks.advance(&waiting) {
                Step::More => break,
                Step::Answer(answer, used) => {
                    assert!(used <= waiting.len() && used > 0);
                    waiting.drain(..used);
                    said.extend(answer);
                }
                Step::Connect(target, version, used) => {
                    assert!(used <= waiting.len());
                    return (said, Some(Step::Connect(target, version, used)));
                }
                end @ Step::Refuse(_) => return (said, Some(end)),
            }
        }
    }
    (said, None)
}

/// The first packet of an X11 connection. A verdict stands whatever comes later; what passes has
/// the true cookie in the place of the false one, and nothing else changed.
pub fn x11_setup(data: &[u8]) {
    const NAME: &str = "MIT-MAGIC-COOKIE-1";
    // Letters, which a fuzzer finds where random bytes would be beyond it.
    let (real, fake) = (b"true-cookie-here".to_vec(), b"fake-cookie-here".to_vec());
    let Some(spoof) = Spoof::new(NAME.to_owned(), real.clone(), fake.clone()) else { return };
    let mut verdict = Verdict::More;
    for len in 0..=data.len().min(128) {
        let arrived = data.get(..len).unwrap_or_default();
        let next = spoof.judge(arrived);
        match (&verdict, &next) {
            (Verdict::Refuse(_), Verdict::Refuse(_))
            | (Verdict::Pass(_), Verdict::Pass(_))
            | (Verdict::More, _) => {}
            changed => panic!("a verdict was taken back: {changed:?}"),
        }
        if let Verdict::Pass(packet) = &next {
            assert_eq!(packet.len(), arrived.len());
            let differs: Vec<usize> =
                (0..len).filter(|at| packet.get(*at) != arrived.get(*at)).collect();
            let place = 12 + NAME.len().next_multiple_of(4);
            assert!(differs.iter().all(|at| (place..place + 16).contains(at)));
            assert_eq!(packet.get(place..place + 16), Some(real.as_slice()));
            assert_eq!(arrived.get(place..place + 16), Some(fake.as_slice()));
        }
        verdict = next;
    }
}
