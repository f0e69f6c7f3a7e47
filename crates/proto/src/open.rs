//! What is said at the opening of a stream (PROTOCOL §6.2–§6.9).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ext::ExtSet;
use crate::json::{Bytes, Message, wire_struct};
use crate::version;

/// The text of a result that means success.
pub const NO_ERROR: &str = "_TSSHD_NO_ERROR_";

/// Result code: prohibited by the server's configuration.
pub const CODE_PROHIBITED: u32 = 101;

/// Result code: the session has no pty.
pub const CODE_NO_PTY: u32 = 102;

/// The first frame of a stream: what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamCommand {
    /// The control stream, exactly one.
    Bus,
    /// A shell, command or subsystem.
    Session,
    /// The standard error of a coming session.
    Stderr,
    /// An outgoing TCP or unix connection.
    Dial,
    /// A remote listener.
    Listen,
    /// Claims a connection that a listener, the agent or X11 accepted.
    Accept,
    /// An outgoing UDP flow.
    DialUdp,
    /// A remote UDP listener.
    ListenUdp,
    /// Claims a UDP peer of a listener.
    AcceptUdp,
}

impl StreamCommand {
    /// All commands.
    pub const ALL: [Self; 9] = [
        Self::Bus,
        Self::Session,
        Self::Stderr,
        Self::Dial,
        Self::Listen,
        Self::Accept,
        Self::DialUdp,
        Self::ListenUdp,
        Self::AcceptUdp,
    ];

    /// Returns the command on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Session => "session",
            Self::Stderr => "stderr",
            Self::Dial => "dial",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::DialUdp => "dial-udp",
            Self::ListenUdp => "listen-udp",
            Self::AcceptUdp => "accept-udp",
        }
    }

    /// Reads a command; `None` when it is unknown.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

wire_struct! {
    /// Result of a request: success, or a code and a text for people.
    pub struct Outcome {
        /// 0, [`CODE_PROHIBITED`] or [`CODE_NO_PTY`].
        "Code" => code: u32,
        /// [`NO_ERROR`] on success.
        "Msg" => msg: String,
    }
}

impl Outcome {
    /// Returns the result that means success.
    #[must_use]
    pub fn success() -> Self {
        Self { code: 0, msg: NO_ERROR.into() }
    }

    /// Returns a failure without a code.
    #[must_use]
    pub fn failure(msg: impl Into<String>) -> Self {
        Self { code: 0, msg: msg.into() }
    }

    /// Returns whether this is success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.msg == NO_ERROR
    }
}

wire_struct! {
    /// Initialises the bus, client to server (PROTOCOL §7.2).
    pub struct BusMessage {
        /// The client's program version.
        "ClientVer" => client_ver: String,
        /// The effective protocol version.
        "ProtoVer" => proto_ver: u64,
        /// Outage after which the server ends; zero is never.
        "AliveTimeout" => alive_timeout: Duration,
        /// Interval of the client's heartbeats.
        "IntervalTime" => interval: Duration,
        /// Silence after which either side takes the path for lost.
        "HeartbeatTimeout" => heartbeat_timeout: Duration,
        /// Name of an attachable session.
        "SessionName" => session_name: String,
        /// Extensions the client uses; see [`crate::ext`].
        "Ext" => ext: Vec<String>,
    }
}

impl BusMessage {
    /// Returns the extensions named.
    #[must_use]
    pub fn ext_set(&self) -> ExtSet {
        ExtSet::from_names(self.ext.iter().map(String::as_str))
    }

    /// Returns a message of our version, with `ext` named as used.
    #[must_use]
    pub fn new(server_proto: u64, timeouts: Timeouts, ext: ExtSet) -> Self {
        Self {
            client_ver: version::PROGRAM_VERSION.into(),
            proto_ver: version::effective(server_proto),
            alive_timeout: timeouts.alive,
            interval: timeouts.interval,
            heartbeat_timeout: timeouts.heartbeat,
            session_name: String::new(),
            ext: ext.names(),
        }
    }
}

/// The timeouts both ends agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Outage after which both ends give up. Default 10 days.
    pub alive: Duration,
    /// Interval of heartbeats. Default 1 s.
    pub interval: Duration,
    /// Silence after which a path counts as lost. Default 3 s.
    pub heartbeat: Duration,
}

impl Timeouts {
    /// Returns timeouts with the interval of PROTOCOL §7.4:
    /// `min(alive / 10, min(heartbeat, reconnect) / 3)`.
    #[must_use]
    pub fn new(alive: Duration, heartbeat: Duration, reconnect: Duration) -> Self {
        let interval = (alive / 10).min(heartbeat.min(reconnect) / 3);
        Self { alive, interval, heartbeat }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self::new(10 * day, Duration::from_secs(3), Duration::from_secs(15))
    }
}

