//! Decoders take anything a peer sends without panicking.

use proptest::prelude::*;
use tssh_proto::bootstrap::Finder;
use tssh_proto::bus::{ToClient, ToServer};
use tssh_proto::codec::FrameBuffer;
use tssh_proto::json::Message as _;
use tssh_proto::open::{BusMessage, StartMessage, decode_modes};
use tssh_proto::path_auth::PathAuth;

proptest! {
    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut finder = Finder::default();
        let _ = finder.push(&bytes);
        let _ = finder.finish();
        let mut frames = FrameBuffer::default();
        frames.push(&bytes);
        while let Ok(Some(name)) = frames.take_command() {
            let _ = ToServer::decode(&name, &bytes);
        }
        let _ = frames.take_message();
        let _ = frames.take_udp_frame();
        let _ = StartMessage::from_json(&bytes);
        let _ = decode_modes(&bytes);
        let _ = PathAuth::decode(&bytes);
    }

    #[test]
    fn random_json(text in r#"\{("(ID|Msg|Envs|Args|Pty|Modes|Ext|X11|time|MARKER)":("[a-zA-Z=\\u0-9]{0,9}"|-?[0-9]{1,22}(\.0)?|true|null|\[\]|\["x"\]|\{\}),?){0,5}\}"#) {
        for name in ["alive", "exit", "resize", "setting", "signal", "rekey", "discard", "quit", "error", "channel", "debug"] {
            let _ = ToServer::decode(name, text.as_bytes());
            let _ = ToClient::decode(name, text.as_bytes());
        }
        if let Ok(message) = StartMessage::from_json(text.as_bytes()) {
            prop_assert_eq!(StartMessage::from_json(message.to_json().as_bytes()), Ok(message));
        }
        let _ = BusMessage::from_json(text.as_bytes());
    }
}
