//! Feeds [`tssh_fuzzing::x11_setup`] from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tssh_fuzzing::x11_setup(data));
