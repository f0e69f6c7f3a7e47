//! Feeds [`tssh_fuzzing::revoked_keys`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::revoked_keys(data));
