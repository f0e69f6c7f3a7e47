//! Feeds [`tssh_fuzzing::proxy_server`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::proxy_server(data));
