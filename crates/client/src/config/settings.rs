//! [`Settings`]: everything the configuration says about one destination, resolved and typed.
//!
//! Defaults are OpenSSH's unless a field says otherwise.

use crate::forward::X11Settings;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::answers::Answers;
use super::canonical::Canonicalization;
use super::channel_timeouts::ChannelTimeouts;
use super::forward::{Connect, Forward};
use super::jump::Proxy;
use super::marks::Marks;

/// The settings of one destination after flags, `-o` options and files were merged.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The destination as typed (`originalhost`).
    pub original_host: String,
    /// The name or address to connect to.
    pub host_name: String,
    /// TCP port of the ssh server.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// How the ssh server is reached.
    pub proxy: Proxy,
    /// The command of `proxy` hands over a connection and ends (ProxyUseFdpass).
    pub proxy_hands_over: bool,
    /// How the name to connect to was made of the one typed.
    pub canonicalization: Canonicalization,
    /// How packets are marked (IPQoS).
    pub marks: Marks,
    /// How long channels may be idle (ChannelTimeout).
    pub channel_timeouts: ChannelTimeouts,
    /// Address family to use.
    pub address_family: AddressFamily,
    /// Local address to connect from, or a name of it.
    pub bind_address: Option<String>,
    /// Interface to connect from, if no address is given.
    pub bind_interface: Option<String>,
    /// Limit for connecting and the key exchange; `None` is the system's own.
    pub connect_timeout: Option<Duration>,
    /// How often to try to connect.
    pub connection_attempts: u32,
    /// Never prompt.
    pub batch_mode: bool,
    /// Whether questions go to a program instead of the terminal.
    pub askpass: Askpass,
    /// How often a password is asked for.
    pub number_of_password_prompts: u32,
    /// Authentication methods, in order of preference.
    pub preferred_authentications: Vec<String>,
    /// Methods that the configuration wants and this version does not have.
    pub missing_methods: Vec<&'static str>,
    /// Whether `publickey` may be used.
    pub pubkey_authentication: bool,
    /// Whether `password` may be used.
    pub password_authentication: bool,
    /// Whether `keyboard-interactive` may be used.
    pub kbd_interactive_authentication: bool,
    /// Private keys to try, expanded, in order.
    pub identity_files: Vec<IdentityFile>,
    /// What is answered in place of a person.
    pub answers: Answers,
    /// Certificates to try with the keys they belong to, expanded, in order.
    pub certificate_files: Vec<PathBuf>,
    /// Whether a key read from a file is handed to the agent.
    pub add_keys_to_agent: AddKeys,
    /// The smallest RSA key that is accepted or used, in bits.
    pub required_rsa_bits: u32,
    /// What signs with keys on security tokens.
    pub security_keys: SecurityKeys,
    /// Offer only `identity_files`, even if an agent holds more.
    pub identities_only: bool,
    /// Where the agent listens.
    pub identity_agent: IdentityAgent,
    /// Per-user known_hosts files, expanded.
    pub user_known_hosts_files: Vec<PathBuf>,
    /// System-wide known_hosts files.
    pub global_known_hosts_files: Vec<PathBuf>,
    /// What to do about a host key that is not known.
    pub strict_host_key_checking: StrictHostKeyChecking,
    /// Further rules about host keys.
    pub host_keys: HostKeySettings,
    /// Whether host names are hashed when written to known_hosts.
    pub hash_known_hosts: bool,
    /// The name to look host keys up by, instead of the host's.
    pub host_key_alias: Option<String>,
    /// Key exchange, cipher, MAC and host key algorithm lists, as OpenSSH spells them.
    pub algorithms: Algorithms,
    /// Data after which the keys of the connection are renewed, in bytes; `None` is the usual.
    pub rekey_bytes: Option<u64>,
    /// Time after which the keys of the connection are renewed; `None` is the usual.
    pub rekey_interval: Option<Duration>,
    /// Whether to ask for compression.
    pub compression: bool,
    /// Seconds between keep-alives on an idle plain ssh connection; `None` is off.
    pub server_alive_interval: Option<Duration>,
    /// Unanswered keep-alives before the connection is given up.
    pub server_alive_count_max: u32,
    /// Names of the variables of the local environment to send (after matching the patterns).
    pub send_env: Vec<String>,
    /// Variables to set on the far side.
    pub set_env: Vec<(String, String)>,
    /// When to ask for a terminal.
    pub request_tty: RequestTty,
    /// Command of the configuration, tokens expanded, run when none is given.
    pub remote_command: Option<String>,
    /// Whether it is a shell that is asked for, and no command.
    pub runs_shell: bool,
    /// What to ask the server for (`-N`, `-s`, SessionType).
    pub session_type: SessionType,
    /// Take standard input from `/dev/null` (`-n`, StdinNull).
    pub stdin_null: bool,
    /// Go to the background after the login (`-f`, ForkAfterAuthentication).
    pub background: bool,
    /// Where `-y` sends the log: a facility of syslog(3).
    pub syslog_facility: u8,
    /// The program that logs in instead of us (`--via-ssh`, LoginCommand), in words.
    pub login_command: Option<Vec<String>>,
    /// Let the kernel probe an idle TCP connection (TCPKeepAlive).
    pub tcp_keep_alive: bool,
    /// The escape character; `None` disables escapes.
    pub escape_char: Option<u8>,
    /// Whether an escape opens a command line (EnableEscapeCommandline).
    pub escape_command_line: bool,
    /// Whether commands may be run on this machine (PermitLocalCommand).
    pub permit_local_command: bool,
    /// The command to run on this machine after the login (LocalCommand), expanded.
    pub local_command: Option<String>,
    /// How the connection is shared with other processes.
    pub control: ControlSettings,
    /// Verbosity.
    pub log_level: LogLevel,
    /// What goes through the connection besides the session.
    pub forwards: ForwardSettings,
    /// UDP settings.
    pub udp: UdpSettings,
    /// Remarks for the user: keywords not honoured whose neglect could be unsafe, and the like.
    pub warnings: Vec<String>,
}