wire_struct! {
    /// Answer to [`BusMessage`].
    pub struct BusResponse {
        /// As in [`Outcome`].
        "Code" => code: u32,
        /// As in [`Outcome`].
        "Msg" => msg: String,
        /// The first session id the client may use.
        "NextSessionID" => next_session_id: u64,
    }
}

wire_struct! {
    /// Starts a session (PROTOCOL §6.3).
    pub struct StartMessage {
        /// Session id chosen by the client; for attach, the target.
        "ID" => id: u64,
        /// Allocate a pty.
        "Pty" => pty: bool,
        /// Run the login shell, not a command.
        "Shell" => shell: bool,
        /// Program to execute.
        "Name" => name: String,
        /// Its arguments.
        "Args" => args: Vec<String>,
        /// Initial columns.
        "Cols" => cols: u32,
        /// Initial rows.
        "Rows" => rows: u32,
        /// Environment, `TERM` among it when a pty is asked for.
        "Envs" => envs: BTreeMap<String, String>,
        /// X11 forwarding.
        "X11" => x11: Option<X11Request>,
        /// Agent forwarding.
        "Agent" => agent: Option<AgentRequest>,
        /// Subsystem name.
        "Subs" => subsystem: String,
        /// Attach to session `id`.
        "Attach" => attach: bool,
        /// Attach only: id under which the stderr stream was registered.
        "ErrID" => err_id: u64,
        /// Extension `command`: the command as raw bytes for `$SHELL -c`;
        /// [`StartMessage::name`] and [`StartMessage::args`] are absent then.
        "Cmd" => command: Bytes,
        /// Extension `modes`: terminal modes as encoded in RFC 4254 §8.
        "Modes" => modes: Bytes,
        /// Extension `modes`: width in pixels.
        "WidthPx" => width_px: u32,
        /// Extension `modes`: height in pixels.
        "HeightPx" => height_px: u32,
        /// Extension `early`: a stderr stream of this id is on its way; wait for it.
        "Stderr" => stderr: bool,
    }
}

wire_struct! {
    /// X11 part of a [`StartMessage`].
    pub struct X11Request {
        /// Always `x11`.
        "ChannelType" => channel_type: String,
        /// Forward one connection only.
        "SingleConnection" => single_connection: bool,
        /// Authentication protocol.
        "AuthProtocol" => auth_protocol: String,
        /// The fake cookie, hex.
        "AuthCookie" => auth_cookie: String,
        /// Screen number.
        "ScreenNumber" => screen_number: u32,
    }
}

/// The kind of the channels that lead to the client's agent.
pub const AGENT_CHANNEL: &str = "auth-agent@openssh.com";

/// The kind of the channels that lead to the client's display.
pub const X11_CHANNEL: &str = "x11";

wire_struct! {
    /// Agent part of a [`StartMessage`].
    pub struct AgentRequest {
        /// Always `auth-agent@openssh.com`.
        "ChannelType" => channel_type: String,
    }
}

wire_struct! {
    /// Names a session, an accepted connection or a UDP peer.
    pub struct IdMessage {
        /// The id; 0 is absent on the wire.
        "ID" => id: u64,
    }
}

wire_struct! {
    /// Opens a connection from the server (PROTOCOL §6.6) or a UDP flow (§6.9).
    pub struct DialMessage {
        /// `tcp`, `tcp4`, `tcp6`, `unix`; for UDP `udp`, `udp4`, `udp6`, `unixgram`.
        "Net" => net: String,
        /// `host:port`, `[v6]:port` or a socket's path.
        "Addr" => addr: String,
        /// Limit; zero is none.
        "Timeout" => timeout: Duration,
        /// Extension `farewell`: what to say there if the client goes without a word.
        "Farewell" => farewell: Bytes,
    }
}

wire_struct! {
    /// Answer to a TCP or unix [`DialMessage`].
    pub struct DialResponse {
        /// As in [`Outcome`].
        "Code" => code: u32,
        /// As in [`Outcome`].
        "Msg" => msg: String,
        /// Where a TCP connection leads.
        "RemoteAddr" => remote_addr: Option<TcpAddr>,
    }
}

wire_struct! {
    /// A TCP address as Go writes it; all fields are always present.
    pub struct TcpAddr {
        /// Textual address.
        "IP" always => ip: String,
        /// Port.
        "Port" always => port: u16,
        /// IPv6 zone.
        "Zone" always => zone: String,
    }
}

wire_struct! {
    /// Opens a listener on the server (PROTOCOL §6.7, §6.9).
    pub struct ListenMessage {
        /// As in [`DialMessage`].
        "Net" => net: String,
        /// As in [`DialMessage`].
        "Addr" => addr: String,
    }
}

wire_struct! {
    /// Answer to a [`ListenMessage`].
    pub struct ListenResponse {
        /// As in [`Outcome`].
        "Code" => code: u32,
        /// As in [`Outcome`].
        "Msg" => msg: String,
        /// Extension `listen`: the port, where 0 was asked for.
        "Port" => port: u16,
    }
}

