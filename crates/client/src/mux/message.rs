//! What is said on the socket of a shared connection, as bytes (`PROTOCOL.mux`, version 4).
//!
//! A message is a u32 length and so many bytes; integers are big-endian, strings have a u32 length
//! in front. Decoders bound every length by the message and the message by [`MAX_MESSAGE`], and
//! drop what follows the fields they know, so that later versions may say more.

use crate::config::forward::{Connect, Forward, Listen};
use crate::forward::Side;

/// Longest message, in bytes: a command line and an environment have to fit.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The version of the protocol.
pub const VERSION: u32 = 4;

const HELLO: u32 = 1;
const NEW_SESSION: u32 = 0x1000_0002;
const ALIVE_CHECK: u32 = 0x1000_0004;
const TERMINATE: u32 = 0x1000_0005;
const OPEN_FORWARD: u32 = 0x1000_0006;
const CLOSE_FORWARD: u32 = 0x1000_0007;
const STDIO_FORWARD: u32 = 0x1000_0008;
const STOP_LISTENING: u32 = 0x1000_0009;
const PROXY: u32 = 0x1000_000f;
const OK: u32 = 0x8000_0001;
const PERMISSION_DENIED: u32 = 0x8000_0002;
const FAILURE: u32 = 0x8000_0003;
const EXIT_MESSAGE: u32 = 0x8000_0004;
const ALIVE: u32 = 0x8000_0005;
const SESSION_OPENED: u32 = 0x8000_0006;
const REMOTE_PORT: u32 = 0x8000_0007;
const TTY_ALLOC_FAIL: u32 = 0x8000_0008;

const LOCAL: u32 = 1;
const REMOTE: u32 = 2;
const DYNAMIC: u32 = 3;

/// The port that says that the host's name is the path of a unix socket.
const UNIX_PORT: u32 = 0xffff_fffe;

/// The host that says that the peer of a forward names its destination by SOCKS.
const SOCKS_HOST: &str = "socks";

/// The escape character that says that there is none.
const NO_ESCAPE: u32 = 0xffff_fffe;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first message; nothing else is understood before it.
    Hello {
        /// The client's version.
        version: u32,
    },
    /// Run something; three descriptors follow.
    NewSession {
        /// Names the request in its answer.
        id: u32,
        /// What to run.
        session: Box<NewSession>,
    },
    /// Say that you are there.
    AliveCheck {
        /// As above.
        id: u32,
    },
    /// End, with everything.
    Terminate {
        /// As above.
        id: u32,
    },
    /// Set a forward up.
    OpenForward {
        /// As above.
        id: u32,
        /// Which end listens.
        side: Side,
        /// The forward.
        forward: Forward,
    },
    /// Cancel a forward.
    CloseForward {
        /// As above.
        id: u32,
        /// Which end listens.
        side: Side,
        /// The forward.
        forward: Forward,
    },
    /// Lead two descriptors, which follow, to a port or socket beyond the far host.
    StdioForward {
        /// As above.
        id: u32,
        /// Where to.
        connect: Connect,
    },
    /// Take no more clients.
    StopListening {
        /// As above.
        id: u32,
    },
    /// Speak the connection protocol of ssh from now on.
    Proxy {
        /// As above.
        id: u32,
    },
    /// Something else, or something that makes no sense.
    Unknown {
        /// As above, if it has one.
        id: u32,
    },
}

/// What to run for a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSession {
    /// In a terminal.
    pub wants_tty: bool,
    /// With X11 forwarding.
    pub wants_x11: bool,
    /// With the agent.
    pub wants_agent: bool,
    /// The command names a subsystem.
    pub is_subsystem: bool,
    /// The escape character, if any.
    pub escape: Option<u8>,
    /// `TERM`.
    pub term: Vec<u8>,
    /// The command; empty for a shell.
    pub command: Vec<u8>,
    /// Variables, as `NAME=value`.
    pub environment: Vec<Vec<u8>>,
}

/// What a master says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The first message.
    Hello {
        /// The master's version.
        version: u32,
    },
    /// It was done.
    Ok {
        /// The request's.
        id: u32,
    },
    /// A person said no.
    PermissionDenied {
        /// The request's.
        id: u32,
        /// In words.
        reason: String,
    },
    /// It could not be done.
    Failure {
        /// The request's.
        id: u32,
        /// In words.
        reason: String,
    },
    /// The program of a session ended.
    ExitMessage {
        /// The session.
        session: u32,
        /// Its status.
        status: u32,
    },
    /// The master is there.
    Alive {
        /// The request's.
        id: u32,
        /// The master's process.
        pid: u32,
    },
    /// A session runs.
    SessionOpened {
        /// The request's.
        id: u32,
        /// Names the session.
        session: u32,
    },
    /// A remote forward listens at a port of the far host's choice.
    RemotePort {
        /// The request's.
        id: u32,
        /// The port.
        port: u32,
    },
    /// The session runs without the terminal it asked for.
    TtyAllocFail {
        /// The session.
        session: u32,
    },
    /// Something else.
    Unknown,
}

