//! Our own keywords and flags: whether a session leaves the ssh connection, and how.
//!
//! Meaning and defaults are those of CLIENT-OPTIONS §4.1; what belongs to later versions
//! (attaching) is refused, here or by the table of keywords.

use std::time::Duration;

use super::error::ConfigError;
use super::options::{Options, Origin};
use super::settings::{NoticeSettings, UdpMode, UdpProxyMode, UdpSettings};
use crate::cli::CommandLine;

/// Resolves the settings of the UDP link.
///
/// # Errors
/// A value that makes no sense, or that is not in this version.
pub(super) fn settings(line: &CommandLine, options: &Options) -> Result<UdpSettings, ConfigError> {
    let (mode, explicit) = mode(line, options)?;
    Ok(UdpSettings {
        mode,
        explicit,
        proxy_mode: proxy_mode(options)?,
        mtu: mtu(options)?,
        tsshd_path: options.word("tsshdpath").unwrap_or("tsshd").to_owned(),
        tsshd_port: match options.word("tsshdport") {
            Some(ports) => Some(port_ranges(ports).map_err(|p| bad(options, "tsshdport", &p))?),
            None => None,
        },
        alive_timeout: timeout(options, "udpalivetimeout", ALIVE_TIMEOUT)?,
        heartbeat_timeout: timeout(options, "udpheartbeattimeout", HEARTBEAT_TIMEOUT)?,
        reconnect_timeout: timeout(options, "udpreconnecttimeout", RECONNECT_TIMEOUT)?,
        notice: notice(options)?,
        output_log: output_log(options)?,
        connect_timeout: options
            .duration("connecttimeout")
            .filter(|limit| !limit.is_zero())
            .unwrap_or(CONNECT_TIMEOUT),
        debug: line.debug,
        // Whether the session is one for a person is known later.
        traffic_class: None,
    })
}

/// UdpAliveTimeout where nothing is said: long enough for a machine asleep over the holidays.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(10 * 24 * 60 * 60);
/// UdpHeartbeatTimeout where nothing is said.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// UdpReconnectTimeout where nothing is said.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The limit of the UDP login where ConnectTimeout says nothing (PROTOCOL §14).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Decides between plain ssh and a UDP link, and whether the command line asked for one.
///
/// In this order (CLIENT-OPTIONS §2.2): `--tcp`, `-o UdpMode=`, `--kcp`, `--quic`, the files' UdpMode,
/// `--udp`. One departure: `--udp` wins over a file's `UdpMode no`, as a person expects of a flag.
fn mode(line: &CommandLine, options: &Options) -> Result<(UdpMode, bool), ConfigError> {
    let link = line.link;
    if link.tcp {
        return Ok((UdpMode::No, false));
    }
    let setting = options.get("udpmode");
    let by_option = setting.is_some_and(|setting| setting.origin == Origin::CommandLine);
    let asked = link.udp || link.kcp || link.quic || by_option;
    if link.kcp && !by_option {
        return Ok((UdpMode::Kcp, true));
    }
    if link.quic && !by_option {
        return Ok((UdpMode::Quic, true));
    }
    let Some(setting) = setting else {
        let mode = if link.udp { UdpMode::Quic } else { UdpMode::No };
        return Ok((mode, asked));
    };
    let word = setting.values.first().map_or("", String::as_str);
    match word.to_ascii_lowercase().as_str() {
        "yes" | "true" | "quic" => Ok((UdpMode::Quic, asked)),
        "no" | "false" if link.udp && !by_option => Ok((UdpMode::Quic, true)),
        "no" | "false" => Ok((UdpMode::No, false)),
        "kcp" => Ok((UdpMode::Kcp, asked)),
        _ => {
            let problem = format!("\"{word}\" is none of no, yes, QUIC, KCP");
            Err(bad(options, "udpmode", &problem))
        }
    }
}

fn proxy_mode(options: &Options) -> Result<UdpProxyMode, ConfigError> {
    let Some(word) = options.word("udpproxymode") else {
        return Ok(UdpProxyMode::Auto);
    };
    match word.to_ascii_lowercase().as_str() {
        "auto" => Ok(UdpProxyMode::Auto),
        "udp" => Ok(UdpProxyMode::Udp),
        "tcp" => Ok(UdpProxyMode::Tcp),
        _ => {
            let problem = format!("\"{word}\" is none of auto, UDP, TCP");
            Err(bad(options, "udpproxymode", &problem))
        }
    }
}

