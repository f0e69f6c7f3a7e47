//! What the server program prints over the login: [`ServerInfo`] (PROTOCOL §1.4, §1.5).
//!
//! The line crosses a pty and the user's shells, so it is looked for in noise
//! ([`Finder`]). It holds every key of the connection: values with keys hide
//! themselves from `Debug` and wipe their memory, and errors never quote text
//! that could be part of one.

use std::net::IpAddr;

use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::ext::ExtSet;
use crate::json::{Field, Message, wire_struct};
use crate::version::{self, VersionError};

/// A key or password: hex on the wire, hidden from `Debug`, wiped on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over the bytes of a secret.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the secret's bytes. Handle with care.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether there is no secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(hidden)" })
    }
}

impl Field for Secret {
    const EXPECTED: &'static str = "a hex string";
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
    fn write(&self, out: &mut String) {
        out.push('"');
        let text = Zeroizing::new(hex::encode(self.expose()));
        out.push_str(&text);
        out.push('"');
    }
    fn read(value: &mut Value) -> Option<Self> {
        let Value::String(text) = value else { return None };
        let bytes = hex::decode(&*text).ok();
        text.zeroize();
        bytes.map(Self::new)
    }
}

wire_struct! {
    /// Everything a client needs to reach the server (PROTOCOL §1.5).
    pub struct ServerInfo {
        /// Program version `x.y.z`; only looked at when `proto_ver` is 0.
        "ServerVer" => server_ver: String,
        /// Protocol version; absent is 0.
        "ProtoVer" => proto_ver: u64,
        /// UDP or TCP port.
        "Port" => port: u16,
        /// `QUIC` or `KCP`; see [`ServerInfo::transport`].
        "Mode" => mode: String,
        /// KCP: 48 random bytes.
        "Pass" => pass: Secret,
        /// KCP: 48 random bytes.
        "Salt" => salt: Secret,
        /// QUIC: PEM text of the server's certificate.
        "ServerCert" => server_cert: Secret,
        /// QUIC: PEM text of the certificate the client presents.
        "ClientCert" => client_cert: Secret,
        /// QUIC: PEM text of its private key.
        "ClientKey" => client_key: Secret,
        /// Key of the path-auth packets, 32 bytes.
        "ProxyKey" => proxy_key: Secret,
        /// Id of the client; 0 lets the client choose.
        "ClientID" => client_id: u64,
        /// Id of the server.
        "ServerID" => server_id: u64,
        /// `TCP`; absent is UDP.
        "ProxyMode" => proxy_mode: String,
        /// Echo of `--mtu`.
        "MTU" => mtu: u16,
        /// Further addresses it listens at, with the same port (extension `addresses`).
        "Addrs" => addrs: Vec<String>,
        /// Extensions granted; see [`crate::ext`].
        "Ext" => ext: Vec<String>,
    }
}

/// The transport a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// QUIC (PROTOCOL §3).
    Quic,
    /// KCP (PROTOCOL §4).
    Kcp,
}

/// The `Mode` of a QUIC server.
pub const MODE_QUIC: &str = "QUIC";
/// The `Mode` of a KCP server.
pub const MODE_KCP: &str = "KCP";
/// The `ProxyMode` of a TCP server.
pub const PROXY_MODE_TCP: &str = "TCP";

/// Most further addresses that a server names and a client listens to: each one that leads nowhere
/// costs time whenever a path is looked for.
pub const MAX_ADDRESSES: usize = 4;

/// The flag by which the client sets the size of a terminal's output log, in
/// bytes (DESIGN D7). Servers that do not know it step over it.
pub const OUTPUT_LOG_FLAG: &str = "--output-log";

impl ServerInfo {
    /// Returns the transport, after the checks of PROTOCOL §1.4.
    ///
    /// # Errors
    /// [`BootstrapError::Incompatible`] or [`BootstrapError::UnknownMode`].
    pub fn transport(&self) -> Result<TransportKind, BootstrapError> {
        if self.mode.is_empty() {
            return Err(BootstrapError::Incompatible(VersionError::TooOld(
                self.server_ver.clone(),
            )));
        }
        version::check(self.proto_ver, &self.server_ver).map_err(BootstrapError::Incompatible)?;
        match self.mode.as_str() {
            MODE_QUIC => Ok(TransportKind::Quic),
            MODE_KCP => Ok(TransportKind::Kcp),
            other => Err(BootstrapError::UnknownMode(other.chars().take(20).collect())),
        }
    }

