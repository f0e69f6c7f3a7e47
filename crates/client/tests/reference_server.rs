//! Our client against a server that is as strict as the reference and knows no extension.
//!
//! The server here is a recorder: it answers as PROTOCOL §6.4, §7.2 and the traces of
//! §15 say, refuses what the reference refuses, and keeps the bytes of every stream.
#![expect(clippy::unwrap_used, reason = "a step that fails must fail the test")]

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::bootstrap::{MODE_QUIC, Secret, ServerInfo};
use proto::bus::{Alive, Discard, Exit, Quit, ToClient, Warning};
use proto::codec;
use proto::json::{Bytes, Message as _};
use proto::open::{BusResponse, IdMessage, ListenResponse, NO_ERROR, Outcome, Timeouts};
use proto::{ClientId, ServerId};
use proxy::ProxyKey;
use proxy::driver::{ServerConfig, ServerProxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use transport::quic::{self, Listener};
use transport::{Connection, RecvStream, SendStream};
use tssh::config::forward::Listen;
use tssh::config::{NoticeSettings, UdpMode, UdpProxyMode, UdpSettings};
use tssh::link::Link;
use tssh::remote::{Program, PtyRequest, Remote as _, SessionEnd, SessionRequest, TerminalSize};

const KEY: [u8; 32] = [7; 32];

/// What a client said, in the order in which it was answered.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<String>>>);

impl Record {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Reference {
    proxy: ServerProxy,
    listener: Listener,
    info: ServerInfo,
}

impl Reference {
    fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let config = ServerConfig {
            client_id: ClientId(11),
            server_id: ServerId(22),
            proxy_key: ProxyKey::new(KEY),
        };
        let (proxy, _events) = ServerProxy::bind_udp(vec![socket], config).unwrap();
        let (server, client) = quic::generate_credentials().unwrap();
        let listener = Listener::new(proxy.socket(), server, quic::Config::default()).unwrap();
        let info = ServerInfo {
            server_ver: "0.1.8".into(),
            proto_ver: 1,
            port,
            mode: MODE_QUIC.into(),
            server_cert: Secret::new(client.server_cert.to_vec()),
            client_cert: Secret::new(client.client_cert.to_vec()),
            client_key: Secret::new(client.client_key.to_vec()),
            proxy_key: Secret::new(KEY.to_vec()),
            client_id: 11,
            server_id: 22,
            ..ServerInfo::default()
        };
        Self { proxy, listener, info }
    }

    /// Serves one client with one session that says `output` and exits with 7.
    async fn serve(self, record: Record) {
        let connection = self.listener.accept().await.unwrap();
        let (mut bus_send, mut bus_recv) = connection.accept_stream().await.unwrap();
        assert_eq!(command(&mut bus_recv).await, "bus");
        say(&mut bus_send, &Outcome::success()).await;
        record.add(format!("bus {}", text(&mut bus_recv).await));
        let early = tokio::time::timeout(Duration::ZERO, connection.accept_stream()).await;
        assert!(early.is_err(), "no other stream before the bus is confirmed");
        let up = BusResponse { msg: NO_ERROR.into(), next_session_id: 5, code: 0 };
        say(&mut bus_send, &up).await;
        self.proxy.set_bus_up(Duration::from_secs(3), false);
        tokio::spawn(record_bus(bus_recv, record.clone()));

        let mut session = session(&connection, &record).await;
        record.add(format!("start {}", text(&mut session.recv).await));
        say(&mut session.send, &Outcome::success()).await;
        session.send.write_all(b"out").await.unwrap();
        session.send.shutdown().await.unwrap();
        if let Some(stderr) = &mut session.stderr {
            stderr.shutdown().await.unwrap();
        }
        let exit = Exit { id: 5, exit_code: 7, ..Exit::default() };
        bus_send.write_all(&ToClient::Exit(exit).encode()).await.unwrap();
        connection.closed().await;
    }
}

struct Session {
    send: SendStream,
    recv: RecvStream,
    stderr: Option<SendStream>,
}

/// Accepts the streams of one session up to its StartMessage.
async fn session(connection: &Connection, record: &Record) -> Session {
    let mut session: Option<Session> = None;
    loop {
        let (mut send, mut recv) = connection.accept_stream().await.unwrap();
        let name = command(&mut recv).await;
        record.add(&name);
        say(&mut send, &Outcome::success()).await;
        match name.as_str() {
            "session" => session = Some(Session { send, recv, stderr: None }),
            "stderr" => {
                record.add(format!("stderr {}", text(&mut recv).await));
                say(&mut send, &Outcome::success()).await;
                let mut session = session.take().unwrap();
                session.stderr = Some(send);
                return session;
            }
            other => panic!("unexpected stream {other}"),
        }
        if record.lines().contains(&"expect-terminal".to_owned()) {
            return session.take().unwrap();
        }
    }
}

async fn record_bus(mut recv: RecvStream, record: Record) {
    loop {
        let name = command(&mut recv).await;
        if name == "close" {
            record.add("close");
            return;
        }
        let body = text(&mut recv).await;
        if name != "alive" {
            record.add(format!("{name} {body}"));
        }
    }
}

async fn command(recv: &mut RecvStream) -> String {
    let mut name = vec![0; recv.read_u8().await.unwrap().into()];
    recv.read_exact(&mut name).await.unwrap();
    String::from_utf8(name).unwrap()
}

async fn text(recv: &mut RecvStream) -> String {
    let mut body = vec![0; recv.read_u32().await.unwrap().try_into().unwrap()];
    recv.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

async fn say(send: &mut SendStream, message: &impl proto::json::Message) {
    send.write_all(&codec::message(message)).await.unwrap();
}

fn settings() -> UdpSettings {
    UdpSettings {
        output_log: None,
        notice: NoticeSettings { on_top: true, full: true, exit_key: None },
        mode: UdpMode::Quic,
        explicit: true,
        proxy_mode: UdpProxyMode::Udp,
        mtu: None,
        tsshd_path: "tsshd".into(),
        tsshd_port: None,
        alive_timeout: Timeouts::default().alive,
        heartbeat_timeout: Timeouts::default().heartbeat,
        reconnect_timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(10),
        debug: false,
        traffic_class: None,
    }
}

async fn run(request: SessionRequest, record: &Record) -> SessionEnd {
    let server = Reference::start();
    let info = server.info.clone();
    let serving = tokio::spawn(server.serve(record.clone()));
    let link = Link::connect(info, (Ipv4Addr::LOCALHOST, 22).into(), &settings()).await.unwrap();
    let mut session = link.open_session(request).await.unwrap();
    let mut output = String::new();
    session.output.read_to_string(&mut output).await.unwrap();
    assert_eq!(output, "out");
    let end = session.end.as_mut().await;
    drop(session);
    link.close().await;
    serving.await.unwrap();
    end
}

/// Accepts a client and brings its bus up.
async fn accept(server: &Reference) -> (Connection, SendStream, RecvStream) {
    let connection = server.listener.accept().await.unwrap();
    let (mut send, mut recv) = connection.accept_stream().await.unwrap();
    assert_eq!(command(&mut recv).await, "bus");
    say(&mut send, &Outcome::success()).await;
    text(&mut recv).await;
    say(&mut send, &BusResponse { msg: NO_ERROR.into(), next_session_id: 1, code: 0 }).await;
    (connection, send, recv)
}

/// Reads the bus up to the next command of this name and returns its message.
async fn next(recv: &mut RecvStream, wanted: &str) -> String {
    loop {
        let name = command(recv).await;
        let body = if name == "close" { String::new() } else { text(recv).await };
        if name == wanted {
            return body;
        }
    }
}

fn terminal(program: Program) -> SessionRequest {
    let size = TerminalSize { cols: 120, rows: 40, width_px: 1000, height_px: 800 };
    SessionRequest {
        program,
        pty: Some(PtyRequest { term: "xterm".into(), size, modes: vec![(53, 1)] }),
        env: Vec::new(),
        agent: false,
        x11: false,
    }
}

#[tokio::test]
async fn a_marker_is_said_once_in_front_of_the_next_input() {
    let server = Reference::start();
    let info = server.info.clone();
    let client = tokio::spawn(async move {
        let link =
            Link::connect(info, (Ipv4Addr::LOCALHOST, 22).into(), &settings()).await.unwrap();
        let mut session = link.open_session(terminal(Program::Shell)).await.unwrap();
        session.input.write_all(b"before").await.unwrap();
        session.input.flush().await.unwrap();
        // The server says that the marker is armed by sending output behind it.
        let mut armed = [0; 5];
        session.output.read_exact(&mut armed).await.unwrap();
        while link.next_warning().await.as_deref() != Some("armed") {}
        for typed in [&b"next"[..], b"then"] {
            session.input.write_all(typed).await.unwrap();
            session.input.flush().await.unwrap();
        }
        let mut rest = Vec::new();
        session.output.read_to_end(&mut rest).await.unwrap();
        link.close().await;
    });
    let (connection, mut bus, _recv) = accept(&server).await;
    let (mut send, mut recv) = connection.accept_stream().await.unwrap();
    assert_eq!(command(&mut recv).await, "session");
    say(&mut send, &Outcome::success()).await;
    text(&mut recv).await;
    say(&mut send, &Outcome::success()).await;
    let mut typed = [0; 6];
    recv.read_exact(&mut typed).await.unwrap();
    assert_eq!(&typed, b"before");
    // A report of more discarded input than we take from the bus.
    let long = Discard { input: Bytes(vec![b'x'; codec::MAX_MESSAGE]), ..Discard::default() };
    bus.write_all(&ToClient::Discard(long).encode()).await.unwrap();
    let marker = vec![0xff, 0xc0, 0xc1, 0xff, 0, 0, 0, 1];
    let discard = Discard { marker: Bytes(marker.clone()), ..Discard::default() };
    let armed = Warning { msg: "armed".into(), ..Warning::default() };
    bus.write_all(&ToClient::Discard(discard).encode()).await.unwrap();
    bus.write_all(&ToClient::Warning(armed).encode()).await.unwrap();
    send.write_all(b"armed").await.unwrap();
    let mut typed = [0; 16];
    recv.read_exact(&mut typed).await.unwrap();
    assert_eq!(typed[..8], marker);
    assert_eq!(&typed[8..], b"nextthen", "not a second time");
    send.shutdown().await.unwrap();
    client.await.unwrap();
}

#[tokio::test]
async fn a_quit_is_answered_with_close_and_its_reason_reaches_the_user() {
    let server = Reference::start();
    let info = server.info.clone();
    let client = tokio::spawn(async move {
        let link =
            Link::connect(info, (Ipv4Addr::LOCALHOST, 22).into(), &settings()).await.unwrap();
        link.closed().await.to_string()
    });
    let (_connection, mut bus, mut recv) = accept(&server).await;
    let quit = Quit { msg: "killed by SIGTERM".into() };
    bus.write_all(&ToClient::Quit(quit).encode()).await.unwrap();
    next(&mut recv, "close").await;
    assert_eq!(client.await.unwrap(), "closed by the server: killed by SIGTERM");
}

#[tokio::test]
async fn at_most_one_heartbeat_waits_for_its_echo() {
    let server = Reference::start();
    let info = server.info.clone();
    let quick = UdpSettings { heartbeat_timeout: Duration::from_millis(300), ..settings() };
    let client = tokio::spawn(async move {
        let link = Link::connect(info, (Ipv4Addr::LOCALHOST, 22).into(), &quick).await.unwrap();
        link.closed().await
    });
    let (connection, mut bus, mut recv) = accept(&server).await;
    let first = next(&mut recv, "alive").await;
    // Three intervals without an echo, each long enough for one more.
    let more = tokio::time::timeout(Duration::from_millis(350), next(&mut recv, "alive")).await;
    assert!(more.is_err(), "a second heartbeat before the echo");
    let echo = Alive::from_json(first.as_bytes()).unwrap();
    bus.write_all(&ToClient::Alive(echo).encode()).await.unwrap();
    assert_ne!(next(&mut recv, "alive").await, first);
    connection.close();
    client.await.unwrap();
}

#[tokio::test]
async fn a_command_in_a_terminal_gets_its_size_by_a_resize_as_from_the_reference() {
    let server = Reference::start();
    let info = server.info.clone();
    let client = tokio::spawn(async move {
        let link =
            Link::connect(info, (Ipv4Addr::LOCALHOST, 22).into(), &settings()).await.unwrap();
        let session = link.open_session(terminal(Program::Exec(b"top".to_vec()))).await.unwrap();
        link.closed().await;
        drop(session);
    });
    let (connection, _bus, mut bus_recv) = accept(&server).await;
    let (mut send, mut recv) = connection.accept_stream().await.unwrap();
    assert_eq!(command(&mut recv).await, "session");
    say(&mut send, &Outcome::success()).await;
    assert_eq!(
        text(&mut recv).await,
        "{\"ID\":1,\"Pty\":true,\"Name\":\"sh\",\"Args\":[\"-c\",\"exec \\\"$SHELL\\\" -c 'top'\"],\
         \"Envs\":{\"TERM\":\"xterm\"}}"
    );
    say(&mut send, &Outcome::success()).await;
    assert_eq!(next(&mut bus_recv, "resize").await, "{\"ID\":1,\"Cols\":120,\"Rows\":40}");
    connection.close();
    client.await.unwrap();
}

const BUS: &str = "bus {\"ClientVer\":\"0.2.0\",\"ProtoVer\":1,\"AliveTimeout\":864000000000000,\
                   \"IntervalTime\":1000000000,\"HeartbeatTimeout\":3000000000}";

#[tokio::test]
async fn a_command_is_said_in_the_reference_s_words_and_order() {
    let record = Record::default();
    let request = SessionRequest {
        program: Program::Exec(b"ls | wc".to_vec()),
        pty: None,
        env: vec![("LANG".into(), "C".into())],
        agent: false,
        x11: false,
    };
    assert_eq!(run(request, &record).await, SessionEnd::Exited(7));
    let mut lines = record.lines();
    // The setting travels on another stream than the session, so its place may vary.
    let setting = "setting {\"KeepPendingInput\":true,\"KeepPendingOutput\":true}";
    let at = lines.iter().position(|line| line == setting).unwrap();
    lines.remove(at);
    assert_eq!(
        lines,
        [
            BUS,
            "session",
            "stderr",
            "stderr {\"ID\":5}",
            "start {\"ID\":5,\"Name\":\"sh\",\"Args\":[\"-c\",\"exec \\\"$SHELL\\\" -c 'ls | wc'\"],\
             \"Envs\":{\"LANG\":\"C\"}}",
            "close",
        ]
    );
}

#[tokio::test]
async fn a_shell_is_said_in_the_reference_s_words_and_order() {
    let record = Record::default();
    record.add("expect-terminal");
    let size = TerminalSize { cols: 120, rows: 40, width_px: 1000, height_px: 800 };
    let request = SessionRequest {
        program: Program::Shell,
        pty: Some(PtyRequest { term: "xterm-256color".into(), size, modes: vec![(53, 1)] }),
        env: Vec::new(),
        agent: false,
        x11: false,
    };
    assert_eq!(run(request, &record).await, SessionEnd::Exited(7));
    let mut lines = record.lines();
    let setting = "setting {\"KeepPendingInput\":true}";
    let at = lines.iter().position(|line| line == setting).unwrap();
    lines.remove(at);
    assert_eq!(
        lines,
        [
            "expect-terminal",
            BUS,
            "session",
            "start {\"ID\":5,\"Pty\":true,\"Shell\":true,\"Cols\":120,\"Rows\":40,\
             \"Envs\":{\"TERM\":\"xterm-256color\"}}",
            "close",
        ]
    );
}

#[tokio::test]
async fn a_server_that_announces_without_end_is_heard_no_further() {
    for (command_name, datagrams) in [("listen", false), ("listen-udp", true)] {
        let server = Reference::start();
        let info = server.info.clone();
        let client = tokio::spawn(async move {
            let address = (Ipv4Addr::LOCALHOST, 22).into();
            let link = Link::connect(info, address, &settings()).await.unwrap();
            let at = Listen::Tcp { host: Some("127.0.0.1".into()), port: 1 };
            // Kept, or nobody would listen.
            let (connections, flows) = match datagrams {
                false => (link.listen(at).await.ok(), None),
                true => (None, link.listen_udp(at).await.ok()),
            };
            assert!(connections.is_some() || flows.is_some());
            link.closed().await;
        });
        let (connection, _bus, _recv) = accept(&server).await;
        let (mut send, mut recv) = connection.accept_stream().await.unwrap();
        assert_eq!(command(&mut recv).await, command_name);
        say(&mut send, &Outcome::success()).await;
        text(&mut recv).await;
        say(&mut send, &ListenResponse { code: 0, msg: NO_ERROR.into(), port: 0 }).await;
        // More than waits in any window, and nothing of it can be taken over.
        let mut heard = 0;
        let mut ids = 1..;
        while heard < ENDLESS {
            let many: Vec<u8> =
                ids.by_ref().take(4096).flat_map(|id| codec::message(&IdMessage { id })).collect();
            match tokio::time::timeout(Duration::from_secs(2), send.write_all(&many)).await {
                Ok(written) => written.unwrap(),
                Err(_) => break,
            }
            heard += many.len();
        }
        assert!(heard < ENDLESS, "{command_name}: the client has read it all");
        connection.close();
        client.await.unwrap();
    }
}

/// Bytes that no window of a stream holds.
const ENDLESS: usize = 8 << 20;
