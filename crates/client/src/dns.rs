//! Questions to the domain name system that getaddrinfo(3) has no words for: records of a type.
//!
//! Name servers are those of resolv.conf(5). Answers are believed as far as the server is: whether
//! it has validated them (DNSSEC) counts only where `options trust-ad` says that the way to the
//! server is safe, as in glibc. Not here: search lists, caching, following of aliases; the server
//! is one that recurses.
//! Wire: RFC 1035 §4, RFC 6891 (EDNS), RFC 4035 §3.2 (AD).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// The records of one type that a name has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Their data.
    pub records: Vec<Vec<u8>>,
    /// Whether the server says that it has validated them, and may be believed.
    pub is_secure: bool,
}

/// The system's name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    timeout: Duration,
    attempts: u32,
    /// Whether what a server says of its own checks is believed.
    trusts_servers: bool,
}

/// Where the system's name servers are named.
const FILE: &str = "/etc/resolv.conf";
/// The port of name servers.
const PORT: u16 = 53;
/// How many name servers count, as in resolv.conf(5).
const MAX_SERVERS: usize = 3;
/// The largest answer over UDP that no network on the way has to take apart (DNS flag day 2020).
const MAX_DATAGRAM: u16 = 1232;

impl Resolver {
    /// Reads the system's configuration; without any, a server on this machine.
    #[must_use]
    pub fn of_system() -> Self {
        Self::parse(&std::fs::read_to_string(FILE).unwrap_or_default())
    }

    /// Reads the text of a resolv.conf(5).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            trusts_servers: false,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    resolver.servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                Some("options") => words.for_each(|word| resolver.option(word)),
                _ => {}
            }
        }
        resolver.servers.truncate(MAX_SERVERS);
        if resolver.servers.is_empty() {
            resolver.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        resolver
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("trust-ad", _) => self.trusts_servers = true,
            // The bounds are those of the manual page.
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(seconds.clamp(1, 30).into())
            }
            ("attempts", Ok(count)) => self.attempts = count.clamp(1, 5),
            _ => {}
        }
    }

    /// Asks for the records of type `kind` that `name` has; a name without any is no error.
    ///
    /// # Errors
    /// No server answers, or none of them knows.
    pub async fn records(&self, name: &str, kind: u16) -> io::Result<Answer> {
        let mut last = io::Error::from(io::ErrorKind::InvalidInput);
        for _ in 0..self.attempts {
            for server in &self.servers {
                let mut id = [0; 2];
                getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
                let Some(question) = question(id, name, kind) else { return Err(last) };
                match timeout(self.timeout, ask(*server, &question)).await {
                    Ok(Ok(reply)) => match parse(&reply, &question, kind) {
                        Parsed::Answer(mut answer) => {
                            answer.is_secure &= self.trusts_servers;
                            return Ok(answer);
                        }
                        Parsed::Failed => last = io::Error::other("the name server cannot tell"),
                        Parsed::Nonsense => last = io::ErrorKind::InvalidData.into(),
                    },
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::ErrorKind::TimedOut.into(),
                }
            }
        }
        Err(last)
    }
}

/// Asks one server, by UDP, and by TCP if the answer is too long for that.
async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    // A port of its own for each question, connected, so that strangers can hardly answer.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut reply = vec![0; usize::from(MAX_DATAGRAM)];
    loop {
        let length = socket.recv(&mut reply).await?;
        let got = reply.get(..length).unwrap_or_default();
        if !belongs(got, question) {
            continue;
        }
        if got.get(2).is_some_and(|flags| flags & TRUNCATED != 0) {
            return ask_by_tcp(server, question).await;
        }
        return Ok(got.to_vec());
    }
}

async fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

