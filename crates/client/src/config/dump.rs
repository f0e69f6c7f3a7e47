//! The resolved settings as text, in the form of `ssh -G`.
//!
//! For `tssh -G`, by which people look and git tells an ssh that knows OpenSSH's options, and for
//! the tests that compare us with ssh. Only what is honoured is printed. Unlike ssh we print
//! paths and commands expanded, variables of SendEnv by name, and algorithm lists only where set.

use std::path::Path;
use std::time::Duration;

use super::canonical::{Canonicalization, Mode};
use super::channel_timeouts::ChannelTimeouts;
use super::forward::{Connect, Forward};
use super::jump::Proxy;
use super::options;
use super::settings::*;

impl Settings {
    /// Returns the settings one a line: the keyword in lower case, a space, the value.
    pub fn to_lines(&self) -> Vec<String> {
        let mut out = Lines(Vec::new());
        self.host_lines(&mut out);
        self.login_lines(&mut out);
        self.host_key_lines(&mut out);
        self.session_lines(&mut out);
        self.forwards.lines(&mut out);
        self.udp.lines(&mut out);
        out.0
    }

    fn host_lines(&self, out: &mut Lines) {
        out.put("host", &self.original_host);
        out.put("user", &self.user);
        out.put("hostname", &self.host_name);
        out.put("port", self.port.to_string());
        self.canonicalization.lines(out);
        out.put("ipqos", self.marks.to_string());
        self.channel_timeouts.lines(out);
        out.put(
            "addressfamily",
            match self.address_family {
                AddressFamily::Any => "any",
                AddressFamily::Inet => "inet",
                AddressFamily::Inet6 => "inet6",
            },
        );
        if let Some(address) = &self.bind_address {
            out.put("bindaddress", address);
        }
        if let Some(interface) = &self.bind_interface {
            out.put("bindinterface", interface);
        }
        out.flag("proxyusefdpass", self.proxy_hands_over);
        match &self.proxy {
            Proxy::Direct => {}
            Proxy::Command(command) => out.put("proxycommand", command),
            Proxy::Jump(jump) => out.put("proxyjump", jump.to_string()),
        }
        let (bytes, time) = (self.rekey_bytes.unwrap_or(0), seconds(self.rekey_interval, "0"));
        out.put("rekeylimit", format!("{bytes} {time}"));
        out.put("connectionattempts", self.connection_attempts.to_string());
        out.put("connecttimeout", seconds(self.connect_timeout, "none"));
        out.flag("compression", self.compression);
        out.flag("tcpkeepalive", self.tcp_keep_alive);
        out.put("serveraliveinterval", seconds(self.server_alive_interval, "0"));
        out.put("serveralivecountmax", self.server_alive_count_max.to_string());
        let algorithms = [
            ("casignaturealgorithms", &self.algorithms.ca),
            ("pubkeyacceptedalgorithms", &self.algorithms.pubkey),
            ("ciphers", &self.algorithms.ciphers),
            ("hostkeyalgorithms", &self.algorithms.host_key),
            ("kexalgorithms", &self.algorithms.kex),
            ("macs", &self.algorithms.macs),
        ];
        for (name, list) in algorithms {
            if let Some(list) = list {
                out.put(name, list);
            }
        }
    }

    fn login_lines(&self, out: &mut Lines) {
        out.flag("batchmode", self.batch_mode);
        out.flag("hashknownhosts", self.hash_known_hosts);
        out.flag("identitiesonly", self.identities_only);
        out.flag("passwordauthentication", self.password_authentication);
        out.flag("kbdinteractiveauthentication", self.kbd_interactive_authentication);
        out.put("pubkeyauthentication", truth(self.pubkey_authentication));
        let preferred = self.preferred_authentications.join(",");
        if preferred != PREFERRED {
            out.put("preferredauthentications", preferred);
        }
        out.put("numberofpasswordprompts", self.number_of_password_prompts.to_string());
        out.put(
            "stricthostkeychecking",
            match self.strict_host_key_checking {
                StrictHostKeyChecking::Yes => "true",
                StrictHostKeyChecking::Ask => "ask",
                StrictHostKeyChecking::AcceptNew => "accept-new",
                StrictHostKeyChecking::Off => "false",
            },
        );
        if let Some(alias) = &self.host_key_alias {
            out.put("hostkeyalias", alias);
        }
        match &self.identity_agent {
            IdentityAgent::Environment => {}
            IdentityAgent::Path(path) => out.put("identityagent", path.to_string_lossy()),
            IdentityAgent::None => out.put("identityagent", "none"),
        }
        out.put("requiredrsasize", self.required_rsa_bits.to_string());
        out.put("securitykeyprovider", &self.security_keys.provider);
        out.put("addkeystoagent", add_keys(self.add_keys_to_agent));
        for file in &self.certificate_files {
            out.put("certificatefile", file.to_string_lossy());
        }
        for file in &self.identity_files {
            out.put("identityfile", file.path.to_string_lossy());
        }
        out.files("userknownhostsfile", &self.user_known_hosts_files);
        out.files("globalknownhostsfile", &self.global_known_hosts_files);
    }

