//! Feeds [`tssh_fuzzing::socks`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::socks(data));
