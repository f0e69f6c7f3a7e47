//! Small programs that show the parts of tssh at work; each is a file in `src/bin`.
//!
//! * `outage`: a QUIC connection over a link in memory that goes down for a
//!   while; `cargo run -p examples --bin outage`.
//! * `kcp`: bytes over KCP through a link that loses, repeats and reorders
//!   packets; `cargo run -p examples --bin kcp`.
//!
//! Not tests, but CI compiles them, so they stay true.