    /// Returns whether packets travel over TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.proxy_mode == PROXY_MODE_TCP
    }

    /// Returns the further addresses of the server, at most [`MAX_ADDRESSES`]; what is no address
    /// that a packet can be sent to is left out.
    #[must_use]
    pub fn further_addresses(&self) -> Vec<IpAddr> {
        let read = self.addrs.iter().filter_map(|text| text.parse().ok());
        let fit = read.filter(|ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast());
        fit.take(MAX_ADDRESSES).collect()
    }

    /// Returns the extensions granted.
    #[must_use]
    pub fn ext_set(&self) -> ExtSet {
        ExtSet::from_names(self.ext.iter().map(String::as_str))
    }

    /// Returns the line to print: BEL, JSON, LF.
    #[must_use]
    pub fn to_line(&self) -> Zeroizing<Vec<u8>> {
        // Room enough that growing does not leave copies of keys behind.
        let mut json = Zeroizing::new(String::with_capacity(8192));
        self.write_json(&mut json);
        let mut line = Zeroizing::new(Vec::with_capacity(json.len() + 2));
        line.push(BEL);
        line.extend_from_slice(json.as_bytes());
        line.push(b'\n');
        line
    }
}

/// Why the server program's output is not a [`ServerInfo`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// It printed nothing.
    #[error("the server program printed nothing")]
    Empty,
    /// It printed something else, most often why it could not start.
    #[error("{0}")]
    NotInfo(String),
    /// More than [`MAX_OUTPUT`] bytes without an info line.
    #[error("the login printed over 4 MiB and no server information")]
    TooMuch,
    /// The two programs do not understand each other.
    #[error("server {0}")]
    Incompatible(VersionError),
    /// A transport we have never heard of.
    #[error("server offers the unknown transport {0:?}")]
    UnknownMode(String),
}

/// Most output looked through: start-up files that print a megabyte are no hindrance.
pub const MAX_OUTPUT: usize = 4 << 20;

/// Room for a login that prints little besides the info.
const USUAL_OUTPUT: usize = 64 << 10;

/// Longest escape sequence that is taken for one. A bound, because looking for
/// the end of each of many unfinished ones would take for ever.
const MAX_ESCAPE: usize = 4 << 10;

/// Longest quotation of a server's text in an error.
const MAX_QUOTE: usize = 400;

const BEL: u8 = 0x07;

/// Looks for the info line in the output of the login as it arrives.
pub struct Finder {
    output: Zeroizing<Vec<u8>>,
}

impl Default for Finder {
    fn default() -> Self {
        Self { output: Zeroizing::new(Vec::with_capacity(USUAL_OUTPUT)) }
    }
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finder").field("bytes", &self.output.len()).finish()
    }
}

impl Finder {
    /// Takes more output; returns the info as soon as its line is complete.
    ///
    /// # Errors
    /// [`BootstrapError::TooMuch`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ServerInfo>, BootstrapError> {
        if self.output.len() + bytes.len() > MAX_OUTPUT {
            return Err(BootstrapError::TooMuch);
        }
        if self.output.len() + bytes.len() > self.output.capacity() {
            // Growing in place would leave a copy of keys behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(self.output.capacity() * 4));
            larger.extend_from_slice(&self.output);
            self.output = larger;
        }
        self.output.extend_from_slice(bytes);
        // The line ends with `}` and a line end; anything else cannot complete it.
        if !bytes.contains(&b'}') && !bytes.contains(&b'\n') {
            return Ok(None);
        }
        let from = self.output.iter().rposition(|b| *b == BEL);
        Ok(from.and_then(|at| parse(self.output.get(at..).unwrap_or_default())))
    }

    /// Judges all output once there will be no more.
    ///
    /// # Errors
    /// [`BootstrapError`] when it is not an info; a server's own words are quoted.
    pub fn finish(self) -> Result<ServerInfo, BootstrapError> {
        if let Some(info) = parse(&self.output) {
            return Ok(info);
        }
        let text = strip_escapes(&self.output);
        let text = String::from_utf8_lossy(&text);
        let text = text.trim();
        if text.is_empty() {
            return Err(BootstrapError::Empty);
        }
        Err(BootstrapError::NotInfo(quote(text)))
    }

    /// Returns what was printed, safe to show: trimmed, shortened, without keys.
    #[must_use]
    pub fn printed(&self) -> String {
        let text = strip_escapes(&self.output);
        quote(String::from_utf8_lossy(&text).trim())
    }
}

/// Shortens a server's text for an error, from its end, where the reason stands.
fn quote(text: &str) -> String {
    if text.contains("\"ProxyKey\"") || text.contains("\"ClientKey\"") || text.contains("\"Pass\"")
    {
        return "server information that cannot be read (not shown, it holds keys)".into();
    }
    let clean: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    let skip = clean.chars().count().saturating_sub(MAX_QUOTE);
    clean.chars().skip(skip).collect()
}

/// Finds and decodes the info in `output` by the rules of PROTOCOL §1.4.
fn parse(output: &[u8]) -> Option<ServerInfo> {
    let text = strip_escapes(output);
    let after_bel = text.iter().rposition(|b| *b == BEL).map_or(0, |at| at + 1);
    let tail = text.get(after_bel..)?;
    let start = tail.iter().position(|b| *b == b'{')?;
    let end = tail.iter().rposition(|b| *b == b'}')?;
    let json: Zeroizing<Vec<u8>> = Zeroizing::new(
        tail.get(start..=end)?.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect(),
    );
    let info = ServerInfo::from_json(&json).ok()?;
    // An object that names no port is somebody else's output.
    (info.port != 0).then_some(info)
}

