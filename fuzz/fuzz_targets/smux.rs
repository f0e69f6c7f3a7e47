//! Feeds [`tssh_fuzzing::smux`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::smux(data));
