//! A record batch from a client: validated, taken apart, searched by time.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| record::fuzz_batch(input));
