//! Feeds [`tssh_fuzzing::mux_messages`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::mux_messages(data));
