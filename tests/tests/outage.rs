//! An outage in the middle of a transfer: not a byte is lost (DESIGN D7).
//!
//! The outage lasts 15 s with 256 MiB to carry, or 60 s with 1 GiB when
//! `E2E_FULL=1`; either is far beyond every timeout that looks for a new path.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use e2e::{HOST, Mode, Pattern, Relay, Stdin, World, in_modes, wait_until};

in_modes!(link, an_outage_during_an_upload_costs_nothing_but_time);
fn an_outage_during_an_upload_costs_nothing_but_time(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let pattern = Pattern::new(10, size());
    let target = world.path("target");
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Pattern(pattern.clone()));
    let run = run.command([format!("cat > {}", target.display())]).start();
    outage_in_the_middle(&relay, &target);
    wait_until_whole(&target);
    run.wait().assert_prints("");
    pattern.assert_equals("upload", File::open(target).expect("the target"));
}

in_modes!(link, an_outage_during_a_download_costs_nothing_but_time);
fn an_outage_during_a_download_costs_nothing_but_time(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let pattern = Pattern::new(11, size());
    let source = source(&world, &pattern);
    let target = world.path("target");
    let run = world.ssh([] as [&str; 0]).stdout(target.clone());
    let run = run.command([format!("cat {source}")]).start();
    outage_in_the_middle(&relay, &target);
    wait_until_whole(&target);
    run.wait().assert_prints("");
    pattern.assert_equals("download", File::open(target).expect("the target"));
}

in_modes!(link, an_outage_during_an_sftp_transfer_costs_nothing_but_time);
fn an_outage_during_an_sftp_transfer_costs_nothing_but_time(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let pattern = Pattern::new(12, size());
    let source = source(&world, &pattern);
    let target = world.path("target");
    let batch = world.write("batch", format!("put {source} {}\n", target.display()));
    let client = world.client_script();
    let words = ["-S".as_ref(), client.as_os_str(), "-b".as_ref(), batch.as_os_str()];
    let run = world.program("sftp").command(words).command([HOST]).start();
    outage_in_the_middle(&relay, &target);
    wait_until_whole(&target);
    run.wait().assert_status(0);
    pattern.assert_equals("sftp", File::open(target).expect("the target"));
}

