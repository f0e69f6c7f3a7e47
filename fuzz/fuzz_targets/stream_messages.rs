//! Feeds [`tssh_fuzzing::stream_messages`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::stream_messages(data));
