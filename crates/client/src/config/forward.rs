//! Forwards as flags and keywords spell them: `[bind:]port:host:hostport` and its kin.
//!
//! Pure text; the grammar is OpenSSH's (`parse_forward` of `readconf.c`), with its escapes
//! (`[...]` around a field, `\` before a character) and its rule that a field with a slash is a
//! unix socket. Not here: tokens in socket paths, which `resolve` expands, and who may use what.

use std::fmt;

/// A way through the connection: where one end listens and where the other connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where connections are accepted.
    pub listen: Listen,
    /// Where they lead.
    pub connect: Connect,
}

/// Where a forward listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP (or UDP) port.
    Tcp {
        /// The address as written; `None` where only a port was given.
        host: Option<String>,
        /// The port; 0, for remote forwards only, lets the far host choose.
        port: u16,
    },
    /// A unix socket.
    Unix(String),
}

/// Where a forward leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connect {
    /// A host and port, looked up by the side that connects.
    Tcp {
        /// The host's name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(String),
    /// Wherever the peer asks to be connected to, by SOCKS.
    Socks,
}

/// Which keyword a forward belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `-L`, LocalForward.
    Local,
    /// `-D`, DynamicForward, and the argument of `-W`.
    Dynamic,
    /// `-R`, RemoteForward.
    Remote,
    /// `-L udp/`, UdpLocalForward.
    LocalUdp,
    /// `-R udp/`, UdpRemoteForward.
    RemoteUdp,
}

impl Forward {
    /// Reads a specification; `None` if it makes no sense.
    ///
    /// A remote forward without a destination is a dynamic one.
    #[must_use]
    pub fn parse(spec: &str, kind: Kind) -> Option<Self> {
        match kind {
            Kind::Local => parse(spec, false, false),
            Kind::Dynamic => parse(spec, true, false),
            Kind::Remote => parse(spec, false, true).or_else(|| parse(spec, true, true)),
            Kind::LocalUdp | Kind::RemoteUdp => {
                let spec = with_colons(spec);
                parse(&spec, false, kind == Kind::RemoteUdp)
            }
        }
    }

    /// Splits what marks a forward of datagrams from the argument of `-L` or `-R`.
    #[must_use]
    pub fn strip_udp(spec: &str) -> Option<&str> {
        let rest = spec.strip_prefix("udp")?;
        rest.strip_prefix(['/', ':', '-', '_'])
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host: None, port } => write!(f, "{port}"),
            Self::Tcp { host: Some(host), port } => write!(f, "[{host}]:{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "[{host}]:{port}"),
            Self::Unix(path) => f.write_str(path),
            Self::Socks => f.write_str("[socks]:0"),
        }
    }
}

/// Writes a specification of datagrams with slashes between its fields, `53/host/53`, as others
/// are written; one with colons is left as it is.
fn with_colons(spec: &str) -> String {
    let fields: Vec<&str> = spec.split('/').collect();
    let (bind, rest) = match fields.as_slice() {
        [bind, rest @ ..] if rest.len() == 3 => (Some(bind), rest),
        rest => (None, rest),
    };
    match (bind, rest) {
        (bind, [from, host, to]) if port(from).is_some() && port(to).is_some() => {
            let bind = bind.map(|bind| format!("[{bind}]:")).unwrap_or_default();
            format!("{bind}{from}:[{host}]:{to}")
        }
        _ => spec.to_owned(),
    }
}

/// One field of a specification.
struct Field {
    text: String,
    is_path: bool,
}

fn parse(spec: &str, dynamic: bool, remote: bool) -> Option<Forward> {
    let mut rest = spec.trim_start();
    let mut fields = Vec::new();
    while fields.len() < 4 && !rest.is_empty() {
        let (field, after) = field(rest)?;
        fields.push(field);
        rest = after;
    }
    if !rest.is_empty() {
        return None;
    }
    let forward = arrange(&fields)?;
    let fits = match (&forward.connect, dynamic) {
        // Two socket paths are a destination even for -D, as in OpenSSH.
        (_, true) => fields.len() <= 2,
        (Connect::Socks, false) => false,
        (Connect::Tcp { port, .. }, false) => *port > 0,
        (Connect::Unix(_), false) => true,
    };
    let has_port = remote || !matches!(forward.listen, Listen::Tcp { port: 0, .. });
    (fits && has_port).then_some(forward)
}

/// Gives the fields their meaning by their number and by which of them are paths.
fn arrange(fields: &[Field]) -> Option<Forward> {
    let text = |field: &Field| field.text.clone();
    let at = |host: Option<&Field>, port_field: &Field| {
        Some(Listen::Tcp { host: host.map(text), port: port(&port_field.text)? })
    };
    let to = |host: &Field, port_field: &Field| {
        let host = text(host);
        // NI_MAXHOST, the longest name the system can look up.
        (host.len() < 1025).then_some(Connect::Tcp { host, port: port(&port_field.text)? })
    };
    let (listen, connect) = match fields {
        [path] if path.is_path => (Listen::Unix(text(path)), Connect::Socks),
        [port] => (at(None, port)?, Connect::Socks),
        [from, path] if from.is_path && path.is_path => {
            (Listen::Unix(text(from)), Connect::Unix(text(path)))
        }
        [port, path] if path.is_path => (at(None, port)?, Connect::Unix(text(path))),
        [host, port] => (at(Some(host), port)?, Connect::Socks),
        [from, host, port] if from.is_path => (Listen::Unix(text(from)), to(host, port)?),
        [host, port, path] if path.is_path => (at(Some(host), port)?, Connect::Unix(text(path))),
        [from, host, port] => (at(None, from)?, to(host, port)?),
        [host, from, to_host, to_port] => (at(Some(host), from)?, to(to_host, to_port)?),
        _ => return None,
    };
    Some(Forward { listen, connect })
}

