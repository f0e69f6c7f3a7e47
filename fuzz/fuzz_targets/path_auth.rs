//! Feeds [`tssh_fuzzing::path_auth`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::path_auth(data));