in_modes!(link, a_shell_comes_back_after_an_outage);
fn a_shell_comes_back_after_an_outage(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    // Late enough that no notice asks the terminal for its cursor.
    let mut shell = world.pty(["-o", "UdpReconnectTimeout=1h"]).start();
    shell.sync();
    let go = world.path("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    shell.line(&format!("echo wait''ing; {wait}; seq 5000"));
    shell.expect("waiting\r\n");
    relay.cut();
    // Printed into the outage.
    world.write("go", "");
    std::thread::sleep(outage());
    relay.mend();
    let expected: String = (1..=5000).map(|n| format!("{n}\r\n")).collect();
    assert_eq!(shell.expect(&expected), "", "nothing else comes in between");
    shell.insist("echo b''ack", "back\r\n");
    shell.insist_on_the_end("exit 2");
    shell.assert_ends(2);
}

in_modes!(link, a_terminal_s_program_is_not_held_up_by_an_outage);
fn a_terminal_s_program_is_not_held_up_by_an_outage(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let (go, done) = (world.path("go"), world.path("done"));
    let command = format!(
        "stty -opost; echo up; while [ ! -e {} ]; do sleep 0.1; done; {}; touch {}",
        go.display(),
        // More than is under way anyhow; the log and a little more.
        numbered(42_000),
        done.display(),
    );
    let mut client = world.pty(["-t"]).command([command]).start();
    client.expect("up\n");
    relay.cut();
    // Longer than the server's patience, so that it keeps what it would else hold back.
    std::thread::sleep(Duration::from_secs(4));
    world.write("go", "");
    wait_until("the program has ended, while nobody could hear it", || done.exists());
    relay.mend();
    let whole = client.assert_ends(0);
    assert_is_numbered(&whole, 42_000);
}

in_modes!(link, control_mode_goes_through_an_outage_whole_whatever_its_length);
fn control_mode_goes_through_an_outage_whole_whatever_its_length(mode: Mode) {
    let world = World::builder(mode).client_config("#!! UdpOutputLog 100K").start();
    let relay = world.relay_link();
    // As tmux -CC begins and ends.
    let command = format!(
        "stty -opost; printf '\\033P1000p'; echo up; {}; printf '\\033\\\\'",
        numbered(300_000)
    );
    let mut client = world.pty(["-t"]).command([command]).start();
    client.expect("up\n");
    relay.cut();
    std::thread::sleep(outage());
    relay.mend();
    let whole = client.assert_ends(0);
    assert_is_numbered(&whole, 300_000);
}

/// A command that prints so many numbered lines of 100 bytes.
fn numbered(lines: u32) -> String {
    format!(r#"awk 'BEGIN {{ for (i = 1; i <= {lines}; i++) printf "%098d\r\n", i }}'"#)
}

/// Checks that all lines of [`numbered`] are there, once each and in order.
fn assert_is_numbered(screen: &[u8], lines: u32) {
    let text = String::from_utf8_lossy(screen);
    let numbers = text.split("\r\n").map(|line| line.rsplit('\n').next().unwrap_or(line));
    let numbers =
        numbers.filter(|line| line.len() == 98).map_while(|line| line.parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.collect();
    let wrong = numbers.iter().zip(1..).find(|(got, want)| **got != *want);
    assert_eq!(wrong, None, "every line, in order (got, expected), {} in all", numbers.len());
    assert_eq!(numbers.len(), lines as usize, "every line");
}

in_modes!(link, a_client_that_was_stopped_for_a_while_goes_on_where_it_was);
fn a_client_that_was_stopped_for_a_while_goes_on_where_it_was(mode: Mode) {
    use rustix::process::Signal;
    let world = World::new(mode);
    let go = world.path("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let run = world.ssh([] as [&str; 0]).command([format!("echo up; {wait}; seq 100000")]).start();
    run.wait_for_stdout("up\n");
    // Longer than the server's patience of two heartbeat timeouts: it forgets the address.
    run.signal(Signal::STOP);
    world.write("go", "");
    std::thread::sleep(outage());
    run.signal(Signal::CONT);
    let lines: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    run.wait().assert_prints(&format!("up\n{lines}"));
}

/// Cuts the path once a good part has arrived, and mends it after the outage.
///
/// # Panics
/// When the outage did not stop the transfer: then it was not in its middle.
fn outage_in_the_middle(relay: &Relay, target: &Path) {
    wait_until("a tenth has arrived", || arrived(target) > size() / 10);
    relay.cut();
    std::thread::sleep(outage());
    assert!(arrived(target) < size() * 9 / 10, "the transfer was not stopped by the outage");
    relay.mend();
}

/// Waits for a transfer that may take longer than any single deadline, as long as it moves.
fn wait_until_whole(target: &Path) {
    let mut last = arrived(target);
    while last < size() {
        wait_until("the transfer goes on", || arrived(target) > last);
        last = arrived(target);
    }
}

fn arrived(target: &Path) -> u64 {
    std::fs::metadata(target).map_or(0, |metadata| metadata.len())
}

fn source(world: &World, pattern: &Pattern) -> String {
    let source = world.path("source");
    let mut file = File::create(&source).expect("a file of the world");
    std::io::copy(&mut pattern.clone(), &mut file).expect("room for the file");
    source.display().to_string()
}

fn is_full() -> bool {
    std::env::var_os("E2E_FULL").is_some_and(|value| value == "1")
}

fn size() -> u64 {
    if is_full() { 1 << 30 } else { 256 << 20 }
}

fn outage() -> Duration {
    Duration::from_secs(if is_full() { 60 } else { 15 })
}