// Bits of the header's third and fourth byte.
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const AUTHENTIC: u8 = 0x20;
const STATUS: u8 = 0x0f;
/// The status of a name that does not exist.
const NO_SUCH_NAME: u8 = 3;
/// The class of the Internet.
const INTERNET: u16 = 1;
/// The type of the record that carries EDNS.
const OPT: u16 = 41;
/// EDNS: DNSSEC is understood.
const DNSSEC_OK: u16 = 0x8000;
const HEADER: usize = 12;

/// Writes a question; `None` for what cannot be the name of a host.
fn question(id: [u8; 2], name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut out = id.to_vec();
    // One question, and one further record: EDNS.
    out.extend([RECURSION_DESIRED, AUTHENTIC, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        if !label.is_ascii() {
            return None;
        }
        out.push(length);
        out.extend(label.bytes());
    }
    out.push(0);
    if out.len() - HEADER > 255 {
        return None;
    }
    out.extend(kind.to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    out.push(0);
    out.extend(OPT.to_be_bytes());
    out.extend(MAX_DATAGRAM.to_be_bytes());
    out.extend([0, 0]);
    out.extend(DNSSEC_OK.to_be_bytes());
    out.extend([0, 0]);
    Some(out)
}

/// Returns whether a message is the answer to a question, whatever it says.
fn belongs(reply: &[u8], question: &[u8]) -> bool {
    let asked = end_of_name(question, HEADER).and_then(|end| question.get(HEADER..end + 4));
    let repeated = asked.and_then(|asked| reply.get(HEADER..HEADER + asked.len()));
    let same_name = match (asked, repeated) {
        // Servers may change the case of letters.
        (Some(asked), Some(repeated)) => asked.eq_ignore_ascii_case(repeated),
        _ => false,
    };
    same_name
        && reply.get(..2) == question.get(..2)
        && reply.get(2).is_some_and(|flags| flags & RESPONSE != 0)
}

/// What a reply comes to.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Answer(Answer),
    /// The server cannot tell.
    Failed,
    /// It is damaged, or no answer to this question.
    Nonsense,
}

fn parse(reply: &[u8], question: &[u8], kind: u16) -> Parsed {
    if !belongs(reply, question) {
        return Parsed::Nonsense;
    }
    let flags = reply.get(3).copied().unwrap_or_default();
    match flags & STATUS {
        0 => {}
        NO_SUCH_NAME => return Parsed::Answer(Answer::default()),
        _ => return Parsed::Failed,
    }
    match records(reply, kind) {
        Some(records) => Parsed::Answer(Answer { records, is_secure: flags & AUTHENTIC != 0 }),
        None => Parsed::Nonsense,
    }
}

/// Returns the data of all answers of a type; `None` if the message is damaged.
fn records(reply: &[u8], kind: u16) -> Option<Vec<Vec<u8>>> {
    let (questions, answers) = (number(reply, 4)?, number(reply, 6)?);
    let mut at = HEADER;
    for _ in 0..questions {
        at = end_of_name(reply, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = end_of_name(reply, at)?;
        let (its_kind, class) = (number(reply, at)?, number(reply, at + 2)?);
        let length = usize::from(number(reply, at + 8)?);
        let data = reply.get(at + 10..at + 10 + length)?;
        if its_kind == kind && class == INTERNET {
            found.push(data.to_vec());
        }
        at += 10 + length;
    }
    Some(found)
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Returns where a name ends. What a pointer leads to does not matter, so none is followed.
fn end_of_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// Reads a reply to a question for SSHFP records of `host.example`; for fuzzing.
#[must_use]
pub fn parse_reply(reply: &[u8]) -> Option<usize> {
    let question = question([0; 2], "host.example", 44)?;
    match parse(reply, &question, 44) {
        Parsed::Answer(answer) => Some(answer.records.len()),
        Parsed::Failed | Parsed::Nonsense => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: u16 = 44;

    /// An answer with one record of the type asked for and one of another.
    fn reply(question: &[u8], flags: [u8; 2]) -> Vec<u8> {
        let end = end_of_name(question, HEADER).expect("a name") + 4;
        let mut out = question[..end].to_vec();
        out[2..12].copy_from_slice(&[RESPONSE | flags[0], flags[1], 0, 1, 0, 2, 0, 0, 0, 0]);
        for (kind, data) in [(5u16, &b"alias"[..]), (KIND, b"data")] {
            out.extend([0xc0, 12]);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 9]);
            out.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
            out.extend(data);
        }
        out
    }

    fn resolver(server: SocketAddr, trusts_servers: bool) -> Resolver {
        let timeout = Duration::from_secs(30);
        Resolver { servers: vec![server], timeout, attempts: 1, trusts_servers }
    }

    #[test]
    fn the_systems_file_says_whom_to_ask_and_whether_to_believe_it() {
        let text = "search x\nnameserver 192.0.2.1\n nameserver 2001:db8::1\nnameserver nobody\n\
                    options edns0 trust-ad timeout:2 attempts:99\n";
        let resolver = Resolver::parse(text);
        let servers = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|text| text.parse().expect("ok"));
        assert_eq!(resolver.servers, servers);
        assert!(resolver.trusts_servers);
        assert_eq!((resolver.timeout.as_secs(), resolver.attempts), (2, 5));
        let none = Resolver::parse("");
        assert_eq!(none.servers, ["127.0.0.1:53".parse().expect("ok")]);
        assert!(!none.trusts_servers);
    }

    #[tokio::test]
    async fn records_of_the_type_are_returned_and_a_long_answer_comes_by_tcp() {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).await.expect("the same port");
        let server = async {
            let mut buffer = [0; 512];
            for truncated in [0, TRUNCATED] {
                let (length, from) = udp.recv_from(&mut buffer).await.expect("asked");
                let question = &buffer[..length];
                // Of a stranger, by its number.
                let mut false_one = reply(question, [0, AUTHENTIC]);
                false_one[0] ^= 1;
                udp.send_to(&false_one, from).await.expect("sent");
                udp.send_to(&reply(question, [truncated, AUTHENTIC]), from).await.expect("sent");
            }
            let (mut stream, _) = tcp.accept().await.expect("asked again");
            let mut question = vec![0; stream.read_u16().await.expect("a length").into()];
            stream.read_exact(&mut question).await.expect("a question");
            let reply = reply(&question, [0, 0]);
            stream.write_u16(reply.len().try_into().expect("short")).await.expect("sent");
            stream.write_all(&reply).await.expect("sent");
        };
        let client = async {
            let believed = resolver(address, true).records("host.example", KIND).await;
            let again = resolver(address, false).records("host.example.", KIND).await;
            (believed.expect("an answer"), again.expect("an answer"))
        };
        let ((first, second), ()) = tokio::join!(client, server);
        assert_eq!(first, Answer { records: vec![b"data".to_vec()], is_secure: true });
        assert_eq!(second, Answer { records: vec![b"data".to_vec()], is_secure: false });
    }

    #[test]
    fn a_servers_word_on_its_checks_counts_only_where_it_is_trusted() {
        let question = question([1, 2], "host.example", KIND).expect("a name");
        let Parsed::Answer(answer) = parse(&reply(&question, [0, AUTHENTIC]), &question, KIND)
        else {
            panic!("an answer");
        };
        assert!(answer.is_secure);
        for (status, want) in [(3, Parsed::Answer(Answer::default())), (2, Parsed::Failed)] {
            assert_eq!(parse(&reply(&question, [0, status]), &question, KIND), want);
        }
    }

    #[test]
    fn damaged_replies_are_refused() {
        let question = question([1, 2], "host.example", KIND).expect("a name");
        let whole = reply(&question, [0, 0]);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], &question, KIND), Parsed::Nonsense, "{length}");
        }
        for name in ["", "a..b", ".a", &"x".repeat(64), &"a.".repeat(200), "münchen"] {
            assert_eq!(super::question([0; 2], name, KIND), None, "{name}");
        }
    }
}
