//! Feeds [`tssh_fuzzing::dns_reply`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::dns_reply(data));