/// PreferredAuthentications where nothing is said.
pub(super) const PREFERRED: &str = "publickey,keyboard-interactive,password";

/// What goes through the connection besides the session.
///
/// Empty where ClearAllForwardings says so, but for `stdio`.
#[derive(Clone, Debug, Default)]
pub struct ForwardSettings {
    /// LocalForward and DynamicForward, the command line's first.
    pub local: Vec<Forward>,
    /// RemoteForward.
    pub remote: Vec<Forward>,
    /// UdpLocalForward.
    pub udp_local: Vec<Forward>,
    /// UdpRemoteForward.
    pub udp_remote: Vec<Forward>,
    /// ForwardX11 and its companions.
    pub x11: X11Settings,
    /// How long a flow of datagrams may be idle (ForwardUdpTimeout).
    pub udp_idle: Duration,
    /// Standard input and output go there instead of to a session (`-W`).
    pub stdio: Option<Connect>,
    /// The agent that programs on the far host may use.
    pub agent: ForwardAgent,
    /// Whether other hosts may use local forwards that name no address.
    pub gateway_ports: bool,
    /// Whether a forward that cannot be set up ends everything.
    pub exit_on_failure: bool,
    /// Whether ClearAllForwardings holds.
    pub cleared: bool,
    /// Bits taken away from the mode of local unix sockets; 0177.
    pub socket_mask: u16,
    /// Whether a file in the place of a local unix socket is removed.
    pub socket_unlink: bool,
    /// Where remote dynamic forwards may lead, `host:port` with `*` for any; `None` is anywhere.
    pub permit_remote_open: Option<Vec<String>>,
}

/// Connection sharing: a connection that several processes use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlSettings {
    /// The socket where they meet, expanded.
    pub path: Option<PathBuf>,
    /// Whether to use the connection of another process, and whether to lend ours.
    pub master: ControlMaster,
    /// How long a connection of ours stays open for others.
    pub persist: ControlPersist,
}

/// ControlMaster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlMaster {
    /// Use the connection of another, if there is one; lend none.
    #[default]
    No,
    /// Lend ours.
    Yes,
    /// Use the connection of another, or else lend ours.
    Auto,
    /// Lend ours, and ask a person each time.
    Ask,
    /// As `Auto`, and ask a person each time.
    AutoAsk,
}

impl ControlMaster {
    /// Returns whether the connection of another process is looked for.
    #[must_use]
    pub const fn uses_another(self) -> bool {
        matches!(self, Self::No | Self::Auto | Self::AutoAsk)
    }

    /// Returns whether a connection of ours is lent.
    #[must_use]
    pub const fn lends(self) -> bool {
        !matches!(self, Self::No)
    }

