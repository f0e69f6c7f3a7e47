//! The sans-IO rule: outside `driver/`, the layers touch no socket, clock, thread or file.

use super::Finding;
use super::source::{Tree, has_word};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| is_pure(&file.path)) {
        for (line, code) in file.code() {
            for (word, instead) in BANNED {
                if has_word(code, word) && !is_feature_gate(code) {
                    let rule = format!("`{word}` outside driver/: {instead}");
                    findings.push(Finding { path: file.path.clone(), line, rule });
                }
            }
        }
    }
    findings
}

fn is_pure(path: &str) -> bool {
    let in_layer = LAYERS.iter().any(|layer| path.starts_with(layer));
    in_layer && !path.contains("/driver/") && !EXCEPT.contains(&path)
}

fn is_feature_gate(code: &str) -> bool {
    code.trim_start().starts_with("#[cfg(")
}

const LAYERS: [&str; 4] =
    ["crates/proto/src/", "crates/proxy/src/", "crates/transport/src/", "crates/testkit/src/"];

/// A virtual clock has to start somewhere, and a soak has to say how long it is.
const EXCEPT: [&str; 2] = ["crates/testkit/src/clock.rs", "crates/testkit/src/seeds.rs"];

/// What is banned, and what to do instead.
const BANNED: [(&str, &str); 13] = [
    ("UdpSocket", SOCKETS),
    ("TcpStream", SOCKETS),
    ("TcpListener", SOCKETS),
    ("socket2", SOCKETS),
    ("tokio", "async code belongs in the driver"),
    ("Instant::now", TIME),
    ("SystemTime::now", TIME),
    ("getrandom", "randomness is an argument"),
    ("std::env", "configuration is an argument"),
    ("std::fs", "files belong to the binaries"),
    ("std::process", "processes belong to the binaries"),
    ("thread::spawn", "machines have no threads"),
    ("thread::sleep", "machines do not wait"),
];

const SOCKETS: &str = "sockets belong in the driver";
const TIME: &str = "time is an argument";

#[cfg(test)]
mod tests {
    use super::super::source::File;
    use super::*;

    #[test]
    fn a_clock_is_found_in_a_machine_and_allowed_in_a_driver() {
        let text = "//! A machine.\nlet now = std::time::Instant::now();\n";
        let file = |path: &str| File { path: path.into(), text: text.into(), test: false };
        let files = ["crates/proxy/src/client.rs", "crates/proxy/src/driver/udp.rs"].map(file);
        let found = check(&Tree { files: files.into() });
        assert_eq!(found.len(), 1);
        assert_eq!((&*found[0].path, found[0].line), ("crates/proxy/src/client.rs", 2));
    }
}
