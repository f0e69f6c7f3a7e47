//! Feeds [`tssh_fuzzing::proxy_client`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::proxy_client(data));