/// A message is not one: too short for its own lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

impl Request {
    /// Reads a message without its length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(message);
        let kind = reader.u32()?;
        if kind == HELLO {
            return Ok(Self::Hello { version: reader.u32()? });
        }
        let id = reader.u32()?;
        Ok(match kind {
            NEW_SESSION => {
                Self::NewSession { id, session: Box::new(NewSession::decode(&mut reader)?) }
            }
            ALIVE_CHECK => Self::AliveCheck { id },
            TERMINATE => Self::Terminate { id },
            OPEN_FORWARD | CLOSE_FORWARD => match decode_forward(&mut reader)? {
                Some((side, forward)) if kind == OPEN_FORWARD => {
                    Self::OpenForward { id, side, forward }
                }
                Some((side, forward)) => Self::CloseForward { id, side, forward },
                None => Self::Unknown { id },
            },
            STDIO_FORWARD => {
                reader.string()?;
                let host = reader.text()?;
                match connect(host, reader.u32()?) {
                    Some(connect) => Self::StdioForward { id, connect },
                    None => Self::Unknown { id },
                }
            }
            STOP_LISTENING => Self::StopListening { id },
            PROXY => Self::Proxy { id },
            _ => Self::Unknown { id },
        })
    }

    /// Writes a message with its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { version } => Writer::new(HELLO).u32(*version).finish(),
            Self::NewSession { id, session } => {
                let writer = Writer::new(NEW_SESSION).u32(*id);
                session.encode(writer).finish()
            }
            Self::AliveCheck { id } => Writer::new(ALIVE_CHECK).u32(*id).finish(),
            Self::Terminate { id } => Writer::new(TERMINATE).u32(*id).finish(),
            Self::OpenForward { id, side, forward } => {
                encode_forward(Writer::new(OPEN_FORWARD).u32(*id), *side, forward)
            }
            Self::CloseForward { id, side, forward } => {
                encode_forward(Writer::new(CLOSE_FORWARD).u32(*id), *side, forward)
            }
            Self::StdioForward { id, connect } => {
                let (host, port) = place(connect);
                let writer = Writer::new(STDIO_FORWARD).u32(*id).string(b"");
                writer.string(host.as_bytes()).u32(port).finish()
            }
            Self::StopListening { id } => Writer::new(STOP_LISTENING).u32(*id).finish(),
            Self::Proxy { id } => Writer::new(PROXY).u32(*id).finish(),
            Self::Unknown { id } => Writer::new(0).u32(*id).finish(),
        }
    }
}

impl NewSession {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        // Reserved.
        reader.string()?;
        let mut flag = || reader.u32().map(|flag| flag != 0);
        let [wants_tty, wants_x11, wants_agent, is_subsystem] =
            [flag()?, flag()?, flag()?, flag()?];
        let escape = u8::try_from(reader.u32()?).ok();
        let term = reader.string()?.to_vec();
        let command = reader.string()?.to_vec();
        let mut environment = Vec::new();
        while !reader.0.is_empty() {
            environment.push(reader.string()?.to_vec());
        }
        Ok(Self {
            wants_tty,
            wants_x11,
            wants_agent,
            is_subsystem,
            escape,
            term,
            command,
            environment,
        })
    }

    fn encode(&self, writer: Writer) -> Writer {
        let flags = [self.wants_tty, self.wants_x11, self.wants_agent, self.is_subsystem];
        let mut writer = writer.string(b"");
        for flag in flags {
            writer = writer.u32(flag.into());
        }
        let escape = self.escape.map_or(NO_ESCAPE, u32::from);
        writer = writer.u32(escape).string(&self.term).string(&self.command);
        for variable in &self.environment {
            writer = writer.string(variable);
        }
        writer
    }
}

