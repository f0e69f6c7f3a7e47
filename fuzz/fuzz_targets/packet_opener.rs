//! Feeds [`tssh_fuzzing::packet_opener`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::packet_opener(data));