    /// Returns whether a person is asked before it is used.
    #[must_use]
    pub const fn asks(self) -> bool {
        matches!(self, Self::Ask | Self::AutoAsk)
    }
}

/// ControlPersist: how long a connection that is lent outlives our own use of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlPersist {
    /// Until the last session of others ends.
    #[default]
    No,
    /// Until nobody has used it for this time.
    For(Duration),
    /// Until it is told to end.
    Forever,
}

/// ForwardAgent: which agent programs on the far host may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForwardAgent {
    /// None.
    #[default]
    No,
    /// The one that logs in (IdentityAgent, `SSH_AUTH_SOCK`).
    Yes,
    /// The one at this socket.
    Path(PathBuf),
    /// The one a variable of the environment leads to.
    Variable(String),
}

/// Settings of the UDP link (CLIENT-OPTIONS §4.1).
#[derive(Clone, Debug)]
pub struct UdpSettings {
    /// Whether and how to use UDP.
    pub mode: UdpMode,
    /// Whether the mode was asked for on the command line (missing tsshd is then an error, D8).
    pub explicit: bool,
    /// Which carrier the packets take.
    pub proxy_mode: UdpProxyMode,
    /// Packet size to ask for; `None` is the default of 1400.
    pub mtu: Option<u16>,
    /// Path of the server program.
    pub tsshd_path: String,
    /// Port ranges for the server, normalised; `None` is the server's default.
    pub tsshd_port: Option<String>,
    /// Both ends give up after an outage of this length. Default 10 days.
    pub alive_timeout: Duration,
    /// Silence after which a new path is sought. Default 3 s.
    pub heartbeat_timeout: Duration,
    /// Outage after which the notice is shown. Default 15 s.
    pub reconnect_timeout: Duration,
    /// What the notice looks like.
    pub notice: NoticeSettings,
    /// Bytes of a terminal's output that the server keeps during an outage; `None` is the
    /// server's default of 4 MiB. Each session may take as much of its host's memory.
    pub output_log: Option<u32>,
    /// Time allowed for the UDP login. Default 10 s.
    pub connect_timeout: Duration,
    /// Diagnostics at both ends (`--debug`).
    pub debug: bool,
    /// How packets are marked (IPQoS), if not as the protocol says; set once it is known whether
    /// the session is one for a person.
    pub traffic_class: Option<u8>,
}

/// The notice that the link is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeSettings {
    /// In the first rows of the terminal rather than near the cursor. Default yes.
    pub on_top: bool,
    /// With everything that is known rather than in one line. Default yes.
    pub full: bool,
    /// The key that leaves while it is shown, as the terminal sends it. Default `^d`.
    pub exit_key: Option<u8>,
}

/// Whether and how a session leaves the ssh connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpMode {
    /// Plain ssh.
    No,
    /// QUIC over UDP.
    Quic,
    /// KCP over UDP.
    Kcp,
}

/// Which carrier the packets of a UDP link take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpProxyMode {
    /// UDP datagrams; with our server also TCP to its port, and through the login, whichever works.
    Auto,
    /// UDP datagrams.
    Udp,
    /// Frames on a TCP connection.
    Tcp,
}

/// Address family restriction (`-4`, `-6`, AddressFamily).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// Either.
    Any,
    /// IPv4 only.
    Inet,
    /// IPv6 only.
    Inet6,
}

impl AddressFamily {
    /// Returns whether an address is of this family.
    #[must_use]
    pub const fn allows(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Inet => address.is_ipv4(),
            Self::Inet6 => address.is_ipv6(),
        }
    }
}

/// One identity file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFile {
    /// Path, tokens and `~` expanded.
    pub path: PathBuf,
    /// Whether the user named it (a missing default file is passed over silently).
    pub explicit: bool,
}

/// `SSH_ASKPASS` and `SSH_ASKPASS_REQUIRE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Askpass {
    /// Only the terminal is asked.
    Never,
    /// This program, where there is no terminal.
    WithoutTerminal(PathBuf),
    /// This program, even if there is one.
    Always(PathBuf),
}

/// AddKeysToAgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddKeys {
    /// Keys stay with us.
    No,
    /// The agent gets them.
    Yes {
        /// It asks before each use.
        confirm: bool,
        /// It forgets them after this time.
        lifetime: Option<Duration>,
    },
    /// A person is asked (by SSH_ASKPASS).
    Ask,
}

