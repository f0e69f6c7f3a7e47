//! Feeds [`tssh_fuzzing::server_info`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::server_info(data));
