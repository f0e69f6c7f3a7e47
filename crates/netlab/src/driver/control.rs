//! The control socket: what a [`Lab`] can be told while it runs.
//!
//! One line of words in, a text out, then the connection ends. The text
//! begins with `error: ` when the words made no sense or could not be done.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::lab::Lab;
use crate::NatConfig;
use crate::conditions::duration;
use crate::network::{Direction, LinkId, Side};

/// Longest line anybody has use for, in bytes.
const MAX_LINE: u64 = 4096;

/// The words the socket understands.
pub(super) const HELP: &str = "\
show                        conditions and counters of every link
set LINK up|down|both WORDS change conditions: delay=50ms jitter=5ms loss=0.2 burst=4
                            rate=100M queue=400 reorder=0.1 reorder-by=5ms duplicate=0.01
                            mtu=1280 icmp=off down up clear
nat LINK TIMEOUT|off        put a NAT in front of the client, or take it away
rebind LINK                 let the NAT forget its mappings
plug LINK, unplug LINK      the client's interface comes or goes
prefer LINK                 the client uses this link from now on
address LINK                the client gets another address on this link
host client|server          path of the network namespace, for nsenter --net=PATH
stop                        end the lab";

impl Lab {
    /// Answers on a control socket until somebody says `stop`.
    ///
    /// # Errors
    /// The system's, when the socket can accept no more.
    pub fn serve(&self, listener: &UnixListener) -> std::io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            if self.converse(stream).is_ok_and(|stop| stop) {
                return Ok(());
            }
        }
    }

    /// Answers one line; returns whether it was `stop`.
    fn converse(&self, mut stream: UnixStream) -> std::io::Result<bool> {
        let mut line = String::new();
        BufReader::new(stream.try_clone()?.take(MAX_LINE)).read_line(&mut line)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = self.obey(&words).unwrap_or_else(|why| format!("error: {why}\n"));
        stream.write_all(answer.as_bytes())?;
        Ok(words == ["stop"])
    }

    /// Does what the words of the control socket say; returns what there is to say.
    ///
    /// # Errors
    /// A sentence, when the words make no sense or it cannot be done.
    pub fn obey(&self, words: &[&str]) -> Result<String, String> {
        match words {
            ["show"] => return Ok(self.show()),
            ["set", link, direction, words @ ..] => {
                let link = self.link(link)?;
                for direction in directions(direction)? {
                    let mut conditions = self.conditions(link, *direction).unwrap_or_default();
                    for word in words {
                        conditions.set(word).map_err(|bad| bad.to_string())?;
                    }
                    self.set_conditions(link, *direction, conditions);
                }
            }
            ["nat", link, "off"] => self.set_nat(self.link(link)?, None),
            ["nat", link, timeout] => {
                let timeout = duration(timeout).ok_or("a timeout is such as 30s")?;
                self.set_nat(self.link(link)?, Some(NatConfig { timeout }));
            }
            ["rebind", link] => self.rebind(self.link(link)?),
            ["plug", link] => self.plug(self.link(link)?).map_err(reason)?,
            ["unplug", link] => self.unplug(self.link(link)?).map_err(reason)?,
            ["prefer", link] => self.prefer(self.link(link)?).map_err(reason)?,
            ["address", link] => self.change_address(self.link(link)?).map_err(reason)?,
            ["host", side] => {
                let side = side_of(side).ok_or("a host is client or server")?;
                return Ok(format!("{}\n", self.host(side).path().display()));
            }
            ["stop"] => {}
            ["help"] | [] => return Ok(format!("{HELP}\n")),
            _ => return Err(format!("no such command; there are:\n{HELP}")),
        }
        Ok(String::new())
    }

    fn link(&self, word: &str) -> Result<LinkId, String> {
        let id = word.parse().ok().filter(|id: &u8| usize::from(*id) < self.links());
        id.map(LinkId).ok_or_else(|| format!("there is no link {word:?}"))
    }

    fn show(&self) -> String {
        let mut text = String::new();
        for id in (0..).take(self.links()) {
            if let Some(nat) = self.nat(LinkId(id)) {
                let _ = writeln!(text, "link {id} nat   timeout={}s", nat.timeout.as_secs_f64());
            }
            for (name, direction) in [("up", Direction::Up), ("down", Direction::Down)] {
                let conditions = self.conditions(LinkId(id), direction).unwrap_or_default();
                let count = self.counters(LinkId(id), direction);
                let _ = writeln!(
                    text,
                    "link {id} {name:5} {conditions}\n             \
                     offered {} ({} bytes) delivered {} ({} bytes) lost {} overflowed {} refused {}",
                    count.offered,
                    count.offered_bytes,
                    count.delivered,
                    count.delivered_bytes,
                    count.lost,
                    count.overflowed,
                    count.refused,
                );
            }
        }
        text
    }
}

fn directions(word: &str) -> Result<&'static [Direction], String> {
    match word {
        "up" => Ok(&[Direction::Up]),
        "down" => Ok(&[Direction::Down]),
        "both" => Ok(&Direction::BOTH),
        _ => Err(format!("a direction is up, down or both, not {word:?}")),
    }
}

fn side_of(word: &str) -> Option<Side> {
    match word {
        "client" => Some(Side::Client),
        "server" => Some(Side::Server),
        _ => None,
    }
}

/// Returns an error with its cause.
pub(super) fn reason(error: impl std::error::Error) -> String {
    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

/// Has a running lab do what the words say; returns its answer.
///
/// # Errors
/// When nothing answers at the socket.
pub(super) fn ask(socket: &std::path::Path, words: &[String]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{}\n", words.join(" ")).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
