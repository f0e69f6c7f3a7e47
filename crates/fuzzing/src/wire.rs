//! Targets for the decoders of `proto` and for the seal of path-auth packets.

use proto::bootstrap::Finder;
use proto::bus::{ToClient, ToServer};
use proto::codec::FrameBuffer;
use proto::json::Message;
use proto::marker::MarkerFinder;
use proto::open::{
    AgentRequest, BusMessage, BusResponse, DialMessage, DialResponse, DialUdpResponse, IdMessage,
    ListenMessage, Outcome, Ready, StartMessage, X11Request, decode_modes, encode_modes,
};
use proto::path_auth::{PathAck, PathAuth};
use proxy::ProxyKey;
use proxy::seal::Sealer;

/// The server's words on the login, whole and in pieces.
pub fn server_info(data: &[u8]) {
    let mut finder = Finder::default();
    let early = finder.push(data);
    let printed = finder.printed();
    assert!(printed.len() <= data.len() * 3 + 1024, "an error quotes more than there was");
    let whole = finder.finish();
    if let Ok(Some(early)) = early {
        let whole = whole.expect("an info that was complete stays complete");
        assert_eq!(early.port, whole.port);
    }
    let mut pieces = Finder::default();
    for piece in data.chunks(7) {
        if pieces.push(piece).is_err() {
            return;
        }
    }
    // Either way the answer may be an error; it must be an answer.
    let _ = pieces.finish();
}

/// Commands, messages and UDP frames, cut out of a byte stream.
///
/// The first byte says which frames to expect, in turn.
pub fn frames(data: &[u8]) {
    let Some((&kinds, data)) = data.split_first() else { return };
    let taken = |piece_len: usize| {
        let mut frames = FrameBuffer::default();
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for piece in data.chunks(piece_len.max(1)) {
            frames.push(piece);
            loop {
                let turn = u8::try_from(taken.len() % 4).unwrap_or(0);
                let frame = match (kinds >> (2 * turn)) & 3 {
                    0 => frames.take_command().map(|name| name.map(String::into_bytes)),
                    1 => frames.take_message(),
                    _ => Ok(frames.take_udp_frame()),
                };
                match frame {
                    Ok(Some(frame)) => taken.push(frame),
                    Ok(None) => break,
                    Err(_) => return taken,
                }
            }
        }
        taken
    };
    assert_eq!(taken(data.len()), taken(3), "pieces decode as the whole does");
    // Marker and stream are both the input's: every split must keep all bytes.
    let (marker, stream) = data.split_at(data.len().min(4));
    if !marker.is_empty() {
        let mut finder = MarkerFinder::new(marker);
        let mut before = Vec::new();
        for (index, piece) in stream.chunks(2).enumerate() {
            if let Some(rest) = finder.feed(piece, |bytes| before.extend_from_slice(bytes)) {
                before.extend_from_slice(marker);
                before.extend_from_slice(rest);
                before.extend(stream.chunks(2).skip(index + 1).flatten());
                assert_eq!(before, stream);
                return;
            }
        }
        before.extend_from_slice(finder.held_back());
        assert_eq!(before, stream);
    }
}

/// Messages of the bus: the first byte chooses the command, the rest is the message.
pub fn bus_messages(data: &[u8]) {
    let Some((&command, body)) = data.split_first() else { return };
    let Some(name) = COMMANDS.get(usize::from(command) % COMMANDS.len()) else { return };
    if let Ok(Some(message)) = ToServer::decode(name, body) {
        let bytes = message.encode();
        let body = bytes.get(1 + name.len() + 4..).expect("an encoded message has its frame");
        assert_eq!(ToServer::decode(name, body), Ok(Some(message)));
    }
    if let Ok(Some(message)) = ToClient::decode(name, body) {
        let bytes = message.encode();
        let body = bytes.get(1 + name.len() + 4..).expect("an encoded message has its frame");
        assert_eq!(ToClient::decode(name, body), Ok(Some(message)));
    }
}

/// The first messages of all kinds of streams, and the modes inside one of them.
pub fn stream_messages(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    match kind % 13 {
        0 => again::<AgentRequest>(body),
        1 => again::<BusMessage>(body),
        2 => again::<BusResponse>(body),
        3 => again::<DialMessage>(body),
        4 => again::<DialResponse>(body),
        5 => again::<DialUdpResponse>(body),
        6 => again::<IdMessage>(body),
        7 => again::<ListenMessage>(body),
        8 => again::<Outcome>(body),
        9 => again::<Ready>(body),
        10 => again::<StartMessage>(body),
        11 => again::<X11Request>(body),
        _ => {
            if let Ok(modes) = decode_modes(body) {
                let bytes = encode_modes(&modes);
                assert_eq!(decode_modes(&bytes.0).ok(), Some(modes));
            }
        }
    }
}

/// Path-auth packets: what was not sealed with the key must not open.
pub fn path_auth(data: &[u8]) {
    let sealer = Sealer::new(&ProxyKey::new([7; 32]));
    assert!(sealer.open(data).is_none(), "an input cannot know the key");
    if let Some(auth) = PathAuth::decode(data) {
        assert_eq!(auth.encode(), data);
        let sealed = sealer.seal([3; 12], auth.encode());
        assert_eq!(sealer.open(&sealed), Some(auth.encode()));
        for (index, byte) in data.iter().enumerate() {
            let mut bent = sealed;
            if let Some(at) = bent.get_mut(index * 2) {
                *at ^= byte | 1;
            }
            assert!(sealer.open(&bent).is_none(), "a bent packet opens");
        }
    }
    if let Some(ack) = PathAck::decode(data) {
        assert_eq!(ack.encode(), data);
    }
}

/// Decodes a message; what it means must survive being written and read again.
fn again<M: Message + PartialEq + std::fmt::Debug>(body: &[u8]) {
    if let Ok(message) = M::from_json(body) {
        let text = message.to_json();
        assert_eq!(M::from_json(text.as_bytes()).as_ref(), Ok(&message), "{text}");
    }
}

/// Commands of the bus in both directions, and one nobody knows.
const COMMANDS: [&str; 12] = [
    "alive", "channel", "close", "debug", "discard", "error", "exit", "quit", "rekey", "resize",
    "setting", "signal",
];