/// Returns the packet size, in bytes; zero stands for the default.
fn mtu(options: &Options) -> Result<Option<u16>, ConfigError> {
    match options.word("udpmtu").map(str::parse::<u16>) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(mtu @ 1200..=1452)) => Ok(Some(mtu)),
        Some(_) => Err(bad(options, "udpmtu", "it must be between 1200 and 1452")),
    }
}

/// Returns what the notice is to look like.
fn notice(options: &Options) -> Result<NoticeSettings, ConfigError> {
    let exit_key = match options.word("udpreconnectexitkey") {
        None => Some(0x04),
        Some(word) if word.eq_ignore_ascii_case("none") => None,
        Some(word) => {
            let word = word.to_ascii_lowercase();
            let letter = word.strip_prefix("ctrl+").or_else(|| word.strip_prefix('^'));
            match letter.map(str::as_bytes) {
                // ^a changes the notice's size.
                Some([letter @ b'b'..=b'z']) => Some(letter & 0x1f),
                _ => {
                    let problem = "it must be none, ctrl+x or ^x, with a letter other than a";
                    return Err(bad(options, "udpreconnectexitkey", problem));
                }
            }
        }
    };
    Ok(NoticeSettings {
        on_top: options.flag("shownotificationontop").unwrap_or(true),
        full: options.flag("showfullnotifications").unwrap_or(true),
        exit_key,
    })
}

/// Returns the size of the server's log of a terminal's output, in bytes.
fn output_log(options: &Options) -> Result<Option<u32>, ConfigError> {
    let Some(word) = options.word("udpoutputlog") else { return Ok(None) };
    let (digits, shift) = match word.to_ascii_lowercase() {
        word if word.ends_with('k') => (word.trim_end_matches('k').to_owned(), 10),
        word if word.ends_with('m') => (word.trim_end_matches('m').to_owned(), 20),
        word => (word, 0),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes.filter(|bytes| *bytes <= MAX_OUTPUT_LOG) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(bad(options, "udpoutputlog", "it must be a number of bytes up to 1024M")),
    }
}

/// Largest UdpOutputLog; the server takes no more either.
const MAX_OUTPUT_LOG: u32 = 1 << 30;

fn timeout(
    options: &Options,
    slot: &'static str,
    usual: Duration,
) -> Result<Duration, ConfigError> {
    match options.duration(slot) {
        Some(Duration::ZERO) => Err(bad(options, slot, "the timeout must not be zero")),
        limit => Ok(limit.unwrap_or(usual)),
    }
}

/// Says what is wrong with a value, and where it was set.
fn bad(options: &Options, slot: &'static str, problem: &str) -> ConfigError {
    let origin = options.get(slot).map(|setting| setting.origin.to_string());
    ConfigError::BadOption { problem: format!("{}: {slot}: {problem}", origin.unwrap_or_default()) }
}

