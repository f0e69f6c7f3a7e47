//! Feeds [`tssh_fuzzing::fec`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::fec(data));
