//! Feeds [`tssh_fuzzing::known_hosts`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::known_hosts(data));