impl Reply {
    /// Reads a message without its length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(message);
        let kind = reader.u32()?;
        let id = reader.u32()?;
        Ok(match kind {
            HELLO => Self::Hello { version: id },
            OK => Self::Ok { id },
            PERMISSION_DENIED => Self::PermissionDenied { id, reason: reader.text()? },
            FAILURE => Self::Failure { id, reason: reader.text()? },
            EXIT_MESSAGE => Self::ExitMessage { session: id, status: reader.u32()? },
            ALIVE => Self::Alive { id, pid: reader.u32()? },
            SESSION_OPENED => Self::SessionOpened { id, session: reader.u32()? },
            REMOTE_PORT => Self::RemotePort { id, port: reader.u32()? },
            TTY_ALLOC_FAIL => Self::TtyAllocFail { session: id },
            _ => Self::Unknown,
        })
    }

    /// Writes a message with its length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let two = |kind, first: &u32| Writer::new(kind).u32(*first);
        match self {
            Self::Hello { version } => two(HELLO, version).finish(),
            Self::Ok { id } => two(OK, id).finish(),
            Self::PermissionDenied { id, reason } => {
                two(PERMISSION_DENIED, id).string(reason.as_bytes()).finish()
            }
            Self::Failure { id, reason } => two(FAILURE, id).string(reason.as_bytes()).finish(),
            Self::ExitMessage { session, status } => {
                two(EXIT_MESSAGE, session).u32(*status).finish()
            }
            Self::Alive { id, pid } => two(ALIVE, id).u32(*pid).finish(),
            Self::SessionOpened { id, session } => two(SESSION_OPENED, id).u32(*session).finish(),
            Self::RemotePort { id, port } => two(REMOTE_PORT, id).u32(*port).finish(),
            Self::TtyAllocFail { session } => two(TTY_ALLOC_FAIL, session).finish(),
            Self::Unknown => two(0, &0).finish(),
        }
    }
}

/// Reads a forward; `None` if it makes no sense.
fn decode_forward(reader: &mut Reader<'_>) -> Result<Option<(Side, Forward)>, Malformed> {
    let kind = reader.u32()?;
    let (listen_host, listen_port) = (reader.text()?, reader.u32()?);
    let (connect_host, connect_port) = (reader.text()?, reader.u32()?);
    let side = match kind {
        LOCAL | DYNAMIC => Side::Local,
        REMOTE => Side::Remote,
        _ => return Ok(None),
    };
    let listen = match (listen_port, &*listen_host) {
        (UNIX_PORT, path) if !path.is_empty() => Some(Listen::Unix(path.to_owned())),
        (port, host) => u16::try_from(port).ok().map(|port| {
            let host = (!host.is_empty()).then(|| host.to_owned());
            Listen::Tcp { host, port }
        }),
    };
    let listen = listen
        .filter(|listen| side == Side::Remote || !matches!(listen, Listen::Tcp { port: 0, .. }));
    let connect = match kind {
        DYNAMIC => Some(Connect::Socks),
        _ => connect(connect_host, connect_port),
    };
    Ok(listen.zip(connect).map(|(listen, connect)| (side, Forward { listen, connect })))
}

/// Reads the far end of a forward.
fn connect(host: String, port: u32) -> Option<Connect> {
    match (port, &*host) {
        (UNIX_PORT, path) if !path.is_empty() => Some(Connect::Unix(host)),
        (0, "" | SOCKS_HOST) => Some(Connect::Socks),
        (port, _) => {
            let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
            Some(Connect::Tcp { host, port })
        }
    }
}

fn encode_forward(writer: Writer, side: Side, forward: &Forward) -> Vec<u8> {
    let kind = match (side, &forward.connect) {
        (Side::Remote, _) => REMOTE,
        (Side::Local, Connect::Socks) => DYNAMIC,
        (Side::Local, _) => LOCAL,
    };
    let (listen_host, listen_port) = match &forward.listen {
        Listen::Tcp { host, port } => {
            let host = match host.as_deref() {
                None => "",
                Some("") => "*",
                Some(host) => host,
            };
            (host, u32::from(*port))
        }
        Listen::Unix(path) => (&**path, UNIX_PORT),
    };
    let (connect_host, connect_port) = place(&forward.connect);
    let writer = writer.u32(kind).string(listen_host.as_bytes()).u32(listen_port);
    writer.string(connect_host.as_bytes()).u32(connect_port).finish()
}

/// The far end of a forward as host and port.
fn place(connect: &Connect) -> (&str, u32) {
    match connect {
        Connect::Tcp { host, port } => (host, u32::from(*port)),
        Connect::Unix(path) => (path, UNIX_PORT),
        Connect::Socks => (SOCKS_HOST, 0),
    }
}

/// Takes a message apart.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u32(&mut self) -> Result<u32, Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*first))
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(string)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.string().map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

/// Puts a message together.
struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u32) -> Self {
        // The length is known at the end.
        Self(vec![0; 4]).u32(kind)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn string(mut self, text: &[u8]) -> Self {
        let length = u32::try_from(text.len()).expect("nothing of ours is so long");
        self = self.u32(length);
        self.0.extend_from_slice(text);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).expect("nothing of ours is so long");
        if let Some(first) = self.0.first_chunk_mut() {
            *first = length.to_be_bytes();
        }
        self.0
    }
}

#[cfg(test)]
mod tests;