/// Removes ANSI escape sequences: CSI, OSC and the two-byte ones.
fn strip_escapes(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != 0x1b {
            out.push(byte);
            rest = tail;
            continue;
        }
        let length = match tail.first() {
            Some(b'[') => tail
                .iter()
                .take(MAX_ESCAPE)
                .skip(1)
                .position(|b| (0x40..=0x7e).contains(b))
                .map(|n| n + 2),
            Some(b']') => osc_length(tail),
            Some(b'(' | b')') => Some(2),
            Some(_) => Some(1),
            None => Some(0),
        };
        // An unfinished sequence swallows nothing: the info could stand behind it.
        rest = tail.get(length.unwrap_or(1)..).unwrap_or_default();
    }
    out
}

/// Length of an OSC sequence behind its ESC, with its terminator (BEL or ESC `\`).
///
/// The BEL in front of an info line must not be taken for a terminator, so a
/// sequence ends at a line end, too, and is then not one.
fn osc_length(tail: &[u8]) -> Option<usize> {
    for (i, byte) in tail.iter().enumerate().take(MAX_ESCAPE) {
        match byte {
            &BEL if tail.get(i + 1) == Some(&b'{') => return None,
            &BEL => return Some(i + 1),
            0x1b if tail.get(i + 1) == Some(&b'\\') => return Some(i + 2),
            b'\n' => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ServerInfo {
        ServerInfo {
            server_ver: "0.1.8".into(),
            proto_ver: 1,
            port: 61234,
            mode: MODE_QUIC.into(),
            proxy_key: Secret::new(vec![0x77; 32]),
            client_id: u64::MAX,
            server_id: 4096,
            ..ServerInfo::default()
        }
    }

    fn find(noise: &[u8]) -> Option<ServerInfo> {
        let mut finder = Finder::default();
        for byte in noise {
            if let Some(info) = finder.push(&[*byte]).unwrap() {
                return Some(info);
            }
        }
        finder.finish().ok()
    }

    #[test]
    fn info_is_found_as_soon_as_its_line_is_complete() {
        let line = info().to_line();
        let mut finder = Finder::default();
        let (last, front) = line[..line.len() - 1].split_last().unwrap();
        assert_eq!(finder.push(front), Ok(None));
        assert_eq!(finder.push(&[*last]), Ok(Some(info())));
    }

    #[test]
    fn info_is_found_in_noise() {
        let line = info().to_line();
        let line = &line[..];
        let wrapped: Vec<u8> =
            line.chunks(40).flat_map(|chunk| chunk.iter().copied().chain(*b"\r\n")).collect();
        let cases: Vec<Vec<u8>> = vec![
            line.to_vec(),
            [b"Welcome {friend}\r\n", line].concat(),
            [b"\x1b]0;user@host\x07\x1b[1;31mred\x1b[0m\x07\r\n", line].concat(),
            [b"\x1b]0;unfinished title ", line].concat(),
            [line, b"\x1b[0m\r\n\r\n"].concat(),
            wrapped,
        ];
        for case in cases {
            assert_eq!(find(&case), Some(info()), "{}", String::from_utf8_lossy(&case));
        }
    }

    #[test]
    fn a_server_s_own_words_reach_the_user() {
        let mut finder = Finder::default();
        assert_eq!(finder.push(b"no available port in [99999]\r\n"), Ok(None));
        assert_eq!(
            finder.finish(),
            Err(BootstrapError::NotInfo("no available port in [99999]".into()))
        );
        assert_eq!(Finder::default().finish(), Err(BootstrapError::Empty));
    }

    #[test]
    fn keys_appear_neither_in_errors_nor_in_debug_output() {
        let mut broken = info().to_line().to_vec();
        broken.truncate(broken.len() - 4);
        let mut finder = Finder::default();
        finder.push(&broken).unwrap();
        assert!(!finder.printed().contains("7777"));
        let debug = format!("{finder:?}");
        let text = format!("{debug} {:?}", finder.finish().unwrap_err());
        assert!(!text.contains("7777"), "{text}");
        assert!(!format!("{:?}", info()).contains("119"));
    }

    #[test]
    fn too_old_and_unknown_servers_are_named() {
        let old = ServerInfo { mode: String::new(), ..info() };
        assert!(matches!(old.transport(), Err(BootstrapError::Incompatible(_))));
        let odd = ServerInfo { mode: "SCTP".into(), ..info() };
        assert_eq!(odd.transport(), Err(BootstrapError::UnknownMode("SCTP".into())));
    }
}
