//! What the fuzz targets do, as plain functions.
//!
//! Each takes any bytes and must return: no panic, no endless loop, memory in
//! proportion to the input. Some check a promise on the way (what is decoded
//! encodes to the same; pieces decode as the whole does). `fuzz/` feeds them
//! from libFuzzer; `tests/corpus.rs` replays the committed corpora, so that
//! every machine runs the inputs that were once worth keeping.
//!
//! Not here: which input is interesting, which is libFuzzer's business.
#![forbid(unsafe_code)]

mod control;
mod files;
mod forwards;
mod kcp;
mod machines;
mod wire;

pub use control::mux_messages;
pub use files::{dns_reply, known_hosts, revoked_keys, ssh_config};
pub use forwards::{socks, x11_setup};
pub use kcp::{fec, kcp, kcp_link, packet_opener, smux};
pub use machines::{proxy_client, proxy_server};
pub use wire::{bus_messages, frames, path_auth, server_info, stream_messages};

/// A fuzz target: its name, which names its corpus as well, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("bus_messages", bus_messages),
    ("dns_reply", dns_reply),
    ("fec", fec),
    ("frames", frames),
    ("kcp", kcp),
    ("kcp_link", kcp_link),
    ("known_hosts", known_hosts),
    ("mux_messages", mux_messages),
    ("packet_opener", packet_opener),
    ("path_auth", path_auth),
    ("proxy_client", proxy_client),
    ("proxy_server", proxy_server),
    ("revoked_keys", revoked_keys),
    ("server_info", server_info),
    ("smux", smux),
    ("socks", socks),
    ("ssh_config", ssh_config),
    ("stream_messages", stream_messages),
    ("x11_setup", x11_setup),
];
