//! The link: its bus, the order of streams, its end, and input after a roam.

mod common;

use std::time::Duration;

use common::{
    Client, command, connect, connect_by_kcp_over, connect_within, hello, on_pty, only, open, read,
    sockets, sockets_one_way, write,
};
use proto::bus::{Alive, Rekey, Resize, Setting, ToClient, ToServer};
use proto::codec;
use proto::ext::{Ext, ExtSet};
use proto::json::Bytes;
use proto::open::{
    BusMessage, DialMessage, DialResponse, IdMessage, Outcome, Response as _, Timeouts,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tsshd::link::End;

#[tokio::test]
async fn without_the_extension_a_stream_before_the_bus_is_refused() {
    let (connection, _link, _served) = connect(ExtSet::NONE).await;
    let (_send, mut recv) = open(&connection, "session").await;
    let outcome: Outcome = read(&mut recv).await;
    assert!(!outcome.is_success());
}

#[tokio::test]
async fn early_streams_are_served_in_any_order() {
    let streams = ["bus", "session", "stderr"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let (connection, _link, _served) = connect(ExtSet::all()).await;
        let mut opened = Vec::new();
        for which in order {
            let (mut send, recv) = open(&connection, streams[which]).await;
            match which {
                0 => {
                    let all = ExtSet::all();
                    write(&mut send, &BusMessage::new(1, Timeouts::default(), all)).await;
                }
                1 => {
                    let mut start = command(1, "echo out; echo err >&2");
                    start.stderr = true;
                    write(&mut send, &start).await;
                }
                _ => write(&mut send, &IdMessage { id: 1 }).await,
            }
            opened.push((which, send, recv));
        }
        opened.sort_by_key(|(which, _, _)| *which);
        for (which, expected) in [(1, "out\n"), (2, "err\n")] {
            let recv = &mut opened[which].2;
            hello(recv).await;
            hello(recv).await;
            let mut text = String::new();
            common::soon("output", recv.read_to_string(&mut text)).await.unwrap();
            assert_eq!(text, expected, "order {order:?}");
        }
    }
}

#[tokio::test]
async fn at_most_64_streams_wait_for_the_bus() {
    let (connection, _link, _served) = connect(only(Ext::Early)).await;
    let mut parked = Vec::new();
    for _ in 0..80 {
        parked.push(open(&connection, "session").await);
    }
    let mut refused = 0;
    for (_, recv) in &mut parked {
        let answer = tokio::time::timeout(Duration::from_millis(1), read::<Outcome>(recv)).await;
        refused += usize::from(answer.is_ok_and(|outcome| !outcome.is_success()));
    }
    // Which answers have come by now is a matter of time; that more than 16
    // are refused is not.
    assert!(refused <= 16, "{refused}");
    let (_send, mut recv) = open(&connection, "session").await;
    let outcome: Outcome = read(&mut recv).await;
    assert!(outcome.msg.contains("too many"), "{outcome:?}");
}

#[tokio::test]
async fn a_client_whose_bus_never_comes_is_left() {
    let patience = Duration::from_millis(200);
    let (_connection, _link, served) = connect_within(ExtSet::all(), patience).await;
    assert_eq!(common::soon("end", served).await.unwrap(), End::NoBus);
}

#[tokio::test]
async fn a_second_bus_is_refused() {
    let client = Client::start().await;
    let (_send, mut recv) = open(&client.connection, "bus").await;
    assert!(!read::<Outcome>(&mut recv).await.is_success());
}

#[tokio::test]
async fn heartbeats_are_echoed_and_unknown_commands_stepped_over() {
    let mut client = Client::start().await;
    client.say(&codec::command_and_message("telepathy", &IdMessage { id: 9 })).await;
    for time in [1_700_000_000_000, 0, -5] {
        client.settle(time).await;
    }
    client.order(&ToServer::Alive(Alive { time: 7 })).await;
    client.settle(8).await;
    let seven = client.hear("echo", |m| (*m == ToClient::Alive(Alive { time: 7 })).then_some(()));
    seven.await;
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_stepped_over() {
    let mut client = Client::start().await;
    let mut session = client.session(on_pty(1, "echo ready; read -r line; stty size")).await;
    session.read_until("ready").await;
    for bad in [r#"{"ID":1,"Cols":-1}"#, "[]", ""] {
        let length = u32::try_from(bad.len()).unwrap().to_be_bytes();
        client.say(&[&codec::command("resize"), &length[..], bad.as_bytes()].concat()).await;
    }
    let resize = Resize { id: 1, cols: 101, rows: 33, ..Resize::default() };
    client.order(&ToServer::Resize(resize)).await;
    client.settle(1).await;
    session.input.write_all(b"\n").await.unwrap();
    session.read_until("33 101").await;
}

#[tokio::test]
async fn a_bus_whose_frames_are_lost_ends_the_connection() {
    let mut client = Client::start().await;
    let too_long = u32::MAX.to_be_bytes();
    client.say(&[&codec::command("resize"), &too_long[..]].concat()).await;
    assert_eq!(common::soon("end", client.served).await.unwrap(), End::Gone);
}

#[tokio::test]
async fn a_client_that_is_never_heard_again_is_given_up() {
    let alive = Duration::from_millis(300);
    let timeouts = Timeouts::new(alive, alive, alive);
    let client = Client::with(ExtSet::all(), timeouts).await;
    assert_eq!(common::soon("end", client.served).await.unwrap(), End::Silent);
}

#[tokio::test]
async fn a_client_that_only_talks_and_never_reads_is_given_up() {
    let alive = Duration::from_millis(300);
    let timeouts = Timeouts::new(alive, alive, alive);
    let mut client = Client::with(ExtSet::all(), timeouts).await;
    let many = ToServer::Alive(Alive { time: 1 }).encode().repeat(1000);
    let served = &mut client.served;
    let (bus, end) = (&mut client.bus, async { common::soon("end", served).await.unwrap() });
    let talk = async {
        while bus.write_all(&many).await.is_ok() {}
        std::future::pending().await
    };
    let end = tokio::select! {
        end = end => end,
        never = talk => never,
    };
    assert_eq!(end, End::Silent);
}

#[tokio::test]
async fn input_that_is_cut_off_is_no_end_of_input() {
    let mut client = Client::start().await;
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let seen = {
        let fifo = fifo.clone();
        tokio::task::spawn_blocking(move || std::fs::read(fifo))
    };
    let line = format!("exec 3>{}; echo ready; read -r x; echo whole >&3", fifo.display());
    let mut sessions = Vec::new();
    for id in 1..=16 {
        let mut session = client.session(command(id, &line)).await;
        session.read_until("ready").await;
        sessions.push(session);
    }
    client.connection.close();
    // The programs hold the other end, so this ends with the last of them.
    let seen = common::soon("the programs' end", seen).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen), "");
}

