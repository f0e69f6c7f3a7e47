//! The pipes of a recorded reference session: a login, one command, `exit`.
//!
//! `vectors/client.bin` and `server.bin` are what the reference client and
//! server put into their pipes, taken out of the packets of the recording
//! `kcp-shell.jsonl` by a separate program. Their smux was the public
//! upstream's, not the fork's (PROTOCOL, header table). Both send some FINs twice.

use super::super::frame::{Decoder, Piece};
use super::*;

const CLIENT: &[u8] = include_bytes!("vectors/client.bin");
const SERVER: &[u8] = include_bytes!("vectors/server.bin");
const BUS: StreamId = StreamId(3);
const SHELL: StreamId = StreamId(5);
const STDERR: StreamId = StreamId(7);

fn pieces(mut pipe: &[u8]) -> Vec<Piece<'_>> {
    let mut decoder = Decoder::new();
    let mut pieces = Vec::new();
    while !pipe.is_empty() {
        pieces.extend(decoder.next(&mut pipe, usize::MAX).unwrap());
    }
    pieces
}

#[test]
fn the_recorded_client_is_understood() {
    let mut server = Session::server(Config::default());
    feed(&mut server, CLIENT);
    let mut opened = events(&mut server);
    opened.retain(|event| matches!(event, Event::Opened(_)));
    assert_eq!(opened, [BUS, SHELL, STDERR].map(Event::Opened));
    let bus = read_all(&mut server, BUS);
    assert!(bus.starts_with(b"\x03bus\0\0\0\x79{") && bus.ends_with(b"\x05close"));
    let shell = read_all(&mut server, SHELL);
    assert!(shell.starts_with(b"\x07session\0\0\0\x8c{"));
    assert!(shell.ends_with(b"}echo hello-$((40+2))\rexit\r"));
    assert_eq!(read_all(&mut server, STDERR), b"\x06stderr\0\0\0\x08{\"ID\":1}");
    assert_eq!(server.read(SHELL, &mut [0]), Err(StreamError::Closed), "it ended");
    assert_eq!(server.read(STDERR, &mut [0]), Err(StreamError::Blocked), "it did not");
}

#[test]
fn the_recorded_server_is_understood() {
    let mut client = Session::client(Config::default());
    assert_eq!([(); 3].map(|()| client.open().unwrap()), [BUS, SHELL, STDERR]);
    feed(&mut client, SERVER);
    let shell = read_all(&mut client, SHELL);
    assert!(shell.windows(10).any(|part| part == b"hello-42\r\n"));
    assert!(shell.ends_with(b"logout\r\n"));
    for id in [BUS, SHELL, STDERR] {
        read_all(&mut client, id);
        assert_eq!(client.read(id, &mut [0]), Err(StreamError::Closed), "stream {id:?} ended");
        client.finish(id);
    }
    sent(&mut client);
    assert_eq!(client.stream_count(), 0);
}

#[test]
fn our_client_doing_as_the_recorded_one_sends_its_bytes() {
    let mut client = Session::client(Config::default());
    let mut ours = Vec::new();
    for piece in pieces(CLIENT) {
        match piece {
            Piece::Syn(id) => assert_eq!(client.open(), Ok(id)),
            Piece::Data(id, bytes) => assert_eq!(client.write(id, bytes), Ok(bytes.len())),
            Piece::Fin(id) => client.finish(id),
            Piece::Update { id, consumed, .. } => {
                feed(&mut client, &data(id, &[0; 30]));
                let consumed = consumed as usize;
                assert_eq!(client.read(id, &mut vec![0; consumed]), Ok(consumed));
            }
        }
        ours.extend(sent(&mut client));
    }
    let once = CLIENT.strip_suffix(fin(BUS).as_slice()).unwrap();
    assert_eq!(ours, once, "all but the second FIN");
}
