//! Output of the reference server, recorded, must decode and re-encode to the same bytes.
//!
//! Origin of `vectors/`: tsshd 0.1.8, exact stdout with the flags in the file's
//! name. All keys in them were used once and are dead.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its vectors must fail")]

use proto::bootstrap::{BootstrapError, Finder, ServerInfo, TransportKind};
use proto::ext::ExtSet;
use proto::json::Message as _;
use tssh_proto as proto;

fn read(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()
}

fn decode(bytes: &[u8]) -> ServerInfo {
    let mut finder = Finder::default();
    match finder.push(bytes).unwrap() {
        Some(info) => info,
        None => finder.finish().unwrap(),
    }
}

#[test]
fn recorded_server_infos_decode_and_re_encode_to_the_same_bytes() {
    let cases = [
        ("server-info.bin", TransportKind::Quic, false, 0),
        ("server-info-tcp.bin", TransportKind::Quic, true, 0),
        ("server-info-attachable-socket.bin", TransportKind::Quic, false, 0),
        ("server-info-kcp.bin", TransportKind::Kcp, false, 0),
        ("server-info-kcp-tcp-mtu1300.bin", TransportKind::Kcp, true, 1300),
    ];
    for (name, kind, tcp, mtu) in cases {
        let bytes = read(name);
        let info = decode(&bytes);
        assert_eq!(info.transport(), Ok(kind), "{name}");
        assert_eq!((info.is_tcp(), info.mtu), (tcp, mtu), "{name}");
        assert_eq!(info.proxy_key.expose().len(), 32, "{name}");
        assert_eq!(info.ext_set(), ExtSet::NONE, "{name}");
        assert_eq!(&info.to_line()[..], &bytes[..], "{name}");
    }
}

#[test]
fn a_recorded_init_failure_is_quoted_to_the_user() {
    let mut finder = Finder::default();
    assert_eq!(finder.push(&read("init-error.bin")), Ok(None));
    let error = finder.finish().unwrap_err();
    assert_eq!(error, BootstrapError::NotInfo("no available port in [99999]".into()));
}

#[test]
fn with_no_extension_our_info_has_the_reference_s_fields_only() {
    let mut info = decode(&read("server-info.bin"));
    let plain = info.to_json();
    assert!(!plain.contains("Ext"));
    info.ext = ExtSet::all().names();
    let extended = info.to_json();
    assert_eq!(
        extended,
        format!(
            "{},\"Ext\":[\"early\",\"command\",\"modes\",\"signal\",\"goodbye\",\"rekey\",\
             \"listen\",\"loss\",\"silence\",\"tcp\",\"farewell\",\"addresses\",\"stop\"]}}",
            &plain[..plain.len() - 1]
        )
    );
    assert_eq!(decode(extended.as_bytes()).ext_set(), ExtSet::all());
}

#[test]
fn further_addresses_are_read_as_far_as_they_are_some_and_are_few() {
    let mut info = decode(&read("server-info.bin"));
    assert_eq!(info.further_addresses(), [] as [std::net::IpAddr; 0]);
    let addrs = ["192.0.2.7", "::", "a name", "2001:db8::7", "224.0.0.1", "192.0.2.8"];
    info.addrs = addrs.map(String::from).to_vec();
    let json = info.to_json();
    assert!(json.ends_with(",\"192.0.2.8\"]}"), "{json}");
    let expected: [std::net::IpAddr; 3] =
        ["192.0.2.7", "2001:db8::7", "192.0.2.8"].map(|ip| ip.parse().unwrap());
    assert_eq!(decode(json.as_bytes()).further_addresses(), expected);
    info.addrs = (0..9).map(|last| format!("192.0.2.{last}")).collect();
    assert_eq!(info.further_addresses().len(), 4);
}
