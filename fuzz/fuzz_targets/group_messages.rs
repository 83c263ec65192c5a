//! What one member of a group says to another.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| replica::fuzz_messages(input));
