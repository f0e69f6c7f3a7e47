//! Feeds [`tssh_fuzzing::bus_messages`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::bus_messages(data));
