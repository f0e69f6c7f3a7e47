//! Feeds [`tssh_fuzzing::kcp_link`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::kcp_link(data));