#[tokio::test]
async fn close_hangs_up_every_session_and_reports_its_end() {
    let mut client = Client::start().await;
    let mut session = client.session(on_pty(1, "echo ready; exec sleep 1000")).await;
    session.read_until("ready").await;
    client.say(&codec::command("close")).await;
    assert_eq!(client.exit(1).await.signal, "HUP");
    assert_eq!(common::soon("end", client.served).await.unwrap(), End::Closed);
}

#[tokio::test]
async fn a_client_that_leaves_without_a_word_ends_its_sessions() {
    let mut client = Client::start().await;
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("alive");
    let path = fifo.display();
    let line = format!("mkfifo {path}; echo made; exec 3>{path}; echo open; exec sleep 1000");
    let mut session = client.session(on_pty(1, &line)).await;
    session.read_until("made").await;
    // The program holds the other end, so this ends with it.
    let gone = tokio::task::spawn_blocking(move || std::fs::read(fifo));
    session.read_until("open").await;
    client.connection.close();
    assert_eq!(common::soon("end", client.served).await.unwrap(), End::Gone);
    assert_eq!(common::soon("the program's end", gone).await.unwrap().unwrap(), b"");
}

#[tokio::test]
async fn after_a_roam_stale_keys_are_dropped_and_reported() {
    let mut client = Client::start().await;
    let line = "stty -echo -icanon; echo ready; read -r line; echo \"got [$line]\"";
    let mut session = client.session(on_pty(1, line)).await;
    session.read_until("ready").await;
    client.link.on_new_path();
    let marker = hear_marker(&mut client).await;
    session.input.write_all(b"rm -rf stale").await.unwrap();
    session.input.write_all(&marker).await.unwrap();
    session.input.write_all(b"fresh\n").await.unwrap();
    session.read_until("got [fresh]").await;
    let dropped = client.hear("report", |message| match message {
        ToClient::Discard(discard) if !discard.input.0.is_empty() => Some(discard.input.clone()),
        _ => None,
    });
    assert_eq!(dropped.await, Bytes(b"rm -rf stale".to_vec()));
}

