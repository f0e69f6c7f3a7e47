//! Who gets a connection, who does not, and what they are told.
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[macro_use]
mod common;

use std::time::Duration;

use common::{CLIENT, Kind, Net, Pair, SERVER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};
use tssh_transport::quic::{
    ClientCredentials, Config, ConnectError, CredentialsError, Listener, Owner, connect,
    generate_credentials,
};
use tssh_transport::{ConnectionError, HandshakeFailure};

with_both!(a_peer_that_vanishes_never_ends_the_connection,);

fn config(seconds: u64) -> Config {
    Config { connect_timeout: Duration::from_secs(seconds), ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_takes_one_round_trip() {
    let started = Instant::now();
    let net = Net::new();
    let (server, client) = generate_credentials().unwrap();
    let _listener = Listener::new(net.socket(SERVER), server, Config::default()).unwrap();
    connect(net.socket(CLIENT), client, Config::default()).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(60), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_the_handshake_ends_at_the_connect_timeout() {
    for told in [false, true] {
        let net = Net::new();
        let (server, client) = generate_credentials().unwrap();
        let _listener = Listener::new(net.socket(SERVER), server, config(7)).unwrap();
        let cutter = net.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(30)).await;
            cutter.set_cut(true);
            if told {
                cutter.tell_lost(CLIENT);
                cutter.tell_lost(SERVER);
            }
        });
        net.drop_if(SERVER, |_| true);
        let started = Instant::now();
        let error = connect(net.socket(CLIENT), client, config(7)).await.unwrap_err();
        assert_eq!(error, ConnectError::Timeout { after: Duration::from_secs(7) });
        assert_eq!(started.elapsed().as_secs(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_survives_an_outage_shorter_than_the_timeout() {
    let net = Net::new();
    let (server, client) = generate_credentials().unwrap();
    let listener = Listener::new(net.socket(SERVER), server, config(30)).unwrap();
    net.set_cut(true);
    let mender = net.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(500)).await;
        mender.tell_lost(CLIENT);
        sleep(Duration::from_secs(20)).await;
        mender.set_cut(false);
        mender.tell_restored(CLIENT);
    });
    let started = Instant::now();
    let (client, server) =
        tokio::join!(connect(net.socket(CLIENT), client, config(30)), listener.accept());
    assert!(client.is_ok() && server.is_some());
    assert!(started.elapsed() < Duration::from_millis(20_700), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_with_another_certificate_is_refused_and_told_so() {
    let net = Net::new();
    let (server, client) = generate_credentials().unwrap();
    let (_, stranger) = generate_credentials().unwrap();
    let listener = Listener::new(net.socket(SERVER), server, config(10)).unwrap();
    let stranger = ClientCredentials { server_cert: client.server_cert, ..stranger };
    // A TLS 1.3 client is done before the server has looked at its certificate.
    let connection = connect(net.socket(CLIENT), stranger, config(10)).await.unwrap();
    assert_eq!(
        connection.closed().await,
        ConnectionError::Handshake(HandshakeFailure::OurCertificateRefused)
    );
    let nobody = tokio::time::timeout(Duration::from_secs(60), listener.accept()).await;
    assert!(nobody.is_err(), "the listener still waits for its client");
}

#[tokio::test(start_paused = true)]
async fn a_server_with_another_certificate_is_refused() {
    let net = Net::new();
    let (impostor, _) = generate_credentials().unwrap();
    let (_, client) = generate_credentials().unwrap();
    let _listener = Listener::new(net.socket(SERVER), impostor, config(10)).unwrap();
    let error = connect(net.socket(CLIENT), client, config(10)).await.unwrap_err();
    assert_eq!(
        error,
        ConnectError::Failed(ConnectionError::Handshake(HandshakeFailure::WrongCertificate))
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_stranger_does_not_keep_the_right_client_out() {
    let net = Net::new();
    let (server, client) = generate_credentials().unwrap();
    let (_, other) = generate_credentials().unwrap();
    let stranger = ClientCredentials { server_cert: client.server_cert.clone(), ..other };
    let listener = Listener::new(net.socket(SERVER), server, config(10)).unwrap();
    let refused = connect(net.socket(CLIENT), stranger, config(10)).await.unwrap();
    refused.closed().await;
    drop(refused);
    let (client, server) =
        tokio::join!(connect(net.socket(CLIENT), client, config(10)), listener.accept());
    assert!(client.is_ok() && server.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_second_client_is_refused_and_the_first_not_disturbed() {
    let net = Net::new();
    let (server, client) = generate_credentials().unwrap();
    let again = ClientCredentials {
        server_cert: client.server_cert.clone(),
        client_cert: client.client_cert.clone(),
        client_key: client.client_key.clone(),
    };
    let listener = Listener::new(net.socket(SERVER), server, config(10)).unwrap();
    let (first, served) =
        tokio::join!(connect(net.socket(CLIENT), client, config(10)), listener.accept());
    let (first, served) = (first.unwrap(), served.unwrap());
    assert!(listener.accept().await.is_none(), "there is one client only");

    // Two endpoints on one socket: what is for the other is not for us, but
    // both hear it, so the second gets its answer whoever reads it first.
    let error = loop {
        match connect(net.socket(CLIENT), clone(&again), config(1)).await {
            Ok(_) => panic!("a second client was served"),
            Err(ConnectError::Timeout { .. }) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error, ConnectError::Failed(ConnectionError::Refused));

    let (mut send, _recv) = first.open_stream().await.unwrap();
    send.write_all(b"still").await.unwrap();
    let (_send, mut recv) = served.accept_stream().await.unwrap();
    recv.read_exact(&mut [0; 5]).await.unwrap();
}

fn clone(credentials: &ClientCredentials) -> ClientCredentials {
    ClientCredentials {
        server_cert: credentials.server_cert.clone(),
        client_cert: credentials.client_cert.clone(),
        client_key: credentials.client_key.clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_packet_fills_the_packet_size_asked_for() {
    for (asked, used) in [(0, 1200), (1300, 1300), (1452, 1452), (9000, 1452)] {
        let net = Net::new();
        let (server, client) = generate_credentials().unwrap();
        let config = Config { packet_size: asked, ..Config::default() };
        let listener = Listener::new(net.socket(SERVER), server, config.clone()).unwrap();
        let (client, server) =
            tokio::join!(connect(net.socket(CLIENT), client, config), listener.accept());
        assert_eq!(net.sent(CLIENT)[0], used);
        assert_eq!(client.unwrap().max_datagram_size(), used - 37);
        assert_eq!(server.unwrap().max_datagram_size(), used - 37);
    }
}

#[tokio::test(start_paused = true)]
async fn unreadable_credentials_are_named_but_not_quoted() {
    let net = Net::new();
    let (_, mut credentials) = generate_credentials().unwrap();
    *credentials.client_key = b"-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n".to_vec();
    let error = connect(net.socket(CLIENT), credentials, config(1)).await.unwrap_err();
    assert_eq!(error, ConnectError::Credentials(CredentialsError::BadKey(Owner::Client)));
    assert_eq!(error.to_string(), "the client's key cannot be read");
}

#[test]
fn credentials_hide_themselves_in_debug_output() {
    let (server, client) = generate_credentials().unwrap();
    assert_eq!(
        format!("{server:?}{client:?}"),
        "ServerCredentials(hidden)ClientCredentials(hidden)"
    );
}

async fn a_peer_that_vanishes_never_ends_the_connection(kind: Kind) {
    let pair = Pair::connected(kind).await;
    pair.net.set_cut(true);
    let mut watching = Box::pin(pair.client.closed());
    let (mut send, _recv) = pair.client.open_stream().await.unwrap();
    send.write_all(b"anyone?").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(3600), &mut watching).await;
    assert!(ended.is_err(), "nobody knew that the link was cut");
    pair.net.tell_lost(CLIENT);
    pair.net.tell_lost(SERVER);
    let month = Duration::from_secs(30 * 24 * 3600);
    let ended = tokio::time::timeout(month, &mut watching).await;
    assert!(ended.is_err(), "both knew");
}
