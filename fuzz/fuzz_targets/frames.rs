//! Feeds [`tssh_fuzzing::frames`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::frames(data));
