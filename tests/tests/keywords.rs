//! Keywords of ssh_config(5) whose effect shows only outside the programs.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use e2e::{Mode, Outcome, Stdin, World, in_modes, say_skipped, wait_until};

in_modes!(everywhere, packets_are_marked_as_the_configuration_says);
fn packets_are_marked_as_the_configuration_says(mode: Mode) {
    if Command::new("ss").arg("--tos").output().is_err() {
        return say_skipped("no ss (install iproute2)");
    }
    let world = World::new(mode);
    let options = ["-o", "IPQoS=af42 cs3"];
    let run = world.ssh(options).command(["cat"]).stdin(Stdin::Open).start();
    let kind = if mode.is_link() && !mode.is_tcp() { "-u" } else { "-t" };
    let owner = format!("pid={},", run.pid());
    // There is no terminal, so that it is the mark of bulk.
    wait_until("the client's sockets have the mark", || {
        let ss = Command::new("ss").args(["-nHpi", "--tos", kind]).output().expect("it is there");
        let text = String::from_utf8_lossy(&ss.stdout).replace("\n\t", " ");
        text.lines().any(|line| line.contains(&owner) && line.contains("tos:0x60"))
    });
    drop(run);
}

in_modes!(tssh, a_session_that_is_idle_for_longer_than_it_may_is_closed);
fn a_session_that_is_idle_for_longer_than_it_may_is_closed(mode: Mode) {
    let world = World::new(mode);
    let options = ["-o", "ChannelTimeout=session=1s"];
    // sshd leaves a command without a terminal to itself, so it has to end some time.
    let run = world.ssh(options).command(["echo in; exec sleep 20"]).output();
    run.assert_status(255);
    assert_eq!(run.out(), "in\n", "{run:?}");
    let said = "tssh: session closed: idle for longer than ChannelTimeout allows";
    assert_eq!(run.err().trim_end(), said, "{run:?}");
    world.wait_until_nothing_runs();
}

in_modes!(login, a_host_key_is_accepted_where_the_dns_vouches_for_it);
fn a_host_key_is_accepted_where_the_dns_vouches_for_it(mode: Mode) {
    let world = World::builder(mode).client_config("HostName localhost").start();
    world.write("known_hosts", "");
    let print = world.program("ssh-keygen").command(["-r", "h", "-f", "host_key.pub"]).output();
    let records = Records::of(&print.out());
    let Some(server) = records.serve() else { return };

    // The server's word on its own checks counts only where it is trusted.
    let (trusted, yes) = ("options trust-ad", ["-o", "VerifyHostKeyDNS=yes"]);
    let Some(run) = run_with(&world, server, trusted, &yes) else { return };
    run.assert_prints("in\n");
    let run = run_with(&world, server, "", &yes).expect("as before");
    run.assert_status(255);
    assert!(run.err().contains("Host key verification failed."), "{run:?}");

    let mut others = Records::of(&print.out());
    others.0.iter_mut().for_each(|record| record[2] ^= 1);
    let server = others.serve().expect("as before");
    let run = run_with(&world, server, trusted, &yes).expect("as before");
    run.assert_status(255);
    assert!(run.err().contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{run:?}");
    assert!(run.err().contains("Update the SSHFP RR in DNS"), "{run:?}");
}

/// Runs a command where the system's name server is another one; `None`, after saying so, where
/// that cannot be arranged.
fn run_with(world: &World, server: SocketAddr, line: &str, options: &[&str]) -> Option<Outcome> {
    let config = world.write("resolv.conf", format!("nameserver {}\n{line}\n", server.ip()));
    let script = "mount --bind resolv.conf /etc/resolv.conf && exec \"$0\" \"$@\"";
    let client = world.client_script();
    let run = world
        .program("unshare")
        .command(["-m", "sh", "-c", script])
        .command([client.as_os_str()])
        .command(options)
        .command(["world", "echo in"])
        .output();
    if run.err().contains("unshare") || run.err().contains("mount") {
        say_skipped(&format!("{} cannot stand for the system's", config.display()));
        return None;
    }
    Some(run)
}

/// A name server with SSHFP records for any name, validated as it says.
struct Records(Vec<Vec<u8>>);

impl Records {
    /// Takes what `ssh-keygen -r` prints.
    fn of(printed: &str) -> Self {
        let record = |line: &str| {
            let fields: Vec<&str> = line.split(' ').skip(3).collect();
            let [algorithm, digest, fingerprint] = fields[..] else { panic!("{line}") };
            let number = |text: &str| text.parse::<u8>().expect("a number");
            let pairs = (0..fingerprint.len() / 2)
                .map(|at| u8::from_str_radix(&fingerprint[2 * at..2 * at + 2], 16).expect("hex"));
            [number(algorithm), number(digest)].into_iter().chain(pairs).collect()
        };
        Self(printed.lines().map(record).collect())
    }

    /// Answers at the one port of name servers, at an address nobody else uses.
    fn serve(self) -> Option<SocketAddr> {
        let free = |last: u8| UdpSocket::bind(SocketAddr::from(([127, 77, 53, last], 53))).ok();
        let Some(socket) = (1..=200).find_map(free) else {
            say_skipped("the port of name servers is for root");
            return None;
        };
        let address = socket.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let _ = socket.send_to(&self.answer(&question[..length]), from);
            }
        });
        Some(address)
    }

    fn answer(&self, question: &[u8]) -> Vec<u8> {
        let name = question[12..].iter().position(|byte| *byte == 0).expect("a name") + 13;
        let count = u8::try_from(self.0.len()).expect("few");
        let is_theirs = question[name..name + 2] == [0, 44];
        let mut out = question[..2].to_vec();
        // A response, validated, that has the question and the answers.
        out.extend([0x81, 0xa0, 0, 1, 0, if is_theirs { count } else { 0 }, 0, 0, 0, 0]);
        out.extend(&question[12..name + 4]);
        for data in self.0.iter().filter(|_| is_theirs) {
            out.extend([0xc0, 12, 0, 44, 0, 1, 0, 0, 0, 60, 0]);
            out.push(u8::try_from(data.len()).expect("short"));
            out.extend(data);
        }
        out
    }
}