    fn host_key_lines(&self, out: &mut Lines) {
        let rules = &self.host_keys;
        out.flag("checkhostip", rules.check_ip);
        out.flag("nohostauthenticationforlocalhost", rules.trust_loopback);
        out.flag("visualhostkey", rules.visual);
        out.put(
            "updatehostkeys",
            match rules.update {
                UpdateHostKeys::No => "false",
                UpdateHostKeys::Yes => "true",
                UpdateHostKeys::Ask => "ask",
            },
        );
        out.put(
            "verifyhostkeydns",
            match rules.verify_dns {
                VerifyDns::No => "false",
                VerifyDns::Yes => "true",
                VerifyDns::Ask => "ask",
            },
        );
        out.put(
            "fingerprinthash",
            match rules.fingerprint_hash {
                FingerprintHash::Sha256 => "SHA256",
                FingerprintHash::Md5 => "MD5",
            },
        );
        if let Some(file) = &rules.revoked_file {
            out.put("revokedhostkeys", file.to_string_lossy());
        }
        if let Some(command) = &rules.command {
            out.put("knownhostscommand", command.join(" "));
        }
    }

    fn session_lines(&self, out: &mut Lines) {
        out.put(
            "requesttty",
            match self.request_tty {
                RequestTty::Auto => "auto",
                RequestTty::No => "false",
                RequestTty::Yes => "true",
                RequestTty::Force => "force",
            },
        );
        out.put(
            "sessiontype",
            match self.session_type {
                SessionType::Default => "default",
                SessionType::Subsystem => "subsystem",
                SessionType::None => "none",
            },
        );
        out.flag("stdinnull", self.stdin_null);
        out.flag("forkafterauthentication", self.background);
        if let Some(command) = &self.login_command {
            out.put("logincommand", command.join(" "));
        }
        if let Some(command) = &self.remote_command {
            out.put("remotecommand", command);
        }
        for name in &self.send_env {
            out.put("sendenv", name);
        }
        for (name, value) in &self.set_env {
            out.put("setenv", format!("{name}={value}"));
        }
        out.put("escapechar", escape(self.escape_char));
        out.flag("enableescapecommandline", self.escape_command_line);
        out.flag("permitlocalcommand", self.permit_local_command);
        if let Some(command) = &self.local_command {
            out.put("localcommand", command);
        }
        self.control.lines(out);
        out.put("syslogfacility", options::facility_name(self.syslog_facility));
        out.put("loglevel", self.log_level.name());
    }
}

impl Canonicalization {
    fn lines(&self, out: &mut Lines) {
        out.put(
            "canonicalizehostname",
            match self.mode {
                Mode::No => "false",
                Mode::Yes => "true",
                Mode::Always => "always",
            },
        );
        out.flag("canonicalizefallbacklocal", self.fallback_local);
        out.put("canonicalizemaxdots", self.max_dots.to_string());
        let aliases: Vec<_> =
            self.permitted_aliases.iter().map(|(from, to)| format!("{from}:{to}")).collect();
        out.list("canonicaldomains", &self.domains);
        out.list("canonicalizePermittedcnames", &aliases);
    }
}

impl ChannelTimeouts {
    fn lines(&self, out: &mut Lines) {
        if !self.is_empty() {
            out.list("channeltimeout", &self.to_words());
        }
    }
}

impl ForwardSettings {
    fn lines(&self, out: &mut Lines) {
        out.flag("clearallforwardings", self.cleared);
        out.flag("exitonforwardfailure", self.exit_on_failure);
        match &self.agent {
            ForwardAgent::No => out.flag("forwardagent", false),
            ForwardAgent::Yes => out.flag("forwardagent", true),
            ForwardAgent::Path(path) => out.put("forwardagent", path.to_string_lossy()),
            ForwardAgent::Variable(name) => out.put("forwardagent", format!("${name}")),
        }
        out.flag("forwardx11", self.x11.enabled);
        out.flag("forwardx11trusted", self.x11.trusted);
        out.put("forwardx11timeout", self.x11.timeout.as_secs().to_string());
        out.put("xauthlocation", self.x11.xauth.to_string_lossy());
        out.flag("gatewayports", self.gateway_ports);
        out.put("streamlocalbindmask", format!("0{:o}", self.socket_mask));
        out.flag("streamlocalbindunlink", self.socket_unlink);
        for Forward { listen, connect } in &self.local {
            // A socket's path is neither a host nor `socks` to ssh, which shows it in both lists.
            if !matches!(connect, Connect::Tcp { .. }) {
                out.put("dynamicforward", listen.to_string());
            }
            if *connect != Connect::Socks {
                out.put("localforward", format!("{listen} {connect}"));
            }
        }
        for Forward { listen, connect } in &self.remote {
            out.put("remoteforward", format!("{listen} {connect}"));
        }
        for Forward { listen, connect } in &self.udp_local {
            out.put("udplocalforward", format!("{listen} {connect}"));
        }
        for Forward { listen, connect } in &self.udp_remote {
            out.put("udpremoteforward", format!("{listen} {connect}"));
        }
        out.put("forwardudptimeout", self.udp_idle.as_secs().to_string());
        match &self.permit_remote_open {
            None => out.put("permitremoteopen", "any"),
            Some(list) => out.put("permitremoteopen", list.join(" ")),
        }
    }
}

