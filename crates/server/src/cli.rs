//! The command line, read as the reference reads it (PROTOCOL §1.2).
//!
//! Lenient on purpose, which is why this is not clap's work: newer clients put
//! words here that older servers must step over. Options match exactly (no
//! `--x=y`, no bundling), unknown words are ignored, an argument that begins
//! with `-` is never a value, and a number that does not parse counts as absent.

use std::net::SocketAddr;
use std::time::Duration;

use proto::bootstrap::OUTPUT_LOG_FLAG;
use proto::ext::{self, ExtSet};

use crate::session::DEFAULT_LOG_BYTES;

/// What the program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Print how to use it.
    Help,
    /// Print product and version; with build detail when `true`.
    Version {
        /// Whether to say how it was built.
        detail: bool,
    },
    /// Serve one client.
    Serve(Options),
}

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Speak KCP instead of QUIC.
    pub kcp: bool,
    /// Carry packets over TCP instead of UDP.
    pub tcp: bool,
    /// Address family asked for.
    pub family: Family,
    /// Send diagnostics over the bus and into a file in the temporary directory.
    pub debug: bool,
    /// Packet size asked for, echoed in ServerInfo. `None` leaves the default, 1400 bytes.
    pub mtu: Option<u16>,
    /// Ports to choose from, as written; see [`crate::ports`].
    pub ports: Option<String>,
    /// How long to wait for a client, and for each step of its arrival. Default 10 s.
    pub connect_timeout: Duration,
    /// Bytes of a terminal's output to keep while the client is away. Default 4 MiB.
    pub output_log_bytes: usize,
    /// Extensions the client asks for.
    pub extensions: ExtSet,
}

