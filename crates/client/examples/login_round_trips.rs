//! Counts the round trips of a login: from dialling to the first output of a command.
//!
//! Starts a real sshd on loopback behind a relay that delays both directions, logs in at two
//! delays, and divides the extra time by the extra delay. The TCP handshake ends at the relay,
//! so its round trip is added; for the same reason waits inside the server's TCP (Nagle's
//! algorithm) do not show. Needs root and sshd. The numbers are in
//! `docs/decisions/0010-login-round-trips.md`.
//!
//! `cargo run -p tssh --example login_round_trips`
#![expect(clippy::print_stdout, reason = "the numbers are what it is for")]

#[path = "../tests/login/support.rs"]
mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{Script, Sshd};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tssh::login::connect;
use tssh::remote::{Program, Remote as _, SessionRequest};

/// Round-trip times compared, in milliseconds.
const NEAR: u64 = 100;
const FAR: u64 = 200;
const RUNS: usize = 9;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(mut sshd) = Sshd::start() else { return };
    sshd.make_key("id", "ed25519", "");
    sshd.authorize("id");
    let server = sshd.address;

    let mut seen = Vec::new();
    for rtt in [NEAR, FAR] {
        sshd.address = relay(server, Duration::from_millis(rtt) / 2).await;
        sshd.be_known();
        let mut login = Vec::new();
        let mut output = Vec::new();
        for _ in 0..RUNS {
            let (logged_in, first_output) = one(&sshd).await;
            login.push(logged_in);
            output.push(first_output);
        }
        seen.push((least(login), least(output)));
    }
    let [near, far] = seen[..] else { return };
    println!("login: {:.2} round trips", slope(near.0, far.0));
    println!("first output: {:.2} round trips", slope(near.1, far.1));
    println!("first output at {NEAR} ms: {:?}", near.1 + Duration::from_millis(NEAR));
}

/// Times from dialling to the login, and to the first output of a command.
async fn one(sshd: &Sshd) -> (Duration, Duration) {
    let settings = sshd.settings(&["IdentityFile=@/id", "BatchMode=yes"]);
    let start = Instant::now();
    let login = connect(&settings, &Script::default()).await.expect("a login");
    let logged_in = start.elapsed();
    let request = SessionRequest {
        program: Program::Exec(b"echo x".to_vec()),
        pty: None,
        env: Vec::new(),
        agent: false,
        x11: false,
    };
    let mut session = login.open_session(request).await.expect("a session");
    session.output.read_u8().await.expect("output");
    let first_output = start.elapsed();
    login.close().await;
    (logged_in, first_output)
}

/// The run least disturbed by whatever else the machine does.
fn least(times: Vec<Duration>) -> Duration {
    times.into_iter().min().expect("at least one run")
}

fn slope(near: Duration, far: Duration) -> f64 {
    let extra = far.as_secs_f64() - near.as_secs_f64();
    1.0 + extra / Duration::from_millis(FAR - NEAR).as_secs_f64()
}

/// Listens, and passes on what comes after `delay`, each way.
async fn relay(server: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(server).await else { return };
            for stream in [&client, &server] {
                stream.set_nodelay(true).expect("a TCP socket");
            }
            let (client_out, client_in) = client.into_split();
            let (server_out, server_in) = server.into_split();
            tokio::spawn(carry(client_out, server_in, delay));
            tokio::spawn(carry(server_out, client_in, delay));
        }
    });
    address
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
) {
    let (queue, mut queued) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if queue.send((Instant::now() + delay, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}