/// Brings a list of ports (PROTOCOL §1.6) into the form `A-B,C` that all servers read alike.
///
/// The server drops what it does not understand; here, where a person can act on it, a part that
/// is neither a port nor a range is an error.
fn port_ranges(text: &str) -> Result<String, String> {
    let port = |word: &str| word.parse::<u16>().ok().filter(|&port| port > 0);
    // `A - B` is one range, although white space separates.
    let mut words: Vec<String> = Vec::new();
    let spaced = text.replace('"', " ").replace('-', " - ");
    for segment in spaced.split(',') {
        let mut joins = false;
        let first = words.len();
        for word in segment.split_whitespace() {
            if (word == "-" || joins) && words.len() > first {
                joins = word == "-";
                words.last_mut().expect("longer than first").push_str(word);
            } else {
                words.push(word.to_owned());
            }
        }
    }
    let mut ranges = Vec::new();
    for word in &words {
        let range = match word.split_once('-') {
            Some((low, high)) => port(low).zip(port(high)).filter(|(low, high)| low <= high),
            None => port(word).map(|port| (port, port)),
        };
        ranges.push(match range {
            Some((low, high)) if low == high => low.to_string(),
            Some((low, high)) => format!("{low}-{high}"),
            None => return Err(format!("\"{word}\" is neither a port nor a range of ports")),
        });
    }
    match ranges.is_empty() {
        true => Err("it names no port".to_owned()),
        false => Ok(ranges.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;
    use crate::config::keywords;

    fn resolved(flags: &[&str], configured: &[&str]) -> Result<UdpSettings, ConfigError> {
        let words = flags.iter().chain(&["host"]).map(Into::into);
        let line = cli::parse(words).expect("a command line");
        let mut options = Options::default();
        for (origin, text) in line
            .flags
            .iter()
            .filter_map(|flag| match flag {
                cli::Flag::Option(text) => Some((Origin::CommandLine, text.as_str())),
                _ => None,
            })
            .chain(configured.iter().map(|text| {
                let file = std::sync::Arc::new("config".into());
                (Origin::File(file, 1), *text)
            }))
        {
            let read = crate::config::lex::line(text).expect("a line");
            let keyword = keywords::find(&read.keyword).expect("a keyword");
            options.set(keyword, &read.rest, &origin, true).expect("a value of the right form");
        }
        settings(&line, &options)
    }

    #[test]
    fn flags_and_files_decide_between_plain_ssh_and_udp() {
        use UdpMode::{Kcp, No, Quic};
        for (flags, configured, want) in [
            (&[][..], &[][..], (No, false)),
            (&["--udp"], &[], (Quic, true)),
            (&["--quic"], &[], (Quic, true)),
            (&["--tcp", "--udp"], &[], (No, false)),
            (&["--tcp"], &["UdpMode yes"], (No, false)),
            (&[], &["UdpMode yes"], (Quic, false)),
            (&[], &["UdpMode QUIC"], (Quic, false)),
            (&[], &["UdpMode no"], (No, false)),
            (&["--udp"], &["UdpMode yes"], (Quic, true)),
            (&["--udp"], &["UdpMode no"], (Quic, true)),
            (&["--quic"], &["UdpMode kcp"], (Quic, true)),
            (&["--kcp"], &[], (Kcp, true)),
            (&["--kcp", "--quic"], &[], (Kcp, true)),
            (&["--kcp", "--tcp"], &[], (No, false)),
            (&["--udp"], &["UdpMode kcp"], (Kcp, true)),
            (&[], &["UdpMode KCP"], (Kcp, false)),
            (&["-oUdpMode=quic", "--kcp"], &[], (Quic, true)),
            (&["-oUdpMode=yes"], &[], (Quic, true)),
            (&["-oUdpMode=no", "--quic"], &["UdpMode yes"], (No, false)),
        ] {
            let udp = resolved(flags, configured).expect("a mode");
            assert_eq!((udp.mode, udp.explicit), want, "{flags:?} {configured:?}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for configured in [
            "UdpMode maybe",
            "UdpProxyMode sctp",
            "UdpMTU 900",
            "UdpMTU 9000",
            "TsshdPort 0",
            "TsshdPort 9-1",
            "TsshdPort 1,x",
            "TsshdPort ,",
            "UdpAliveTimeout 0",
            "UdpReconnectExitKey ^a",
            "UdpReconnectExitKey x",
            "UdpReconnectExitKey ctrl+xy",
            "UdpOutputLog 2048M",
            "UdpOutputLog many",
        ] {
            assert!(resolved(&[], &[configured]).is_err(), "{configured}");
        }
    }

    #[test]
    fn values_are_read_with_their_units() {
        let udp = resolved(
            &["--tsshd-port", "7000 - 7010 7020, 8000-8000"],
            &[
                "UdpProxyMode tcp",
                "UdpMTU 1300",
                "UdpAliveTimeout 1d",
                "ConnectTimeout 4",
                "UdpOutputLog 64K",
                "UdpReconnectExitKey Ctrl+X",
                "ShowNotificationOnTop no",
            ],
        )
        .expect("sound values");
        assert_eq!(udp.tsshd_port.as_deref(), Some("7000-7010,7020,8000"));
        assert_eq!(udp.proxy_mode, UdpProxyMode::Tcp);
        assert_eq!(udp.mtu, Some(1300));
        assert_eq!(udp.output_log, Some(65_536));
        assert_eq!(udp.notice, NoticeSettings { on_top: false, full: true, exit_key: Some(0x18) });
        let usual = resolved(&[], &[]).expect("defaults").notice;
        assert_eq!(usual, NoticeSettings { on_top: true, full: true, exit_key: Some(0x04) });
        let none = resolved(&[], &["UdpReconnectExitKey none"]).expect("no key").notice;
        assert_eq!(none.exit_key, None);
        assert_eq!(udp.alive_timeout, Duration::from_secs(86_400));
        assert_eq!(udp.heartbeat_timeout, Duration::from_secs(3));
        assert_eq!(udp.connect_timeout, Duration::from_secs(4));
    }
}