/// Restriction of the addresses to listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Both families.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Returns whether an address is of this family.
    #[must_use]
    pub const fn allows(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// How long to wait for a client unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options that take a value.
const VALUED: [&str; 5] = ["--mtu", "--port", "--connect-timeout", OUTPUT_LOG_FLAG, ext::FLAG];

/// Largest log of a terminal's output: each session may fill one.
const MAX_LOG_BYTES: usize = 1 << 30;

/// Reads the arguments behind the program's name.
pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Action {
    let mut options = Options {
        kcp: false,
        tcp: false,
        family: Family::Any,
        debug: false,
        mtu: None,
        ports: None,
        connect_timeout: CONNECT_TIMEOUT,
        output_log_bytes: DEFAULT_LOG_BYTES,
        extensions: ExtSet::NONE,
    };
    let (mut v4, mut v6) = (false, false);
    let mut words = arguments.iter().map(AsRef::as_ref).peekable();
    while let Some(word) = words.next() {
        let value = if VALUED.contains(&word) {
            words.next_if(|next| !next.starts_with('-'))
        } else {
            None
        };
        match word {
            "-h" | "--help" => return Action::Help,
            "-v" | "--version" => return Action::Version { detail: false },
            "-V" => return Action::Version { detail: true },
            "--kcp" => options.kcp = true,
            "--tcp" => options.tcp = true,
            "--ipv4" => v4 = true,
            "--ipv6" => v6 = true,
            "--debug" => options.debug = true,
            "--mtu" => {
                options.mtu = value.and_then(|v| v.parse().ok()).filter(|mtu| *mtu != 0);
            }
            "--port" => options.ports = value.map(str::to_owned),
            "--connect-timeout" => {
                let seconds = value.and_then(|v| v.parse::<u32>().ok()).filter(|s| *s != 0);
                let timeout = seconds.map(|s| Duration::from_secs(s.into()));
                options.connect_timeout = timeout.unwrap_or(CONNECT_TIMEOUT);
            }
            OUTPUT_LOG_FLAG => {
                let bytes = value.and_then(|v| v.parse::<usize>().ok());
                options.output_log_bytes = bytes.unwrap_or(DEFAULT_LOG_BYTES).min(MAX_LOG_BYTES);
            }
            ext::FLAG => options.extensions = value.map_or(ExtSet::NONE, ExtSet::from_argument),
            // Those of attaching among them: a client that gets a session where it asked for a
            // list knows that the server has none, and uses it (PROTOCOL §1.2, §8.2).
            _ => {}
        }
    }
    options.family = match (v4, v6) {
        (true, false) => Family::V4,
        (false, true) => Family::V6,
        _ => Family::Any,
    };
    Action::Serve(options)
}

/// What `--help` prints.
pub const USAGE: &str = "\
usage: tsshd [--kcp] [--tcp] [--ipv4] [--ipv6] [--mtu BYTES] [--port PORTS]
             [--connect-timeout SECONDS] [--output-log BYTES]
             [--ext NAME,...] [--debug]
       tsshd -h | -v | -V

Serves one tssh client over UDP (QUIC or KCP). Normally started by `tssh --udp`
over its ssh login: prints a line for the client, goes into the background,
and ends when the client says so or has not been heard for too long.

  --kcp              speak KCP instead of QUIC
  --tcp              carry packets over TCP
  --ipv4, --ipv6     listen on addresses of this family only
  --mtu BYTES        packet size
  --port PORTS       ports to choose from: a, a-b, several separated by commas
                     (default 61001-61999)
  --connect-timeout SECONDS
                     how long to wait for the client (default 10)
  --output-log BYTES terminal output to keep while the client is away
                     (default 4194304)
  --ext NAME,...     extensions of the protocol that the client asks for
  --debug            diagnostics to the client and to a file in the temporary
                     directory
  -h, --help         this text
  -v, --version      version
  -V                 version and build
";

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        let words: Vec<&str> = line.split_whitespace().collect();
        match parse(&words) {
            Action::Serve(options) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_reference_client_s_line_is_understood() {
        let got =
            options("--tcp --debug --ipv4 --mtu 1355 --port 7000,8000-8010 --connect-timeout 5");
        assert!(got.tcp && got.debug);
        assert_eq!(got.family, Family::V4);
        assert_eq!(got.mtu, Some(1355));
        assert_eq!(got.ports.as_deref(), Some("7000,8000-8010"));
        assert_eq!(got.connect_timeout, Duration::from_secs(5));
    }

    #[test]
    fn unknown_words_are_stepped_over() {
        assert_eq!(options("--future yes extra --tcp=1 -x"), options(""));
        assert!(options("--mtu=1300 --future --tcp").tcp);
        assert_eq!(options("--mtu=1300").mtu, None);
    }

    #[test]
    fn an_argument_that_begins_with_a_dash_is_no_value() {
        let got = options("--port --tcp");
        assert_eq!(got.ports, None);
        assert!(got.tcp);
    }

    #[test]
    fn numbers_that_do_not_parse_count_as_absent() {
        assert_eq!(options("--mtu 70000").mtu, None);
        assert_eq!(options("--mtu 0").mtu, None);
        assert_eq!(options("--output-log 1000").output_log_bytes, 1000);
        for absent in ["--output-log x", "--output-log -1", "--output-log"] {
            assert_eq!(options(absent).output_log_bytes, DEFAULT_LOG_BYTES, "{absent}");
        }
        for zero in ["--connect-timeout 0", "--connect-timeout x", "--connect-timeout"] {
            assert_eq!(options(zero).connect_timeout, CONNECT_TIMEOUT, "{zero}");
        }
    }

    #[test]
    fn both_families_are_no_restriction() {
        assert_eq!(options("--ipv4 --ipv6").family, Family::Any);
        assert_eq!(options("--ipv6").family, Family::V6);
    }

    #[test]
    fn asked_to_attach_it_serves_like_a_server_that_knows_nothing_of_that() {
        for words in ["--list --kcp", "--attachable --socket --kcp", "--attach 77 --kcp"] {
            assert!(options(words).kcp, "{words}");
        }
    }

    #[test]
    fn extensions_are_asked_for_by_name() {
        assert_eq!(options("--ext early,telepathy").extensions.names(), ["early"]);
        assert!(options("--ext --tcp").extensions.is_empty());
    }

    #[test]
    fn questions_are_answered_whatever_else_is_asked() {
        assert_eq!(parse(&["--tcp", "-h"]), Action::Help);
        assert_eq!(parse(&["-v"]), Action::Version { detail: false });
        assert_eq!(parse(&["-V"]), Action::Version { detail: true });
    }
}