/// What signs with keys on security tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityKeys {
    /// OpenSSH's helper, if there is one.
    pub helper: Option<PathBuf>,
    /// The library it uses (SecurityKeyProvider).
    pub provider: String,
}

/// Rules about host keys beside StrictHostKeyChecking and the files.
#[derive(Clone, Debug)]
pub struct HostKeySettings {
    /// Look the address up as well (CheckHostIP).
    pub check_ip: bool,
    /// A command that prints lines of known_hosts (KnownHostsCommand): its words, in which only
    /// `%H %I %K %t %f` and `%%` are left to expand.
    pub command: Option<Vec<String>>,
    /// Accept whatever the loopback interface shows (NoHostAuthenticationForLocalhost).
    pub trust_loopback: bool,
    /// Keys never to be accepted: a list or a KRL (RevokedHostKeys).
    pub revoked_file: Option<PathBuf>,
    /// Whether the keys a server announces replace those in known_hosts (UpdateHostKeys).
    pub update: UpdateHostKeys,
    /// Show keys as pictures (VisualHostKey).
    pub visual: bool,
    /// Whether the domain name system vouches for keys (VerifyHostKeyDNS).
    pub verify_dns: VerifyDns,
    /// How fingerprints are computed and shown (FingerprintHash).
    pub fingerprint_hash: FingerprintHash,
}

/// VerifyHostKeyDNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyDns {
    /// It is not asked.
    #[default]
    No,
    /// A key that it vouches for securely is accepted.
    Yes,
    /// A person is told what it says.
    Ask,
}

/// FingerprintHash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FingerprintHash {
    /// `SHA256:` and base 64.
    #[default]
    Sha256,
    /// `MD5:` and pairs of hexadecimal digits.
    Md5,
}

/// UpdateHostKeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateHostKeys {
    /// known_hosts stays as it is.
    No,
    /// Announced keys are taken over.
    Yes,
    /// A person is asked first.
    Ask,
}

/// Where the authentication agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityAgent {
    /// What `SSH_AUTH_SOCK` says.
    Environment,
    /// This socket.
    Path(PathBuf),
    /// No agent.
    None,
}

/// StrictHostKeyChecking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrictHostKeyChecking {
    /// Refuse unknown keys.
    Yes,
    /// Ask about unknown keys.
    Ask,
    /// Add unknown keys, refuse changed ones.
    AcceptNew,
    /// Add unknown keys, go on (without passwords) with changed ones.
    Off,
}

/// RequestTTY, `-t`, `-T`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTty {
    /// For a shell, if standard input is a terminal.
    Auto,
    /// Never.
    No,
    /// If standard input is a terminal.
    Yes,
    /// Always.
    Force,
}

/// SessionType, `-N`, `-s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// A shell or a command.
    Default,
    /// The command names a subsystem.
    Subsystem,
    /// Nothing: only the connection is wanted.
    None,
}

/// LogLevel, in OpenSSH's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing but what is fatal.
    Quiet,
    /// Fatal errors.
    Fatal,
    /// Errors.
    Error,
    /// The default.
    Info,
    /// More.
    Verbose,
    /// `-v`.
    Debug1,
    /// `-vv`.
    Debug2,
    /// `-vvv`.
    Debug3,
}

impl LogLevel {
    const ALL: [Self; 8] = [
        Self::Quiet,
        Self::Fatal,
        Self::Error,
        Self::Info,
        Self::Verbose,
        Self::Debug1,
        Self::Debug2,
        Self::Debug3,
    ];

    /// Returns the next level that says more, if there is one.
    #[must_use]
    pub fn louder(self) -> Self {
        Self::ALL.into_iter().find(|level| *level > self).unwrap_or(self)
    }

    /// Returns the next level that says less, if there is one.
    #[must_use]
    pub fn quieter(self) -> Self {
        Self::ALL.into_iter().rev().find(|level| *level < self).unwrap_or(self)
    }
}

/// Algorithm lists as written (`+ - ^` prefixes allowed); `None` is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// KexAlgorithms.
    pub kex: Option<String>,
    /// Ciphers.
    pub ciphers: Option<String>,
    /// MACs.
    pub macs: Option<String>,
    /// HostKeyAlgorithms.
    pub host_key: Option<String>,
    /// PubkeyAcceptedAlgorithms: which of our keys may be used.
    pub pubkey: Option<String>,
    /// CASignatureAlgorithms: how certificates of hosts may be signed.
    pub ca: Option<String>,
}
