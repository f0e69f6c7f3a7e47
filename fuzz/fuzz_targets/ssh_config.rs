//! Feeds [`tssh_fuzzing::ssh_config`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::ssh_config(data));
