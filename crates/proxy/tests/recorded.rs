//! The machines against packets recorded from the reference pair.
//!
//! Origin: the first two packets of a QUIC session between tssh 0.1.26 and
//! tsshd 0.1.8, with the keys of its server information, which are dead.
#![expect(clippy::unwrap_used, reason = "vectors that cannot be read must fail the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use proto::{ClientId, ServerId};
use tssh_proxy::client::{self, Client, Event};
use tssh_proxy::server::{self, Server};
use tssh_proxy::{ProxyKey, Route, SocketId, Verdict};

const PROXY_KEY: &str = "46c7027cf1c5f04848f4471cc7934989e09031e1043b98146bd29f853f14b643";
const CLIENT: ClientId = ClientId(751_143_496_458_133_618);
const SERVER: ServerId = ServerId(15_584_213_822_599_253_788);
const AUTH: &str = "596c5cc74168b9e8a6cc3bb870f4e39f7edced47719ac011900d7541510c30ad\
                    c6683ab73b8e84535c1b5bc9";
const ACK: &str = "520c65d618a7cfe551b4ebccd5a82ce13e349b0862b0b47c31983817f8f513f5\
                   c4ece15484644dbf3d73a43a";

fn key() -> ProxyKey {
    ProxyKey::from_slice(&hex::decode(PROXY_KEY).unwrap()).unwrap()
}

/// Hands out the nonce of a recorded packet in place of random bytes.
fn nonce_of(packet: &str) -> impl FnMut(&mut [u8]) {
    let packet = hex::decode(packet).unwrap();
    move |bytes| bytes.copy_from_slice(&packet[..bytes.len()])
}

#[test]
fn server_understands_the_recorded_auth_packet_and_answers_with_the_recorded_ack() {
    let now = Instant::now();
    let config = server::Config { client_id: CLIENT, server_id: SERVER, proxy_key: key() };
    let mut machine = Server::new(config);
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 5000));
    let from = Route::udp(SocketId(0), remote, None);
    let verdict = machine.handle_packet(now, &from, &hex::decode(AUTH).unwrap());
    assert_eq!(verdict, Verdict::Consumed);
    let mut ack = Vec::new();
    let path = machine.poll_transmit(now, &mut nonce_of(ACK), &mut ack).unwrap();
    assert_eq!(path.route.remote, remote);
    assert_eq!(hex::encode(ack), ACK);
}

#[test]
fn client_says_the_recorded_auth_packet_and_understands_the_recorded_ack() {
    let now = Instant::now();
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 61001));
    let mut machine = Client::new(client::Config::new(CLIENT, SERVER, key(), vec![remote]));
    machine.start(now);
    let Some(Event::Open { path, .. }) = machine.poll_event() else { panic!("asks for a socket") };
    machine.handle_opened(now, path, None);
    let mut auth = Vec::new();
    machine.poll_transmit(now, &mut nonce_of(AUTH), &mut auth).unwrap();
    assert_eq!(hex::encode(auth), AUTH);
    machine.handle_packet(now, SocketId(path.0), &hex::decode(ACK).unwrap());
    assert!(matches!(machine.poll_event(), Some(Event::Proven { .. })));
}