impl ControlSettings {
    fn lines(&self, out: &mut Lines) {
        out.put(
            "controlmaster",
            match self.master {
                ControlMaster::No => "false",
                ControlMaster::Yes => "true",
                ControlMaster::Auto => "auto",
                ControlMaster::Ask => "ask",
                ControlMaster::AutoAsk => "autoask",
            },
        );
        if let Some(path) = &self.path {
            out.put("controlpath", path.to_string_lossy());
        }
        out.put(
            "controlpersist",
            match self.persist {
                ControlPersist::No => "no".to_owned(),
                ControlPersist::Forever => "yes".to_owned(),
                ControlPersist::For(time) => time.as_secs().to_string(),
            },
        );
    }
}

impl UdpSettings {
    fn lines(&self, out: &mut Lines) {
        out.put(
            "udpmode",
            match self.mode {
                UdpMode::No => "no",
                UdpMode::Quic => "QUIC",
                UdpMode::Kcp => "KCP",
            },
        );
        out.put(
            "udpproxymode",
            match self.proxy_mode {
                UdpProxyMode::Auto => "auto",
                UdpProxyMode::Udp => "UDP",
                UdpProxyMode::Tcp => "TCP",
            },
        );
        out.put("udpmtu", self.mtu.unwrap_or_default().to_string());
        out.put("tsshdpath", &self.tsshd_path);
        if let Some(ports) = &self.tsshd_port {
            out.put("tsshdport", ports);
        }
        out.put("udpalivetimeout", seconds(Some(self.alive_timeout), ""));
        out.put("udpheartbeattimeout", seconds(Some(self.heartbeat_timeout), ""));
        if let Some(bytes) = self.output_log {
            out.put("udpoutputlog", bytes.to_string());
        }
        out.flag("shownotificationontop", self.notice.on_top);
        out.flag("showfullnotifications", self.notice.full);
        out.put(
            "udpreconnectexitkey",
            match self.notice.exit_key {
                Some(key) => format!("^{}", char::from(key | 0x60)),
                None => "none".to_owned(),
            },
        );
        out.put("udpreconnecttimeout", seconds(Some(self.reconnect_timeout), ""));
    }
}

impl LogLevel {
    /// Returns OpenSSH's name of the level.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quiet => "QUIET",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Info => "INFO",
            Self::Verbose => "VERBOSE",
            Self::Debug1 => "DEBUG",
            Self::Debug2 => "DEBUG2",
            Self::Debug3 => "DEBUG3",
        }
    }
}

/// The lines so far.
struct Lines(Vec<String>);

impl Lines {
    fn put(&mut self, keyword: &str, value: impl AsRef<str>) {
        self.0.push(format!("{keyword} {}", value.as_ref()));
    }

    fn flag(&mut self, keyword: &str, value: bool) {
        self.put(keyword, if value { "yes" } else { "no" });
    }

    fn list(&mut self, keyword: &str, words: &[String]) {
        match words.is_empty() {
            true => self.put(keyword, "none"),
            false => self.put(keyword, words.join(" ")),
        }
    }

    fn files(&mut self, keyword: &str, files: &[impl AsRef<Path>]) {
        let names: Vec<_> = files.iter().map(|f| f.as_ref().to_string_lossy()).collect();
        match names.is_empty() {
            true => self.put(keyword, "none"),
            false => self.put(keyword, names.join(" ")),
        }
    }
}

fn add_keys(choice: AddKeys) -> String {
    match choice {
        AddKeys::No => "false".to_owned(),
        AddKeys::Ask => "ask".to_owned(),
        AddKeys::Yes { confirm, lifetime } => {
            let time = lifetime.map(|time| time.as_secs().to_string());
            match (confirm, time) {
                (false, None) => "true".to_owned(),
                (false, Some(time)) => time,
                (true, None) => "confirm".to_owned(),
                (true, Some(time)) => format!("confirm {time}"),
            }
        }
    }
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn seconds(time: Option<Duration>, missing: &str) -> String {
    match time {
        Some(time) => time.as_secs().to_string(),
        None => missing.to_owned(),
    }
}

/// Spells an escape character as `-e` reads it.
fn escape(character: Option<u8>) -> String {
    match character {
        None => "none".to_owned(),
        Some(c @ 0..=31) => format!("^{}", char::from(c | 64)),
        Some(c) => char::from(c).to_string(),
    }
}
