//! Feeds [`tssh_fuzzing::kcp`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::kcp(data));
