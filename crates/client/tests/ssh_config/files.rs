//! Files: mistakes, permissions, and lines for us alone.

use std::path::Path;

use tssh::cli;
use tssh::config::resolve;

use crate::place::{Place, skipped};

#[test]
fn bad_files_are_reported_in_the_words_of_ssh() {
    let place = Place::new();
    for config in [
        "Prot 7\nPort 7\n\nPort x\n",
        "Port 7 8\n",
        "User \"bob\n",
        "Compression maybe\nConnectTimeout soon\n",
        "Port\n",
        "SendEnv A=B\nSetEnv A\n",
    ] {
        place.write("config", config);
        let Some(theirs) = place.theirs(&["a"]) else {
            return skipped();
        };
        let ours = place.ours(&["a"]);
        assert_eq!(ours.complaint, theirs.complaint, "{config}");
    }
}

#[test]
fn lines_for_us_are_read_by_us_and_not_by_ssh() {
    let place = Place::new();
    place.write(
        "config",
        "Host a\n #!! UdpMode yes\n #!!TsshdPath=/opt/tsshd\n#!! TsshdPort 7000-7010, 8000\nHost b\n #!! Port 9\n",
    );
    let values = place.ours(&["a"]).values.expect("a sound file");
    assert_eq!(values["udpmode"], ["QUIC"]);
    assert_eq!(values["tsshdpath"], ["/opt/tsshd"]);
    assert_eq!(values["tsshdport"], ["7000-7010,8000"]);
    let values = place.ours(&["b"]).values.expect("a sound file");
    assert_eq!((&values["udpmode"][0][..], &values["port"][0][..]), ("no", "9"));
    if let Some(theirs) = place.theirs(&["b"]) {
        assert_eq!(theirs.values.expect("comments")["port"], ["22"]);
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut place = Place::new();
    place.environment.home = place.directory.path().to_owned();
    place.environment.system_config = place.path("none");
    std::fs::create_dir(place.path(".ssh")).expect("a directory");
    place.write(".ssh/config", "Port 7\n");
    let port = |place: &Place| {
        let line = cli::parse(["a".into()].into_iter()).expect("a command line");
        resolve(&line, &place.environment).map(|settings| settings.port)
    };
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("our file");
    };
    mode(&place.path(".ssh/config"), 0o644);
    assert_eq!(port(&place).expect("a safe file"), 7);
    mode(&place.path(".ssh/config"), 0o664);
    let refusal = port(&place).expect_err("an unsafe file").to_string();
    assert!(refusal.starts_with("Bad owner or permissions on "), "{refusal}");
}

#[test]
fn a_block_for_a_network_applies_where_this_machine_is_in_it() {
    // Newer than the ssh of some distributions, so there is no oracle.
    let place = Place::new();
    for (network, port) in [("127.0.0.0/8", "7"), ("203.0.113.0/24", "22")] {
        place.write("config", &format!("Match localnetwork {network}\n Port 7\n"));
        let values = place.ours(&["h"]).values.expect("sound");
        assert_eq!(values["port"], [port], "{network}");
    }
    place.write("config", "Match localnetwork 127.0.0.1/8\n Port 7\n");
    assert!(place.ours(&["h"]).complaint.contains("Invalid network entry"));
}