/// Takes the first field off: up to a colon that is neither escaped nor inside brackets.
fn field(spec: &str) -> Option<(Field, &str)> {
    if let Some(inside) = spec.strip_prefix('[') {
        let (text, after) = inside.split_once(']')?;
        let after = if after.is_empty() { after } else { after.strip_prefix(':')? };
        return Some((Field { text: text.to_owned(), is_path: text.contains('/') }, after));
    }
    let mut field = Field { text: String::new(), is_path: false };
    let mut chars = spec.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ':' => return Some((field, spec.get(at + 1..)?)),
            '\\' => field.text.push(chars.next()?.1),
            c => {
                field.is_path |= c == '/';
                field.text.push(c);
            }
        }
    }
    Some((field, ""))
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(spec: &str, kind: Kind) -> String {
        let Some(forward) = Forward::parse(spec, kind) else { return "bad".to_owned() };
        format!("{} {}", forward.listen, forward.connect)
    }

    #[test]
    fn a_local_forward_has_up_to_four_fields_or_socket_paths() {
        for (spec, want) in [
            ("8080:db:80", "8080 [db]:80"),
            ("*:8080:db:80", "[*]:8080 [db]:80"),
            (":8080:db:80", "[]:8080 [db]:80"),
            ("[::1]:81:[::2]:80", "[::1]:81 [::2]:80"),
            ("/a/b:/c/d", "/a/b /c/d"),
            ("/a/b:db:80", "/a/b [db]:80"),
            ("81:/c/d", "81 /c/d"),
            ("h:81:/c/d", "[h]:81 /c/d"),
            (r"/a\:b:/c\\d", r"/a:b /c\d"),
            ("8080", "bad"),
            ("0:db:80", "bad"),
            ("8080:db:0", "bad"),
            ("8080:db", "bad"),
            ("8080:db:80:1:2", "bad"),
            ("x:db:80", "bad"),
            ("70000:db:80", "bad"),
            ("[::1:81:h:80", "bad"),
            ("", "bad"),
            ("\\", "bad"),
        ] {
            assert_eq!(shown(spec, Kind::Local), want, "{spec}");
        }
    }

    #[test]
    fn a_dynamic_forward_names_only_where_it_listens() {
        for (spec, want) in [
            ("1080", "1080 [socks]:0"),
            ("*:1080", "[*]:1080 [socks]:0"),
            ("/a/b", "/a/b [socks]:0"),
            ("1080:h:1", "bad"),
            ("0", "bad"),
        ] {
            assert_eq!(shown(spec, Kind::Dynamic), want, "{spec}");
        }
    }

    #[test]
    fn forwards_of_datagrams_have_slashes_or_colons() {
        for (spec, local, remote) in [
            ("53:dns:53", "53 [dns]:53", "53 [dns]:53"),
            ("53/dns/53", "53 [dns]:53", "53 [dns]:53"),
            ("::1/53/fe80::1/54", "[::1]:53 [fe80::1]:54", "[::1]:53 [fe80::1]:54"),
            ("*:53:dns:53", "[*]:53 [dns]:53", "[*]:53 [dns]:53"),
            ("53:/run/s", "53 /run/s", "53 /run/s"),
            ("0:dns:53", "bad", "0 [dns]:53"),
            ("53", "bad", "bad"),
            ("/run/s:dns:53", "/run/s [dns]:53", "/run/s [dns]:53"),
            ("/run/s:/run/t", "/run/s /run/t", "/run/s /run/t"),
        ] {
            assert_eq!(shown(spec, Kind::LocalUdp), local, "{spec}");
            assert_eq!(shown(spec, Kind::RemoteUdp), remote, "{spec}");
        }
        for (flag, want) in
            [("udp/53:h:53", Some("53:h:53")), ("udp:1/h/2", Some("1/h/2")), ("udp53", None)]
        {
            assert_eq!(Forward::strip_udp(flag), want);
        }
    }

    #[test]
    fn a_remote_forward_may_leave_port_and_destination_open() {
        for (spec, want) in [
            ("0:h:1", "0 [h]:1"),
            ("9000", "9000 [socks]:0"),
            ("0", "0 [socks]:0"),
            ("*:0", "[*]:0 [socks]:0"),
            ("/s:h:22", "/s [h]:22"),
            ("0:h:0", "bad"),
        ] {
            assert_eq!(shown(spec, Kind::Remote), want, "{spec}");
        }
    }
}