wire_struct! {
    /// Answer to a UDP [`DialMessage`].
    pub struct DialUdpResponse {
        /// As in [`Outcome`].
        "Code" => code: u32,
        /// As in [`Outcome`].
        "Msg" => msg: String,
        /// Channel id of the flow.
        "ID" => id: u64,
    }
}

wire_struct! {
    /// The client's "go ahead" on a UDP flow: `{}`.
    pub struct Ready {
    }
}

/// What is wrong with a [`StartMessage`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Terminal modes cut off in the middle of an entry.
    #[error("terminal modes are cut off")]
    ModesTruncated,
}

/// Encodes terminal modes as RFC 4254 §8 does: opcode and u32be, ended by `TTY_OP_END`.
#[must_use]
pub fn encode_modes(modes: &[(u8, u32)]) -> Bytes {
    let mut out = Vec::with_capacity(modes.len() * 5 + 1);
    for (opcode, value) in modes {
        out.push(*opcode);
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.push(0);
    Bytes(out)
}

/// Decodes terminal modes; opcodes from 160 on end the list (RFC 4254 §8).
///
/// # Errors
/// [`StartError::ModesTruncated`].
pub fn decode_modes(bytes: &[u8]) -> Result<Vec<(u8, u32)>, StartError> {
    let mut modes = Vec::new();
    let mut rest = bytes;
    while let Some((&opcode, tail)) = rest.split_first() {
        if opcode == 0 || opcode >= 160 {
            break;
        }
        let (value, tail) = tail.split_first_chunk::<4>().ok_or(StartError::ModesTruncated)?;
        modes.push((opcode, u32::from_be_bytes(*value)));
        rest = tail;
    }
    Ok(modes)
}

/// Reads a result that carries further fields of its own.
pub trait Response: Message {
    /// Returns the result part.
    fn outcome(&self) -> Outcome;
}

macro_rules! response {
    ($($name:ident),*) => {$(
        impl Response for $name {
            fn outcome(&self) -> Outcome {
                Outcome { code: self.code, msg: self.msg.clone() }
            }
        }
    )*};
}
response!(Outcome, BusResponse, DialResponse, DialUdpResponse, ListenResponse);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_bus_message_is_the_reference_s_121_bytes() {
        let mut message = BusMessage::new(1, Timeouts::default(), ExtSet::NONE);
        message.client_ver = "0.1.8".into();
        let json = message.to_json();
        assert_eq!(
            json,
            r#"{"ClientVer":"0.1.8","ProtoVer":1,"AliveTimeout":864000000000000,"IntervalTime":1000000000,"HeartbeatTimeout":3000000000}"#
        );
        assert_eq!(json.len(), 121);
    }

    #[test]
    fn start_messages_of_the_specification() {
        let shell = StartMessage {
            id: 1,
            pty: true,
            shell: true,
            cols: 120,
            rows: 40,
            envs: BTreeMap::from([("TERM".into(), "xterm-256color".into())]),
            ..StartMessage::default()
        };
        assert_eq!(
            shell.to_json(),
            r#"{"ID":1,"Pty":true,"Shell":true,"Cols":120,"Rows":40,"Envs":{"TERM":"xterm-256color"}}"#
        );
        let exec = StartMessage {
            id: 1,
            name: "sh".into(),
            args: vec!["-c".into(), "ls | wc".into()],
            ..StartMessage::default()
        };
        assert_eq!(exec.to_json(), r#"{"ID":1,"Name":"sh","Args":["-c","ls | wc"]}"#);
        assert_eq!(StartMessage::from_json(exec.to_json().as_bytes()), Ok(exec));
    }

    #[test]
    fn dial_response_carries_a_whole_address() {
        let response = DialResponse {
            code: 0,
            msg: NO_ERROR.into(),
            remote_addr: Some(TcpAddr { ip: "10.0.0.5".into(), port: 5432, zone: String::new() }),
        };
        let json =
            r#"{"Msg":"_TSSHD_NO_ERROR_","RemoteAddr":{"IP":"10.0.0.5","Port":5432,"Zone":""}}"#;
        assert_eq!(response.to_json(), json);
        assert_eq!(DialResponse::from_json(json.as_bytes()), Ok(response.clone()));
        assert!(response.outcome().is_success());
    }

    #[test]
    fn modes_round_trip_and_truncation_is_noticed() {
        let modes = vec![(53, 1), (3, 0x7f), (128, 38400)];
        let bytes = encode_modes(&modes);
        assert_eq!(decode_modes(&bytes.0), Ok(modes));
        assert_eq!(decode_modes(&[53, 0, 0]), Err(StartError::ModesTruncated));
        assert_eq!(decode_modes(&[160, 1]), Ok(vec![]));
    }

    #[test]
    fn every_command_reads_back() {
        for command in StreamCommand::ALL {
            assert_eq!(StreamCommand::from_name(command.name()), Some(command));
        }
        assert_eq!(StreamCommand::from_name("telepathy"), None);
    }
}