#[tokio::test]
async fn after_a_roam_input_without_a_terminal_is_whole() {
    let mut client = Client::start().await;
    let mut terminal = client.session(on_pty(1, "echo ready; sleep 1000")).await;
    terminal.read_until("ready").await;
    let mut session = client.session(command(2, "cat")).await;
    session.input.write_all(b"before ").await.unwrap();
    session.read_until("before ").await;
    client.link.on_new_path();
    let marker = hear_marker(&mut client).await;
    session.input.write_all(&[b"under way ", &marker[..], b"after"].concat()).await.unwrap();
    session.input.shutdown().await.unwrap();
    assert_eq!(session.outputs().await.0, "under way after");
}

#[tokio::test]
async fn a_client_that_wants_its_input_kept_gets_no_marker() {
    let mut client = Client::start().await;
    let mut session = client.session(on_pty(1, "read -r line; echo \"got [$line]\"")).await;
    let keep = Setting { keep_pending_input: Some(true), keep_pending_output: None };
    client.order(&ToServer::Setting(keep)).await;
    client.settle(1).await;
    client.link.on_new_path();
    session.input.write_all(b"typed\n").await.unwrap();
    session.read_until("got [typed]").await;
}

async fn hear_marker(client: &mut Client) -> Vec<u8> {
    client
        .hear("marker", |message| match message {
            ToClient::Discard(d) if !d.marker.0.is_empty() => Some(d.marker.0.clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_dialled_connection_carries_bytes_and_both_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let client = Client::start().await;
    let (mut send, mut recv) = open(&client.connection, "dial").await;
    hello(&mut recv).await;
    write(&mut send, &DialMessage { net: "tcp".into(), addr, ..DialMessage::default() }).await;
    let (mut far, _) = listener.accept().await.unwrap();
    let response: DialResponse = read(&mut recv).await;
    assert!(response.outcome().is_success(), "{response:?}");
    assert_eq!(response.remote_addr.unwrap().ip, "127.0.0.1");
    send.write_all(b"question").await.unwrap();
    send.shutdown().await.unwrap();
    let mut text = String::new();
    common::soon("question", far.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "question");
    far.write_all(b"answer").await.unwrap();
    drop(far);
    let mut text = String::new();
    common::soon("answer", recv.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "answer");
}

/// Lines of 100 bytes, numbered.
const FLOOD: &str = "awk -v n=%N 'BEGIN { for (i = 1; i <= n; i++) printf \"%098d\\r\\n\", i }'";

fn flood(lines: u32) -> String {
    FLOOD.replace("%N", &lines.to_string())
}

#[tokio::test]
async fn a_terminal_s_program_runs_on_while_its_client_is_away_and_all_it_prints_comes_later() {
    let mut client = Client::start().await;
    let done = tempfile::tempdir().unwrap();
    let done = done.path().join("done");
    // More than the streams hold by themselves, less than with the log.
    let line =
        format!("stty raw; printf 'ready\\r\\n'; {}; touch {}", flood(45_000), done.display());
    let mut session = client.session(on_pty(1, &line)).await;
    let first = session.read_until("ready").await;
    client.link.set_away(true);
    common::soon("the program's end, unread", exists(&done)).await;
    client.link.set_away(false);
    let out = first + &session.outputs().await.0;
    let numbers =
        out.split("\r\n").filter_map(|line| line.trim_start_matches('0').parse::<u32>().ok());
    assert!(numbers.eq(1..=45_000), "every line, in order");
}

#[tokio::test]
async fn past_the_bound_the_oldest_output_is_dropped_and_the_program_paints_anew() {
    let mut client = Client::start().await;
    let flooded = tempfile::tempdir().unwrap();
    let flooded = flooded.path().join("flooded");
    let line = format!(
        "stty raw; trap 'echo painted; exit' WINCH; printf 'ready\\r\\n'; {}; touch {}; while :; do sleep 0.1; done",
        flood(200_000),
        flooded.display(),
    );
    let mut session = client.session(on_pty(1, &line)).await;
    let first = session.read_until("ready").await;
    client.link.set_away(true);
    common::soon("the flood's end", exists(&flooded)).await;
    client.link.set_away(false);
    let out = first + &session.outputs().await.0;
    let dropped = client.hear("report", |message| match message {
        ToClient::Discard(discard) if discard.output_bytes > 0 => Some(discard.clone()),
        _ => None,
    });
    let dropped = dropped.await;
    assert!(out.ends_with("painted\r\n") || out.ends_with("painted\n"), "{:?}", tail(&out));
    assert!(out.contains(&format!("{:098}\r\n", 200_000)), "the newest is there");
    let lines: Vec<&str> = out.lines().filter(|line| line.len() == 98).collect();
    assert_eq!(lines.len() as u64 + dropped.output_lines, 200_000, "whole lines only");
    assert_eq!(dropped.output_lines * 100, dropped.output_bytes);
}

async fn exists(file: &std::path::Path) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn tail(text: &str) -> &str {
    text.get(text.len().saturating_sub(300)..).unwrap_or(text)
}

#[tokio::test]
async fn a_client_that_promised_to_exchange_keys_gets_nothing_before() {
    let mut client = Client::by_kcp(ExtSet::all()).await;
    let (_send, mut recv) = open(&client.connection, "session").await;
    let outcome: Outcome = common::soon("answer", read(&mut recv)).await;
    assert!(outcome.msg.contains("keys"), "{outcome:?}");
    client.exchange_keys().await;
    let mut session = client.session(command(1, "echo sealed")).await;
    session.read_until("sealed").await;
}

#[tokio::test]
async fn a_client_that_promised_nothing_is_served_before_and_across_an_exchange() {
    let mut client = Client::by_kcp(ExtSet::NONE).await;
    let mut session = client.session(command(1, "echo one; read -r line; echo $line")).await;
    session.read_until("one").await;
    client.exchange_keys().await;
    session.input.write_all(b"two\n").await.unwrap();
    session.read_until("two").await;
    assert_eq!(client.exit(1).await.exit_code, 0);
}

#[tokio::test]
async fn a_key_request_that_is_no_point_is_not_answered_and_harms_nobody() {
    let mut client = Client::by_kcp(ExtSet::NONE).await;
    let garbage = Rekey { pub_key: Bytes(vec![4; 65]) };
    client.order(&ToServer::Rekey(garbage)).await;
    client.settle(1).await;
    client.exchange_keys().await;
    client.settle(2).await;
}

#[tokio::test]
async fn with_quic_a_key_request_is_stepped_over() {
    let mut client = Client::start().await;
    client.order(&ToServer::Rekey(Rekey { pub_key: Bytes(vec![4; 65]) })).await;
    client.settle(1).await;
}

#[tokio::test]
async fn a_client_that_our_packets_do_not_reach_is_not_waited_for() {
    let patience = Duration::from_millis(200);
    let sockets = sockets_one_way();
    let (_connection, _link, served, (mut bus, _bus_in)) =
        connect_by_kcp_over(sockets, ExtSet::all(), patience).await;
    write(&mut bus, &BusMessage::new(1, Timeouts::default(), ExtSet::all())).await;
    assert_eq!(common::soon("end", served).await.unwrap(), End::NoBus);
}

#[tokio::test]
async fn a_client_that_falls_silent_as_soon_as_it_was_heard_has_its_whole_alive_timeout() {
    let patience = Duration::from_millis(200);
    let timeouts = Timeouts { alive: 3 * patience, ..Timeouts::default() };
    let (connection, link, served) = connect_within(ExtSet::all(), patience).await;
    let client = Client::on(connection, link, served, ExtSet::all(), timeouts).await;
    assert_eq!(common::soon("end", client.served).await.unwrap(), End::Silent, "by QUIC");
    let (connection, link, served, bus) =
        connect_by_kcp_over(sockets(), ExtSet::all(), patience).await;
    let client = Client::on_bus(connection, link, served, bus, ExtSet::all(), timeouts).await;
    assert_eq!(common::soon("end", client.served).await.unwrap(), End::Silent, "by KCP");
}
